"""The last resort: separability of one unit decided by the simplex method in exact arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from math import lcm
from typing import Any

from flint import fmpq, fmpz_mat

_PATIENCE = 20


@dataclass(frozen=True)
class ExactAnswer:
    """Exactly one of the two.

    Args:
        weights: `(d,)` with a positive margin on every sample; None: there are none.
        support: a circuit, in rising order; empty where there are weights.
    """

    weights: tuple[Fraction, ...] | None
    support: tuple[int, ...]


def decide_exactly(
    points: Sequence[Sequence[float | Fraction]], targets: Sequence[int], order: Sequence[int]
) -> ExactAnswer:
    """Phase 1 for lambda >= 0 with sum lambda t x = 0 and sum lambda = 1.

    A basic solution is a circuit; if there is none, the prices of the rows are separating weights.
    The column of the largest gain enters, which takes few exchanges; should they go in circles,
    Bland's rule (1977) ends them whatever the data.

    Args:
        points: `(N, d)` finite, taken as the exact numbers that they are, with the 1 of the bias included.
        targets: `(N,)` in {-1, +1}.
        order: the samples, those likely to be in a circuit first.
    """
    columns, scale = _whole(points, targets)
    size = len(scale) + 1
    wide = fmpz_mat([columns[i] for i in order])
    unit = [[int(r == k) for r in range(size)] for k in range(size)]
    # Artificial columns have the numbers -1 - row; the sum of the artificial ones is minimised.
    basis = [-1 - r for r in range(size)]
    for exchange in count():
        matrix = fmpz_mat([columns[order[b]] if b >= 0 else unit[-1 - b] for b in basis]).transpose()
        price: Any = matrix.transpose().solve(fmpz_mat([[int(b < 0)] for b in basis]))
        value = matrix.solve(fmpz_mat([[int(r == size - 1)] for r in range(size)]))
        level = sum((value[k, 0] for k, b in enumerate(basis) if b < 0), fmpq(0))
        if level == 0:
            return ExactAnswer(None, tuple(sorted(order[b] for k, b in enumerate(basis) if b >= 0 and value[k, 0] > 0)))
        numerator, _ = price.numer_denom()
        gains = (wide * numerator).entries()
        if exchange < _PATIENCE * size:
            entering = max(range(len(gains)), key=gains.__getitem__)
        else:
            entering = next((k for k, gain in enumerate(gains) if gain > 0), 0)
        if gains[entering] <= 0:
            return ExactAnswer(_weights([price[r, 0] for r in range(size - 1)], scale), ())
        step = matrix.solve(fmpz_mat([[v] for v in columns[order[entering]]]))
        ratios = [(value[k, 0] / step[k, 0], _rank(b), k) for k, b in enumerate(basis) if step[k, 0] > 0]
        basis[min(ratios)[2]] = entering
    raise AssertionError("count() does not end")


def _rank(column: int) -> tuple[int, int]:
    # Artificial columns leave first and never come back, which Bland's rule allows.
    return (0, -column) if column < 0 else (1, column)


def _whole(points: Sequence[Sequence[float | Fraction]], targets: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    # Each feature times its common denominator, of floats a power of two; the last row is that of sum lambda = 1.
    exact = [[v.as_integer_ratio() for v in point] for point in points]
    scale = [lcm(*(denominator for _, denominator in feature)) for feature in zip(*exact, strict=True)]
    columns = [
        [t * a * (s // b) for (a, b), s in zip(point, scale, strict=True)] + [1]
        for point, t in zip(exact, targets, strict=True)
    ]
    return columns, scale


def _weights(price: Sequence[fmpq], scale: Sequence[int]) -> tuple[Fraction, ...]:
    raw = [-Fraction(int(p.p), int(p.q)) * s for p, s in zip(price, scale, strict=True)]
    largest = max(abs(v) for v in raw)
    # A power of two near the largest: rounding to floats then neither overflows nor loses more than it must.
    power = largest.numerator.bit_length() - largest.denominator.bit_length()
    return tuple(v / Fraction(2) ** power for v in raw)
