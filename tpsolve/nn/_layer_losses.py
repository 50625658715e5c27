"""The layer losses whose slopes the closed-form rules are, and those of a network's output."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tpsolve.errors import NotAcceptedError
from tpsolve.losses import LOSSES, Loss
from tpsolve.nn.passes._frozen import widened
from tpsolve.problems.block._block_passes import open_slope
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


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """torch's cross-entropy on class labels, its mean or sum over the batch.

    Args:
        scale: of the loss of one sample.
        smoothing: share of a label that goes to all classes alike.
        labels: `(B,)`; 0 where a label is ignored.
        weight: `(B,)`, by what the loss of each sample is multiplied besides, 0 where its label is ignored; None: 1.
    """

    scale: float
    smoothing: float
    labels: Tensor
    weight: Tensor | None = None

    @staticmethod
    def of(loss_fn: Any, output: Tensor, labels: Tensor) -> "CrossEntropy | None":
        """What `loss_fn` is, where it is that with no other setting than class weights and ignored labels."""
        if output.dim() != 2 or labels.dim() != 1 or labels.is_floating_point():
            return None
        found = class_loss(loss_fn)
        if found is None or found[0] is not functional.cross_entropy:
            return None
        settings = dict(found[1])
        smoothing, reduction = settings.pop("label_smoothing", 0.0), settings.pop("reduction", "mean")
        classes, ignored = settings.pop("weight", None), labels == settings.pop("ignore_index", -100)
        if reduction not in ("mean", "sum") or any(value is not None for value in settings.values()):
            return None
        if classes is None and not bool(ignored.any()):
            return CrossEntropy(1 / len(labels) if reduction == "mean" else 1.0, smoothing, labels)
        if smoothing or not bool((~ignored).any()):
            # Class weights and smoothing together weigh each class of a sample.
            return None
        labels = torch.where(ignored, 0, labels)
        weight = widened(output.new_ones(len(labels)) if classes is None else classes.to(output)[labels])
        weight = torch.where(ignored, 0.0, weight)
        return CrossEntropy(1 / weight.sum().item() if reduction == "mean" else 1.0, 0.0, labels, weight)

    def told(self, rows: Tensor) -> Tensor:
        """What `of_samples` compares the outputs of the samples `rows (R,)` with: labels and weights, `(R, 2)`."""
        weight = torch.ones_like(self.labels) if self.weight is None else self.weight
        return torch.stack([self.labels[rows].to(weight.dtype), weight[rows]], 1)

    def of_samples(self, output: Tensor, told: Tensor) -> Tensor:
        """The loss `(b,)` of each sample, of `output (b, classes)` and what `told` has for them."""
        label = output.gather(1, told[:, :1].long())[:, 0]
        each = output.logsumexp(1) - label + self.smoothing * (label - output.mean(1))
        return torch.where(told[:, 1] == 0, 0.0, self.scale * told[:, 1] * each)

    def pull(self, weight: Tensor, labels: Tensor) -> Tensor | None:
        """What smoothing adds to the problem of a last layer with `weight (m, n)`: `(R, n)`, or None.

        To the cross-entropy it adds smoothing * (z_label - mean of z), which is linear in the targets.
        """
        if not self.smoothing:
            return None
        return 2 * self.scale * self.smoothing * (weight.mean(0) - weight[labels])


def class_loss(loss_fn: Any) -> tuple[Any, dict[str, Any]] | None:
    """The function of torch's that a loss of class labels is, and its settings; None for any other loss."""
    if type(loss_fn) in (nn.CrossEntropyLoss, nn.NLLLoss):
        names = ("weight", "ignore_index", "reduction", "label_smoothing")
        function = functional.cross_entropy if type(loss_fn) is nn.CrossEntropyLoss else functional.nll_loss
        return function, {name: getattr(loss_fn, name) for name in names if hasattr(loss_fn, name)}
    if isinstance(loss_fn, partial) and not loss_fn.args:
        function, settings = loss_fn.func, dict(loss_fn.keywords)
    else:
        function, settings = loss_fn, {}
    return (function, settings) if function in (functional.cross_entropy, functional.nll_loss) else None


def _summed(loss_fn: Any, labels: Tensor) -> Any:
    """`loss_fn`, or the same as a sum over samples where it is a mean of torch's that not every label enters alike."""
    found = class_loss(loss_fn)
    if found is None or labels.is_floating_point():
        return loss_fn
    function, settings = found
    counted = labels[labels != settings.get("ignore_index", -100)]
    classes = settings.get("weight")
    if settings.get("reduction", "mean") != "mean" or (classes is None and counted.numel() == labels.numel()):
        return loss_fn
    size = counted.numel() if classes is None else classes[counted].sum().item()
    if size == 0:
        return loss_fn
    return lambda output, told: function(output, told, **{**settings, "reduction": "sum"}) / size


