"""Counts the errors of all hyperplanes through points anew; nothing here is shared with the search that claims a bound.

Every dichotomy of points that span p dimensions is one of a hyperplane through p independent ones of them, whose own
points may be put on either side as some dichotomy of them says. So all sets of p points are taken, and the sides of all
others are determinants: in float64 with a bound of the error, and in whole numbers where that does not tell.
"""

import math
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, combinations_with_replacement, islice, product
from typing import Any

import numpy as np

_AT_ONCE = 2**21
_ROUNDING = 2.0**-52

Costs = list[dict[Any, Fraction]]


class OutOfTimeError(Exception):
    """The seconds are over."""


def one_unit(points: list[list[int]], costs: Costs, bound: Fraction, until: float) -> bool:
    """Whether each network of one hidden unit makes errors of at least `bound`.

    The unit has two sides, and the outputs name one class, or none, on each.

    Args:
        points: whole coordinates, the last of which is 1; all distinct.
        costs: of each point the weight of its labels.
        until: reading of `time.monotonic` at which it gives up.

    Raises:
        OutOfTimeError: it gave up.
    """
    labels = sorted({label for cost in costs for label in cost}, key=str)
    total = sum((sum(cost.values()) for cost in costs), Fraction(0))
    each = [sum((cost.get(label, Fraction(0)) for cost in costs), Fraction(0)) for label in labels]
    most = total - bound
    if max(each, default=Fraction(0)) > most:
        return False
    rows = _independent_columns(points)
    for (a, low), (b, high) in combinations(enumerate(labels), 2):
        gains = [cost.get(high, Fraction(0)) - cost.get(low, Fraction(0)) for cost in costs]
        if _exceeds(rows, gains, most - each[a], until) or _exceeds(rows, [-g for g in gains], most - each[b], until):
            return False
    return True


def _exceeds(rows: list[list[int]], gains: list[Fraction], most: Fraction, until: float) -> bool:
    """Whether the points at +1 of some dichotomy, constant ones included, have a gain above `most`."""
    size = len(rows[0]) - 1
    if sum((max(g, Fraction(0)) for g in gains), Fraction(0)) <= most:
        return False
    if size == 0:
        # Multiples of one number: the sides of 0.
        ahead = sum((g for row, g in zip(rows, gains, strict=True) if row[0] > 0), Fraction(0))
        return max(ahead, sum(gains, Fraction(0)) - ahead) > most
    if size + 1 == len(rows):
        # Independent: all sides are possible.
        return True
    value = np.array([float(g) for g in gains])
    slack = 4 * len(gains) * _ROUNDING * float(np.abs(value).sum())
    for through, sides in _sides(rows, until):
        positive = np.maximum(value, 0)
        free = (sides == 0) @ positive
        best = np.maximum((sides > 0) @ value, (sides < 0) @ value) + free
        for number in np.flatnonzero(best + slack > float(most)).tolist():
            if _exceeds_at(rows, gains, most, through[number].tolist(), until):
                return True
    return False


def _exceeds_at(rows: list[list[int]], gains: list[Fraction], most: Fraction, through: list[int], until: float) -> bool:
    """As `_exceeds`, of the dichotomies near the hyperplane through some points, in whole numbers."""
    places = _exact_sides(rows, through)
    if places is None:
        return False
    on = [k for k, s in enumerate(places) if s == 0]
    own = [gains[k] for k in on]
    free = sum((max(g, Fraction(0)) for g in own), Fraction(0))
    for side in (1, -1):
        fixed = sum((g for g, s in zip(gains, places, strict=True) if s == side), Fraction(0))
        if fixed + free > most and _exceeds(_independent_columns([rows[k] for k in on]), own, most - fixed, until):
            return True
    return False


