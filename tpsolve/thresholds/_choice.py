"""The choice: a unit of K values, with closed-form targets as its backward pass."""

from typing import Any

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.errors import ArgumentError, ShapeError, UnknownNameError
from tpsolve.thresholds._hard_unit import HardUnit, refuse_second_derivative

CHOICE_LOSSES = ("softmax", "hinge")


class Choice(HardUnit):
    """The one-hot vector of the largest of K logits z, with a target class in place of a gradient.

    The rule is that of Friesen and Domingos (2018), section 3.3, for K values in place of two. There the target of a
    unit is sign(-g), which is the better of its two values to first order. Its importance |g| is half of what the loss
    gains, to first order, against the other value. Let g_k now be the gradient that arrives at entry k. To first
    order the loss changes by g_k - g_j where the class moves from j to k. So the target is the class t of the least
    g_k, the first of equal ones, and its importance is c = (g_j - g_t) / 2. Here j is the present class or, if that is
    t itself, the class of the next least g_k. What `backward` passes on is c times the slope in z of a convex loss,

        softmax: log(sum_k exp z_k) - z_t          hinge: max(0, 1 + max_{k != t} z_k - z_t).

    For K = 2 let d = z_1 - z_0. Then z gets what it would get from a `HardThreshold` of d, of the rule "logistic" for
    the softmax and "hinge" for the hinge, whose output h is read as ((1 - h) / 2, (1 + h) / 2). Only d = 0 is
    read otherwise: here the first class is taken, there +1. The gradients are equal there too.

    There is no search and no further pass. `target_backward` puts a search in place of t. Double backward raises.

    Args:
        classes: K, at least 2.
        loss: "softmax" or "hinge".

    Raises:
        ArgumentError, UnknownNameError: a setting makes no sense.
    """

    def __init__(self, classes: int, *, loss: str = "softmax") -> None:
        super().__init__()
        check_count("classes", classes, 2)
        if loss not in CHOICE_LOSSES:
            raise UnknownNameError("loss", str(loss), CHOICE_LOSSES)
        self.classes: int = classes
        self.loss: str = loss

    def forward(self, z: Tensor) -> Tensor:
        """Logits `(..., K)` to one-hot vectors in {0, 1} of the same shape and dtype: 1 at the first of the largest.

        A unit with a logit of NaN has NaN in all entries. Logits of infinity count as they are; `check_nan` names
        a choice that gets either.

        Raises:
            ArgumentError: z is no tensor, or holds whole numbers.
            ShapeError: its last axis is not K.
        """
        if not isinstance(z, Tensor) or not z.is_floating_point():  # pyright: ignore[reportUnnecessaryIsInstance]
            got = getattr(z, "dtype", type(z).__name__)
            raise ArgumentError("input", got, "a tensor of floating-point logits", "Convert it with .float().")
        if z.dim() == 0 or z.shape[-1] != self.classes:
            mend = f"nn.Unflatten(1, (n, {self.classes})) makes n choices of {self.classes} n logits."
            raise ShapeError("input", f"shape {tuple(z.shape)}", f"(..., {self.classes}), the classes last", mend)
        return _OneHot.apply(z, self.loss)

    def activate(self, z: Tensor) -> Tensor:
        return _one_hot(z)

    def to_spins(self, h: Tensor) -> Tensor:
        """+1 for the class that is taken, -1 for the others."""
        return 2 * h - 1

    def from_spins(self, spins: Tensor) -> Tensor:
        return (spins + 1) / 2

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"classes={self.classes}" + (f", loss={self.loss!r}" if self.loss != "softmax" else "")


def wanted(g: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The target class, and its importance of at least 0, `(..., 1)` each, from `g (..., K)` at the output of `z`."""
    target = g.argmin(-1, keepdim=True)
    return target, change_without(g, target, z.argmax(-1, keepdim=True)) / 2


def change_without(each: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """What is lost if the `target` class gives way to another one, `(..., 1)`.

    Args:
        each: `(..., K)` of each class what the loss is, up to a constant of the unit. +inf: unknown.
        target, present: classes `(..., 1)`. Where they differ the other class is the present one, if it is known; else
            that of least loss.
    """
    next_least = each.scatter(-1, target, torch.inf).amin(-1, keepdim=True)
    at_present = each.gather(-1, present)
    other = torch.where((present == target) | torch.isposinf(at_present), next_least, at_present)
    return other - each.gather(-1, target)


def choice_slope(z: Tensor, target: Tensor, loss: str) -> Tensor:
    """The slope in `z (..., K)` of the layer loss with the target classes `(..., 1)`."""
    if loss == "softmax":
        others = torch.softmax(z, -1).scatter(-1, target, 0.0)
        # Not p - 1, which has no digits left where p is near 1.
        return others.scatter(-1, target, -others.sum(-1, keepdim=True))
    rival, place = z.scatter(-1, target, -torch.inf).max(-1, keepdim=True)
    short = (z.gather(-1, target) - rival < 1).to(z.dtype)
    return torch.zeros_like(z).scatter(-1, place, short).scatter(-1, target, -short)


def is_own_choice(node: Any) -> bool:
    """Whether this node of autograd is that of a choice, or there is none."""
    return node is None or type(node).__name__ == f"{_OneHot.__name__}Backward"


def _one_hot(z: Tensor) -> Tensor:
    one_hot = torch.zeros_like(z).scatter(-1, z.argmax(-1, keepdim=True), 1.0)
    return one_hot.masked_fill_(z.isnan().any(-1, keepdim=True), torch.nan)


class _OneHot(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, loss: str) -> Tensor:
        return _one_hot(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, ctx.loss = inputs
        ctx.save_for_backward(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (z,) = ctx.saved_tensors
        run = _Slope.apply if torch.is_grad_enabled() else _Slope.forward
        return run(gradients[0], z, ctx.loss), None


class _Slope(torch.autograd.Function):
    """What a choice passes back, with a second derivative that says why there is none."""

    generate_vmap_rule = True

    @staticmethod
    def forward(g: Tensor, z: Tensor, loss: str) -> Tensor:
        target, importance = wanted(g, z)
        return importance * choice_slope(z, target, loss)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise refuse_second_derivative("a choice")
