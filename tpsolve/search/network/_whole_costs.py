"""Costs of a network problem with whole weights as whole numbers."""

from fractions import Fraction

from tpsolve.errors import TooLargeError
from tpsolve.problems import NetworkProblem

MAX_COST = 2**50
"""Of all samples, and all weights, together."""


def whole_costs(problem: NetworkProblem) -> tuple[list[list[int]], int]:
    """The weight of each class at each point, and the penalty, as multiples of `least_difference`.

    What lacks a margin is such a multiple too: see `step_costs`.

    Raises:
        TooLargeError: multiples that CP-SAT, or sums of float64, do not hold.
    """
    measure = Fraction(float(problem.least_difference().max()))
    counts = [[int(Fraction(count) / measure) for count in row] for row in problem.counts.tolist()]
    price = int(Fraction(problem.penalty) / measure)
    numbers = sum(
        units * n for units, n in zip(problem.layers, (problem.inputs.shape[1], *problem.widths), strict=True)
    )
    features = problem.layers[0] * sum(feature_costs(problem))
    short = Fraction(problem.margin_price) * Fraction(problem.most_shortfall) / measure
    if sum(map(sum, counts)) + price * numbers + features + short >= MAX_COST:
        mend = "Take a penalty such as 1/4 rather than 0.3, and whole weights of samples."
        raise TooLargeError("problem", "costs without a coarse common measure", f"multiples below {MAX_COST}", mend)
    return counts, price


def feature_costs(problem: NetworkProblem) -> list[int]:
    """What a weight of each feature in the first layer costs besides the penalty: multiples of `least_difference`."""
    measure = Fraction(float(problem.least_difference().max()))
    return [int(Fraction(price) / measure) for price in problem.prices or [0.0] * problem.inputs.shape[1]]


def step_costs(problem: NetworkProblem) -> list[list[int]]:
    """What a step of shortfall of a sample of each class at each point costs, as multiples of `least_difference`."""
    price = Fraction(problem.margin_price) / Fraction(float(problem.least_difference().max()))
    return [[int(price * Fraction(count)) for count in row] for row in problem.counts.tolist()]
