"""The frontier of errors and weights other than 0, against all weights of a set."""

import itertools
from fractions import Fraction
from typing import Any

import pytest
import torch
from support.whole_oracle import errors_of, outputs_of

from tpsolve import Budget, NetworkProblem
from tpsolve.errors import ArgumentError, NotAcceptedError, ValueSetError
from tpsolve.pictures import draw_frontier
from tpsolve.search import FrontierPoint, size_frontier

BIASES = (-1, 0, 1)


def small_problem(seed: int, classes: int = 2) -> NetworkProblem:
    generator = torch.Generator().manual_seed(seed)
    X = torch.randint(0, 3, (8, 2), generator=generator).double()
    y = [*range(classes), *torch.randint(0, classes, (8 - classes,), generator=generator).tolist()]
    return NetworkProblem(X, y, [2], weight_set="ternary", bias_set=BIASES)


def fewest_errors_of_sizes(problem: NetworkProblem) -> dict[int, float]:
    """By trying all weights of two units of two inputs, and of one above; errors with exactly so many weights."""
    points, found = problem.inputs.tolist(), {}
    units: dict[tuple[int, ...], int] = {}
    for *weight, bias in itertools.product((-1, 0, 1), (-1, 0, 1), BIASES):
        column = outputs_of(points, weight, bias)
        units[column] = min(units.get(column, 9), sum(map(abs, weight)))
    for (first, one), (second, two) in itertools.product(units.items(), repeat=2):
        for *weight, bias in itertools.product((-1, 0, 1), (-1, 0, 1), BIASES):
            size = one + two + sum(map(abs, weight))
            errors = errors_of(problem, [outputs_of(list(zip(first, second, strict=True)), weight, bias)])
            found[size] = min(errors, found.get(size, errors))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_every_point_is_the_fewest_errors_of_its_size(seed: int):
    problem = small_problem(seed)
    oracle = fewest_errors_of_sizes(problem)
    points = size_frontier(problem, budget=Budget(seconds=10), workers=1, max_points=6)
    assert len(points) <= 6
    assert points[0].max_nonzero == 0
    for point in points:
        least = min(errors for size, errors in oracle.items() if size <= point.max_nonzero)
        assert point.proved
        assert point.errors == point.bound == least
        assert problem.nonzero(problem.check_weights(point.weights)) == point.nonzero <= point.max_nonzero
        assert problem.objective(problem.from_weights(point.weights), point.weights).item() == point.errors
    assert points[-1].errors == min(oracle.values())


TINY = Fraction(1, 10**20)


@pytest.mark.parametrize(("labels", "width"), [([0, 1, 0, 1, 1], 1), ([0, 1, 1, 0, 1], 2)])
def test_sizes_are_proved_of_numbers_that_float64_rounds(labels: list[int], width: int):
    rows = [(Fraction(k, 3) + TINY * (-1) ** k, Fraction(k % 2 - k)) for k in (0, 1, 1, 2, 3)]
    rows[2] = rows[2][0] + TINY, rows[2][1]
    given: Any = [list(map(float, row)) for row in rows]
    problem = NetworkProblem(given, labels, [width], weight_set="ternary", exact=rows)
    least: dict[int, int] = {}
    codes = list(itertools.product((-1, 1), repeat=width))
    for *hidden, (table, last) in itertools.product(
        *[exact_columns(rows).items()] * width, exact_columns(codes).items()
    ):
        told = dict(zip(codes, table, strict=True))
        outputs = zip(*(column for column, _ in hidden), strict=True)
        errors = sum((told[code] > 0) != label for code, label in zip(outputs, labels, strict=True))
        size = last + sum(count for _, count in hidden)
        least[size] = min(errors, least.get(size, errors))
    points = size_frontier(problem, budget=Budget(seconds=10), max_points=9, workers=1)
    assert len(points) > 1
    for point in points:
        assert point.bound == min(errors for size, errors in least.items() if size <= point.max_nonzero)
        assert point.proved
        assert problem.nonzero(problem.check_weights(point.weights)) == point.nonzero <= point.max_nonzero
        assert problem.objective(problem.from_weights(point.weights), point.weights).item() == point.errors
    assert points[-1].errors == min(least.values())


