"""The layer losses whose slopes the closed-form rules are, and those of a network's output."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tpsolve.errors import NotAcceptedError
from tpsolve.losses import LOSSES, Loss
from tpsolve.thresholds._base import Threshold

RULE_LOSSES = {"saturated-ste": "saturated-hinge"}
"""Rules whose layer loss has another name."""


def loss_of(threshold: Threshold, name: str, layer_loss: str | None) -> str:
    """The name of the layer loss that a search above or below this threshold minimises there.

    Raises:
        NotAcceptedError: its rule has no layer loss in `LOSSES`, and none was chosen.
    """
    if layer_loss is not None:
        return layer_loss
    rule = threshold.rule if isinstance(threshold.rule, str) else None
    loss = RULE_LOSSES.get(rule or "", rule)
    if loss not in LOSSES:
        raise NotAcceptedError(
            f"model.{name}",
            f"the rule {threshold.rule!r}, which has no layer loss to minimise",
            "a rule that is the slope of one of LOSSES",
            "Pass layer_loss='hinge' or another, or let SignGradient() set these targets.",
        )
    assert loss is not None
    return loss


@dataclass(frozen=True)
class ChoiceLoss:
    """The layer loss of choices, spread over the entries of a one-hot target: 0 in all but that of the target.

    Args:
        classes: K.
        loss: "softmax" or "hinge", as `Choice` has it.
    """

    classes: int
    loss: str

    def value(self, z: Tensor, s: Tensor) -> Tensor:
        """`(b, n K)` of logits `z (b, n K)` and targets `s (b, n K)` in {0, 1}."""
        each = z.unflatten(1, (-1, self.classes))
        if self.loss == "softmax":
            losses = each.logsumexp(2, keepdim=True) - each
        else:
            first, second = each.topk(2, dim=2).values.split(1, dim=2)
            losses = torch.relu(1 + torch.where(each == first, second, first) - each)
        # Not a product: a class that is not the target may be infinitely far.
        return torch.where(s > 0, losses.flatten(1), 0.0)


@dataclass(frozen=True)
class CrossEntropy:
    """torch's cross-entropy on class labels, its mean or sum over the batch.

    Args:
        scale: of the loss of one sample.
        smoothing: share of a label that goes to all classes alike.
    """

    scale: float
    smoothing: float

    @staticmethod
    def of(loss_fn: Any, output: Tensor, labels: Tensor) -> "CrossEntropy | None":
        """What `loss_fn` is, where it is that with no other setting."""
        if output.dim() != 2 or labels.dim() != 1 or labels.is_floating_point():
            return None
        if type(loss_fn) is nn.CrossEntropyLoss:
            settings = {"weight": loss_fn.weight, "ignore_index": loss_fn.ignore_index}
            settings |= {"reduction": loss_fn.reduction, "label_smoothing": loss_fn.label_smoothing}
        elif isinstance(loss_fn, partial) and loss_fn.func is functional.cross_entropy and not loss_fn.args:
            settings = dict(loss_fn.keywords)
        elif loss_fn is functional.cross_entropy:
            settings = {}
        else:
            return None
        smoothing, reduction = settings.pop("label_smoothing", 0.0), settings.pop("reduction", "mean")
        # Labels that are no class were refused before.
        ignores = settings.pop("ignore_index", -100) >= 0
        if ignores or reduction not in ("mean", "sum") or any(value is not None for value in settings.values()):
            return None
        return CrossEntropy(1 / len(labels) if reduction == "mean" else 1.0, smoothing)

    def pull(self, weight: Tensor, labels: Tensor) -> Tensor | None:
        """What smoothing adds to the problem of a last layer with `weight (m, n)`: `(R, n)`, or None.

        To the cross-entropy it adds smoothing * (z_label - mean of z), which is linear in the targets.
        """
        if not self.smoothing:
            return None
        return 2 * self.scale * self.smoothing * (weight.mean(0) - weight[labels])


class SampleLoss:
    """A loss of each sample `(b,)`, from one that takes a batch and returns the sum or mean over it.

    Raises:
        NotAcceptedError: the loss of the batch is neither, or can't be computed for single samples.
    """

    def __init__(self, loss_fn: Callable[[Tensor, Tensor], Tensor], output: Tensor, labels: Tensor) -> None:
        self.loss_fn, self.scale = loss_fn, 1.0
        # Samples on which the pass failed don't say whether the others are summed.
        output = torch.where(output.isfinite(), output, 0.0)
        total, each = self._both(output, labels)
        if not bool(each.any()):
            # A loss of nothing at all is sum and mean alike; other outputs may have one.
            total, each = self._both(-1 - output, labels)
        for value, scale in ((each.sum(), 1.0), (each.mean(), 1 / len(each))):
            if torch.allclose(total, value, rtol=1e-4, atol=0):
                self.scale = scale
                return
        raise NotAcceptedError(
            "loss_fn",
            f"{total.item():g} for the batch, of samples that alone give {each.sum().item():g} together",
            "the sum or the mean of a loss of each sample",
            "A search works on each sample by itself. Let SignGradient() set the topmost targets.",
        )

    def _both(self, output: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the batch, and of each sample `(B,)`."""
        try:
            with torch.no_grad():
                return self.loss_fn(output, labels).double(), self(output, labels).double()
        except Exception as error:  # The user's own function; a search can't do without this, whatever it raises.
            first = (str(error) or type(error).__name__).partition("\n")[0]
            raise NotAcceptedError(
                "loss_fn",
                f"one that torch.func.vmap can't run sample by sample ({first})",
                "one without .item(), and without shapes or branches that depend on numbers",
                "Let SignGradient() set the topmost targets.",
            ) from error

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        """`output (b, ...)`, `labels (b, ...)` to `(b,)`."""
        one = torch.func.vmap(lambda o, t: self.loss_fn(o[None], t[None]))
        return self.scale * one(output, labels)


@dataclass(frozen=True)
class MixedLoss:
    """The sum of what several readers of one block's output lose, each on its own slice.

    Args:
        parts: (slice of the flattened output, layer loss) of every threshold, and of all choices of a module.
        shape: of the model's own output of one sample, which follows them; None where nothing reads it.
        top: its loss.
    """

    parts: list[tuple[slice, Loss | ChoiceLoss]]
    shape: tuple[int, ...] | None
    top: Any

    def __call__(self, output: Tensor, wanted: Tensor) -> Tensor:
        """`output (b, k)`; `wanted (b, 2k + ...)`: targets, importance weights, then what `top` compares with."""
        total = output.new_zeros(len(output))
        width = self.parts[-1][0].stop if self.parts else 0
        for part, loss in self.parts:
            s, c = wanted[:, part], wanted[:, width + part.start : width + part.stop]
            total = total + torch.where(c == 0, 0.0, c * loss.value(output[:, part], s)).sum(1)
        if self.shape is not None:
            total = total + self.top(output[:, width:].reshape(-1, *self.shape), wanted[:, 2 * width :])
        return total
