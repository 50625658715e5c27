"""Targets of a cross-entropy layer problem under single flips: matrix products in place of a pass for each class."""

import torch
from torch import Tensor

from tpsolve.problems._meter import Meter
from tpsolve.problems.layer._layer_energy import LayerEnergy
from tpsolve.problems.layer._layer_state import LayerState

MAX_MOVE = 60.0
"""The maximum by which a flip may move a pre-activation: e^60 and e^-60 are far inside float32, whose normal
numbers end near e^88 and e^-87."""
BLOCK_SAMPLES = 16
"""Samples of one matrix product; measured, 10 classes: half the time of one product of all samples."""


class ClassState(LayerState):
    """State of a cross-entropy problem: `flip_delta` by two (B, m) x (m, n) products and O(B n) further work.

    With the class probabilities p = softmax(z), a flip of t_j changes the loss by
    log sum_k p_k exp(-2 t_j V_kj) + 2 t_j V_label,j. For either sign of t_j the sum is a product with a
    fixed matrix. Weights so large that it could overflow are left to the pass over all classes.
    """

    def __init__(self, energy: LayerEnergy, targets: Tensor, meter: Meter | None = None) -> None:
        super().__init__(energy, targets, meter)
        moves, c = 2 * energy.weight, energy.unit_weight
        self._factors = torch.cat([moves.exp(), (-moves).exp()], dim=1)
        self._small = bool((moves.abs() <= MAX_MOVE).all())
        self._scale = None if bool((c == 1).all()) else c
        self._slope = c * moves[energy.targets]
        if energy.stay is not None:
            self._slope += energy.stay

    def _all_deltas(self) -> Tensor:
        if not self._small:
            return super()._all_deltas()
        samples, n = self.targets.shape
        sums, delta = self._workspace((3 * samples, n)).tensor_split([2 * samples])
        raised, lowered = self._products(self.pre.softmax(1), sums.view(samples, 2 * n)).chunk(2, dim=1)
        # An exact choice by t; torch.where takes ten times as long.
        torch.lerp(raised, lowered, torch.add(0.5, self.targets, alpha=0.5, out=delta), out=delta).log_()
        if self._scale is not None:
            delta *= self._scale
        return delta.addcmul_(self.targets, self._slope)

    def _products(self, p: Tensor, out: Tensor) -> Tensor:
        """`p (B, m)` times the factors, written to `out (B, 2n)`."""
        samples, m = p.shape
        if samples % BLOCK_SAMPLES or m > BLOCK_SAMPLES:
            return torch.mm(p, self._factors, out=out)
        blocks = samples // BLOCK_SAMPLES
        p = p.view(blocks, BLOCK_SAMPLES, m)
        torch.bmm(p, self._factors.expand(blocks, -1, -1), out=out.view(blocks, BLOCK_SAMPLES, -1))
        return out

    def _kept(self) -> tuple[str, ...]:
        return ("pre", "_slope") if self._scale is None else ("pre", "_slope", "_scale")
