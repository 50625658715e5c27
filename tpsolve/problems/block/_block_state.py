"""Targets below a block under single flips: the most promising flips are tried by forward passes."""

import copy
from typing import Self

import torch
from torch import Tensor

from tpsolve.problems._base import Limit, State
from tpsolve.problems._meter import Meter
from tpsolve.problems.block._block_passes import Passes


class BlockState(State):
    """State of `targets (B, n)` below a block.

    `flip_delta` is exact: for every target if there are at most `candidates`, else for those that
    promise most at the current targets, and +inf for the rest. It costs one forward-backward pass (8 or 16 backward
    passes more where curvature ranks), and `candidates` forward passes of B samples, or as many as a sample has
    left; `flip` one if the flip was not tried just before, and a sweep one for each target. A flip for which a sample
    has no pass left does nothing.
    """

    passes: Passes
    candidates: int
    ranking: str
    targets: Tensor
    objective: Tensor
    meter: Meter | None

    def __init__(
        self,
        passes: Passes,
        targets: Tensor,
        candidates: int,
        ranking: str = "gradient",
        meter: Meter | None = None,
    ) -> None:
        self.passes, self.candidates, self.ranking, self.meter = passes, candidates, ranking, meter
        self.targets = targets.clone()
        self._ranks = targets.shape[1] > candidates
        self._gradient: Tensor | None = None
        self._tried: Tensor | None = None
        if self._ranks and ranking == "gradient":
            # One forward pass serves both.
            affords = self.affords(2)
            if bool(affords.all()):
                self.spend(2)
                self.objective, self._gradient = passes.with_gradient(self.targets)
                return
        self.refresh()

    @property
    def look_passes(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One for a flip that is tried, and those that rank the flips."""
        return 1 + self._ranking_passes

    @property
    def _ranking_passes(self) -> int:
        if not self._ranks:
            return 0
        if self.ranking == "curvature":
            return self.passes.curvature_passes
        return 0 if self._gradient is not None else 2

    def refresh(self) -> None:
        self.spend(1)
        self._gradient = self._tried = None
        self.objective = self.passes.objective(self.targets)

    def flip_delta(self) -> Tensor:
        samples, n = self.targets.shape
        delta, self._tried = torch.full_like(self.targets, torch.inf), torch.full_like(self.targets, torch.inf)
        # A sample whose objective can't be computed has no flips to offer.
        tries = torch.isfinite(self.objective) & self.affords(self.look_passes)
        most = min(self.candidates, n)
        count = torch.full_like(tries, most, dtype=torch.int64)
        if self.meter is not None:
            count = (self.meter.share - self._ranking_passes).clamp(max=most).long()
        self.spend(self._ranking_passes, tries)
        units = self._promising(tries)
        place = torch.arange(most, device=units.device)
        rows, at = (tries[:, None] & (place < count[:, None])).nonzero(as_tuple=True)
        chosen = units[rows, at]
        self.spend(torch.bincount(rows, minlength=samples))
        value = self.passes.flipped(self.targets, rows, chosen)
        self._tried[rows, chosen] = value
        delta[rows, chosen] = value - self.objective[rows]
        return delta

    def gradient(self) -> Tensor:
        self.spend(self.gradient_passes)
        return self.passes.gradient(self.targets)

    def flip(self, units: Tensor, where: Tensor) -> None:
        rows = where.nonzero()[:, 0]
        if not len(rows):
            return
        known = None if self._tried is None else self._tried[rows, units[rows]]
        if known is None or not bool(torch.isfinite(known).all()):
            affords = self.affords(1)[rows]
            rows = rows[affords]
            self.spend(1, rows)
            known = self.passes.flipped(self.targets, rows, units[rows])
        self.targets[rows, units[rows]] *= -1
        self.objective = self.objective.index_copy(0, rows, known)
        self._gradient = self._tried = None

    def sweep(self, max_delta: Limit) -> None:
        self._gradient = self._tried = None
        for unit in range(self.targets.shape[1]):
            limit = max_delta(slice(unit, unit + 1))
            rows = self.affords(1).nonzero()[:, 0]
            if limit is None or not len(rows):
                return
            self.spend(1, rows)
            value = self.passes.flipped(self.targets, rows, torch.full_like(rows, unit))
            better = torch.isfinite(value) & (value - self.objective[rows] <= limit[0, rows])
            self.targets[rows[better], unit] *= -1
            self.objective = self.objective.index_copy(0, rows[better], value[better])

    def select(self, keep: Tensor) -> Self:
        other = copy.copy(self)
        other.passes = self.passes.select(keep)
        other.meter = None if self.meter is None else self.meter.select(keep)
        other.targets, other.objective = self.targets[keep], self.objective[keep]
        for name in ("_gradient", "_tried"):
            value = getattr(self, name)
            setattr(other, name, None if value is None else value[keep])
        return other

    def _promising(self, where: Tensor) -> Tensor:
        """The targets to try, `(B, K)`: those whose flip lowers the objective most, to first or second order.

        Only those of the samples `where (B,)` are worth anything.
        """
        samples, n = self.targets.shape
        if not self._ranks:
            return torch.arange(n, device=self.targets.device).expand(samples, n)
        if self._gradient is not None and self.ranking == "gradient":
            gain = self.targets * self._gradient
        else:
            rows = where.nonzero()[:, 0]
            part = self.passes if len(rows) == samples else self.passes.select(rows)
            gain = torch.zeros_like(self.targets)
            if len(rows) and self.ranking == "curvature":
                gain[rows] = -part.predicted_change(self.targets[rows])
            elif len(rows):
                gain[rows] = self.targets[rows] * part.gradient(self.targets[rows])
        return gain.topk(self.candidates, dim=1).indices
