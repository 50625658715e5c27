"""Networks with whole weights, by plain loops over whole numbers; shares nothing with the searches."""

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from tpsolve import NetworkProblem

Column = tuple[int, ...]


def outputs_of(points: Sequence[Sequence[float]], weight: Sequence[int], bias: float) -> Column:
    """The column of one unit, in fractions."""
    sums = [sum((Fraction(x) * w for x, w in zip(point, weight, strict=True)), Fraction(bias)) for point in points]
    return tuple(1 if z >= 0 else -1 for z in sums)


def all_columns(
    points: Sequence[Sequence[float]],
    weights: Sequence[int],
    biases: Sequence[int],
    penalty: float,
    may: Callable[[Sequence[int]], bool] = lambda weight: True,
    besides: Callable[[Sequence[int], int], float] = lambda weight, bias: 0.0,
) -> dict[Column, float]:
    """The columns that a unit can give, each with the least price of weights that it `may` have, and of `besides`."""
    found: dict[Column, float] = {}
    for weight in filter(may, itertools.product(weights, repeat=len(points[0]))):
        for bias in biases:
            price = penalty * sum(w != 0 for w in weight) + besides(weight, bias)
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


def lacking(problem: NetworkProblem, layers: Sequence[tuple[Any, Any]]) -> float:
    """What the sums of output units that lack the margin cost, of `(weight, bias)` of each layer."""
    if problem.margin is None:
        return 0.0
    points: list[Sequence[float]] = problem.inputs.tolist()
    for weight, bias in layers[:-1]:
        columns = [outputs_of(points, w, b) for w, b in zip(weight.tolist(), bias.tolist(), strict=True)]
        points = list(zip(*columns, strict=True))
    weight, bias = layers[-1][0].tolist(), layers[-1][1].tolist()
    short = sum(short_of(problem, k, points, w, b) for k, (w, b) in enumerate(zip(weight, bias, strict=True)))
    return problem.margin_price * short


def short_of(
    problem: NetworkProblem, unit: int, points: Sequence[Sequence[float]], weight: Sequence[float], bias: float
) -> float:
    """By how much the sums of output unit `unit` at `points` lack the margin, sample by sample."""
    assert problem.margin is not None
    wanted = 1 if problem.layers[-1] == 1 else unit
    total = 0.0
    for point, counts in zip(points, problem.counts.tolist(), strict=True):
        z = sum(x * w for x, w in zip(point, weight, strict=True)) + bias
        for label, count in enumerate(counts):
            has = z if label == wanted else -1 - z
            total += count * max(0, problem.margin - has)
    return total


def _shorts(problem: NetworkProblem, points: Any) -> list[Callable[[Sequence[int], int], float]]:
    """Of each output unit what its weights and bias cost for the margin."""

    def of(unit: int) -> Callable[[Sequence[int], int], float]:
        if problem.margin is None:
            return lambda weight, bias: 0.0
        return lambda weight, bias: problem.margin_price * short_of(problem, unit, points, weight, bias)

    return [of(unit) for unit in range(problem.layers[-1])]


def least_objective(problem: NetworkProblem) -> float:
    """The optimum of a problem with one hidden layer, a `weight_set` and a `bias_set`, by trying all columns."""
    rules = problem.rules

    def below(weight: Sequence[int]) -> bool:
        """Whether a unit of the first layer may have this weight."""
        signs = all(w * sign >= 0 for w, sign in zip(weight, rules.monotone, strict=bool(rules.monotone)))
        return signs and few(weight) and all(sum(weight[k] != 0 for k in g) <= most for g, most in rules.groups)

    def few(weight: Sequence[int]) -> bool:
        return rules.max_fan_in is None or sum(w != 0 for w in weight) <= rules.max_fan_in

    def above_it(weight: Sequence[int]) -> bool:
        """Whether an output unit may."""
        return few(weight) and not (rules.monotone and min(weight) < 0)

    def read(weight: Sequence[int], bias: int) -> float:
        """What a unit of the first layer pays for its features."""
        return sum(price for w, price in zip(weight, problem.prices, strict=bool(problem.prices)) if w)

    assert problem.weight_set is not None
    assert problem.bias_set is not None
    points, least = problem.inputs.tolist(), float("inf")
    # Of units that share a bias, the columns of each bias alone.
    sets = [(bias,) for bias in problem.bias_set] if rules.shared_bias else [problem.bias_set]
    every = [all_columns(points, problem.weight_set, biases, problem.penalty, below, read) for biases in sets]
    tried = [(own, c) for own in every for c in itertools.combinations_with_replacement(own, problem.widths[0])]
    for hidden, chosen in tried:
        points = list(zip(*chosen, strict=True))
        tops = [
            all_columns(points, problem.weight_set, problem.bias_set, problem.penalty, above_it, short)
            for short in _shorts(problem, points)
        ]
        for outputs in itertools.product(*tops):
            price = sum(hidden[c] for c in chosen) + sum(t[c] for t, c in zip(tops, outputs, strict=True))
            least = min(least, errors_of(problem, outputs) + price)
    return least
