"""Targets below a convolution under single flips, of which each is tried where it is felt alone."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from tpsolve.losses import Loss
from tpsolve.problems._base import Limit, State
from tpsolve.problems._meter import Meter
from tpsolve.problems.block._block_passes import Passes
from tpsolve.problems.block._convolution import Convolution

Heads = Sequence[tuple[Tensor | float, ...]]

PATCH_BYTES = 2**22
"""Largest temporary of a look at flips."""


@dataclass(frozen=True)
class _Patch:
    """Where P flips are felt, and by how much.

    `sample (P,)`; `rows (P, a)`, `columns (P, b)` of z and `up (P, c)`, `across (P, d)` of the outputs; `change
    (P, C', a, b)` of z.
    """

    sample: Tensor
    rows: Tensor
    columns: Tensor
    up: Tensor
    across: Tensor
    change: Tensor

    def of(self, z: Tensor) -> Tensor:
        """What these places have of `z (B, rows, columns, C')`: `(P, C', a, b)`."""
        return z[self.sample[:, None, None], self.rows[:, :, None], self.columns[:, None, :]].permute(0, 3, 1, 2)

    def above(self, values: Tensor) -> Tensor:
        """What the outputs above have of `values (B, rows, columns, ...)`: `(P, c, d, ...)`."""
        return values[self.sample[:, None, None], self.up[:, :, None], self.across[:, None, :]]


class ConvolutionState(State):
    """State of `targets (B, n)` below a `Convolution` and layer losses, which keeps the pre-activations.

    A flip moves k k' pre-activations of each channel. So `flip_delta` computes each flip from the outputs that it
    reaches, exactly, for every target if there are at most `candidates`, else for those that promise most by the
    gradient. The gradient is kept up to date in the same way. One look at flips counts as a pass, and so does a sweep,
    which takes flips that no output sees together at once, colour by colour.
    """

    form: Convolution
    passes: Passes
    loss: Loss
    candidates: int
    targets: Tensor
    objective: Tensor
    meter: Meter | None

    def __init__(
        self, form: Convolution, passes: Passes, targets: Tensor, candidates: int, meter: Meter | None = None
    ) -> None:
        assert isinstance(passes.loss, Loss)
        self.form, self.passes, self.loss = form, passes, passes.loss
        self.candidates, self.meter = candidates, meter
        self.targets = targets.clone()
        heads, places = len(form.chain.heads), (len(form.weight), *form.outputs)
        shape = (len(targets), heads, *places)
        wanted = passes.targets.reshape(shape)
        weight = torch.ones_like(wanted) if passes.unit_weight is None else passes.unit_weight.reshape(shape)
        # As the places of a sample lie in memory: channels last.
        self._wanted = torch.where(wanted == 0, 1.0, wanted).permute(0, 3, 4, 1, 2).contiguous()
        self._weight = (weight * (wanted != 0)).permute(0, 3, 4, 1, 2).contiguous()
        self._heads = [
            tuple(x.reshape(places).permute(1, 2, 0) if isinstance(x, Tensor) and x.dim() else x for x in head)
            for head in form.chain.heads
        ]
        # A row and a column of zeros stand for what a spin does not reach.
        self._table = functional.pad(form.weight.permute(1, 2, 3, 0), (0, 0, 0, 1, 0, 1)).contiguous()
        self.refresh()

    @property
    def look_passes(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The look, and a backward pass where the gradient is not known."""
        return 1 + (self._ranks and self._gradient is None)

    @property
    def _ranks(self) -> bool:
        return self.targets.shape[1] > self.candidates

    def refresh(self) -> None:
        self.spend(1)
        self._gradient: Tensor | None = None
        self._z = self.form.pre(self.targets).permute(0, 2, 3, 1).contiguous()
        losses = self._value(self.form.tail(self._z.permute(0, 3, 1, 2)), self._wanted, self._weight, self._heads)
        self._losses = losses
        stay = self.passes.stay
        penalty = 0.0 if stay is None else 0.5 * (stay.abs() - stay * self.targets).sum(1)
        value = losses.flatten(1).sum(1) + penalty
        self.objective = torch.where(torch.isfinite(value), value, torch.inf)

    def flip_delta(self) -> Tensor:
        delta = torch.full_like(self.targets, torch.inf)
        tries = self.affords(self.look_passes) & torch.isfinite(self.objective)
        if not bool(tries.any()):
            return delta
        self.spend(self.look_passes, tries)
        rows = tries.nonzero()[:, 0]
        units = self._promising(rows)
        rows = rows[:, None].expand_as(units)
        delta[rows, units] = self._change(rows.flatten(), units.flatten()).reshape(units.shape)
        return delta

    def gradient(self) -> Tensor:
        self.spend(self.gradient_passes)
        return self._inner(self._full_gradient()).flatten(1) - (
            0.0 if self.passes.stay is None else 0.5 * self.passes.stay
        )

    def predicted_change(self) -> Tensor:
        """Change of the objective if one target were negated, to second order, `(B, n)`; both orders exact."""
        self.spend(2)
        z, weight = self._z.permute(0, 3, 1, 2), self.form.weight
        slope, curve = self._slopes(z, self._wanted, self._weight, self._heads, second=True)
        gain = self.form.chain.gain
        gradient = gain * self.form.back(slope, weight).flatten(1)
        curvature = gain**2 * self.form.back(curve, weight**2).flatten(1)
        if self.passes.stay is not None:
            gradient = gradient - 0.5 * self.passes.stay
        return 2 * (curvature - self.targets * gradient)

    def flip(self, units: Tensor, where: Tensor) -> None:
        rows = where.nonzero()[:, 0]
        if not len(rows):
            return
        patch = self._patch(rows, units[rows])
        if self._gradient is not None:
            self._move_gradient(patch)
        self._take(patch, self._change(rows, units[rows]), units[rows])

    def sweep(self, max_delta: Limit) -> None:
        samples = len(self.targets)
        self._gradient = None
        for units in self._colours():
            limits = [max_delta(slice(unit, unit + 1)) for unit in units.tolist()]
            if any(limit is None for limit in limits):
                break
            most = torch.cat([limit for limit in limits if limit is not None]).T
            rows = torch.arange(samples, device=units.device)[:, None].expand(-1, len(units)).flatten()
            every = units.repeat(samples)
            delta = self._change(rows, every)
            taken = delta <= most.flatten()
            if bool(taken.any()):
                self._take(self._patch(rows[taken], every[taken]), delta[taken], every[taken])
        self.spend(1)

    def select(self, keep: Tensor) -> Self:
        other = copy.copy(self)
        other.passes = self.passes.select(keep)
        other.meter = None if self.meter is None else self.meter.select(keep)
        for name in ("targets", "objective", "_wanted", "_weight", "_z", "_losses"):
            setattr(other, name, getattr(self, name)[keep])
        other._gradient = None if self._gradient is None else self._gradient[keep]
        return other

    def _value(self, out: Tensor, wanted: Tensor, weight: Tensor, heads: Heads) -> Tensor:
        """The losses of outputs `(..., C', rows, columns)`, summed over channels and heads: `(..., rows, columns)`."""
        out, total = out.permute(0, 2, 3, 1), 0.0
        for at, (stretch, shift) in enumerate(heads):
            losses = self.loss.value(out * stretch - shift, wanted[..., at, :])
            total = total + torch.linalg.vecdot(losses, weight[..., at, :])
        assert isinstance(total, Tensor)
        return total

    def _slopes(
        self,
        z: Tensor,
        wanted: Tensor,
        weight: Tensor,
        heads: Heads,
        second: bool = False,
    ) -> list[Tensor]:
        """First derivative of the losses in z `(P, C', a, b)`, and the second one, as each z reaches one output."""
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            out = self.form.tail(at)
        seen = out.detach().permute(0, 2, 3, 1)
        slope, curve = torch.zeros_like(seen), torch.zeros_like(seen)
        for number, (stretch, shift) in enumerate(heads):
            read, s, c = seen * stretch - shift, wanted[..., number, :], weight[..., number, :]
            slope += c * stretch * self.loss.slope(read, s)
            if second:
                curve += c * stretch**2 * self.loss.curve(read, s)
        found = [torch.autograd.grad(out, at, slope.permute(0, 3, 1, 2), retain_graph=second)[0]]
        if second:
            through = torch.autograd.grad(out, at, torch.ones_like(out), retain_graph=True)[0]
            found.append(through * torch.autograd.grad(out, at, curve.permute(0, 3, 1, 2))[0])
        return found

    def _full_gradient(self) -> Tensor:
        """Derivative of the losses in the targets, with room for what the padding reads: `(B, C, rows, columns)`."""
        z = self._z.permute(0, 3, 1, 2)
        slope = self._slopes(z, self._wanted, self._weight, self._heads)[0]
        found = self.form.chain.gain * self.form.back(slope, self.form.weight)
        rows, columns = self.form.padding
        return functional.pad(found, (columns, columns, rows, rows))

    def _inner(self, padded: Tensor) -> Tensor:
        (rows, columns), (_, height, width) = self.form.padding, self.form.shape
        return padded[:, :, rows : rows + height, columns : columns + width]

    def _promising(self, rows: Tensor) -> Tensor:
        """The targets to try of the samples `rows (R,)`: `(R, K)`."""
        n = self.targets.shape[1]
        if not self._ranks:
            return torch.arange(n, device=rows.device).expand(len(rows), n)
        if self._gradient is None:
            self._gradient = self._full_gradient()
        gradient = self._inner(self._gradient).flatten(1)
        if self.passes.stay is not None:
            gradient = gradient - 0.5 * self.passes.stay
        return (self.targets * gradient)[rows].topk(self.candidates, dim=1).indices

    def _patch(self, rows: Tensor, units: Tensor) -> _Patch:
        """Where the flips of `units (P,)` of the samples `rows (P,)` are felt."""
        form = self.form
        _, height, width = form.shape
        channel, place = units // (height * width), units % (height * width)
        spread, offsets, above = [], [], []
        for axis, at in enumerate((place // width, place % width)):
            k, s, r = form.weight.shape[2 + axis], form.stride[axis], form.window[axis]
            padded, reach = at + form.padding[axis], form.reach(axis)
            first = (-((k - 1 - padded) // s)).clamp(min=0) // r
            first = first.clamp(max=form.outputs[axis] - reach)
            outputs = first[:, None] + torch.arange(reach, device=units.device)
            inner = r * first[:, None] + torch.arange(r * reach, device=units.device)
            offset = padded[:, None] - s * inner
            spread.append(inner)
            above.append(outputs)
            offsets.append(torch.where((offset >= 0) & (offset < k), offset, k))
        step = -2 * form.chain.gain * self.targets[rows, units]
        change = self._table[channel[:, None, None], offsets[0][:, :, None], offsets[1][:, None, :]]
        change = (step[:, None, None, None] * change).permute(0, 3, 1, 2)
        return _Patch(rows, spread[0], spread[1], above[0], above[1], change)

    def _heads_of(self, patch: _Patch) -> Heads:
        """What reads the outputs of a patch."""
        up, across = patch.up[:, :, None], patch.across[:, None, :]
        return [tuple(x[up, across] if isinstance(x, Tensor) and x.dim() else x for x in head) for head in self._heads]

    def _change(self, rows: Tensor, units: Tensor) -> Tensor:
        """The flip deltas `(P,)` of `units (P,)` of the samples `rows (P,)`."""
        delta = torch.empty(len(rows), device=self.targets.device, dtype=self.targets.dtype)
        for part in self._parts(len(rows)):
            patch = self._patch(rows[part], units[part])
            out = self.form.tail(patch.of(self._z) + patch.change)
            wanted, weight = patch.above(self._wanted), patch.above(self._weight)
            after = self._value(out, wanted, weight, self._heads_of(patch))
            delta[part] = (after - patch.above(self._losses)).flatten(1).sum(1)
        if self.passes.stay is not None:
            delta += self.passes.stay[rows, units] * self.targets[rows, units]
        return torch.where(torch.isnan(delta), torch.inf, delta)

    def _parts(self, count: int) -> Iterator[slice]:
        form = self.form
        each = form.reach(0) * form.window[0] * form.reach(1) * form.window[1] * len(form.weight)
        wide = max(1, PATCH_BYTES // (each * self.targets.element_size()))
        for first in range(0, count, wide):
            yield slice(first, first + wide)

    def _take(self, patch: _Patch, delta: Tensor, units: Tensor) -> None:
        """Make flips that no output sees together."""
        at = patch.sample[:, None, None], patch.rows[:, :, None], patch.columns[:, None, :]
        self._z.index_put_(at, patch.change.permute(0, 2, 3, 1), accumulate=True)
        above = patch.sample[:, None, None], patch.up[:, :, None], patch.across[:, None, :]
        wanted, weight = patch.above(self._wanted), patch.above(self._weight)
        self._losses[above] = self._value(self.form.tail(patch.of(self._z)), wanted, weight, self._heads_of(patch))
        self.targets[patch.sample, units] *= -1
        self.objective = self.objective.index_add(0, patch.sample, delta)

    def _move_gradient(self, patch: _Patch) -> None:
        """Keep the gradient up to date over one flip a sample, before it is made."""
        assert self._gradient is not None
        form, wanted, weight = self.form, patch.above(self._wanted), patch.above(self._weight)
        z, heads = patch.of(self._z), self._heads_of(patch)
        after = self._slopes(z + patch.change, wanted, weight, heads)[0]
        change = after - self._slopes(z, wanted, weight, heads)[0]
        moved = form.chain.gain * functional.conv_transpose2d(change, form.weight, stride=form.stride)
        # In the room of the padded gradient an output begins where it reads.
        rows = form.stride[0] * patch.rows[:, :1] + torch.arange(moved.shape[2], device=moved.device)
        columns = form.stride[1] * patch.columns[:, :1] + torch.arange(moved.shape[3], device=moved.device)
        channels = torch.arange(moved.shape[1], device=moved.device)[None, :, None, None]
        at = patch.sample[:, None, None, None], channels, rows[:, None, :, None], columns[:, None, None, :]
        self._gradient.index_put_(at, moved, accumulate=True)

    def _colours(self) -> Iterator[Tensor]:
        """All targets, in groups of which no output sees two."""
        channels, height, width = self.form.shape
        device = self.targets.device
        down, right = self.form.apart(0), self.form.apart(1)
        for channel in range(channels):
            for first in range(min(down, height)):
                for start in range(min(right, width)):
                    rows = torch.arange(first, height, down, device=device)[:, None]
                    columns = torch.arange(start, width, right, device=device)
                    yield ((channel * height + rows) * width + columns).flatten()
