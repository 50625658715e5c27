"""The fewest errors of small networks in fractions, by trying everything; shares no code with the package."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

Column = tuple[int, ...]


def separable(rows: list[list[Fraction]], signs: Sequence[int]) -> bool:
    """Whether some w gives each row the sign: w . row * sign > 0, by elimination of one unknown after the other."""
    inequalities = {tuple(s * v for v in row) for row, s in zip(rows, signs, strict=True)}
    for k in range(len(rows[0])):
        above = [q for q in inequalities if q[k] > 0]
        below = [q for q in inequalities if q[k] < 0]
        kept = {q for q in inequalities if q[k] == 0}
        for a, b in itertools.product(above, below):
            mixed = [x * -b[k] + y * a[k] for x, y in zip(a, b, strict=True)]
            size = next((abs(v) for v in mixed if v), Fraction(1))
            kept.add(tuple(v / size for v in mixed))
        inequalities = kept
    # What is left says 0 > 0.
    return not inequalities


def columns(points: Sequence[Sequence[float]]) -> list[Column]:
    """All dichotomies of the points, both of each pair of opposites."""
    rows = [[*map(Fraction, point), Fraction(1)] for point in points]
    found = []
    for rest in itertools.product((-1, 1), repeat=len(rows) - 1):
        if separable(rows, (1, *rest)):
            found += [(1, *rest), tuple(-s for s in (1, *rest))]
    return found


def fewest(X: Any, y: Sequence[Any], units: int, weight: Sequence[float] | None = None) -> Fraction:
    """The optimum of one hidden layer of 1 or 2 units, for any classes: two of them have one output, else one each."""
    costs: dict[tuple[float, ...], dict[Any, Fraction]] = {}
    for k, (point, label) in enumerate(zip(X, y, strict=True)):
        cost = costs.setdefault(tuple(float(v) + 0.0 for v in point), {})
        cost[label] = cost.get(label, Fraction(0)) + Fraction(1 if weight is None else weight[k])
    points, classes = list(costs), sorted(set(y))
    codes = list(itertools.product((-1, 1), repeat=units))
    tables = [t for t in itertools.product((-1, 1), repeat=len(codes)) if _is_threshold(codes, t)]
    outputs = 1 if len(classes) <= 2 else len(classes)
    named: set[tuple[Any, ...]] = set()
    for chosen in itertools.product(tables, repeat=outputs):
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
            wrong = total - sum((part.get(name, Fraction(0)) for part, name in zip(sums, names, strict=True)), Fraction(0))
            best = wrong if best is None else min(best, wrong)
    assert best is not None
    return best


def _is_threshold(codes: list[Column], table: Column) -> bool:
    return separable([[*map(Fraction, code), Fraction(1)] for code in codes], table)
