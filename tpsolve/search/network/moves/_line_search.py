"""LineSearch: a surrogate gradient's network, then exact line searches over the weights of single units."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search._naming import find_solver
from tpsolve.search.network.moves._network_copies import BestOffer, Copies

PATIENCE = 3
"""Rounds over the units without a gain, after which some of them are drawn anew."""


@dataclass(frozen=True)
class LineSearch(Solver):
    """Local search of small networks of any depth: the weights of one unit after the other move along lines.

    Two forward passes tell what an output +1 of one unit is worth at each point, with all other units held. Along a
    line through the unit's weights each point's output changes once. So one sort and one cumulative sum give the errors
    of *every* column on the line, and the best is taken. There are three kinds of directions: random ones; ones along
    the gradient of what the outputs are worth, smoothed over a random width; and ones on which the nearest points stay
    on their side. In the first layer a direction sometimes leads to a logistic unit that learns what each output is
    worth, which is a convex problem. Copies of the network that stop improving have some units drawn anew, or all.

    It starts from the network that another solver finds, by default a surrogate gradient. A surrogate gradient is
    strong where features are many. This search is strong where each error counts. Any number of layers and classes is
    allowed. It proves nothing.

    One step moves one unit of every copy; the first solver's steps are not counted.

    Args:
        first: the solver of the first network, such as "surrogate"; it takes a `NetworkProblem`. None: it starts from
            the best targets known before, such as those of a `WarmStart`.
        share: of the seconds that the first solver gets.
        first_steps: of the first solver, where the budget has no seconds.
        copies: networks searched side by side.
    """

    first: str | None = "surrogate:restarts=100,width=0.3,rate=0.05,steps=300"
    share: float = 0.2
    first_steps: int = 300
    copies: int = 16

    name = "line-search"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one unit of every copy, moved along its lines"
    stochastic = True

    def __post_init__(self) -> None:
        check_count("copies", self.copies, 1)
        check_count("first_steps", self.first_steps, 1)
        if not (isinstance(self.share, int | float) and 0 < self.share < 1):
            raise ArgumentError("share", self.share, "a share between 0 and 1")

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if self.first is None:
            return
        first = find_solver(self.first)
        if NetworkProblem not in first.accepts:
            raise NotAcceptedError("first", self.first, "a solver that accepts a NetworkProblem")
        first.check(problem)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        start = report.incumbent
        if self.first is not None or start is None:
            seconds = None if budget.seconds is None else self.share * budget.seconds
            limit = Budget(seconds=seconds, steps=self.first_steps if seconds is None else None)
            first = _FirstReport(report, limit)
            find_solver(self.first or "surrogate").run(problem, limit, generator, first)
            start = first.targets if bool(torch.isfinite(first.objective).all()) else problem.start
            report.judge_seconds += first.judge_seconds
            report.offer(start)
        if report.pulse():
            return
        search = Copies(problem.select(torch.zeros(1, dtype=torch.int64, device=problem.device)), generator)
        state = search.copies(start[:1], self.copies)
        best, level = [w.clone() for w in state], search.cost(state)
        lowest, stale = level.clone(), torch.zeros(self.copies, dtype=torch.int64, device=problem.device)
        offer, turns = BestOffer(problem, report, search, float(report.objective[0])), 0
        while not report.step():
            search.move(state, *search.units[turns % len(search.units)], report.pulse)
            turns += 1
            cost = search.cost(state)
            stale = torch.where(cost < level, 0, stale + 1)
            level = torch.minimum(level, cost)
            better = cost < lowest
            if bool(better.any()):
                lowest = torch.where(better, cost, lowest)
                for kept, now in zip(best, state, strict=True):
                    kept[better] = now[better]
                offer.see(state)
            offer.make()
            tired = stale >= PATIENCE * len(search.units)
            if bool(tired.any()):
                champion = int(lowest.argmin())
                search.kick(state, best, champion, tired)
                level, stale = torch.where(tired, search.cost(state), level), torch.where(tired, 0, stale)
        offer.make(last=True)


class _FirstReport(Report):
    """What the first solver has for a report: its time is that of the whole search, whose clock may stand still."""

    def __init__(self, whole: Report, budget: Budget) -> None:
        self._whole, self._began = whole, whole.seconds
        super().__init__(whole.problem, budget, None)

    @property
    def seconds(self) -> float:
        return self._whole.seconds - self._began

    def pulse(self, objective: Tensor | None = None, bound: Tensor | None = None) -> bool:
        self.stopped = super().pulse(objective, bound) or self._whole.pulse()
        return self.stopped
