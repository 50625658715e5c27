"""WeightBox and BigM: baselines that find networks, and prove nothing about real weights."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.network_oracle import fewest_errors, parity_table

from tpsolve import Budget, NetworkProblem, Status, solve
from tpsolve.errors import ArgumentError, TooLargeError
from tpsolve.search import BigM, Solver, WeightBox

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


def test_bad_settings_and_sizes_are_refused():
    with pytest.raises(ArgumentError, match="max_weight"):
        WeightBox(max_weight=0)
    with pytest.raises(ArgumentError, match="max_weight"):
        BigM(max_weight=-1)
    with pytest.raises(TooLargeError, match=r"weighted sums up to .* Standardise"):
        solve(NetworkProblem([[1e9], [0.0]], [0, 1], [1]), WeightBox(), budget=Budget(steps=1))
