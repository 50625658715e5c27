"""Errors that circuits prove by their shares of the costs of points; nothing here is shared with the search."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from math import ceil, gcd
from typing import Any

Costs = Sequence[dict[Any, Fraction]]


def packed(
    circuits: Sequence[Sequence[int]],
    shares: Sequence[Sequence[float]],
    costs: Costs,
    classes: Sequence[Any],
) -> Fraction | None:
    """Errors that each network with one unit in its first layer makes at least; None: the shares are no packing.

    The unit has two sides, and the outputs name at most one class on each. So each network names two classes, and of
    samples of other classes each is an error. A point whose two weights differ is on the side of the larger one, or
    pays the difference. If the two sides are the signs of a circuit at its points, or their negation, one of them pays.
    So the points of each circuit together pay at least its share, if no point gives more than it has. Errors are
    multiples of the largest number of which all weights are multiples.

    Args:
        circuits: numbers of points from 1 times signs, without zeros: checked conflicts.
        shares: of each circuit, for each pair of classes that have weight, in the order of `classes`.
        costs: of each point the weight of its labels.
    """
    present = [label for label in classes if any(cost.get(label) for cost in costs)]
    pairs = list(combinations(present, 2))
    if len(shares) != len(pairs) or not pairs:
        return None
    bounds = []
    for (low, high), own in zip(pairs, shares, strict=True):
        gains = [cost.get(high, Fraction(0)) - cost.get(low, Fraction(0)) for cost in costs]
        given = [Fraction(0)] * len(costs)
        bound = sum(
            (sum(c.values()) - max(c.get(low, Fraction(0)), c.get(high, Fraction(0))) for c in costs), Fraction(0)
        )
        for circuit, value in zip(circuits, own, strict=True):
            if not 0 <= value < float("inf"):
                return None
            if value == 0:
                continue
            agreement = {(v > 0) == (gains[abs(v) - 1] > 0) for v in circuit}
            if len(agreement) != 1:
                return None
            share = Fraction(value)
            bound += share
            for v in circuit:
                given[abs(v) - 1] += share
        if any(taken > abs(gain) for taken, gain in zip(given, gains, strict=True)):
            return None
        bounds.append(bound)
    weights = [weight for cost in costs for weight in cost.values() if weight]
    below = 1
    for weight in weights:
        below = below * weight.denominator // gcd(below, weight.denominator)
    unit = Fraction(gcd(*(int(weight * below) for weight in weights)), below)
    return ceil(min(bounds) / unit) * unit
