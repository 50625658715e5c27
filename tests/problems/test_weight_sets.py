"""Network problems whose weights are of a set: what is refused, what is kept, and what the judge believes."""

import copy
import math
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.whole_oracle import least_objective

from tpsolve import SOLVERS, Budget, NetworkProblem, load_problem, load_result, solve
from tpsolve.errors import (
    ArgumentError,
    NotAcceptedError,
    NotFiniteError,
    ShapeError,
    TooLargeError,
    UnknownNameError,
    ValueSetError,
)
from tpsolve.models import make_model
from tpsolve.problems.network._whole_numbers import exact_outputs
from tpsolve.search import make_proof, size_frontier, smallest_network, verify_result

X, Y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1]


def make(**sets: Any) -> NetworkProblem:
    return NetworkProblem(X, Y, [2], **{"weight_set": "ternary", **sets})


WEIGHTS = [([[1, 0], [0, -1]], [-1, 0]), ([[1, 1]], [0])]
"""Units x0 >= 1 and x1 <= 0, and their or: no errors."""


@pytest.mark.parametrize(
    ("sets", "error", "words"),
    [
        ({"weight_set": "ternery"}, UnknownNameError, "ternary"),
        ({"weight_set": 3}, ArgumentError, "range"),
        ({"weight_set": []}, ArgumentError, "weight_set: got no value"),
        ({"weight_set": [-1, 0.5]}, ValueSetError, "weight_set: got 0.5"),
        ({"weight_set": [1, math.nan]}, NotFiniteError, "nan"),
        ({"weight_set": [1, math.inf]}, NotFiniteError, "inf"),
        ({"weight_set": [1, 0, 1]}, ArgumentError, "1 more than once"),
        ({"weight_set": [True, False]}, ValueSetError, "True"),
        ({"weight_set": ["1"]}, ValueSetError, "'1'"),
        ({"weight_set": range(10**6)}, TooLargeError, "more than 65536 values"),
        ({"weight_set": range(10**20)}, TooLargeError, "more than 65536 values"),
        ({"weight_set": [2**52]}, TooLargeError, "weight_set: .*sums up to"),
        ({"weight_set": [10**400]}, TooLargeError, "weight_set"),
        ({"bias_set": []}, ArgumentError, "bias_set: got no value"),
        ({"bias_set": [2**53]}, TooLargeError, "bias_set: .*sums up to"),
        ({"weight_set": None, "bias_set": [0]}, ArgumentError, "bias_set: .*weight_set"),
        ({"weight_set": None, "penalty": 1}, ArgumentError, "penalty: .*weight_set"),
        ({"penalty": -1}, ArgumentError, "penalty"),
        ({"penalty": math.nan}, NotFiniteError, "penalty"),
        ({"penalty": "1"}, ArgumentError, "penalty"),
        ({"weight_set": None, "prices": [1, 1]}, ArgumentError, "prices: .*weight_set"),
        ({"prices": [1]}, ShapeError, "prices: got 1 prices"),
        ({"prices": [0, -1]}, ArgumentError, "prices: got -1"),
        ({"prices": {0: math.nan}}, NotFiniteError, "prices: got nan"),
        ({"prices": {2: 1}}, ArgumentError, "prices"),
        ({"prices": 0.5}, ArgumentError, "prices: got 0.5"),
        ({"prices": ["1", 1]}, ArgumentError, "prices: got '1'"),
        ({"weight_set": None, "margin": 1}, ArgumentError, "margin: .*weight_set"),
        ({"margin": -1}, ArgumentError, "margin: got -1"),
        ({"margin": 1.5}, ArgumentError, "margin: got 1.5"),
        ({"margin": 10**9}, TooLargeError, "margin: got 1000000000"),
        ({"margin_price": 1}, ArgumentError, "margin_price: .*margin=1"),
        ({"margin": 1, "margin_price": 0}, ArgumentError, "margin_price: got 0"),
        ({"margin": 1, "margin_price": math.inf}, NotFiniteError, "margin_price"),
        ({"margin": 1, "margin_price": "1"}, ArgumentError, "margin_price"),
    ],
    ids=str,
)
def test_sets_that_make_no_sense_are_refused(sets: dict[str, Any], error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        make(**sets)


@pytest.mark.parametrize(
    "given",
    [range(-1, 2), (1, 0, -1), np.array([-1, 0, 1], dtype=np.int8), torch.tensor([0.0, 1.0, -1.0]), {-1, 0, 1}],
    ids=lambda given: type(given).__name__,
)
def test_sets_are_read_from_sequences_of_all_kinds(given: Any):
    assert make(weight_set=given).weight_set == (-1, 0, 1)
    assert make(weight_set=given).fingerprint == make().fingerprint


def test_targets_count_only_with_weights_that_give_them():
    problem = make(penalty=0.25)
    targets = problem.from_weights(problem.check_weights(WEIGHTS))
    assert problem.objective(targets, WEIGHTS).item() == 4 * 0.25
    assert problem.objective(targets).item() == math.inf
    assert problem.objective(-targets, WEIGHTS).item() == math.inf
    assert problem.objective(problem.start, problem.start_weights).item() == 1
    both = problem.objective(torch.stack([targets, problem.start]), WEIGHTS)
    assert both.tolist() == [1.0, math.inf]


def test_features_have_prices_of_their_own():
    # The first unit reads x0, and the second x1; the output unit reads both.
    assert make(prices={1: 0.25}).objective(*of(make(prices={1: 0.25}))).item() == 0.25
    assert make(prices=[0.5, 0.25]).objective(*of(make(prices=[0.5, 0.25]))).item() == 0.75
    problem = make(prices=[0.5, 0.25], penalty=1)
    assert problem.objective(*of(problem)).item() == 4.75
    assert (problem.most_paid, problem.least_difference().item()) == (7.5, 0.25)
    assert make(prices=[0, 0]).fingerprint == make().fingerprint


def of(problem: NetworkProblem) -> tuple[torch.Tensor, Any]:
    weights = problem.check_weights(WEIGHTS)
    return problem.from_weights(weights), weights


def test_prices_of_features_are_for_those_who_know_them():
    problem = NetworkProblem(X, Y, [1], weight_set="ternary", bias_set=range(-2, 3), prices=[0.25, 0.5])
    with pytest.raises(NotAcceptedError, match="prices of features"):
        solve(problem, "all-columns", budget=Budget(steps=1))
    for find in (size_frontier, smallest_network):
        with pytest.raises(NotAcceptedError, match="prices of features"):
            find(problem, budget=Budget(seconds=1))
    result = solve(problem, "weight-box:workers=1", budget=Budget(seconds=60))
    assert (result.objective.item(), result.status.value) == (least_objective(problem), "optimal")
    assert make_model(problem, result).proof is None
    with pytest.raises(NotAcceptedError, match="prices of features"):
        make_proof(problem, result)


def test_sums_that_lack_the_margin_cost():
    # Of the output unit the sums are 2, -2 and 0 where -1, +1 and +1 are wanted, the last one of weight 2.
    sums = [([[0, 1], [-1, 0]], [-1, 0]), ([[1, 1]], [0])]
    problem = NetworkProblem(X, Y, [2], [1, 1, 2], weight_set="ternary", margin=3, margin_price=0.125)
    targets = problem.from_weights(problem.check_weights(sums))
    assert problem.shortfall(problem.check_weights(sums)) == (3 + 1 + 2) + (3 + 2) + 2 * 3
    assert problem.objective(targets, sums).item() == 2 + 0.125 * 17
    # Costs are multiples of the price of a step, and a proof of errors is none of costs.
    assert problem.least_difference().item() == 0.125
    assert problem.errors_bound(100.0) == 0.0
    with pytest.raises(ArgumentError, match="margin"):
        make().shortfall(problem.check_weights(sums))


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ([([[2, 0], [0, -1]], [-1, 0]), WEIGHTS[1]], ValueSetError, "layer 0 that is 2"),
        ([([[1, 0], [0, -1]], [-1, 0.5]), WEIGHTS[1]], ValueSetError, "bias 0.5 in layer 0"),
        ([([[1, 0], [0, -1]], [-1, math.nan]), WEIGHTS[1]], ValueSetError, "bias nan"),
        (WEIGHTS[:1], ShapeError, "weights"),
        ([WEIGHTS[0], ([[1, 1]], [0, 0])], ShapeError, "weights"),
        ("none", ArgumentError, "weights"),
    ],
    ids=str,
)
def test_weights_outside_the_set_are_refused(weights: Any, error: type[Exception], words: str):
    problem = make()
    with pytest.raises(error, match=words):
        problem.objective(problem.start, weights)
    with pytest.raises(error, match=words):
        problem.network(problem.start, weights)