def exact_columns(rows: Any) -> dict[tuple[int, ...], int]:
    """What a unit of ternary weights and any bias outputs at `rows`, and the fewest weights other than 0 that do it."""
    found: dict[tuple[int, ...], int] = {}
    for weight in itertools.product((-1, 0, 1), repeat=len(rows[0])):
        sums = [sum(w * v for w, v in zip(weight, row, strict=True)) for row in rows]
        for level in [*sums, max(sums) + 1]:
            column = tuple(1 if total >= level else -1 for total in sums)
            found[column] = min(sum(map(abs, weight)), found.get(column, 9))
    return found


def test_where_nothing_lists_all_weights_only_what_labels_cost_is_proved():
    X = torch.rand(8, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = NetworkProblem([*X.tolist(), X[0].tolist()], [0, 1] * 4 + [1], [2], weight_set="ternary")
    points = size_frontier(problem, budget=Budget(seconds=0.5), max_points=4)
    assert [point.bound for point in points] == [4] + [1] * (len(points) - 1)
    assert [point.proved for point in points] == [True] + [point.errors == 1 for point in points[1:]]


def test_a_search_that_is_stopped_keeps_what_it_has_and_claims_no_more():
    problem = small_problem(0)
    calls = []
    points = size_frontier(
        problem, budget=Budget(seconds=60), workers=1, callback=lambda progress: bool(calls.append(progress)) or True
    )
    assert len(calls) <= 3
    least = problem.lower_bound().item()
    assert points[0].proved, "without weights there is nothing to choose"
    for point in points[1:]:
        assert point.bound == least
        assert point.proved == (point.errors == least)


def test_what_has_no_frontier_is_refused():
    X, y, budget = [[0.0], [1.0]], [0, 1], Budget(seconds=1)
    with pytest.raises(NotAcceptedError, match="real weights"):
        size_frontier(NetworkProblem(X, y, [1]), budget=budget)
    with pytest.raises(ValueSetError, match="without 0"):
        size_frontier(NetworkProblem(X, y, [1], weight_set="binary"), budget=budget)
    with pytest.raises(NotAcceptedError, match=r"penalty of 0\.5"):
        size_frontier(NetworkProblem(X, y, [1], weight_set="ternary", penalty=0.5), budget=budget)
    with pytest.raises(NotAcceptedError, match="seconds"):
        size_frontier(NetworkProblem(X, y, [1], weight_set="ternary"), budget=Budget(steps=3))
    with pytest.raises(ArgumentError, match="max_points"):
        size_frontier(NetworkProblem(X, y, [1], weight_set="ternary"), budget=budget, max_points=1)


def test_proved_points_are_filled_and_others_are_not():
    points = [FrontierPoint(0, 0, 5.0, 5.0, [], proved=True), FrontierPoint(4, 3, 2.0, 0.0, [], proved=False)]
    axes: Any = draw_frontier(points).axes[0]
    filled, hollow = axes.collections[-2:]
    assert filled.get_offsets().tolist() == [[0, 5]]
    assert hollow.get_offsets().tolist() == [[3, 2]]
    assert hollow.get_facecolors().tolist() == [[1, 1, 1, 1]]
    # The network of 3 weights serves from there on; nothing is proved of 1 to 4 weights.
    (stairs,) = axes.lines
    assert stairs.get_ydata().tolist() == [5, 5, 5, 2, 2]
    assert "not known" in {text.get_text() for text in axes.get_legend().get_texts()}
    assert axes.get_ylim()[0] == 0
    with pytest.raises(ArgumentError, match="no point"):
        draw_frontier([])
