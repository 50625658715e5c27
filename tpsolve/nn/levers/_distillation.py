"""The loss of a network that learns from another one."""

from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn.functional import cross_entropy, log_softmax

from tpsolve._check_arguments import check_finite
from tpsolve._plain import is_real
from tpsolve.errors import ArgumentError, ShapeError


class DistillationLoss(nn.Module):
    """(1 - share) times the cross-entropy of the labels, and `share` times that of a teacher's softened classes.

    The teacher's logits a give the classes softmax(a / T), and the second part is T^2 times the divergence of
    softmax(z / T) from them, as in Hinton, Vinyals and Dean (2015), "Distilling the Knowledge in a Neural Network",
    section 2. The teacher of a network of thresholds is often the same network with ReLUs.

    Its labels are a tuple (classes `(B,)`, logits `(B, classes)` of the teacher), so that `target_backward` takes it
    with `y=(labels, teacher(x))`. It is a mean over the samples.

    Args:
        temperature: T, positive.
        share: from 0 to 1.

    Raises:
        ArgumentError: another number.
    """

    def __init__(self, temperature: float = 4.0, share: float = 0.7) -> None:
        super().__init__()
        if not is_real(temperature) or not 0 < temperature < float("inf"):
            raise ArgumentError("temperature", temperature, "a positive, finite number")
        if not is_real(share) or not 0 <= share <= 1:
            raise ArgumentError("share", share, "a number from 0 to 1")
        self.temperature, self.share = float(temperature), float(share)

    def forward(self, output: Tensor, labels: tuple[Tensor, Tensor]) -> Tensor:
        """The loss `()` of logits `output (B, classes)`.

        Raises:
            ArgumentError: `labels` are no such tuple, or hold no classes.
            ShapeError: the teacher has logits of another shape.
            NotFiniteError: it has NaN or infinite ones. Inside `torch.func.vmap` and compiled code nobody can look.
        """
        pair: Any = labels
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(one, Tensor) for one in pair):
            mend = "Pass (y, teacher(x))."
            raise ArgumentError("labels", type(pair).__name__, "a tuple (classes, logits of the teacher)", mend)
        classes, teacher = labels
        if classes.dtype not in (torch.int64, torch.uint8):
            raise ArgumentError("labels", f"classes of {classes.dtype}", "torch.int64", "Pass (y.long(), teacher(x)).")
        if teacher.shape != output.shape:
            raise ShapeError("labels", f"logits {tuple(teacher.shape)} of the teacher", f"{tuple(output.shape)}")
        if not is_functorch_wrapped_tensor(teacher) and not torch.compiler.is_compiling():
            check_finite("labels", teacher)
        t = self.temperature
        wanted, given = log_softmax(teacher.detach() / t, 1), log_softmax(output / t, 1)
        divergence = (wanted.exp() * (wanted - given)).sum(1).mean()
        return (1 - self.share) * cross_entropy(output, classes) + self.share * t * t * divergence

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"temperature={self.temperature:g}, share={self.share:g}"