def recounted_dichotomies(rows: list[list[int]], until: float) -> np.ndarray:
    """All dichotomies of rows of whole numbers, of full rank, one of each pair of opposites: `(K, M)` int8."""
    size = len(rows[0]) - 1
    if size == 0:
        return np.array([[1 if row[0] > 0 else -1 for row in rows]], dtype=np.int8)
    if size + 1 == len(rows):
        every = np.array(list(product((1, -1), repeat=len(rows))), dtype=np.int8)
        return every[every[:, 0] > 0]
    found: set[bytes] = set()
    seen: set[bytes] = set()
    for through, sides in _sides(rows, until):
        for number, row in enumerate(sides):
            places = row
            if (row == 0).sum() > size:
                exact = _exact_sides(rows, through[number].tolist())
                if exact is None:
                    continue
                places = np.array(exact, dtype=np.int8)
            if places.tobytes() in seen:
                continue
            seen.add(places.tobytes())
            on = np.flatnonzero(places == 0)
            own = recounted_dichotomies(_independent_columns([rows[k] for k in on.tolist()]), until)
            near = np.repeat(places[None], 2 * len(own), axis=0)
            near[:, on] = np.concatenate([own, -own])
            near *= near[:, :1]
            found.update(one.tobytes() for one in near)
    return np.frombuffer(b"".join(sorted(found)), dtype=np.int8).reshape(len(found), len(rows))


