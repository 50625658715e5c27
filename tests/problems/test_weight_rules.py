"""Signs of features, fan-in and groups of weights: what is refused, what is kept, and who keeps to it."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.whole_oracle import least_objective

from tpsolve import Budget, NetworkProblem, load_problem, solve
from tpsolve.errors import ArgumentError, NotAcceptedError, ShapeError, TpsolveError, ValueSetError
from tpsolve.search import AllColumns, WeightBox, make_proof, size_frontier, verify_proof
from tpsolve.search.proofs._proof import load_proof

X, Y = [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], [0, 1, 1, 0]


def make(**rules: Any) -> NetworkProblem:
    return NetworkProblem(X, Y, [2], **{"weight_set": "ternary", **rules})


@pytest.mark.parametrize(
    ("rules", "error", "words"),
    [
        ({"monotone": [1, 0]}, ShapeError, "2 signs"),
        ({"monotone": [1, 0, 2]}, ValueSetError, "monotone: got 2"),
        ({"monotone": [1, 0, math.nan]}, ValueSetError, "nan"),
        ({"monotone": {3: 1}}, ValueSetError, "feature 3"),
        ({"monotone": {-1: 1}}, ValueSetError, "feature -1"),
        ({"monotone": {"age": 1}}, ValueSetError, "feature 'age'"),
        ({"monotone": "up"}, ArgumentError, "sign of each feature"),
        ({"monotone": {0: -1}, "weight_set": [1, 2]}, ArgumentError, "negative"),
        ({"monotone": {0: -1}, "weight_set": [-1, -2]}, ArgumentError, "positive"),
        ({"max_fan_in": 0}, TpsolveError, "max_fan_in"),
        ({"max_fan_in": 1.5}, TpsolveError, "max_fan_in"),
        ({"max_fan_in": 1, "weight_set": "binary"}, ArgumentError, "with 0"),
        ({"groups": [([0], 1)], "weight_set": "binary"}, ArgumentError, "with 0"),
        ({"groups": [[0, 1, 2]]}, ArgumentError, "pair"),
        ({"groups": [([], 1)]}, ArgumentError, "some features"),
        ({"groups": [([0, 0], 1)]}, ArgumentError, "once"),
        ({"groups": [([0, 5], 1)]}, ValueSetError, "feature 5"),
        ({"groups": [([0, 1], -1)]}, TpsolveError, "groups"),
        ({"monotone": {0: 1}, "weight_set": None}, ArgumentError, "monotone: .*weight_set"),
        ({"max_fan_in": 2, "weight_set": None}, ArgumentError, "max_fan_in: .*weight_set"),
        ({"shared_bias": 1}, ArgumentError, "True or False"),
        ({"shared_bias": True, "weight_set": None}, ArgumentError, "shared_bias: .*weight_set"),
    ],
    ids=str,
)
def test_rules_that_make_no_sense_are_refused(rules: dict[str, Any], error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        make(**rules)


def test_signs_of_several_classes_are_refused():
    with pytest.raises(ArgumentError, match="3 classes"):
        NetworkProblem(X, [0, 1, 2, 0], [2], weight_set="ternary", monotone={0: 1})


@pytest.mark.parametrize(
    ("rules", "weights", "words"),
    [
        ({"monotone": {1: 1}}, [([[0, -1, 0], [0, 0, 0]], [0, 0]), ([[1, 1]], [0])], "input 1 of unit 0 of layer 0"),
        ({"monotone": {1: 1}}, [([[0, 1, 0], [-1, 0, 1]], [0, 0]), ([[1, -1]], [0])], "of layer 1"),
        ({"max_fan_in": 2}, [([[1, 1, 0], [1, -1, 1]], [0, 0]), ([[1, 1]], [0])], "3 weights .*unit 1 of layer 0"),
        ({"max_fan_in": 1}, [([[1, 0, 0], [0, -1, 0]], [0, 0]), ([[1, 1]], [0])], "2 weights .* layer 1"),
        ({"groups": [([0, 2], 1)]}, [([[1, 1, 0], [1, 0, -1]], [0, 0]), ([[1, 1]], [0])], "unit 1 .*inputs 0, 2"),
    ],
    ids=str,
)
def test_weights_that_break_a_rule_are_refused(rules: dict[str, Any], weights: Any, words: str):
    make().check_weights(weights)
    problem = make(**rules)
    with pytest.raises(ValueSetError, match=words):
        problem.objective(problem.start, weights)


RULES: list[dict[str, Any]] = [
    {"monotone": [1, -1, 0]},
    {"monotone": {2: np.int64(-1)}, "weight_set": "binary"},
    {"max_fan_in": 1},
    {"max_fan_in": 2, "monotone": (0, 0, 1)},
    {"groups": [([0, 1], 1), ([2], 0)]},
    {"groups": [([0, 1, 2], 2), ([1, 2], 1)], "penalty": 0.25},
]


@pytest.mark.parametrize("rules", [*RULES, {"shared_bias": True}], ids=str)
def test_the_start_keeps_to_rules_and_rules_survive_a_file(rules: dict[str, Any], tmp_path: Path):
    problem = make(**rules)
    assert problem.objective(problem.start, problem.start_weights).item() == 2
    problem.save(tmp_path / "p.npz")
    twin = load_problem(tmp_path / "p.npz")
    assert twin.rules == problem.rules
    assert twin.fingerprint == problem.fingerprint != make().fingerprint
    assert next(iter(rules)) in repr(twin)


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.nightly)])
def test_proofs_keep_to_rules_and_reach_what_all_weights_reach(seed: int, rules: dict[str, Any]):
    g = torch.Generator().manual_seed(seed)
    values = torch.tensor([[-1.0, 0.0, 2.0], [0.0, 1.0, 3.0]][seed], dtype=torch.float64)
    x = values[torch.randint(3, (7, 3), generator=g)]
    y = [0, 1, *torch.randint(2, (5,), generator=g).tolist()]
    problem = NetworkProblem(x, y, [2], **{"weight_set": "ternary", "bias_set": [-1, 0, 1], **rules})
    least = least_objective(problem)
    for solver in (AllColumns(), WeightBox(workers=1)):
        result = solve(problem, solver, budget=Budget(seconds=60))
        problem.check_weights(result.stats["weights"])
        assert (result.objective.item(), result.bound.item()) == (least, least)
        assert all(finding.holds for finding in verify_proof(make_proof(problem, result), x.numpy(), y))


@pytest.mark.parametrize("seed", range(2))
def test_the_box_proves_what_units_of_one_bias_reach(seed: int):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(-1, 3, (8, 3), generator=g).double()
    y = [0, 1, *torch.randint(2, (6,), generator=g).tolist()]
    sets: dict[str, Any] = {"weight_set": "ternary", "bias_set": [-1, 0, 1]}
    problem = NetworkProblem(x, y, [2], shared_bias=True, **sets)
    result = solve(problem, WeightBox(workers=1), budget=Budget(seconds=60))
    least = least_objective(problem)
    assert (result.objective.item(), result.bound.item()) == (least, least)
    (_, bias), _ = problem.check_weights(result.stats["weights"])
    assert bias[0] == bias[1]
    # Other solvers and proofs know no such rule.
    with pytest.raises(NotAcceptedError, match="shared bias"):
        solve(problem, AllColumns(), budget=Budget(seconds=1))
    with pytest.raises(NotAcceptedError, match="shared bias"):
        make_proof(problem, result)


def test_weights_of_several_biases_are_refused_where_one_is_asked_for():
    weights = [([[1, 0, 0], [0, 1, 0]], [0, -1]), ([[1, 1]], [0])]
    make().check_weights(weights)
    with pytest.raises(ValueSetError, match=r"0 and -1 of units 0 and 1 .*shared_bias"):
        make(shared_bias=True).check_weights(weights)


def test_search_of_larger_networks_keeps_to_rules():
    g = torch.Generator().manual_seed(0)
    for x in (2.0 * torch.randint(0, 2, (60, 12), generator=g) - 1, torch.randn(60, 12, generator=g)):
        y = (x[:, :6].sum(1) > 0).long().tolist()
        rules: dict[str, Any] = {"monotone": {0: 1, 1: -1}, "max_fan_in": 4, "groups": [([3, 4, 5], 1)]}
        rules["shared_bias"] = True
        problem = NetworkProblem(x, y, [5, 3], weight_set=range(-2, 3), **rules)
        result = solve(problem, "integer-search:first_steps=30", budget=Budget(steps=300))
        problem.check_weights(result.stats["weights"])
        start = problem.objective(problem.start, problem.start_weights).item()
        assert result.objective.item() < start / 2


def test_a_monotone_network_is_monotone():
    g = torch.Generator().manual_seed(1)
    x = torch.randint(0, 4, (80, 3), generator=g).double()
    y = ((x[:, 0] - x[:, 1] + x[:, 2] % 2 > 1) ^ (torch.rand(80, generator=g) < 0.1)).long().tolist()
    problem = NetworkProblem(x, y, [4], weight_set=range(-3, 4), monotone={0: 1, 1: -1})
    result = solve(problem, "integer-search:first_steps=50", budget=Budget(steps=400))
    network = problem.network(result.targets, result.stats["weights"])
    grid = torch.cartesian_prod(*[torch.arange(4.0, dtype=torch.float64)] * 3)
    out = network(grid)[:, 0].reshape(4, 4, 4)
    assert bool((out.diff(dim=0) >= 0).all())
    assert bool((out.diff(dim=1) <= 0).all())
    assert out.unique().numel() == 2


def test_a_proof_of_rules_is_none_without_them(tmp_path: Path):
    x = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    y = [1, 0, 0, 1]
    rules: dict[str, Any] = {"monotone": {0: 1, 1: 1}, "max_fan_in": 2, "groups": [([0, 1], 2)]}
    problem = NetworkProblem(x, y, [2], weight_set="ternary", **rules)
    result = solve(problem, AllColumns(), budget=Budget(seconds=60))
    # Equal bits: neither a rising nor a falling function errs on fewer than one corner.
    assert (result.objective.item(), result.bound.item()) == (1, 1)
    proof = make_proof(problem, result)
    proof.save(tmp_path / "proof.npz")
    proof = load_proof(tmp_path / "proof.npz")
    assert verify_proof(proof, np.array(x), y)[-1].holds
    for change, part in (
        ({"monotone": ()}, "bound"),
        ({"monotone": (0, 0)}, "bound"),
        ({"monotone": (1,)}, "set"),
        ({"monotone": (1, 5)}, "set"),
        ({"groups": (((0, 7), 1),)}, "set"),
        ({"max_fan_in": 0}, "set"),
        ({"groups": (((0, 1), 0),)}, "set"),
        ({"monotone": (-1, -1)}, "set"),
    ):
        last = verify_proof(dataclasses.replace(proof, **change), np.array(x), y)[-1]
        assert (last.part, last.holds) == (part, False), (change, last)


def test_a_frontier_keeps_to_rules():
    x = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    problem = NetworkProblem(x, (x.sum(1) > 0).long().tolist(), [2], weight_set="ternary", max_fan_in=2)
    points = size_frontier(problem, budget=Budget(seconds=4), max_points=4, workers=1)
    for point in points:
        problem.check_weights(point.weights)
