"""Bounds of networks with one unit in the first layer: circuits share the costs of their points."""

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from tpsolve.problems import NetworkProblem
from tpsolve.search.network.circuits._search_state import SearchState
from tpsolve.search.network.packing._walks import Walks
from tpsolve.units.checking._null_vectors import exact_circuit
from tpsolve.units.patterns._all_dichotomies import essential

MAX_NUMBERS = 2**22
"""Points times features: with more, a step takes too long."""
_STEPS = 8
"""Of the walks between two programs."""
_STALE, _ANEW = 160, 40
"""Rounds without a gain after which the bound of a question is what this can prove, and the walks begin anew."""
_STALE_A_POINT = 4
"""As `_STALE`, for each point: a few points have few circuits."""
_GAIN = 1e-3
_MAX_KEPT = 4000
"""Circuits of a program: those of the smallest price are kept."""
_LESS = 1 - 2.0**-30
"""So that shares, which a program rounds, keep to the costs."""


class Packing:
    """Raises the bound of a problem by circuits.

    One unit has two sides, so the outputs name two classes at most: each pair of them is a *question*. With the labels
    of a pair as signs, a circuit has a point on the wrong side. Let each circuit take a share of what its points cost,
    and no point give more than it has. Then every network makes errors of the sum of all shares. The largest sum is a
    linear program (Amaldi, Pfetsch and Trotter, "On the maximum feasible subsystem problem, IISs and IIS-hypergraphs",
    2003). Its prices of points tell `Walks` what to look for. What it says is rounded; the bound is that of circuits
    and shares that are checked in exact arithmetic.

    Args:
        problem: a flat one, with one unit in the first layer.
        state: of its search.
        generator: of the walks.
    """

    def __init__(self, problem: NetworkProblem, state: SearchState, generator: torch.Generator) -> None:
        self._problem, self._state = problem, state
        self._random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        counts = problem.counts.cpu()
        present = [k for k in range(counts.shape[1]) if bool((counts[:, k] > 0).any())]
        self._questions = [_Question(problem, *pair) for pair in combinations(present, 2)]

    def run(self, ended: Callable[[], bool]) -> None:
        """Raise the bound until `ended`, or until nothing more is gained."""
        rows = essential(self._problem.inputs.cpu()).numpy()
        while self._questions and not ended():
            # No more is proved than of the question of the least bound.
            question = min(self._questions, key=lambda one: one.bound)
            if question.done:
                return
            question.improve(rows, self._random, ended)
            self._state.prove(min(one.bound for one in self._questions), "packing")

    def evidence(self) -> tuple[Tensor, Tensor]:
        """Signed circuits `(C, p + 2)` int32, and the shares `(Q, C)` float64 that each has of the costs of the pairs
        of classes, in the order of `combinations`.
        """
        size = self._problem.inputs.shape[1] + 2
        every = sorted({row for question in self._questions for row in question.shares})
        place = {row: number for number, row in enumerate(every)}
        circuits = torch.zeros(len(every), size, dtype=torch.int32)
        shares = torch.zeros(len(self._questions), len(every), dtype=torch.float64)
        for row, number in place.items():
            circuits[number, : len(row)] = torch.tensor(row, dtype=torch.int32)
        for question, own in zip(self._questions, shares, strict=True):
            for row, share in question.shares.items():
                own[place[row]] = share
        return circuits, shares


def packable(problem: NetworkProblem) -> bool:
    """Whether a packing bounds the errors, and its steps are short."""
    return problem.widths[0] == 1 and len(problem.inputs) > 2 and problem.inputs.numel() <= MAX_NUMBERS


