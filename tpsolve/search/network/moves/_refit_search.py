"""RefitSearch: one unit after the other is fitted anew to what its outputs are worth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.errors import TooLargeError
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search.network.moves._network_copies import PART_ELEMENTS, BestOffer, Copies
from tpsolve.search.network.moves._refit import refit

MAX_INPUTS = 500
"""Of one unit: a fit solves systems of so many equations."""
PATIENCE = 40
"""Rounds over the units without a gain, after which some of them are drawn anew."""
LINED = 0.3
"""How often a unit moves along lines instead."""
WORSE = 0.02
"""How often a fit is kept that costs more."""
_FITTED_POINTS = 2**13
"""That a fit sees at most."""
_PRODUCTS = 2**28
"""Of one Newton step of one copy: a tenth of a second."""
_NUMBERS, _LEAST = 2**24, 4
"""Of the inputs of all copies, of which each point counts as `_A_POINT` at least; and so many copies at least."""
_A_POINT = 32


@dataclass(frozen=True)
class RefitSearch(Solver):
    """Local search of small networks of any depth: one unit after the other is fitted anew.

    Two forward passes tell what an output +1 of one unit is worth at each point, with all other units held. The unit is
    then fitted to these worths by a squared hinge whose weights fall where points are far on the wrong side. So it
    gives up points that it can't have. The weights are drawn at random at the start of each fit, so no two fits are
    alike. A fit is kept if the network is no worse, and sometimes if it is. Now and then a unit moves along lines
    instead, as `LineSearch` moves it. Copies of the network that stop improving have some units drawn anew, or all.

    It starts from random networks. Any number of layers and classes is allowed, and at most 500 inputs of one unit. It
    proves nothing.

    One step moves one unit of every copy. Sources: Mangasarian (1996) for the weights of the hinge, Charon and Hudry
    (1993) for those that are drawn.

    Args:
        copies: networks searched side by side; fewer where points are many.
    """

    copies: int = 32

    name = "refit-search"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one unit of every copy, fitted anew or moved along lines"
    stochastic = True

    def __post_init__(self) -> None:
        check_count("copies", self.copies, 1)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, NetworkProblem)
        most = max(problem.samples.shape[-1], *problem.widths)
        if most > MAX_INPUTS:
            raise TooLargeError(
                "problem",
                f"a unit of {most} inputs",
                f"at most {MAX_INPUTS} for {self.name}",
                "Use LineSearch(), or fewer features.",
            )

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        search = _Search(problem.select(torch.zeros(1, dtype=torch.int64, device=problem.device)), generator)
        points, features = problem.inputs.shape
        count = min(self.copies, max(_LEAST, _NUMBERS // (points * max(features, _A_POINT))))
        state = search.drawn(count)
        best, cost = [weight.clone() for weight in state], search.cost(state)
        lowest, stale = cost.clone(), torch.zeros(count, dtype=torch.int64, device=problem.device)
        offer, turns, lasted = BestOffer(problem, report, search), 0, 0.0
        while True:
            offer.see(state)
            offer.make()
            # A turn that ends too late is not begun.
            if report.step() or report.seconds_left < lasted / 2:
                break
            began = report.seconds
            cost = search.renew(state, cost, *search.units[turns % len(search.units)], report.pulse)
            turns, lasted = turns + 1, report.seconds - began
            better = cost < lowest
            stale = torch.where(better, 0, stale + 1)
            lowest = torch.where(better, cost, lowest)
            for kept, now in zip(best, state, strict=True):
                kept[better] = now[better]
            tired = stale >= PATIENCE * len(search.units)
            if bool(tired.any()):
                search.kick(state, best, int(lowest.argmin()), tired)
                cost = torch.where(tired, search.cost(state), cost)
                # They begin anew, but for the best one, which others may come back to.
                tired[lowest.argmin()] = False
                lowest, stale = torch.where(tired, cost, lowest), torch.where(tired, 0, stale)
                for kept, now in zip(best, state, strict=True):
                    kept[tired] = now[tired]
        offer.make(last=True)


class _Search(Copies):
    def __init__(self, problem: NetworkProblem, generator: torch.Generator) -> None:
        super().__init__(problem, generator)
        self._plain = problem.layers[-2:] == (1, 1) and len(problem.layers) > 1
        """Whether the last unit reads one unit only, and has nothing to choose."""
        if self._plain:
            self.units.pop()
        features = problem.inputs.shape[1]
        self._fitted_points = min(_FITTED_POINTS, max(2 * features, _PRODUCTS // (features + 1) ** 2))

    def drawn(self, count: int) -> list[Tensor]:
        state = super().drawn(count)
        self._set_plain(state)
        return state

    def kick(self, state: list[Tensor], best: list[Tensor], champion: int, where: Tensor) -> None:
        super().kick(state, best, champion, where)
        self._set_plain(state)

    def _set_plain(self, state: list[Tensor]) -> None:
        if self._plain:
            state[-1][:] = torch.tensor([1.0, 0.0], device=self.device)

    def renew(self, state: list[Tensor], cost: Tensor, d: int, j: int, stop: Callable[[], bool]) -> Tensor:
        """Choose unit `j` of layer `d` of each network again, in place, until `stop()`; what they cost, `(R,)`."""
        if float(self.random(1)) < LINED:
            self.move(state, d, j, stop)
            return self.cost(state)
        before = state[d][:, j].clone()
        points = min(len(self.problem.inputs), self._fitted_points)
        size = max(1, PART_ELEMENTS // (points * state[d].shape[-1]))
        for part in torch.arange(len(before), device=self.device).split(size):
            below, worth = self.worth([weight[part] for weight in state], d, j)
            if points < below.shape[1]:
                seen = (self.random(points) * below.shape[1]).long()
                below, worth = below[:, seen], worth[:, seen]
            state[d][part, j] = refit(before[part], below, worth, self.random, stop)
            if stop():
                break
        now = self.cost(state)
        worse = (now > cost) & (self.random(len(now)) >= WORSE)
        state[d][worse, j] = before[worse]
        return torch.where(worse, cost, now)
