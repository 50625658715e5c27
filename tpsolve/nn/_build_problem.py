"""The target problem of one threshold in a network: a layer problem below a linear map, else a block problem.

That of choices has a block problem inside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tpsolve.errors import NotAcceptedError
from tpsolve.losses import Loss, find_loss
from tpsolve.nn._layer_losses import ChoiceLoss, CrossEntropy, MixedLoss, SampleLoss, loss_of
from tpsolve.nn.passes._frozen import widened
from tpsolve.nn.passes._nests import Nest, NestedLoss, fits
from tpsolve.nn.passes._recording import Call
from tpsolve.nn.passes._segments import OUTPUT, Segment, steps_of
from tpsolve.problems import BlockProblem, LayerProblem
from tpsolve.problems.block._convolution import Chain
from tpsolve.thresholds._base import Threshold, find_width, weighed
from tpsolve.thresholds._choice import Choice, wanted
from tpsolve.thresholds._hard_threshold import HardThreshold
from tpsolve.thresholds._hard_unit import HardUnit


@dataclass(frozen=True)
class Top:
    """The network's own output and its loss: `loss_fn(output, labels)`, of the whole batch.

    `nest`: how the output is packed; None: it is not. `scale`: what the loss is multiplied by.
    """

    output: Tensor
    labels: Tensor
    loss_fn: Callable[[Tensor, Tensor], Tensor]
    nest: Nest | None = None
    scale: float = 1.0

    @staticmethod
    def of(output: Any, y: Any, loss_fn: Callable[[Any, Any], Tensor], nest: Nest | None) -> "Top":
        """That of an output, whose samples stand in `nest`, and of labels."""
        if nest is None and isinstance(y, Tensor):
            return Top(output.detach(), y, loss_fn)
        outputs = nest or Nest.of(output, lambda leaf: True)
        labels = None if isinstance(y, Tensor) else Nest.of(y, lambda leaf: True)
        packed = outputs.pack(output).detach()
        told = y
        if labels is not None:
            dtype = widened(packed).dtype
            exact = all(part.is_floating_point() or fits(part, dtype) for part in labels.split(y))
            told = labels.pack(y, dtype if exact else torch.float64)
        return Top(packed, told, NestedLoss(loss_fn, outputs, labels), nest)

    def of_samples(self) -> SampleLoss:
        """The loss of each sample.

        Raises:
            NotAcceptedError: there is none.
        """
        found = SampleLoss(self.loss_fn, widened(self.output), self.labels)
        found.scale = found.scale * self.scale
        return found

    def cross_entropy(self) -> CrossEntropy | None:
        """The loss, where it is torch's cross-entropy."""
        known = CrossEntropy.of(self.loss_fn, self.output, self.labels)
        return known if known is None else replace(known, scale=known.scale * self.scale)

    def check_curvature(self) -> None:
        """Raise NotAcceptedError unless the loss of the samples can be differentiated twice."""
        self.of_samples().check_curvature(widened(self.output), self.labels)