def test_what_needs_weights_says_so():
    problem = make()
    for ask in (problem.network, problem.weights, problem.exact_weights):
        with pytest.raises(ArgumentError, match=r"weights: got None.*stats"):
            ask(problem.start)
    with pytest.raises(ArgumentError, match="no weight_set"):
        NetworkProblem(X, Y, [2]).objective(NetworkProblem(X, Y, [2]).start, WEIGHTS)


@pytest.mark.parametrize("bias_set", [None, [-3, 0, 2], [1]], ids=str)
@pytest.mark.parametrize("weight_set", ["ternary", "binary", [3, 5]], ids=str)
def test_the_start_is_a_network_of_the_set(weight_set: Any, bias_set: Any):
    for table in (X, [[-0.5, 7.25], [1.0, 0.0], [3.0, 1.0]]):
        for labels in (Y, [0, 1, 2], [0, 0, 1]):
            problem = NetworkProblem(table, labels, [2, 3], weight_set=weight_set, bias_set=bias_set)
            value = problem.objective(problem.start, problem.start_weights).item()
            # Two of three samples are wrong at most where any bias may be.
            assert value <= (3 if bias_set is not None else 3 - max(labels.count(k) for k in labels))


COPIES: dict[str, Callable[[NetworkProblem, Path], Any]] = {
    "pickle": lambda problem, _: pickle.loads(pickle.dumps(problem)),
    "deepcopy": lambda problem, _: copy.deepcopy(problem),
    "flatten": lambda problem, _: problem.flatten(),
    "to": lambda problem, _: problem.to("cpu"),
    "save": lambda problem, path: (problem.save(path / "p.npz"), load_problem(path / "p.npz"))[1],
}


