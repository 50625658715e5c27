"""The smallest whole weights of one column over whole inputs, and the few points that allow none smaller, by CP-SAT."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tpsolve.search._cp_sat_run import run_cp_sat

MAX_WEIGHT = 10_000
MAX_SUM = 2**29
"""Of weights times inputs: CP-SAT 9.15 has given wrong answers to rows of larger numbers (see `CpSat`)."""


@dataclass(frozen=True)
class WholeWeights:
    """A unit with whole numbers: +1 where weight . x + bias >= 0, else -1."""

    weight: list[int]
    bias: int

    @property
    def largest(self) -> int:
        """Of the weights, without the bias, their largest absolute value."""
        return max(map(abs, self.weight))


def reach(points: np.ndarray) -> int:
    """The largest sum of absolute inputs of one point, each input measured from its minimum."""
    return int((points - points.min(0)).sum(1).max())


def smallest_weights(
    points: np.ndarray, column: np.ndarray, max_weight: int, stop: Callable[[], bool]
) -> WholeWeights | list[int] | None:
    """Whole weights that give `column (M,)` in {-1, +1} over whole `points (M, p)`, proved to be the smallest.

    The smallest maximum of absolute weights, and among those the smallest sum of absolute weights. The
    bias is free, so that neither a whole number added to an input nor a negated column changes it; the one nearest to 0
    is given. Points that the present weights miss join a whole-number program of few points, until there is none.

    Args:
        max_weight: the largest absolute weight allowed, at least 1; times `reach(points)` at most `MAX_SUM`.
        stop: asked now and then; True ends the search.

    Returns:
        The weights; or samples, irreducible, whose signs no weights up to `max_weight` give; or None: stopped.
    """
    plus, minus = np.flatnonzero(column > 0), np.flatnonzero(column < 0)
    if not len(plus) or not len(minus):
        return WholeWeights([0] * points.shape[1], 0 if len(plus) else -1)
    shifted = points - points.min(0)
    limiting = [int(plus[0]), int(minus[np.abs(points[minus] - points[plus[0]]).sum(1).argmin()])]
    low = high = 1
    while True:
        weight = _fit(shifted[limiting], column[limiting], low, high, stop)
        if weight is None:
            return None
        if weight is False:
            if high == max_weight:
                return _irreducible(shifted, column, limiting, max_weight, stop)
            low, high = high + 1, min(2 * high, max_weight)
            continue
        # What fewer points need, all of them need.
        low = int(np.abs(weight).max())
        z = points @ weight
        first, last = plus[z[plus].argmin()], minus[z[minus].argmax()]
        if z[first] > z[last]:
            return WholeWeights(weight.tolist(), int(np.clip(0, -z[first], -z[last] - 1)))
        limiting += [int(i) for i in (first, last) if i not in limiting]


def _irreducible(
    points: np.ndarray, column: np.ndarray, samples: list[int], max_weight: int, stop: Callable[[], bool]
) -> list[int] | None:
    for sample in list(samples):
        fewer = [i for i in samples if i != sample]
        weight = _fit(points[fewer], column[fewer], None, max_weight, stop)
        if weight is None:
            return None
        if weight is False:
            samples = fewer
    return samples


def _fit(
    points: np.ndarray, column: np.ndarray, low: int | None, high: int, stop: Callable[[], bool]
) -> np.ndarray | Literal[False] | None:
    """The smallest weights, the largest from `low` to `high`; without `low` any; False: none; None: stopped."""
    from ortools.sat.python import cp_model

    model, features = cp_model.CpModel(), range(points.shape[1])
    weights: list[Any] = [model.new_int_var(-high, high, "") for _ in features]
    size = high * int(np.abs(points).sum(1).max()) + 1
    bias = model.new_int_var(-size, size, "")
    for point, sign in zip(points.tolist(), column.tolist(), strict=True):
        z = cp_model.LinearExpr.weighted_sum(weights, point) + bias
        model.add(z >= 0 if sign > 0 else z <= -1)
    if low is not None:
        largest = model.new_int_var(low, high, "")
        sizes = [model.new_int_var(0, high, "") for _ in features]
        for one, weight in zip(sizes, weights, strict=True):
            model.add(one >= weight)
            model.add(one >= -weight)
            model.add(one <= largest)
        model.minimize((len(features) * high + 1) * largest + sum(sizes))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.catch_sigint_signal = False
    answer, _ = run_cp_sat(solver, model, lambda _: stop())
    if answer == "OPTIMAL" or (answer == "FEASIBLE" and low is None):
        return np.array([solver.value(weight) for weight in weights])
    return False if answer == "INFEASIBLE" else None
