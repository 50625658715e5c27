"""Targets of a layer problem under single flips: all n flip deltas at once, one flip at a time, or a sweep."""

import copy
import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from tpsolve.losses import Loss
from tpsolve.problems._base import Limit, State
from tpsolve.problems._meter import Meter
from tpsolve.problems.layer._layer_energy import LayerEnergy

CHUNK_BYTES = 2**22
"""Largest temporary of a neighbourhood evaluation, of which a few live at a time; measured: what fits
in a processor's cache takes half the time of what does not."""
SLICE_BYTES = 2**20
"""Of one that is written over; measured, 4,096 targets below 1,024 units: 0.3 of the time of whole samples."""


class LayerState(State):
    """State of `targets (B, n)`; keeps the pre-activations `(B, m)`.

    `flip_delta` costs O(B n m) time and a few `CHUNK_BYTES` of memory, `flip` O(B m), `sweep` O(B n m). A product with
    the weight counts as a pass, and so does one look at all flips, and a sweep.
    """

    energy: LayerEnergy
    pre: Tensor
    targets: Tensor
    objective: Tensor
    meter: Meter | None

    def __init__(self, energy: LayerEnergy, targets: Tensor, meter: Meter | None = None) -> None:
        self.energy, self.meter = energy, meter
        self.targets = targets.clone()
        self._buffer = targets.new_empty(0)
        self._reach = 2 * energy.weight.abs().amax(1)
        self.refresh()

    def refresh(self) -> None:
        """Recompute everything from the targets, which ends the drift of floating point."""
        self.spend(1)
        self.pre = self.energy.pre(self.targets)
        self.objective = self.energy.total(self.pre, self.targets)

    def flip_delta(self) -> Tensor:
        return self._afforded(self._all_deltas())

    def _all_deltas(self) -> Tensor:
        """The flip deltas `(B, n)` of all samples."""
        loss = self.energy.loss
        if isinstance(loss, Loss) and loss.kinks:
            return self._with_stay(self._kinked_delta(loss))
        return self._with_stay(self._plain_delta())

    def _afforded(self, delta: Tensor) -> Tensor:
        """Count a look at the flips; +inf for samples that have no pass left for it."""
        if self.meter is None:
            return delta
        affords = self.affords(1)
        self.spend(1, affords)
        return delta if bool(affords.all()) else delta.masked_fill_(~affords[:, None], torch.inf)

    def gradient(self) -> Tensor:
        self.spend(self.gradient_passes)
        return self.energy.gradient(self.targets)

    def met(self) -> Tensor:
        """`(B,)` bool: whether every unit above gives the output that is wanted of it."""
        return self.energy.met(self.energy.pre(self.targets))

    def flip(self, units: Tensor, where: Tensor) -> None:
        old = self.targets.gather(1, units[:, None])
        self.targets.scatter_(1, units[:, None], torch.where(where[:, None], -old, old))
        self.pre += torch.where(where[:, None], -2 * old, 0.0) * self.energy.weight.T[units]
        self.objective = self.energy.total(self.pre, self.targets)

    def sweep(self, max_delta: Limit) -> None:
        targets, stay = self.targets.T.contiguous(), self.energy.stay
        loss = self.energy.layer_loss(self.pre)
        for unit, column in enumerate(self.energy.weight.T.contiguous()):
            limit = max_delta(slice(unit, unit + 1))
            if limit is None:
                break
            moved = torch.addcmul(self.pre, targets[unit, :, None], column, value=-2)
            after = self.energy.layer_loss(moved)
            delta = after - loss if stay is None else after - loss + stay[:, unit] * targets[unit]
            flips = delta <= limit[0]
            self.pre = torch.where(flips[:, None], moved, self.pre)
            loss = torch.where(flips, after, loss)
            targets[unit] = torch.where(flips, -targets[unit], targets[unit])
        self.targets = targets.T
        self.objective = loss + self.energy.penalty(self.targets)
        self.spend(1)

    def select(self, keep: Tensor) -> Self:
        other = copy.copy(self)
        other.energy = self.energy.select(keep)
        other.meter = None if self.meter is None else self.meter.select(keep)
        for name in ("targets", "objective", *self._kept()):
            setattr(other, name, getattr(self, name)[keep])
        return other

    def _kept(self) -> tuple[str, ...]:
        """Names of further per-sample tensors that `select` picks from."""
        return ("pre",)

    def _with_stay(self, delta: Tensor) -> Tensor:
        return delta if self.energy.stay is None else delta + self.energy.stay * self.targets

    def _chunks(self, units: int, most: int = CHUNK_BYTES) -> Iterator[slice]:
        """Runs of samples whose (b, units, n) tensors take at most `most` bytes; a single sample may take more."""
        rows = max(1, most // max(1, units * self.targets.shape[1] * self.targets.element_size()))
        for first in range(0, len(self.targets), rows):
            yield slice(first, first + rows)

    def _plain_delta(self) -> Tensor:
        """The loss part of the flip deltas, from the loss after every flip."""
        loss, weight, c = self.energy.loss, self.energy.weight, self.energy.unit_weight
        if isinstance(loss, Loss):
            return self._sliced_delta(loss)
        delta = torch.empty_like(self.targets)
        for chunk in self._chunks(len(weight)):
            s, t, z = self.energy.targets[chunk], self.targets[chunk], self.pre[chunk]
            moved = torch.addcmul(z[:, None, :], t[:, :, None], weight.T, value=-2)  # (b, n, m)
            after = loss.value(moved, s[:, None].expand(moved.shape[:2]))
            delta[chunk] = c[chunk] * (after - loss.value(z, s)[:, None])
        return delta

    def _sliced_delta(self, loss: Loss) -> Tensor:
        """The same for a loss of single units, a slice of the weight after the other, each for all samples."""
        weight, value = self.energy.weight, loss.value_ or loss.value
        c, (m, n) = self.energy.unit_weight.expand_as(self.pre), weight.shape
        now, delta = c * loss.value(self.pre, self.energy.targets), torch.zeros_like(self.targets)
        wide = max(1, SLICE_BYTES // (n * weight.element_size()))
        for first in range(0, m, wide):
            units = slice(first, min(first + wide, m))
            count = units.stop - first
            for chunk in self._chunks(count, SLICE_BYTES):
                t, z, s = self.targets[chunk], self.pre[chunk, units], self.energy.targets[chunk, units]
                moved = self._workspace((len(t), count, n))
                torch.addcmul(z[:, :, None], t[:, None, :], weight[units], value=-2, out=moved)
                change = torch.bmm(c[chunk, None, units], value(moved, s[:, :, None]))[:, 0]
                # Slice by slice, so that the sums stay as small as the changes are.
                delta[chunk] += change.sub_(now[chunk, units].sum(1, keepdim=True))
        return delta

    def _kinked_delta(self, loss: Loss) -> Tensor:
        """The loss part of the flip deltas, by products for all units and a pass for those near a kink.

        max(0, x) = (x + |x|) / 2 with x = o - s z, and |o - s z| = |s o - z|: a flip moves the latter
        from |r| to |r + 2 t_j V_kj|. Where |r| is at least 2 max_j |V_kj|, no flip crosses the kink and
        the change is sign(r) 2 t_j V_kj: linear, as the other half is everywhere.
        """
        energy = self.energy
        linear = sum(factor for _, factor in loss.kinks) * energy.unit_weight * energy.targets
        crossings = torch.zeros_like(self.targets)
        for offset, factor in loss.kinks:
            r, half = energy.targets * offset - self.pre, 0.5 * factor * energy.unit_weight
            size = r.abs()
            near = size < self._reach
            near_half = half * near
            linear = torch.addcmul(linear, half - near_half, r.sign(), value=2)
            self._add_crossings(crossings, r, near_half, near)
            crossings -= torch.linalg.vecdot(near_half, size)[:, None]
        return torch.addcmul(crossings, self.targets, linear @ energy.weight)

    def _add_crossings(self, delta: Tensor, r: Tensor, half: Tensor, near: Tensor) -> None:
        """Add sum_k half_k |r_k + 2 t_j V_kj| over the units of each sample that are `near (B, m)`."""
        pairs = near.flatten().nonzero()[:, 0]
        rows = pairs // near.shape[1]
        units = pairs - rows * near.shape[1]
        r, half = r.flatten()[pairs], half.flatten()[pairs]
        starts = torch.searchsorted(rows, torch.arange(len(near), device=rows.device))
        numbers = torch.arange(len(pairs), device=rows.device)
        for chunk in self._chunks(-(-len(pairs) // len(near))):
            bags = starts[chunk]
            first = int(bags[0])
            last = int(starts[chunk.stop]) if chunk.stop < len(starts) else len(pairs)
            if first == last:
                continue
            moved = self._workspace((last - first, delta.shape[1]))
            torch.index_select(self.energy.weight, 0, units[first:last], out=moved)
            signs = self.targets.index_select(0, rows[first:last])
            torch.addcmul(r[first:last, None], signs, moved, value=2, out=moved).abs_()
            # A weighted sum of the rows of each sample, in one pass.
            delta[chunk] += functional.embedding_bag(
                numbers[: last - first], moved, bags - first, mode="sum", per_sample_weights=half[first:last]
            )

    def _workspace(self, shape: tuple[int, ...]) -> Tensor:
        """Memory of this shape, the same for all calls: fresh memory would cost as much as the arithmetic."""
        if self._buffer.numel() < math.prod(shape):
            self._buffer = self.targets.new_empty(math.prod(shape))
        return self._buffer[: math.prod(shape)].view(shape)