@pytest.mark.parametrize("way", COPIES)
def test_sets_survive(way: str, tmp_path: Path):
    problem = make(bias_set=range(-2, 3), penalty=0.5, margin=2, margin_price=0.25, prices=[0.5, 0])
    twin = COPIES[way](problem, tmp_path)
    assert (twin.weight_set, twin.bias_set, twin.penalty) == ((-1, 0, 1), (-2, -1, 0, 1, 2), 0.5)
    assert (twin.margin, twin.margin_price, twin.prices) == (2, 0.25, (0.5, 0.0))
    assert twin.fingerprint == problem.fingerprint
    assert "weight_set=(-1, 0, 1)" in repr(twin)


def test_fingerprints_tell_sets_apart_and_files_without_sets_are_as_before(tmp_path: Path):
    plain = NetworkProblem(X, Y, [2])
    others = [make(), make(weight_set="binary"), make(bias_set=[0]), make(penalty=1), make(margin=1), make(margin=2)]
    others += [make(prices=[1, 0]), make(prices=[0, 1])]
    assert len({problem.fingerprint for problem in (plain, *others)}) == 9
    # As it was before there were sets.
    assert plain.fingerprint == "83452d0557e47418d02e05c71553dbdd4a742ec7cb8691ef7f3fc5b1ade71efb"
    plain.save(tmp_path / "plain.npz")
    with np.load(tmp_path / "plain.npz") as file:
        assert "weight_set" not in str(file["header"])
    assert load_problem(tmp_path / "plain.npz").weight_set is None