def build_problem(
    call: Call,
    segment: Segment,
    calls: Mapping[str, Call],
    gradients: Mapping[str, Tensor],
    top: Top,
    layer_loss: str | None,
    rows: Tensor,
    scale: float = 1.0,
) -> LayerProblem | BlockProblem:
    """The problem of the unit called in `call`, for the samples `rows (R,)`; its variables are its spins.

    Choices have a spin for each class, +1 for the one that they take; `ChoiceProblem` keeps to one of them.

    Above each threshold of the segment stand its targets -sign(g), with importance |g|, where g is what `gradients` has
    for its output, and above each choice what `wanted` makes of g; without an entry they want nothing. The objective
    is `scale` times what these losses are.
    """
    start = call.module.to_spins(widened(call.h.detach()[rows]))
    linear = None
    if segment.linear is not None and isinstance(call.module, Threshold):
        linear = call.module.from_spins_linear(*segment.linear)
    inner = [name for name in segment.sinks if name != OUTPUT]
    heads = [_Head.of(calls[name], gradients.get(name), layer_loss, rows, scale) for name in inner]
    loss, smoothing = loss_above(segment, calls, top, layer_loss), 0.0

    if isinstance(loss, CrossEntropy):
        loss = replace(loss, scale=scale * loss.scale)
        told, smoothing = loss.labels[rows], loss.smoothing
        unit_weight = loss.scale if loss.weight is None else loss.scale * loss.weight[rows]
        if linear is not None:
            (weight, bias), pull = linear, loss.pull(linear[0], told)
            return LayerProblem(weight, told, bias, "cross-entropy", unit_weight, start.flatten(1), pull=pull)
    elif loss is not None:
        told = torch.cat([head.targets for head in heads], 1)
        unit_weight = torch.cat([head.unit_weight for head in heads], 1)
        if linear is not None:
            weight, bias = heads[0].apply_linear(*linear)
            return LayerProblem(weight, told, bias, loss, unit_weight, start.flatten(1))

    context = tuple(part[rows] for part in segment.context)
    block = _Read(segment, call.module, heads, flat=not isinstance(loss, CrossEntropy))
    if loss is None:
        mixed, told = _mixed(heads, top if OUTPUT in segment.sinks else None, rows, scale)
        return BlockProblem(block, told, start, mixed, context=context)
    name = "cross-entropy" if isinstance(loss, CrossEntropy) else loss
    return BlockProblem(block, told, start, name, unit_weight, smoothing=smoothing, context=context)


def loss_above(
    segment: Segment, calls: Mapping[str, Call], top: Top, layer_loss: str | None
) -> CrossEntropy | str | None:
    """The one loss that all readers of a segment have, of which its curvature is known; None for any other."""
    if segment.sinks == (OUTPUT,):
        return top.cross_entropy()
    if OUTPUT in segment.sinks:
        return None
    thresholds = [(module, name) for name in segment.sinks if isinstance(module := calls[name].module, Threshold)]
    losses = {loss_of(module, name, layer_loss) for module, name in thresholds}
    return losses.pop() if len(losses) == 1 and len(thresholds) == len(segment.sinks) else None