class _Question:
    """Errors of networks that name class `low` on one side and `high` on the other.

    Attributes:
        bound: they make at least these, exact.
        shares: of each circuit, its signed points from 1, what it has of the costs of each of its points.
        done: whether nothing more is gained.
    """

    def __init__(self, problem: NetworkProblem, low: int, high: int) -> None:
        counts = problem.counts.cpu()
        gain = [Fraction(b) - Fraction(a) for a, b in counts[:, [low, high]].tolist()]
        self._points = [k for k, value in enumerate(gain) if value]
        self._costs = [abs(gain[k]) for k in self._points]
        self._signs = np.array([1 if gain[k] > 0 else -1 for k in self._points])
        self._inputs = problem.inputs.cpu().numpy()[self._points]
        others = (
            sum(map(Fraction, row), Fraction(0)) - max(map(Fraction, (row[low], row[high]))) for row in counts.tolist()
        )
        self.bound = self._base = sum(others, Fraction(0))
        self.shares: dict[tuple[int, ...], float] = {}
        self.done = not self._points
        self._price = np.zeros(len(self._points))
        self._kept: dict[tuple[int, ...], bool] = {}
        self._wrong: set[tuple[int, ...]] = set()
        self._value, self._stale = 0.0, 0
        self._walks: Walks | None = None

    def improve(self, rows: np.ndarray, random: np.random.Generator, ended: Callable[[], bool]) -> None:
        """Rounds of walks, until `ended` or the bound rises or can't."""
        if self._walks is None:
            self._walks = Walks(self._signs[:, None] * rows[self._points], random)
            self.done = not self._walks.begin()
        before = self.bound
        while not self.done and not ended() and self.bound == before:
            met = self._walks.round(self._price, _STEPS) - self._kept.keys() - self._wrong
            self._stale += 1
            if met:
                self._kept |= dict.fromkeys(met, False)
                self._solve()
            self.done = self._stale >= min(_STALE, _STALE_A_POINT * len(self._points))
            if self._stale % _ANEW == 0:
                self._walks.begin()

    def _solve(self) -> None:
        """The program of the circuits that are kept, and the bound that follows."""
        from scipy.optimize import linprog
        from scipy.sparse import csc_matrix

        if len(self._kept) > _MAX_KEPT:
            ranked = sorted(self._kept, key=lambda one: float(self._price[list(one)].sum()))
            self._kept = {one: self._kept[one] for one in ranked[: _MAX_KEPT // 2]}
        circuits = list(self._kept)
        places = np.concatenate([np.array(one) for one in circuits])
        starts = np.cumsum([0, *map(len, circuits)])
        matrix = csc_matrix((np.ones(len(places)), places, starts), shape=(len(self._points), len(circuits)))
        scale = float(max(self._costs))
        costs = np.array([float(cost) for cost in self._costs]) / scale
        answer = linprog(-np.ones(len(circuits)), A_ub=matrix, b_ub=costs, method="highs")
        if answer.x is None:
            return
        self._price = np.maximum(-answer.ineqlin.marginals, 0)
        if -answer.fun > self._value + _GAIN * costs.min():
            self._value, self._stale = -answer.fun, 0
        used = {circuits[k]: float(answer.x[k]) * scale * _LESS for k in np.flatnonzero(answer.x > 0)}
        for one in [one for one in used if not self._kept[one]]:
            self._kept[one] = self._is_circuit(one)
            if not self._kept[one]:
                self._wrong.add(one)
                del self._kept[one], used[one]
        self._keep_to_costs(used)
        bound = self._base + sum(map(Fraction, used.values()), Fraction(0))
        if bound > self.bound:
            self.bound = bound
            self.shares = {self._signed(one): share for one, share in used.items()}

    def _is_circuit(self, one: tuple[int, ...]) -> bool:
        """Whether no hyperplane gives the points their signs, and any but one of them: in exact arithmetic."""
        found = exact_circuit(self._inputs[list(one)])
        if found is None or len(found[0]) < len(one):
            return False
        agreement = self._signs[list(one)] * np.array(found[1])
        return bool((agreement > 0).all() or (agreement < 0).all())

    def _keep_to_costs(self, used: dict[tuple[int, ...], float]) -> None:
        """Lower the shares, until no point gives more than it has, exactly."""
        through: dict[int, list[tuple[int, ...]]] = {}
        for one in used:
            for point in one:
                through.setdefault(point, []).append(one)
        for point, circuits in through.items():
            given = sum((Fraction(used[one]) for one in circuits), Fraction(0))
            if given > self._costs[point]:
                part = float(self._costs[point] / given) * _LESS
                for one in circuits:
                    used[one] *= part

    def _signed(self, one: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(int((self._points[k] + 1) * self._signs[k]) for k in one)