def several_units(
    points: list[list[int]],
    costs: Costs,
    classes: tuple[Any, ...],
    units: int,
    bound: Fraction,
    until: float,
) -> bool | None:
    """Whether networks of two classes, two or more hidden units and one output make errors of at least `bound`.

    All sets of dichotomies are looked at. The last two of a set divide the points on each side of the others into four
    corners, whose gains follow from the sums of g, g a, g b and g a b over these points. At most each corner of a
    positive gain has the output +1. Where that would be enough, each threshold function of the units is tried. None:
    the sums are too large for float64 to hold them exactly.

    Raises:
        OutOfTimeError: it gave up.
    """
    low, high = classes
    gains = [cost.get(high, Fraction(0)) - cost.get(low, Fraction(0)) for cost in costs]
    most = sum((sum(cost.values()) - cost.get(low, Fraction(0)) for cost in costs), Fraction(0)) - bound
    below = math.lcm(most.denominator, *(g.denominator for g in gains))
    largest = sum(abs(g) for g in gains) * below
    if largest >= 2**50:
        return None
    kind = np.float32 if largest < 2**20 else np.float64
    value, limit = np.array([float(g * below) for g in gains], dtype=kind), 4 * float(most * below)
    signs = recounted_dichotomies(_independent_columns(points), until).astype(kind)
    signs = np.unique(np.concatenate([signs, np.ones((1, signs.shape[1]), dtype=kind)]), axis=0)
    tables = _threshold_functions(units, until).astype(kind)
    for others in combinations_with_replacement(range(len(signs)), units - 2):
        # Units may be exchanged.
        left = signs[others[-1] if others else 0 :]
        codes = [np.array(code)[:, None] for code in product((1, -1), repeat=units - 2)]
        sides = [np.flatnonzero((signs[list(others)] == code).all(0)) for code in codes]
        size = max(1, _AT_ONCE // 8 // len(left))
        for first in range(0, len(left), size):
            _look_at_the_clock(until)
            sums = [_sums(left[first : first + size, own], left[first:, own], value[own]) for own in sides]
            # Twice the gain of all corners of a positive gain: the sum of all corners and of their sizes.
            twice = sum(
                np.maximum(abs(g + ab), abs(a + b)) + np.maximum(abs(g - ab), abs(a - b)) for g, a, b, ab in sums
            )
            row, column = np.nonzero(4 * float(value.sum()) + 2 * np.asarray(twice) > 2 * limit)
            step = max(1, _AT_ONCE // len(tables))
            for some in range(0, len(row), step):
                r, c = row[some : some + step], column[some : some + step]
                corners = [
                    g + s * a[r, 0] + t * b[0, c] + s * t * ab[r, c]
                    for g, a, b, ab in sums
                    for s, t in product((1, -1), repeat=2)
                ]
                if (tables @ np.stack(corners) > limit).any():
                    return False
    return True


def _sums(one: np.ndarray, other: np.ndarray, value: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """Of g, g a, g b and g a b over some points, for the columns `(K, M)` of two units."""
    return value.sum(), (one @ value)[:, None], (other @ value)[None], (one * value) @ other.T


def _threshold_functions(inputs: int, until: float) -> np.ndarray:
    """`(F, 2^inputs)` in {0, 1}, of the signs of the inputs in the order of `product((1, -1), ...)`."""
    found = recounted_dichotomies([[*code, 1] for code in product((1, -1), repeat=inputs)], until)
    found = np.concatenate([found, np.ones((1, 2**inputs), dtype=np.int8)])
    return np.unique(np.concatenate([found, -found]), axis=0) > 0


def _sides(rows: list[list[int]], until: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sets of d - 1 rows, and the side of each row of the hyperplane through them; 0 where rounding can't tell."""
    d, count = len(rows[0]), len(rows)
    scale = [max(abs(row[k]) for row in rows) or 1 for k in range(d)]
    table = np.array([[v / s for v, s in zip(row, scale, strict=True)] for row in rows])
    exact = math.factorial(d) * math.prod(scale) < 2**53
    if exact:
        table = np.array(rows, dtype=np.float64)
    norm = np.abs(table).sum(axis=1)
    at_once = max(1, _AT_ONCE // count)
    sets = combinations(range(count), d - 1)
    while True:
        _look_at_the_clock(until)
        taken = list(islice(sets, at_once))
        if not taken:
            return
        through = np.array(taken, dtype=np.int64).reshape(len(taken), d - 1)
        value = _normals(table[through]) @ table.T
        # Each term is a product of d numbers, and rounded less than d (d + 1) times; the table was rounded too.
        error = 4 * d * (d + 1) * _ROUNDING * norm[through].prod(axis=1)[:, None] * norm
        sides = np.where(np.abs(value) <= (0.0 if exact else error), 0, np.sign(value)).astype(np.int8)
        yield through, sides


def _normals(rows: np.ndarray) -> np.ndarray:
    """Vectors `(B, d)` that are orthogonal to the rows of `(B, d - 1, d)`, by Laplace's expansion."""
    d = rows.shape[2]
    return np.stack([(-1) ** k * _determinant(np.delete(rows, k, axis=2)) for k in range(d)], axis=1)


def _determinant(matrix: np.ndarray) -> np.ndarray:
    size = matrix.shape[1]
    if size == 0:
        return np.ones(len(matrix))
    parts = [(-1) ** k * matrix[:, 0, k] * _determinant(np.delete(matrix[:, 1:], k, axis=2)) for k in range(size)]
    return np.stack(parts).sum(axis=0)


def _exact_sides(rows: list[list[int]], through: list[int]) -> list[int] | None:
    """The side of each row of the hyperplane through some; None: these are dependent."""
    normal = _null_vector([rows[k] for k in through])
    if normal is None:
        return None
    values = [sum(a * b for a, b in zip(normal, row, strict=True)) for row in rows]
    return [(v > 0) - (v < 0) for v in values]


def _null_vector(rows: list[list[int]]) -> list[Fraction] | None:
    """The vector, up to scale, that is orthogonal to d - 1 rows of d numbers; None: they are dependent."""
    reduced, pivots = _eliminated([[Fraction(v) for v in row] for row in rows])
    if len(pivots) < len(rows):
        return None
    (left,) = set(range(len(rows[0]))) - set(pivots)
    vector = [Fraction(0)] * len(rows[0])
    vector[left] = Fraction(1)
    for row, pivot in zip(reduced, pivots, strict=True):
        vector[pivot] = -row[left]
    return vector


def _independent_columns(rows: list[list[int]]) -> list[list[int]]:
    """As many coordinates as the rows span: the others follow from these."""
    _, pivots = _eliminated([[Fraction(v) for v in row] for row in rows])
    return [[row[k] for k in pivots] for row in rows]


def _eliminated(rows: list[list[Fraction]]) -> tuple[list[list[Fraction]], list[int]]:
    """The reduced row echelon form without rows of zeros, and its pivots."""
    done: list[list[Fraction]] = []
    pivots: list[int] = []
    for given in rows:
        row = given
        for other, pivot in zip(done, pivots, strict=True):
            if row[pivot]:
                row = [a - row[pivot] * b for a, b in zip(row, other, strict=True)]
        lead = next((k for k, v in enumerate(row) if v), None)
        if lead is None:
            continue
        row = [v / row[lead] for v in row]
        done = [
            [a - other[lead] * b for a, b in zip(other, row, strict=True)] if other[lead] else other for other in done
        ]
        done.append(row)
        pivots.append(lead)
        if len(pivots) == len(row):
            break
    order = sorted(range(len(pivots)), key=lambda k: pivots[k])
    return [done[k] for k in order], [pivots[k] for k in order]


def _look_at_the_clock(until: float) -> None:
    if time.monotonic() > until:
        raise OutOfTimeError
