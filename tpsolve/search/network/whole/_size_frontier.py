"""The fewest errors of networks with so many weights other than 0, for several such numbers."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._plain import Settings
from tpsolve._result import Budget, Progress
from tpsolve.errors import NotAcceptedError, TooLargeError, ValueSetError
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Callback, Report
from tpsolve.search._solve import solve
from tpsolve.search.network._weight_box import WeightBox
from tpsolve.search.network.whole._all_columns import AllColumns
from tpsolve.search.network.whole._integer_search import IntegerSearch

SEARCH_SHARE = 0.25
"""Of the seconds, what goes into searches for networks of all sizes; proofs have the rest."""
EVERY_SHARE = 0.15
"""Of what is left then, what goes into a network of any size, where no search has found one without errors."""
PRICES = 8
"""Of a weight, in these searches: halves of halves, and 0."""


@dataclass(frozen=True)
class FrontierPoint(Settings):
    """The best network found with at most `max_nonzero` weights other than 0.

    Args:
        max_nonzero: how many were allowed in all layers; biases don't count.
        nonzero: how many it has.
        errors: weight of the samples whose label it does not name.
        bound: no network with at most `max_nonzero` such weights makes fewer errors; proved by CP-SAT, or by looking at
            all columns that units can give.
        weights: `(weight (units, n), bias (units,))` of each layer, float64.
        proved: whether `errors` meets `bound`.
    """

    max_nonzero: int
    nonzero: int
    errors: float
    bound: float
    weights: Sequence[tuple[Tensor, Tensor]]
    proved: bool


def size_frontier(
    problem: NetworkProblem,
    *,
    budget: Budget,
    max_points: int = 10,
    workers: int | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> list[FrontierPoint]:
    """Errors against the number of weights other than 0: at most `max_points` networks, the smallest first.

    `integer-search` looks for networks at several prices of a weight. From these come the sizes: 0, and others in equal
    ratios up to that of the network with the fewest errors, which CP-SAT may better first. For each size CP-SAT then
    looks for fewer errors, and proves how few are possible, in its share of the seconds. A bound for a size holds for
    smaller ones. It ends early where no network of any size can do better.

    CP-SAT holds whole inputs of a moderate size. Where inputs are not whole, too large, or numbers that float64 rounds,
    `all-columns` takes its place, which compares sums as fractions; float64 may hold no bias that reaches its bound.
    Where that solver does not take the problem either, only what equal inputs of different labels cost is proved, and
    what networks without weights do.

    Args:
        problem: with a `weight_set` that holds 0, no penalty, no prices, and no margin.
        budget: in seconds, of all points.
        max_points: at least 2.
        workers: threads of CP-SAT; None: one a core.
        callback: as that of `solve`, with the errors and the bound of the size at hand; True ends the search. Points
            that were not looked at have the best network known, and are proved only where another bound does so.

    Raises:
        NotAcceptedError: a problem without a `weight_set`, with a penalty, prices or a margin, or no seconds.
        ValueSetError: a `weight_set` without 0, of which all networks have equal sizes.
        ArgumentError: `max_points` below 2.
    """
    _check(problem, max_points)
    if budget.seconds is None:
        raise NotAcceptedError("budget", "no seconds", "a limit in seconds for a frontier", "Budget(seconds=60)")
    solver = proves_sizes(problem, workers)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    search = _Search(problem, generator, callback, time.monotonic() + budget.seconds)
    search.at_all_prices(SEARCH_SHARE * budget.seconds)
    # Without a weight all outputs are constant.
    bounds = {0: (problem.counts.sum() - problem.counts.sum(0).max() - problem.rounding().max()).item()}
    errors, _, weights = search.best(math.inf)
    left, every = search.ends - time.monotonic(), sum(weight.numel() for weight, _ in weights)
    if solver is not None and errors > problem.lower_bound().max().item() and left > 0 and not search.asked:
        bounds[every] = search.prove(solver, every, EVERY_SHARE * left)
    limits = _sizes(search.smallest_best(), len(problem.layers), max_points)
    for number, limit in enumerate(limits):
        left = search.ends - time.monotonic()
        if solver is not None and limit and left > 0 and not search.asked:
            bounds[limit] = search.prove(solver, limit, left / (len(limits) - number))
        if search.best(limit)[0] <= problem.lower_bound().max().item():
            limits = limits[: number + 1]
            break
    points = []
    for limit in limits:
        errors, nonzero, weights = search.best(limit)
        bound = max([problem.lower_bound().max().item(), *(b for size, b in bounds.items() if size >= limit)])
        slack = problem.tolerance().max().item()
        points.append(FrontierPoint(limit, nonzero, errors, bound, weights, errors - bound <= slack))
    return points


def proves_sizes(problem: NetworkProblem, workers: int | None = None) -> WeightBox | AllColumns | None:
    """What proves how few errors networks of each size make: the first that takes the problem; None: nothing does."""
    for solver in (WeightBox(workers=workers), AllColumns()):
        try:
            solver.check(problem)
        except (NotAcceptedError, TooLargeError):
            continue
        return solver
    return None


def _check(problem: NetworkProblem, max_points: int) -> None:
    check_count("max_points", max_points, 2)
    if not isinstance(problem, NetworkProblem) or problem.weight_set is None:
        mend = 'Give the problem weight_set="ternary".'
        raise NotAcceptedError("problem", "real weights", "a weight_set for a frontier", mend)
    if problem.penalty:
        raise NotAcceptedError("problem", f"a penalty of {problem.penalty:g}", "none: the frontier has all prices")
    if problem.prices:
        raise NotAcceptedError("problem", "prices of features", "none: a frontier counts weights")
    if problem.margin is not None:
        raise NotAcceptedError("problem", "a margin", "none: a frontier is one of errors")
    if 0 not in problem.weight_set:
        shown = f"{len(problem.weight_set)} values without 0"
        raise ValueSetError("weight_set", shown, "a set with 0", "Without it all networks have equal sizes.")


def _sizes(largest: int, least: int, count: int) -> list[int]:
    """0, and fewer than `count` rising sizes up to `largest`; below `least`, a weight a layer, outputs are equal."""
    if largest < least:
        return [0]
    ratio = math.log(largest / least)
    steps = max(1, count - 2)
    even = {round(least * math.exp(ratio * k / steps)) for k in range(steps + 1)} | {largest}
    every = range(least, largest + 1)
    return [0, *(every if len(every) < count else sorted(even))]


class _Search:
    """The best networks of all sizes that were found."""

    def __init__(
        self, problem: NetworkProblem, generator: torch.Generator, callback: Callback | None, ends: float
    ) -> None:
        self._problem, self._generator, self._callback = problem, generator, callback
        self.ends, self.asked = ends, False
        assert problem.start_weights is not None
        self._found: list[tuple[float, int, Sequence[tuple[Tensor, Tensor]]]] = []
        self._add(problem.start_weights)

    def _add(self, weights: Sequence[tuple[Tensor, Tensor]]) -> None:
        errors = self._problem.objective(self._problem.from_weights(weights), weights).item()
        self._found.append((errors, self._problem.nonzero(weights), weights))

    def _call(self, progress: Progress) -> bool:
        if self._callback is not None and self._callback(progress):
            self.asked = True
        return self.asked

    def best(self, limit: float) -> tuple[float, int, Sequence[tuple[Tensor, Tensor]]]:
        """Errors, size and weights of the network with the fewest errors, and of these the smallest."""
        return min((one for one in self._found if one[1] <= limit), key=lambda one: one[:2])

    def smallest_best(self) -> int:
        """The size of the network with the fewest errors of all."""
        return min(self._found, key=lambda one: one[:2])[1]

    def at_all_prices(self, seconds: float) -> None:
        """Search for networks with the fewest errors, and for ones with fewer weights."""
        problem, trivial, exact = self._problem, self._found[0][0], None
        if problem.exact is not None:
            points = problem.exact.points()
            exact = [points[k] for k in problem.group.tolist()]
        prices = [0.0, *(trivial / 2**k for k in range(2, PRICES + 1))]
        for price in prices:
            if self.asked or trivial == 0:
                return
            priced = NetworkProblem(
                problem.samples,
                [problem.classes[k] for k in problem.index.tolist()],
                problem.widths,
                problem.weight,
                weight_set=problem.weight_set,
                bias_set=problem.bias_set,
                penalty=price,
                exact=exact,
                **problem.rules.sets(),
            )
            share = Budget(seconds=seconds / len(prices))
            result = solve(priced, IntegerSearch(), budget=share, generator=self._generator, callback=self._call)
            self._add(result.stats["weights"])

    def prove(self, solver: WeightBox | AllColumns, limit: int, seconds: float) -> float:
        """Look for a network of at most `limit` weights other than 0 in `seconds`, and return what is proved of all."""
        single = self._problem.select(torch.zeros(1, dtype=torch.int64))
        report = Report(single, Budget(seconds=seconds), self._call)
        errors, _, weights = self.best(limit)
        report.offer(single.from_weights(weights)[None], weights=weights)
        if not report.pulse():
            if isinstance(solver, WeightBox):
                solver.search_box(single, report.budget, self._generator, report, limit)
            else:
                solver.search_columns(single, report, limit)
        if report.objective.item() < errors:
            self._add(report.stats["weights"])
        return report.bound.item()
