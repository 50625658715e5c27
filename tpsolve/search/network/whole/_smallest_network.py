"""The smallest network with whole weights that makes as few errors as are known to be possible."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve._plain import Settings
from tpsolve._result import Budget, Progress, Result
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Callback, Solver
from tpsolve.search._solve import solve
from tpsolve.search.network._weight_box import WeightBox
from tpsolve.search.network.whole._all_columns import AllColumns
from tpsolve.search.network.whole._integer_search import IntegerSearch

SIZES = ("weights", "units", "largest")
FIRST_SHARE = 0.4
"""Of the seconds, what the network of any size gets; smaller ones share the rest."""
SEARCH_SHARE, MAX_SEARCH = 0.1, 3.0
"""Of the seconds of one size, what `integer-search` gets before a proof, and at most so many."""
LEAST_PRICE = 1e-9
"""Of a weight: float64 does not tell sums with lower ones from sums of errors."""


@dataclass(frozen=True)
class SmallestNetwork(Settings):
    """The smallest network found with so few errors, and what is proved of both.

    Args:
        of: what its size is: "weights", how many are not 0; "units" of the hidden layer; or the absolute value of the
            "largest" weight.
        size: its size.
        size_bound: no network with at most `errors` errors is smaller than this; 0: nothing is proved.
        errors: weight of the samples whose label it does not name.
        bound: no network of the problem makes fewer errors.
        widths, weight_set: of the problem that its weights are of: fewer units, or fewer values, where size is that.
        weights: `(weight (units, n), bias (units,))` of each layer, float64.
    """

    of: str
    size: int
    size_bound: int
    errors: float
    bound: float
    widths: tuple[int, ...]
    weight_set: tuple[int, ...]
    weights: Sequence[tuple[Tensor, Tensor]]

    @property
    def proved(self) -> bool:
        """Whether no network makes fewer errors, and no smaller one as few."""
        return self.errors == self.bound and self.size == self.size_bound


def smallest_network(
    problem: NetworkProblem,
    of: str = "weights",
    *,
    budget: Budget,
    workers: int | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> SmallestNetwork:
    """The smallest network that makes as few errors as the best one known: errors come first, and size second.

    Of "weights" one solve finds both, with a price of a weight so low that all of them cost less than an error. Of
    "units" and the "largest" weight the problem is solved, and then those with fewer units, or fewer values, the
    smallest first, until one reaches as few errors. `all-columns` solves and proves where few inputs are read, else
    `weight-box`, and where it takes no such inputs `integer-search`, which proves nothing.

    Args:
        problem: with a `weight_set`, no penalty, no prices and no margin; for "units" of one hidden layer.
        budget: in seconds, of all solves.
        workers: threads of `weight-box`; None: one a core.
        callback: as that of `solve`, of each solve; True ends the search with what is known by then.

    Raises:
        NotAcceptedError: a problem without a `weight_set`, with a penalty, prices or a margin, or for "units" with
            several hidden layers; or a budget without seconds.
        ArgumentError: another size, or weights of samples so fine that a price of weights below them is none.
    """
    _check(problem, of, budget)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    search = _Search(problem, workers, generator, callback, float(budget.seconds or 0))
    return search.by_price() if of == "weights" else search.by_size(of)


def _check(problem: NetworkProblem, of: str, budget: Budget) -> None:
    if of not in SIZES:
        raise ArgumentError("of", repr(of), f"one of {', '.join(SIZES)}")
    if not isinstance(problem, NetworkProblem) or problem.weight_set is None:
        raise NotAcceptedError("problem", "real weights", "a weight_set", 'Give the problem weight_set="ternary".')
    if problem.penalty:
        raise NotAcceptedError("problem", f"a penalty of {problem.penalty:g}", "none: errors come first here")
    if problem.prices:
        raise NotAcceptedError("problem", "prices of features", "none: errors come first here")
    if problem.margin is not None:
        raise NotAcceptedError("problem", "a margin", "none: size is that of networks with few errors")
    if of == "units" and len(problem.widths) > 1:
        raise NotAcceptedError("problem", f"hidden layers of {problem.widths}", "one hidden layer for units")
    if budget.seconds is None:
        raise NotAcceptedError("budget", "no seconds", "a limit in seconds", "Budget(seconds=60)")


class _Search:
    def __init__(
        self,
        problem: NetworkProblem,
        workers: int | None,
        generator: torch.Generator,
        callback: Callback | None,
        seconds: float,
    ) -> None:
        self._problem, self._workers, self._generator, self._callback = problem, workers, generator, callback
        self._seconds, self._ends, self._asked = seconds, time.monotonic() + seconds, False
        self._step = float(problem.least_difference().max())
        assert problem.weight_set is not None
        self._values = problem.weight_set

    def by_price(self) -> SmallestNetwork:
        """Fewest weights other than 0."""
        problem = self._problem
        most = sum(units * n for units, n in zip(problem.layers, self._reads(), strict=True))
        price = self._step / 2 ** math.ceil(math.log2(most + 1))
        if price < LEAST_PRICE:
            mend = "Give the samples whole weights."
            raise ArgumentError("problem", "weights of samples without a coarse common measure", "others", mend)
        posed = self._posed(problem.widths, self._values, price)
        result = self._solve(posed, self._seconds)
        weights = posed.check_weights(result.stats["weights"])
        size, errors = problem.nonzero(weights), self._errors(posed, weights)
        # Each lower bound of the sum is one of errors, once all weights are paid.
        proved = result.bound.item()
        bound = max(self._known(), self._step * math.ceil((proved - price * most) / self._step - 1e-9))
        size_bound = max(0, math.ceil((proved - errors) / price - 1e-6))
        return SmallestNetwork(
            "weights", size, min(size, size_bound), errors, min(errors, bound), problem.widths, self._values, weights
        )

    def by_size(self, of: str) -> SmallestNetwork:
        """Fewest units, or the smallest largest weight."""
        result = self._solve(self._problem, FIRST_SHARE * self._seconds)
        bound = max(self._known(), result.bound.item())
        weights = self._problem.check_weights(result.stats["weights"])
        best = (self._size(of, weights), self._errors(self._problem, weights), weights, self._problem)
        sizes, size_bound = list(self._smaller(of)), 0
        proving = True
        for number, (size, posed) in enumerate(sizes):
            left = self._ends - time.monotonic()
            if size >= best[0] or left <= 0 or self._asked:
                break
            found = self._solve(posed, left / (len(sizes) - number), enough=best[1])
            shown = posed.check_weights(found.stats["weights"])
            errors = self._errors(posed, shown)
            if errors <= best[1]:
                best = (self._size(of, shown), errors, shown, posed)
                break
            proving = proving and found.bound.item() > best[1]
            if proving:
                size_bound = size + 1
        if proving and size_bound:
            # Sizes may leave values out.
            size_bound = next((s for s, _ in sizes if s >= size_bound), best[0])
        size, errors, weights, posed = best
        assert posed.weight_set is not None
        least = sizes[0][0] if sizes else size
        size_bound = min(size, max(size_bound, least))
        return SmallestNetwork(
            of, size, size_bound, errors, min(errors, bound), posed.widths, posed.weight_set, weights
        )

    def _smaller(self, of: str) -> Iterator[tuple[int, NetworkProblem]]:
        """Sizes below that of the problem, rising, and the problem of each."""
        widths = self._problem.widths
        if of == "units":
            for units in range(1, widths[0]):
                yield units, self._posed((units,), self._values)
            return
        for largest in sorted({abs(value) for value in self._values})[:-1]:
            yield largest, self._posed(widths, tuple(value for value in self._values if abs(value) <= largest))

    def _size(self, of: str, weights: Sequence[tuple[Tensor, Tensor]]) -> int:
        if of == "units":
            return len(weights[0][1])
        return max(int(weight.abs().max()) for weight, _ in weights)

    def _known(self) -> float:
        return self._problem.lower_bound().max().item()

    def _reads(self) -> tuple[int, ...]:
        return (self._problem.inputs.shape[1], *self._problem.widths)

    def _errors(self, problem: NetworkProblem, weights: Sequence[tuple[Tensor, Tensor]]) -> float:
        return problem.errors(problem.columns(problem.from_weights(weights))[-1]).item()

    def _posed(self, widths: Sequence[int], values: Sequence[int], penalty: float = 0.0) -> NetworkProblem:
        problem = self._problem
        return NetworkProblem(
            problem.samples,
            [problem.classes[k] for k in problem.index.tolist()],
            widths,
            problem.weight,
            weight_set=values,
            bias_set=problem.bias_set,
            penalty=penalty,
            exact=None if problem.exact is None else problem.exact_rows(),
            **problem.rules.sets(),
        )

    def _solve(self, problem: NetworkProblem, seconds: float, enough: float = -math.inf) -> Result:
        """Until it is solved, its objective is `enough`, or that is proved to be out of reach."""

        def stop(progress: Progress) -> bool:
            if self._callback is not None and self._callback(progress):
                self._asked = True
            return self._asked or progress.objective <= enough or progress.bound > enough > -math.inf

        watched = stop if self._callback is not None or enough > -math.inf else None
        budget = Budget(seconds=seconds)
        return solve(
            problem, self._solver(problem, seconds), budget=budget, generator=self._generator, callback=watched
        )

    def _solver(self, problem: NetworkProblem, seconds: float) -> Solver:
        share = min(MAX_SEARCH, SEARCH_SHARE * seconds)
        for solver in (AllColumns(share), WeightBox(workers=self._workers, search_seconds=share)):
            try:
                solver.check(problem)
            except (NotAcceptedError, TooLargeError):
                continue
            return solver
        return IntegerSearch()