class SampleLoss:
    """A loss of each sample, from one that takes a batch and returns the sum or mean over it, or a weighted one.

    `scale (B,)`: by what the loss of each sample alone is multiplied. Where that is not as in a sum or mean, but as in
    a mean over the tokens that are not ignored, gradients tell it. Two outputs must have the losses that follow.

    Raises:
        NotAcceptedError: the loss of the batch is no such sum, or can't be computed for single samples.
    """

    def __init__(self, loss_fn: Callable[[Tensor, Tensor], Tensor], output: Tensor, labels: Tensor) -> None:
        self.loss_fn, self.one_by_one = _summed(loss_fn, labels), False
        # Samples on which the pass failed don't say whether the others are summed.
        output = torch.where(output.isfinite(), output, 0.0)
        total, each = self._both(output, labels)
        if not bool(each.any()):
            # A loss of nothing at all is sum and mean alike; other outputs may have one.
            total, each = self._both(-1 - output, labels)
        ones = torch.ones_like(each, dtype=output.dtype)
        for scale in (ones, ones / len(each)):
            if _equal(total, (scale * each).sum()):
                self.scale: Tensor = scale
                return
        self.scale = self._find_scale(output, labels)
        if all(_equal(*self._totals(at, labels)) for at in (output, -1 - output)):
            return
        raise NotAcceptedError(
            "loss_fn",
            f"{total.item():g} for the batch, of samples that alone give {each.sum().item():g} together",
            "the sum or the mean of a loss of each sample",
            "A search works on each sample by itself. Let SignGradient() set the topmost targets.",
        )

    def _both(self, output: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the batch, and of each sample alone `(B,)`."""
        with torch.no_grad():
            try:
                return self.loss_fn(output, labels).double(), self._alone(output, labels).double()
            except Exception:  # What vmap can't run, such as branches that depend on numbers, runs one by one.
                self.one_by_one = True
            try:
                value: Any = self.loss_fn(output, labels)
                if not isinstance(value, Tensor):
                    raise TypeError(f"{type(value).__name__} from what the model gives (B, ...)")
                return value.double(), self._alone(output, labels).double()
            except Exception as error:  # The user's own function; a search can't do without this, whatever it raises.
                first = (str(error) or type(error).__name__).partition("\n")[0]
                raise NotAcceptedError(
                    "loss_fn",
                    f"one that can't be computed for single samples ({first})",
                    "one that takes outputs (1, ...) of the model and returns a tensor of one number",
                    "What the model computes is none: compute it here. Or let SignGradient() set the topmost targets.",
                ) from error

    def _find_scale(self, output: Tensor, labels: Tensor) -> Tensor:
        """By what the slope of each sample alone is multiplied in that of the batch, `(B,)`; 0 where there is none."""

        def slope(at: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
            with torch.enable_grad():
                at = at.detach().requires_grad_()
                value = loss(at, labels).sum()
                if not value.requires_grad:
                    return torch.zeros_like(at).flatten(1)
                found = torch.autograd.grad(value, at, allow_unused=True, materialize_grads=True)[0]
            return found.nan_to_num().flatten(1)

        scale = output.new_zeros(len(output))
        for at in (-1 - output, output):
            together, alone = slope(at, self.loss_fn), slope(at, self._alone)
            size = (alone * alone).sum(1)
            scale = torch.where(size > 0, (together * alone).sum(1) / size, scale)
        return scale

    def _totals(self, output: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the batch, and what the samples give together."""
        with torch.no_grad():
            return self.loss_fn(output, labels).double(), self(output, labels, self.scale).double().sum()

    def check_curvature(self, output: Tensor, labels: Tensor) -> None:
        """Raise NotAcceptedError unless it can be differentiated twice at the first sample of `output (B, ...)`."""
        try:
            with torch.enable_grad():
                at = output[:1].detach().requires_grad_()
                value = self._alone(at, labels[:1]).sum()
                if value.requires_grad:
                    torch.autograd.grad(open_slope(value, at).sum(), at, allow_unused=True)
        except Exception as error:  # The user's own function may raise anything.
            raise NotAcceptedError(
                "loss_fn",
                f"one that can't be differentiated twice ({type(error).__name__}: {str(error).partition(chr(10))[0]})",
                "one that can, for its curvature",
                "Take hill-climb for the topmost threshold.",
            ) from error

    def __call__(self, output: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
        """`output (b, ...)`, `labels (b, ...)`, and their part of `scale (b,)` to `(b,)`."""
        # Alone, a sample whose labels are all ignored may lose NaN.
        return torch.where(scale == 0, 0.0, scale * self._alone(output, labels))

    def _alone(self, output: Tensor, labels: Tensor) -> Tensor:
        """The loss of the batch of each sample alone, `(b,)`."""
        if self.one_by_one:
            return torch.cat([self.loss_fn(o[None], t[None]).reshape(1) for o, t in zip(output, labels, strict=True)])
        one = torch.func.vmap(lambda o, t: self.loss_fn(o[None], t[None]))
        with warnings.catch_warnings():
            # What vmap has no rule for, such as kl_div, runs sample by sample.
            warnings.filterwarnings("ignore", "There is a performance drop")
            return one(output, labels)


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=0)


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
