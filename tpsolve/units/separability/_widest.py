"""The widest margin of one separable column, and the few points that limit it, in exact arithmetic.

The margin is the distance of the nearest point to the hyperplane. Of all hyperplanes that separate, one has the
largest; p + 1 of the points, or fewer, allow no larger one (Vapnik, "The Nature of Statistical Learning Theory",
1995, section 5.4). So these with their signs limit every column that has them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np
from flint import fmpq, fmpq_mat

MAX_FEATURES = 10
_ROUNDING = 1e-9
_MAX_STEPS = 1000


@dataclass(frozen=True)
class Widest:
    """Proved: a hyperplane has this margin, and none that gives `samples` their `signs` has a larger one.

    Args:
        squared: the square of the margin.
        samples, signs: the points that limit it.
        weight, bias: of the hyperplane, in float64; its nearest points have |z| = 1.
    """

    squared: Fraction
    samples: list[int]
    signs: list[int]
    weight: list[float]
    bias: float


def widest_margin(
    points: np.ndarray, column: np.ndarray, exact: Sequence[Sequence[Fraction]] | None = None
) -> Widest | None:
    """The widest hyperplane for `points (M, p)` that gives `column (M,)`; None: floating point did not find it.

    A point further inside than the present hyperplane allows joins those that limit it, until there is none; each
    time the limit falls. Both classes must be there, and p at most 10.

    Args:
        exact: M rows of p numbers that `points` round, for which all is proved; None: `points` are exact.
    """
    shifted = points - points.mean(0)
    first = int(np.flatnonzero(column == 1)[0])
    other = np.flatnonzero(column == -1)
    limiting = [first, int(other[np.square(points[other] - points[first]).sum(1).argmin()])]
    for _ in range(_MAX_STEPS):
        fit = _fit(shifted[limiting], column[limiting])
        if fit is None:
            return None
        margins = column * (shifted @ fit[0] + fit[1])
        worst = int(margins.argmin())
        if margins[worst] >= 1 - _ROUNDING or worst in limiting:
            rows = [[Fraction(v) for v in row] for row in points.tolist()] if exact is None else exact
            return _proved(rows, column, limiting)
        candidates = [*limiting, worst]
        smaller = _limiting(shifted[candidates], column[candidates])
        if smaller is None:
            return None
        limiting = [candidates[k] for k in smaller]
    return None


def _fit(points: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, float, np.ndarray] | None:
    """The shortest weight with t (w.x + b) = 1 at all points, its bias and the multipliers of w = sum lambda t x."""
    size = len(points)
    matrix = np.zeros((size + 1, size + 1))
    matrix[:size, :size] = points @ points.T * signs
    matrix[:size, size] = 1
    matrix[size, :size] = signs
    try:
        solution = np.linalg.solve(matrix, np.append(signs, 0).astype(float))
    except np.linalg.LinAlgError:
        return None
    multipliers = solution[:size]
    return (multipliers * signs) @ points, float(solution[size]), multipliers


def _limiting(points: np.ndarray, signs: np.ndarray) -> list[int] | None:
    """Those of at most p + 2 points, the last among them, that limit the margin of all."""
    last = len(points) - 1
    for size in range(min(last, points.shape[1]), 0, -1):
        for others in combinations(range(last), size):
            subset = [*others, last]
            fit = _fit(points[subset], signs[subset])
            if fit is None or (fit[2] < -_ROUNDING * np.abs(fit[2]).max()).any():
                continue
            if (signs * (points @ fit[0] + fit[1]) >= 1 - _ROUNDING).all():
                return subset
    return None


def _proved(points: Sequence[Sequence[Fraction]], column: np.ndarray, limiting: list[int]) -> Widest | None:
    every = [[fmpq(v.numerator, v.denominator) for v in point] for point in points]
    exact = [every[i] for i in limiting]
    signs, size = column[limiting].tolist(), len(limiting)
    products = [[sum((a * b for a, b in zip(u, v, strict=True)), fmpq(0)) for v in exact] for u in exact]
    rows = [[t * v for t, v in zip(signs, row, strict=True)] + [fmpq(1)] for row in products] + [[*signs, 0]]
    try:
        solved = fmpq_mat(rows).solve(fmpq_mat([[t] for t in [*signs, 0]]))
    except ZeroDivisionError:
        return None
    multipliers, bias = [solved[k, 0] for k in range(size)], solved[size, 0]
    weight = [
        sum((m * t * v for m, t, v in zip(multipliers, signs, feature, strict=True)), fmpq(0))
        for feature in zip(*exact, strict=True)
    ]
    z = (fmpq_mat(every) * fmpq_mat([[w] for w in weight])).entries()
    if any(m < 0 for m in multipliers) or any(t * (v + bias) < 1 for t, v in zip(column.tolist(), z, strict=True)):
        return None
    # |w|^2 = sum lambda, since t (w.x + b) = 1 at all of them.
    total = sum(multipliers, fmpq(0))
    used = [k for k, m in enumerate(multipliers) if m > 0]
    return Widest(
        Fraction(int(total.q), int(total.p)),
        [limiting[k] for k in used],
        [signs[k] for k in used],
        [float(Fraction(int(w.p), int(w.q))) for w in weight],
        float(Fraction(int(bias.p), int(bias.q))),
    )
