"""Targets of a layer problem under single flips: all n flip deltas at once, one flip at a time."""

import copy
from typing import Self

import torch
from torch import Tensor

from tpsolve.losses import ClassLoss, Loss
from tpsolve.problems.base import State
from tpsolve.problems.layer_energy import LayerEnergy

CHUNK_BYTES = 2**26
"""Largest temporary of a neighbourhood evaluation; at most three live at a time."""


class LayerState(State):
    """State of `targets (B, n)`; keeps the pre-activations `(B, m)`.

    `flip_delta` costs O(B n m) and at most 3 `CHUNK_BYTES` of memory, `flip` O(B m).
    """

    def __init__(self, energy: LayerEnergy, targets: Tensor):
        self.energy = energy
        self.targets = targets.clone()
        self.refresh()

    def refresh(self) -> None:
        """Recompute everything from the targets, which ends the drift of floating point."""
        self.pre = self.energy.pre(self.targets)
        self.objective = self.energy.total(self.pre, self.targets)

    def flip_delta(self) -> Tensor:
        delta = torch.empty_like(self.targets)
        # A single sample may exceed the limit: then it is what one sample needs.
        rows = max(1, CHUNK_BYTES // (self.energy.weight.numel() * self.targets.element_size()))
        for first in range(0, len(delta), rows):
            chunk = slice(first, first + rows)
            self._chunk_delta(chunk, delta[chunk])
        return self._with_stay(delta)

    def flip(self, units: Tensor, where: Tensor) -> None:
        old = self.targets.gather(1, units[:, None])
        self.targets.scatter_(1, units[:, None], torch.where(where[:, None], -old, old))
        self.pre += torch.where(where[:, None], -2 * old, 0.0) * self.energy.weight.T[units]
        self.objective = self.energy.total(self.pre, self.targets)

    def select(self, keep: Tensor) -> Self:
        other = copy.copy(self)
        other.energy = self.energy.select(keep)
        for name in ("targets", "pre", "objective", *self._kept()):
            setattr(other, name, getattr(self, name)[keep])
        return other

    def _kept(self) -> tuple[str, ...]:
        """Names of further per-sample tensors that `select` picks from."""
        return ()

    def _with_stay(self, delta: Tensor) -> Tensor:
        return delta if self.energy.stay is None else delta + self.energy.stay * self.targets

    def _chunk_delta(self, chunk: slice, out: Tensor) -> None:
        """Write the loss part of the flip deltas of these samples to `out`."""
        loss, s, weight = self.energy.loss, self.energy.targets[chunk], self.energy.weight
        t, z = self.targets[chunk], self.pre[chunk]
        c = self.energy.unit_weight
        c = c if len(c) == 1 else c[chunk]
        if isinstance(loss, ClassLoss):
            moved = torch.addcmul(z[:, None, :], t[:, :, None], weight.T, value=-2)  # (b, n, m)
            after = loss.value(moved, s[:, None].expand(moved.shape[:2]))
            out[:] = c * (after - loss.value(z, s)[:, None])
        elif loss.kinks:
            self._kinked_delta(loss, c, s, t, z, out)
        else:
            moved = torch.addcmul(z[:, :, None], t[:, None, :], weight, value=-2)  # (b, m, n)
            after = loss.value(moved, s[:, :, None])
            torch.bmm(c.expand_as(z)[:, None, :], after, out=out[:, None, :])
            out -= (c * loss.value(z, s)).sum(1, keepdim=True)

    def _kinked_delta(self, loss: Loss, c: Tensor, s: Tensor, t: Tensor, z: Tensor, out: Tensor) -> None:
        """Two passes over (b, m, n) a kink, with max(0, x) = (x + |x|) / 2 and |o - s z| = |s o - z|.

        The linear half is a matrix product; the other half is |(s o - z) + 2 t V|, one `addcmul`.
        """
        c = c.expand_as(z)
        out.zero_()
        for offset, factor in loss.kinks:
            shifted = s * offset - z
            moved = torch.addcmul(shifted[:, :, None], t[:, None, :], self.energy.weight, value=2).abs_()
            out += 0.5 * factor * torch.bmm(c[:, None, :], moved)[:, 0]
            out -= 0.5 * factor * (c * shifted.abs()).sum(1, keepdim=True)
            out += factor * t * ((c * s) @ self.energy.weight)


class SquaredState(LayerState):
    """State of a squared-loss problem, a QUBO: `flip_delta` O(B n), `flip` O(B (n + m)).

    With r = z - s, E changes by -4 t_j (V' c r)_j + 4 (V'^2 c)_j; a flip of j moves V' c r by
    -2 t_j times column j of the Gram matrix V' c V. The matrix is shared where c is; else one a
    sample is kept while they fit in `CHUNK_BYTES`, and beyond that a flip costs O(B n m).
    """

    def refresh(self) -> None:
        super().refresh()
        c, weight = self.energy.unit_weight, self.energy.weight
        self._pull = (c * (self.pre - self.energy.targets)) @ weight
        self._curvature = (c @ weight**2).expand_as(self.targets)
        self._gram = None
        if len(c) == 1 or self.targets.numel() * weight.shape[1] * weight.element_size() <= CHUNK_BYTES:
            self._gram = torch.einsum("bk,ki,kj->bij", c, weight, weight)

    def flip_delta(self) -> Tensor:
        return self._with_stay(4 * (self._curvature - self.targets * self._pull))

    def flip(self, units: Tensor, where: Tensor) -> None:
        change = torch.where(where, -2 * self.targets.gather(1, units[:, None])[:, 0], 0.0)
        if self._gram is None:
            column = (self.energy.unit_weight * self.energy.weight.T[units]) @ self.energy.weight
        elif len(self._gram) == 1:
            column = self._gram[0, units]
        else:
            column = self._gram[torch.arange(len(units), device=units.device), units]
        super().flip(units, where)
        self._pull += change[:, None] * column

    def _kept(self) -> tuple[str, ...]:
        per_sample = self._gram is not None and len(self._gram) > 1
        return ("_pull", "_curvature", "_gram") if per_sample else ("_pull", "_curvature")
