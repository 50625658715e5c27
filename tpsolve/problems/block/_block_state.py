"""Targets below a block under single flips: the most promising flips are tried by forward passes."""

import copy
from typing import Self

import torch
from torch import Tensor

from tpsolve.problems._base import State
from tpsolve.problems.block._block_passes import Passes


class BlockState(State):
    """State of `targets (B, n)` below a block.

    `flip_delta` is exact: for every target if there are at most `candidates`, else for those that
    promise most at the current targets, and +inf for the rest. It costs one forward-backward pass (one
    more and 7 backward where curvature ranks), and `candidates` forward passes of B samples; `flip` one.
    """

    passes: Passes
    candidates: int
    ranking: str
    targets: Tensor
    objective: Tensor

    def __init__(self, passes: Passes, targets: Tensor, candidates: int, ranking: str = "gradient") -> None:
        self.passes, self.candidates, self.ranking = passes, candidates, ranking
        self.targets = targets.clone()
        self.refresh()

    def refresh(self) -> None:
        self.objective = self.passes.objective(self.targets)

    def flip_delta(self) -> Tensor:
        units = self._promising()
        delta = torch.full_like(self.targets, torch.inf)
        change = self.passes.flipped(self.targets, units) - self.objective[:, None]
        # A sample whose objective can't be computed has no flips to offer.
        return delta.scatter_(1, units, torch.where(torch.isfinite(self.objective)[:, None], change, torch.inf))

    def gradient(self) -> Tensor:
        return self.passes.gradient(self.targets)

    def flip(self, units: Tensor, where: Tensor) -> None:
        old = self.targets.gather(1, units[:, None])
        self.targets.scatter_(1, units[:, None], torch.where(where[:, None], -old, old))
        self.refresh()

    def select(self, keep: Tensor) -> Self:
        other = copy.copy(self)
        other.passes = self.passes.select(keep)
        other.targets, other.objective = self.targets[keep], self.objective[keep]
        return other

    def _promising(self) -> Tensor:
        """The targets to try, `(B, K)`: those whose flip lowers the objective most, to first or second order."""
        samples, n = self.targets.shape
        if n <= self.candidates:
            return torch.arange(n, device=self.targets.device).expand(samples, n)
        if self.ranking == "curvature":
            gain = -self.passes.predicted_change(self.targets)
        else:
            gain = self.targets * self.passes.gradient(self.targets)
        return gain.topk(self.candidates, dim=1).indices
