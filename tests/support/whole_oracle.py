"""Networks with whole weights, by plain loops over whole numbers; shares nothing with the searches."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

from tpsolve import NetworkProblem

Column = tuple[int, ...]


def outputs_of(points: Sequence[Sequence[float]], weight: Sequence[int], bias: float) -> Column:
    """The column of one unit, in fractions."""
    sums = [sum((Fraction(x) * w for x, w in zip(point, weight, strict=True)), Fraction(bias)) for point in points]
    return tuple(1 if z >= 0 else -1 for z in sums)


def all_columns(
    points: Sequence[Sequence[float]], weights: Sequence[int], biases: Sequence[int], penalty: float
) -> dict[Column, float]:
    """The columns that a unit can give, each with the least price of the weights that give it."""
    found: dict[Column, float] = {}
    for weight in itertools.product(weights, repeat=len(points[0])):
        price = penalty * sum(w != 0 for w in weight)
        for bias in biases:
            column = outputs_of(points, weight, bias)
            found[column] = min(price, found.get(column, price))
    return found


def errors_of(problem: NetworkProblem, outputs: Sequence[Column]) -> float:
    """What the columns of the output units cost: exactly one must fire, where there are several."""
    wrong = 0.0
    for counts, named in zip(problem.counts.tolist(), zip(*outputs, strict=True), strict=True):
        classes = [int(named[0] > 0)] if len(named) == 1 else [k for k, fires in enumerate(named) if fires > 0]
        wrong += sum(counts) - (counts[classes[0]] if len(classes) == 1 else 0)
    return wrong


def least_objective(problem: NetworkProblem) -> float:
    """The optimum of a problem with one hidden layer, a `weight_set` and a `bias_set`, by trying all columns."""
    assert problem.weight_set is not None
    assert problem.bias_set is not None
    points, least = problem.inputs.tolist(), float("inf")
    hidden = all_columns(points, problem.weight_set, problem.bias_set, problem.penalty)
    for chosen in itertools.combinations_with_replacement(hidden, problem.widths[0]):
        above = all_columns(list(zip(*chosen, strict=True)), problem.weight_set, problem.bias_set, problem.penalty)
        for outputs in itertools.product(above, repeat=problem.layers[-1]):
            price = sum(hidden[c] for c in chosen) + sum(above[c] for c in outputs)
            least = min(least, errors_of(problem, outputs) + price)
    return least
