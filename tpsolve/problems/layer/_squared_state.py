"""Targets of a squared-loss layer problem, a QUBO, under single flips and whole sweeps."""

import torch
from torch import Tensor

from tpsolve.problems._base import Limit
from tpsolve.problems._meter import Meter
from tpsolve.problems.layer._layer_energy import LayerEnergy
from tpsolve.problems.layer._layer_state import LayerState

GRAM_BYTES = 2**26
"""The maximum memory that Gram matrices of single samples may take."""
BLOCK_UNITS = 16
"""Targets of a sweep between two updates of all others; measured: 8 to 32 are equally quick."""


class SquaredState(LayerState):
    """State of a squared-loss problem: `flip_delta` O(B n), `flip` O(B n), no pre-activations.

    With the pull p = V' c (V t + b - s), E = t . (p + q) + const, where q is the part of p that is free
    of t; a flip of j changes E by 4 (V'^2 c)_j - 4 t_j p_j, and moves p by -2 t_j times column j of the
    Gram matrix V' c V. The matrix is shared where c is, and made when it is first needed. Else a flip costs O(B n m),
    until after n flips, by when it would have paid, one a sample is built, if they fit in `GRAM_BYTES`.
    """

    def __init__(self, energy: LayerEnergy, targets: Tensor, meter: Meter | None = None) -> None:
        c, weight = energy.unit_weight, energy.weight
        self._curvature = c @ weight**2
        super().__init__(energy, targets, meter)
        self._gram: Tensor | None = None
        self._flips = 0

    def refresh(self) -> None:
        self.spend(1)
        c, weight, wish = self.energy.unit_weight, self.energy.weight, self.energy.bias - self.energy.targets
        self._pull = (c * (self.energy.pre(self.targets) - self.energy.targets)) @ weight
        inner = torch.linalg.vecdot(self.targets, self._pull + (c * wish) @ weight)
        self.objective = inner + (c * wish**2).sum(1) + self.energy.penalty(self.targets)

    def _all_deltas(self) -> Tensor:
        return self._with_stay(torch.addcmul(self._curvature, self.targets, self._pull, value=-1).mul_(4))

    def gradient(self) -> Tensor:
        self.spend(self.gradient_passes)
        return 2 * self._pull if self.energy.stay is None else 2 * self._pull - 0.5 * self.energy.stay

    def flip(self, units: Tensor, where: Tensor) -> None:
        old, pull = (values.gather(1, units[:, None])[:, 0] for values in (self.targets, self._pull))
        curvature = self._curvature.expand_as(self.targets).gather(1, units[:, None])[:, 0]
        delta = 4 * (curvature - old * pull)
        if self.energy.stay is not None:
            delta += old * self.energy.stay.gather(1, units[:, None])[:, 0]
        self.objective = torch.where(where, self.objective + delta, self.objective)
        self.targets.scatter_(1, units[:, None], torch.where(where, -old, old)[:, None])
        self._pull.addcmul_(torch.where(where, old, 0.0)[:, None], self._columns(units), value=-2)

    def sweep(self, max_delta: Limit) -> None:
        if len(self.energy.unit_weight) > 1:
            self.pre = self.energy.pre(self.targets)
            super().sweep(max_delta)
            self._pull = (self.energy.unit_weight * (self.pre - self.energy.targets)) @ self.energy.weight
            return
        gram = self._gram = self._grams() if self._gram is None else self._gram
        targets, pull, stay = self.targets.T.contiguous(), self._pull.T.contiguous(), self.energy.stay
        for first in range(0, len(targets), BLOCK_UNITS):
            block = slice(first, first + BLOCK_UNITS)
            limit = max_delta(block)
            if limit is None:
                break
            # A flip pays where t p > curvature - limit / 4.
            least = torch.sub(self._curvature[0, block, None], limit, alpha=0.25)
            # The stay penalty is linear in t, as a pull of its own.
            own = pull[block].clone() if stay is None else torch.sub(pull[block], stay.T[block], alpha=0.25)
            change = self._sweep_block(gram[0, block, block], targets[block], own.clone(), least)
            # E changes by -2 change . (p before + p after).
            pull.addmm_(gram[0, :, block], change, alpha=-2)
            own += pull[block] if stay is None else torch.sub(pull[block], stay.T[block], alpha=0.25)
            self.objective.sub_(own.mul_(change).sum(0), alpha=2)
        self.targets, self._pull = targets.T, pull.T
        self.spend(1)

    @staticmethod
    def _sweep_block(gram: Tensor, targets: Tensor, pull: Tensor, least: Tensor) -> Tensor:
        """Sweep `targets (units, B)` in place; those that were flipped, as they were before, and 0 elsewhere.

        Meanwhile the pull on the units outside the block need not be known.
        """
        change, flips = torch.empty_like(pull), torch.empty_like(pull[0])
        rows = zip(targets.unbind(), pull.unbind(), least.unbind(), change.unbind(), strict=True)
        for i, (own, force, enough, changed) in enumerate(rows, start=1):
            torch.mul(own, force, out=changed)
            torch.ge(changed, enough, out=flips)
            torch.mul(own, flips, out=changed)
            own.sub_(changed, alpha=2)
            if i < len(pull):
                pull[i:].addr_(gram[i - 1, i:], changed, alpha=-2)
        return change

    def _columns(self, units: Tensor) -> Tensor:
        """Column `units[b]` of the Gram matrix of each sample b: `(B, n)`."""
        self._flips += 1
        if self._gram is None and len(self.energy.unit_weight) == 1:
            self._gram = self._grams()
        if self._gram is None and self._flips > self.targets.shape[1]:
            needed = self.targets.numel() * self.targets.shape[1] * self.targets.element_size()
            self._gram = self._grams() if needed <= GRAM_BYTES else None
        if self._gram is None:
            return (self.energy.unit_weight * self.energy.weight.T[units]) @ self.energy.weight
        if len(self._gram) == 1:
            return self._gram[0].index_select(0, units)
        return self._gram[torch.arange(len(units), device=units.device), units]

    def _grams(self) -> Tensor:
        """V' c V of each c, `(B, n, n)` or `(1, n, n)`."""
        return torch.einsum("bk,ki,kj->bij", self.energy.unit_weight, self.energy.weight, self.energy.weight)

    def _kept(self) -> tuple[str, ...]:
        shared = {"_curvature": len(self._curvature) == 1, "_gram": self._gram is None or len(self._gram) == 1}
        return ("_pull", *(name for name, is_shared in shared.items() if not is_shared))