@dataclass(frozen=True)
class _Head:
    """One threshold that reads a block's output z: what its hard thresholds of stretch z - shift want.

    Or a module of choices, whose targets are one-hot vectors, with the importance of a choice at each of its entries.

    `parts`: (stretch, shift) of each, the width in them; numbers, or one for each place of a sample.
    `targets`, `unit_weight`: `(R, k)`, part after part.
    """

    parts: list[tuple[float | Tensor, float | Tensor]]
    loss: Loss | ChoiceLoss
    targets: Tensor
    unit_weight: Tensor

    @staticmethod
    def of(call: Call, gradient: Tensor | None, layer_loss: str | None, rows: Tensor, scale: float) -> "_Head":
        module, z = call.module, widened(call.z)
        if isinstance(module, Choice):
            z = z[rows]
            target, importance = wanted(torch.zeros_like(z) if gradient is None else gradient[rows].to(z.dtype), z)
            hot = torch.zeros_like(z).scatter(-1, target, 1.0).flatten(1)
            weight = scale * importance.expand_as(z).flatten(1)
            return _Head([(1.0, 0.0)], ChoiceLoss(module.classes, module.loss), hot, weight)
        assert isinstance(module, Threshold)
        width, given, _, mode, importance = call.settings
        gradient = torch.zeros_like(z) if gradient is None else gradient.to(z.dtype)
        # A search has left a gradient for each of its thresholds.
        each = gradient.dim() > z.dim()
        parts, targets, weights = [], [], []
        for at, (gain, stretch, shift) in enumerate(module.parts(each)):
            g = weighed(gradient[at] if each else gradient, given, importance).expand_as(z)[rows].flatten(1)
            # The width in the weight makes the slope of the loss in z what the rule passes back.
            found = find_width(z * stretch - shift, None if width is None else width.detach(), mode)
            w: Any = 1.0 if found is None else found.item() if found.dim() == 0 else found.expand(z.shape[1:]).flatten()
            targets.append(-g.sign())
            weights.append((scale * gain * w / stretch) * g.abs())
            parts.append((stretch / w, shift / w))
        loss = find_loss(loss_of(module, call.name, layer_loss))
        assert isinstance(loss, Loss)
        return _Head(parts, loss, torch.cat(targets, 1), torch.cat(weights, 1))

    def apply_linear(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """What stands in the layer losses when z is V t + b, as a linear map itself."""
        rows = [weight * (s[:, None] if isinstance(s, Tensor) else s) for s, _ in self.parts]
        return torch.cat(rows), torch.cat([bias * stretch - shift for stretch, shift in self.parts])


class _Read(nn.Module):
    """What the layer losses see of a segment's outputs, in one tensor; `flat`: `(b, k)`."""

    def __init__(self, segment: Segment, below: HardUnit, heads: list[_Head], flat: bool) -> None:
        super().__init__()
        self.block, self.sinks, self.flat = segment.block, segment.sinks, flat
        self.from_spins = below.from_spins
        self.counts = [len(head.parts) for head in heads]
        self.parts = [part for head in heads for part in head.parts]
        for at, part in enumerate(self.parts):
            for name, value in zip(("stretch", "shift"), part, strict=True):
                if isinstance(value, Tensor):
                    # With the rest of the block to its dtype and device.
                    self.register_buffer(f"{name}_{at}", value)

    def chain(self) -> Chain | None:
        """The chain of modules that this is, where one threshold's spins go through modules to one other threshold."""
        below = getattr(self.from_spins, "__self__", None)
        steps = steps_of(self.block)
        if steps is None or not self.flat or len(self.counts) != 1 or OUTPUT in self.sinks:
            return None
        if not isinstance(below, HardThreshold):
            return None
        heads = [
            (getattr(self, f"stretch_{at}", stretch), getattr(self, f"shift_{at}", shift))
            for at, (stretch, shift) in enumerate(self.parts)
        ]
        return Chain(steps, (1 - below.low) / 2, (1 + below.low) / 2, heads)

    def forward(self, targets: Tensor, *context: Tensor) -> Tensor:
        outputs = dict(zip(self.sinks, self.block(self.from_spins(targets), *context), strict=True))
        own = outputs.pop(OUTPUT, None)
        if not self.flat:
            assert own is not None
            return own
        read = [z.flatten(1) for z, count in zip(outputs.values(), self.counts, strict=True) for _ in range(count)]
        seen = []
        for at, (z, part) in enumerate(zip(read, self.parts, strict=True)):
            stretch, shift = getattr(self, f"stretch_{at}", part[0]), getattr(self, f"shift_{at}", part[1])
            seen.append(z * stretch - shift)
        return torch.cat(seen if own is None else [*seen, own.flatten(1)], 1)


def _mixed(heads: list[_Head], top: Top | None, rows: Tensor, scale: float) -> tuple[MixedLoss, Tensor]:
    parts, at = [], 0
    for head in heads:
        parts.append((slice(at, at + head.targets.shape[1]), head.loss))
        at += head.targets.shape[1]
    told = [head.targets for head in heads] + [head.unit_weight for head in heads]
    if top is None:
        return MixedLoss(parts, None, None), torch.cat(told, 1)
    shape = tuple(top.output.shape[1:])
    known = top.cross_entropy()
    if known is not None:
        known = replace(known, scale=scale * known.scale)
        return MixedLoss(parts, shape, known.of_samples), torch.cat([*told, known.told(rows).to(told[0])], 1)
    each, labels = top.of_samples(), top.labels
    whole, shape, dtype = not labels.is_floating_point(), labels.shape[1:], widened(top.output).dtype
    nested = isinstance(top.loss_fn, NestedLoss) and top.loss_fn.labels is not None
    if (whole and not fits(labels, dtype)) or (nested and torch.promote_types(labels.dtype, dtype) != dtype):
        raise NotAcceptedError("y", f"whole numbers that {dtype} does not hold", "smaller ones", "Number them anew.")

    def lose(output: Tensor, told: Tensor) -> Tensor:
        numbers = told[:, 1:].reshape(-1, *shape)
        return each(output, numbers.to(labels.dtype) if whole else numbers, scale * told[:, 0])

    numbers = labels[rows].reshape(len(rows), -1).to(dtype if whole else labels.dtype)
    told += [each.scale[rows, None].to(numbers.dtype), numbers]
    return MixedLoss(parts, tuple(top.output.shape[1:]), lose), torch.cat(told, 1)