MADE_FOR_IT = {"integer-search", "weight-box", "all-columns", "auto"}


@pytest.mark.parametrize("name", [n for n, k in SOLVERS.items() if NetworkProblem in k.accepts and k.installed()])
def test_solvers_that_are_not_made_for_sets_refuse_them_and_name_those_that_are(name: str):
    if name in MADE_FOR_IT:
        SOLVERS[name]().check(make())
        return
    with pytest.raises(NotAcceptedError, match=r"a weight_set.*integer-search or weight-box or all-columns"):
        solve(make(), name, budget=Budget(steps=1))


def test_a_saved_result_is_verified_with_its_weights(tmp_path: Path):
    problem = make()
    result = solve(problem, budget=Budget(steps=20))
    result.save(tmp_path / "result.npz")
    loaded, _ = load_result(tmp_path / "result.npz")
    assert verify_result(problem, loaded)[0].holds
    assert problem.network(loaded.targets, loaded.stats["weights"])
    for spoiled in (None, [([[9, 0], [0, -1]], [-1, 0]), WEIGHTS[1]], [WEIGHTS[0], ([[-1, -1]], [-1])]):
        loaded.stats["weights"] = spoiled
        assert not verify_result(problem, loaded)[0].holds


def test_outputs_near_a_threshold_are_exact():
    g = torch.Generator().manual_seed(0)
    inputs = torch.randint(-9, 10, (40, 3), generator=g).double() / 10
    weight = torch.tensor([[1.0, -1.0, 1.0], [3.0, 2.0, -5.0]], dtype=torch.float64)
    # The bias puts some points on the boundary, but for the rounding of tenths.
    bias = torch.tensor([-0.3, 0.1], dtype=torch.float64)
    outputs = exact_outputs(inputs, weight, bias)
    for row, point in enumerate(inputs.tolist()):
        for unit in range(2):
            z = sum((Fraction(x) * Fraction(w) for x, w in zip(point, weight[unit].tolist(), strict=True)), Fraction(0))
            assert outputs[row, unit] == (1 if z + Fraction(bias[unit].item()) >= 0 else -1)
    z = inputs @ weight.T + bias
    assert bool((z.abs() < 1e-15).any()), "no point tests the fractions"


def test_a_model_keeps_the_weights_of_the_set_and_no_proof_is_made_of_a_search():
    problem = NetworkProblem([[0.3, 1.7], [1.1, 0.2], [0.9, 0.8], [0.1, 0.4]], [0, 1, 1, 0], [2], weight_set="ternary")
    result = solve(problem, budget=Budget(steps=50))
    layers = make_model(problem, result).layers.weights
    assert {v for weight, _ in layers for v in weight.flatten().tolist()} <= {-1, 0, 1}
    with pytest.raises(NotAcceptedError, match="a result of weight-box"):
        make_proof(problem, result)


def test_a_margin_is_for_those_who_know_it():
    problem = NetworkProblem(X, Y, [1], weight_set="ternary", margin=1)
    with pytest.raises(NotAcceptedError, match="margin"):
        solve(problem, "all-columns", budget=Budget(steps=1))
    with pytest.raises(NotAcceptedError, match="margin"):
        size_frontier(problem, budget=Budget(seconds=1))
    result = solve(problem, "weight-box:workers=1", budget=Budget(seconds=60))
    assert result.status.value == "optimal"
    assert make_model(problem, result).proof is None
    with pytest.raises(NotAcceptedError, match="margin"):
        make_proof(problem, result)
