"""The smallest whole weights of columns and of optimal networks, against all weights in a box."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.network_oracle import fewest_errors, output_functions, random_table

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError
from tpsolve.search import Circuits, make_proof, verify_proof
from tpsolve.search.network.circuits._whole_weights import WholeWeights, reach, smallest_weights

pytestmark = pytest.mark.rounding

QUICK = Budget(seconds=60)


def sizes_of_column(points: np.ndarray, column: np.ndarray, most: int) -> tuple[int, int] | None:
    """Least largest absolute weight up to `most`, and the least sum with it, by trying all weights."""
    found = []
    for weight in itertools.product(range(-most, most + 1), repeat=points.shape[1]):
        z = points @ np.array(weight)
        if z[column > 0].min(initial=10**6) > z[column < 0].max(initial=-(10**6)):
            found.append((max(map(abs, weight)), sum(map(abs, weight))))
    return min(found, default=None)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_weights_of_a_column_are_the_smallest(data: st.DataObject):
    p, most = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    rows = data.draw(st.lists(st.tuples(*[st.integers(-2, 3)] * p), min_size=2, max_size=8, unique=True))
    points = np.array(rows)
    weight = data.draw(st.lists(st.integers(-5, 5), min_size=p, max_size=p))
    plus = points @ np.array(weight) >= data.draw(st.integers(-4, 4))
    column = np.where(plus ^ (np.arange(len(points)) == data.draw(st.integers(0, 20))), 1, -1)
    expected, answer = sizes_of_column(points, column, most), smallest_weights(points, column, most, lambda: False)
    if expected is not None:
        assert isinstance(answer, WholeWeights)
        assert (answer.largest, sum(map(abs, answer.weight))) == expected
        for bias in range(-abs(answer.bias), abs(answer.bias) + 1):
            # The bias is the nearest to 0.
            same = (np.where(points @ np.array(answer.weight) + bias >= 0, 1, -1) == column).all()
            assert not same or abs(bias) >= abs(answer.bias)
        assert (np.where(points @ np.array(answer.weight) + answer.bias >= 0, 1, -1) == column).all()
        return
    assert isinstance(answer, list)
    assert sizes_of_column(points[answer], column[answer], most) is None
    for sample in answer:
        rest = [i for i in answer if i != sample]
        assert sizes_of_column(points[rest], column[rest], most) is not None


def test_neither_shift_nor_negation_changes_the_largest_weight():
    rng = np.random.default_rng(0)
    points = np.unique(rng.integers(-20, 21, (30, 3)), axis=0)
    column = np.where(points @ [7, -3, 5] > 2, 1, -1)
    first = smallest_weights(points, column, 100, lambda: False)
    elsewhere = points + np.array([10, 0, -300])
    moved = smallest_weights(elsewhere, -column, 100, lambda: False)
    assert isinstance(first, WholeWeights)
    assert isinstance(moved, WholeWeights)
    assert first.largest == moved.largest
    assert reach(points) == reach(elsewhere)


def columns_of_weights(points: np.ndarray, most: int) -> set[tuple[int, ...]]:
    """Every column that whole weights up to `most` give."""
    found = set()
    for weight in itertools.product(range(-most, most + 1), repeat=points.shape[1]):
        z = points @ np.array(weight)
        found |= {tuple(np.where(z >= level, 1, -1).tolist()) for level in (*z, z.max() + 1)}
    return found


def least_weight(problem: NetworkProblem) -> int:
    """The least box of weights in which at most 2 units reach the optimum of real weights, by trying everything."""
    (units,) = problem.widths
    optimum, codes = fewest_errors(problem), list(itertools.product((-1, 1), repeat=units))
    for most in range(20):
        columns = columns_of_weights(problem.inputs.long().numpy(), most)
        for chosen in itertools.combinations_with_replacement(sorted(columns), units):
            places = [codes.index(code) for code in zip(*chosen, strict=True)]
            outputs = torch.tensor([[f[k] for k in places] for f in output_functions(units)])
            if problem.errors(outputs[..., None]).min() == optimum:
                return most
    raise AssertionError("no weights up to 19")


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_weights_are_the_smallest_of_all_optimal_networks(data: st.DataObject):
    count = data.draw(st.integers(2, 6))
    x = data.draw(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2)), min_size=count, max_size=count))
    y = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    problem = NetworkProblem([list(map(float, row)) for row in x], y, [data.draw(st.integers(1, 2))])
    engine = data.draw(st.sampled_from(["glucose4", "cp-sat"]))
    result = solve(problem, Circuits(prefer="weights", engine=engine, max_drawn=50), budget=QUICK)
    assert result.stats["preference_proved"]
    assert result.objective.item() == fewest_errors(problem)
    assert result.stats["preferred"] == least_weight(problem)
    check_network(problem, result)


def check_network(problem: NetworkProblem, result: Any) -> None:
    """The network has whole weights, the largest of the first layer that which is claimed, and these errors."""
    network = problem.network(result.targets, result.stats["weights"])
    for weight, bias in result.stats["weights"]:
        assert torch.equal(weight, weight.round())
        assert torch.equal(bias, bias.round())
    assert result.stats["weights"][0][0].abs().max() == result.stats["preferred"]
    assert problem.errors(network(problem.inputs)) == result.objective.item()


CUBE = [list(map(float, corner)) for corner in itertools.product((0, 1), repeat=3)]


def test_a_threshold_function_that_needs_a_weight_of_two():
    # x1 and (x2 or x3) is 2 x1 + x2 + x3 >= 3, and nothing smaller (Muroga 1971, table of 3 inputs).
    problem = NetworkProblem(CUBE, [int(a and (b or c)) for a, b, c in CUBE], [1])
    result = solve(problem, Circuits(prefer="weights"), budget=QUICK)
    weight, bias = result.stats["weights"][0]
    assert (result.stats["preferred"], result.stats["preference_proved"]) == (2, True)
    # Or its negation.
    assert (weight.abs().tolist(), abs(bias.item())) in (([[2, 1, 1]], 3), ([[2, 1, 1]], 2))
    # A second unit makes do with 1: x1 and x2, x1 and x3.
    result = solve(NetworkProblem(CUBE, problem.index.tolist(), [2]), Circuits(prefer="weights"), budget=QUICK)
    assert (result.stats["preferred"], result.objective.item()) == (1, 0)


def test_constant_labels_need_no_weights():
    problem = NetworkProblem([[0.0], [1], [2]], [0, 1, 0], [1], weight=[5, 1, 5])
    result = solve(NetworkProblem([[0.0], [1], [1]], [0, 0, 0], [2]), Circuits(prefer="weights"), budget=QUICK)
    assert (result.stats["preferred"], result.stats["preference_proved"]) == (0, True)
    result = solve(problem, Circuits(prefer="weights"), budget=QUICK)
    assert (result.stats["preferred"], result.objective.item()) == (0, 1)
    check_network(problem, result)


def test_several_classes_and_layers():
    x = np.array([[0.0], [2], [5], [7]])
    for y, widths in (([0, 1, 2, 2], [2]), ([0, 1, 0, 0], [2, 2])):
        problem = NetworkProblem(x, y, widths)
        result = solve(problem, Circuits(prefer="weights"), budget=QUICK)
        assert (result.objective.item(), result.stats["preferred"], result.stats["preference_proved"]) == (0, 1, True)
        check_network(problem, result)


def test_the_saved_network_is_that_of_whole_weights():
    x, y = random_table(2, 20)
    x = np.round(10 * x)
    problem = NetworkProblem(x, y, [2])
    result = solve(problem, Circuits(prefer="weights"), budget=QUICK)
    proof = make_proof(problem, result)
    assert all(torch.equal(a, b) for a, b in zip(proof.weights[0], result.stats["weights"][0], strict=True))
    assert all(finding.holds for finding in verify_proof(proof, x, y))


@pytest.mark.slow
def test_a_budget_too_small_proves_no_preference():
    x, y = random_table(2, 40)
    problem = NetworkProblem(np.round(100 * x), y, [3])
    proved = solve(problem, Circuits(workers=1, max_drawn=2000), budget=Budget(steps=10**6))
    for steps in (proved.stats["steps"] // 4, proved.stats["steps"] + 1):
        result = solve(problem, Circuits(prefer="weights", max_drawn=2000), budget=Budget(steps=steps))
        assert not result.stats.get("preference_proved", False)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(NotAcceptedError, match=r"0\.5 in column 1 of X.*whole numbers.*Scale"):
        solve(NetworkProblem([[0, 1], [2, 0.5]], [0, 1], [1]), Circuits(prefer="weights"), budget=QUICK)
    with pytest.raises(TooLargeError, match="differ by 2e"):
        solve(NetworkProblem([[0.0], [2e9]], [0, 1], [1]), Circuits(prefer="weights"), budget=QUICK)
    problem = NetworkProblem([[0.0], [1]], [0, 1], [1])
    result = solve(problem, Circuits(prefer="weights"), budget=QUICK)
    weights = [(-weight, bias) for weight, bias in result.stats["weights"]]
    with pytest.raises(ArgumentError, match="give other targets"):
        problem.network(result.targets, weights)
