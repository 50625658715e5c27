"""WeightBox and BigM: baselines that prove nothing about real weights; WeightBox proves what a weight set allows."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.sat.python import cp_model
from support.network_oracle import fewest_errors, parity_table
from support.whole_oracle import least_objective

from tpsolve import Budget, NetworkProblem, Status, solve
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError
from tpsolve.search import BigM, Report, Solver, WeightBox
from tpsolve.search.network._weight_box import _hint

MODELS = (WeightBox(workers=1), BigM())
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_grids_of_few_points_are_solved_without_a_claim(data: st.DataObject):
    count = data.draw(st.integers(2, 5))
    point = st.lists(st.integers(0, 2), min_size=2, max_size=2)
    X = data.draw(st.lists(point, min_size=count, max_size=count))
    y = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    problem = NetworkProblem(X, y, [data.draw(st.integers(1, 2))])
    for model in (WeightBox(workers=1, scale=1), BigM()):
        result = solve(problem, model, budget=Budget(seconds=20))
        assert result.objective.item() == fewest_errors(problem), model.name
        assert result.bound.item() == problem.lower_bound().item(), "a box proves nothing of real weights"


@each_model
@pytest.mark.parametrize(("widths", "classes"), [([2], 2), ([2, 2], 2), ([2], 3)])
def test_layers_and_classes(model: Solver, widths: list[int], classes: int):
    X = [[0, 0], [0, 1], [1, 0], [1, 1]]
    y = [0, 1, 1, 0] if classes == 2 else [0, 1, 1, 2]
    result = solve(NetworkProblem(X, y, widths), model, budget=Budget(seconds=60))
    assert result.objective.item() == 0
    assert result.status is Status.OPTIMAL, "no errors meet the bound of any problem"


@each_model
def test_a_finished_box_is_told_in_the_notes_alone(model: Solver):
    X, y = parity_table(3)
    result = solve(NetworkProblem(X, y, [1]), model, budget=Budget(seconds=60))
    assert (result.objective.item(), result.bound.item()) == (2, 0)
    assert result.status is Status.FEASIBLE
    assert "2 errors, at least 2 there" in result.stats["notes"][0]


def test_a_narrow_box_misses_networks_that_real_weights_give():
    X, y = [[1.0, 0.0], [1.01, 0.01], [0.0, 1.0], [0.01, 1.02]], [0, 1, 0, 1]
    problem = NetworkProblem(X, y, [1])
    result = solve(problem, WeightBox(max_weight=1, workers=1), budget=Budget(seconds=20))
    assert result.objective.item() >= fewest_errors(problem) == 0
    assert result.bound.item() == 0


def test_big_m_leaves_room_for_sums_that_are_large_beside_its_margin():
    # Weights up to 20 tell the middle points apart by a hundredth, and give the outer ones sums near 20.
    problem = NetworkProblem([[-1.0], [0.0], [2e-4], [1.0]], [0, 0, 1, 1], [1])
    assert solve(problem, BigM(), budget=Budget(seconds=60)).objective.item() == 0


def test_sums_that_cp_sat_may_not_hold_are_refused():
    # 2 max_weight (scale x + 1) is just below 2^29, and 2^29 and more.
    solver = WeightBox(max_weight=1024, scale=1024)
    solver.check(NetworkProblem([[0.0], [255.9]], [0, 1], [1]))
    with pytest.raises(TooLargeError, match="weighted sums up to 5"):
        solver.check(NetworkProblem([[0.0], [256.0]], [0, 1], [1]))


def test_bad_settings_and_sizes_are_refused():
    with pytest.raises(ArgumentError, match="max_weight"):
        WeightBox(max_weight=0)
    with pytest.raises(ArgumentError, match="max_weight"):
        BigM(max_weight=-1)
    with pytest.raises(TooLargeError, match=r"weighted sums up to .* Standardise"):
        solve(NetworkProblem([[1e9], [0.0]], [0, 1], [1]), WeightBox(), budget=Budget(steps=1))


@pytest.mark.parametrize(
    ("classes", "sets"),
    [
        (2, {"weight_set": "ternary", "bias_set": [-1, 0, 2]}),
        (2, {"weight_set": [-2, 1], "bias_set": [-1, 0, 1]}),
        (2, {"weight_set": "ternary", "bias_set": [-1, 0, 1], "penalty": 0.25}),
        (2, {"weight_set": "ternary", "bias_set": [-1, 0, 1], "margin": 2, "margin_price": 0.25}),
        (3, {"weight_set": "binary", "bias_set": [-1, 0, 1], "margin": 1, "margin_price": 0.5}),
        (3, {"weight_set": "binary", "bias_set": [-1, 0, 1]}),
    ],
    ids=str,
)
def test_a_box_that_is_the_weight_set_proves_the_optimum_of_it(classes: int, sets: dict[str, Any]):
    X, y = [[-1, 1], [0, 0], [0, 2], [1, -1], [2, 0]], [0, 1, 0, 0, classes - 1]
    problem = NetworkProblem(X, y, [2], weight=[1, 2, 1, 3, 2], **sets)
    result = solve(problem, WeightBox(workers=1), budget=Budget(seconds=60))
    assert (result.objective.item(), result.status) == (least_objective(problem), Status.OPTIMAL)
    assert problem.objective(result.targets, result.stats["weights"]).item() == result.objective.item()


def test_a_box_takes_whole_inputs_and_costs_that_it_can_hold():
    with pytest.raises(NotAcceptedError, match="inputs that are not whole"):
        WeightBox().check(NetworkProblem([[0.5], [1.0]], [0, 1], [1], weight_set="ternary"))
    with pytest.raises(TooLargeError, match="common measure"):
        WeightBox().check(NetworkProblem([[0.0], [1.0]], [0, 1], [1], weight_set="ternary", penalty=0.3))


def test_cp_sat_begins_with_the_network_of_a_search():
    X, y = parity_table(4)
    problem = NetworkProblem(X, y, [2], weight_set="ternary")
    solver = WeightBox(workers=1, search_seconds=0.2)
    result = solve(problem, solver, budget=Budget(seconds=60))
    assert result.status is Status.OPTIMAL
    assert result.objective.item() == solve(problem, WeightBox(workers=1), budget=Budget(seconds=60)).objective.item()
    made = solver._model(problem, Report(problem, Budget(seconds=60), None))
    assert made is not None
    model, outputs, units = made
    _hint(model, problem, outputs, units, result.stats["weights"])
    engine = cp_model.CpSolver()
    engine.parameters.fix_variables_to_their_hinted_value = True
    assert engine.solve(model) == cp_model.OPTIMAL, "the hint is a network of the model"
    assert engine.objective_value == result.objective.item()
    with pytest.raises(ArgumentError, match="search_seconds"):
        WeightBox(search_seconds=-1)


def test_a_bound_for_real_weights_holds_for_those_of_a_set(monkeypatch: pytest.MonkeyPatch):
    X, y = parity_table(3)
    problem = NetworkProblem(X, y, [1], weight_set="ternary", penalty=0.125)
    solver, budget = WeightBox(workers=1, real_seconds=60), Budget(seconds=60)
    result = solve(problem, solver, budget=budget)
    assert result.objective.item() == result.bound.item() > fewest_errors(NetworkProblem(X, y, [1]))
    # That bound is CP-SAT's; without it there is the other one.
    monkeypatch.setattr(WeightBox, "search_box", lambda *_: None)
    assert solve(problem, solver, budget=budget).bound.item() == fewest_errors(NetworkProblem(X, y, [1])) == 2
    assert solve(problem, WeightBox(workers=1), budget=budget).bound.item() == 0
    with pytest.raises(ArgumentError, match="real_seconds"):
        WeightBox(real_seconds=float("inf"))
