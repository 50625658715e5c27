"""The fewest errors of small networks in fractions, by trying everything; shares no code with the package."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

Column = tuple[int, ...]


def circuits(rows: list[list[Fraction]]) -> list[Column]:
    """The signs of each smallest linear dependency of the rows, 0 for rows that take no part."""
    found = set()
    for size in range(1, len(rows[0]) + 2):
        for chosen in itertools.combinations(range(len(rows)), size):
            if any(all(row in chosen for row, sign in enumerate(other) if sign) for other in found):
                continue
            dependency = _dependency([rows[k] for k in chosen])
            if dependency is not None:
                signs = [0] * len(rows)
                for k, value in zip(chosen, dependency, strict=True):
                    signs[k] = (value > 0) - (value < 0)
                found.add(tuple(signs))
    return list(found)


def _dependency(rows: list[list[Fraction]]) -> list[Fraction] | None:
    """Numbers with which the rows sum up to 0, where each part of the rows is independent; None: so are all."""
    reduced: list[tuple[list[Fraction], list[Fraction]]] = []
    for number, row in enumerate(rows):
        own = [Fraction(int(k == number)) for k in range(len(rows))]
        for other, mixed in reduced:
            lead = next(k for k, v in enumerate(other) if v)
            factor = row[lead] / other[lead]
            row = [a - factor * b for a, b in zip(row, other, strict=True)]
            own = [a - factor * b for a, b in zip(own, mixed, strict=True)]
        if not any(row):
            return own
        reduced.append((row, own))
    return None


def columns(points: Sequence[Sequence[float | Fraction]]) -> list[Column]:
    """All dichotomies of the points: signs with which no dependency has only terms of one sign (Gordan)."""
    rows = [[*(Fraction(v) for v in point), Fraction(1)] for point in points]
    forbidden = circuits(rows)
    return [
        signs
        for signs in itertools.product((-1, 1), repeat=len(rows))
        if not any(len({a * b for a, b in zip(signs, one, strict=True) if b}) == 1 for one in forbidden)
    ]


def fewest(X: Any, y: Sequence[Any], units: int, weight: Sequence[float] | None = None) -> Fraction:
    """The optimum of one hidden layer of 1 or 2 units, for any classes: two of them have one output, else one each."""
    costs: dict[tuple[Fraction, ...], dict[Any, Fraction]] = {}
    for k, (point, label) in enumerate(zip(X, y, strict=True)):
        cost = costs.setdefault(tuple(v if isinstance(v, Fraction) else Fraction(float(v)) for v in point), {})
        cost[label] = cost.get(label, Fraction(0)) + Fraction(1 if weight is None else weight[k])
    points, classes = list(costs), sorted(set(y))
    codes = list(itertools.product((-1, 1), repeat=units))
    order = columns(codes)
    outputs = 1 if len(classes) <= 2 else len(classes)
    named: set[tuple[Any, ...]] = set()
    for chosen in itertools.product(order, repeat=outputs):
        names = []
        for place in range(len(codes)):
            fires = [table[place] > 0 for table in chosen]
            if outputs == 1:
                names.append(classes[fires[0]] if len(classes) == 2 else (classes[0] if not fires[0] else None))
            else:
                names.append(classes[fires.index(True)] if sum(fires) == 1 else None)
        named.add(tuple(names))
    best = None
    for columns_ in itertools.combinations_with_replacement(columns(points), units):
        places = [codes.index(code) for code in zip(*columns_, strict=True)]
        sums = [{} for _ in codes]
        for place, point in zip(places, points, strict=True):
            for label, cost in costs[point].items():
                sums[place][label] = sums[place].get(label, Fraction(0)) + cost
        total = sum((sum(part.values()) for part in sums), Fraction(0))
        for names in named:
            wrong = total - sum(
                (part.get(name, Fraction(0)) for part, name in zip(sums, names, strict=True)), Fraction(0)
            )
            best = wrong if best is None else min(best, wrong)
    assert best is not None
    return best
