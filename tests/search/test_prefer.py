"""Preferences among optimal networks, against brute force over all of them and a margin found by geometry."""

import itertools
import math
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.network_oracle import fewest_errors, output_functions, parity_table, random_table, separable_columns

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError, UnknownNameError
from tpsolve.search import Circuits
from tpsolve.search.network.circuits._formula import NetworkFormula, StoppedError
from tpsolve.search.network.circuits._optima import Optima
from tpsolve.search.network.circuits._prefer import _near_pairs
from tpsolve.search.network.circuits._race import Race
from tpsolve.units.separability._widest import widest_margin

pytestmark = pytest.mark.rounding

QUICK = Budget(seconds=60)


def to_segment(point: np.ndarray, ends: tuple[np.ndarray, np.ndarray]) -> float:
    start, along = ends[0], ends[1] - ends[0]
    length = along @ along
    share = 0.0 if length == 0 else min(1.0, max(0.0, (point - start) @ along / length))
    return float(np.linalg.norm(point - start - share * along))


def margin_in_the_plane(points: np.ndarray, column: np.ndarray) -> float:
    """Half the distance of two disjoint hulls: in the plane, that of a point of one to a segment of the other."""
    plus, minus = points[column > 0], points[column < 0]
    if not len(plus) or not len(minus):
        return math.inf
    pairs = (
        (a, ends) for one, two in ((plus, minus), (minus, plus)) for a in one for ends in itertools.product(two, two)
    )
    return min(to_segment(a, ends) for a, ends in pairs) / 2


def least_margin(problem: NetworkProblem, targets: torch.Tensor) -> float:
    points, columns = problem.inputs.numpy(), problem.columns(targets)[0].numpy()
    return min(margin_in_the_plane(points, column) for column in columns.T)


def best_margin(problem: NetworkProblem) -> float:
    """The largest least margin over all optimal choices of columns; at most 2 units."""
    (units,) = problem.widths
    columns, points = separable_columns(problem.inputs).long(), problem.inputs.numpy()
    margins = [margin_in_the_plane(points, column) for column in columns.numpy()]
    optimum, codes, best = fewest_errors(problem), list(itertools.product((-1, 1), repeat=units)), 0.0
    for chosen in itertools.combinations_with_replacement(range(len(columns)), units):
        margin = min(margins[k] for k in chosen)
        places = [codes.index(code) for code in zip(*columns[list(chosen)].tolist(), strict=True)]
        outputs = torch.tensor([[f[k] for k in places] for f in output_functions(units)])
        if margin > best and problem.errors(outputs[..., None]).min() == optimum:
            best = margin
    return best


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_margin_is_the_largest_of_all_optimal_networks(data: st.DataObject):
    count = data.draw(st.integers(2, 6))
    x = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=count, max_size=count))
    y = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    problem = NetworkProblem([list(map(float, row)) for row in x], y, [data.draw(st.integers(1, 2))])
    engine = data.draw(st.sampled_from(["glucose4", "cp-sat"]))
    result = solve(problem, Circuits(prefer="margin", engine=engine, max_drawn=50), budget=QUICK)
    assert result.stats["preference_proved"]
    assert result.objective.item() == fewest_errors(problem)
    expected = best_margin(problem)
    assert result.stats["preferred"] == pytest.approx(expected, rel=1e-9)
    assert least_margin(problem, result.targets) == pytest.approx(expected, rel=1e-9)


def test_only_pairs_nearer_than_the_margin_at_hand_are_forbidden():
    # Half distances 1/4, 3/2 and 7/4.
    problem = NetworkProblem([[0.0], [0.5], [3.5]], [0, 1, 0], [2])
    formula = NetworkFormula(problem)
    optima: Any = SimpleNamespace(problem=problem, formula=formula)
    for above, limit, pairs in ((0, 1, [(0, 1)]), (0, 3, [(0, 1), (1, 2)]), (1, 3, [(1, 2)]), (1, 2, [])):
        expected = [clause for pair in pairs for clause in formula.circuit(list(pair), [1, -1])]
        assert list(_near_pairs(optima, Fraction(above), Fraction(limit))) == expected


@pytest.mark.parametrize("engine", ["glucose4", "cp-sat"])
@pytest.mark.parametrize("gaps", [(1.0, 1.5), (1.5, 1.0)], ids=str)
def test_the_wider_of_two_cuts_is_taken_whichever_is_found_first(gaps: tuple[float, float], engine: str):
    # The middle point has both labels, so that it is as good on either side.
    middle = gaps[0]
    problem = NetworkProblem([[0.0], [middle], [middle], [middle + gaps[1]]], [0, 0, 1, 1], [1])
    result = solve(problem, Circuits(prefer="margin", engine=engine, workers=1), budget=QUICK)
    assert (result.objective.item(), result.stats["preferred"], result.stats["preference_proved"]) == (1, 0.75, True)


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_units_are_the_fewest_that_reach_the_optimum(data: st.DataObject):
    count = data.draw(st.integers(2, 6))
    x = data.draw(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), min_size=count, max_size=count))
    y = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    problem = NetworkProblem(x, y, [3])
    engine = data.draw(st.sampled_from(["glucose4", "cp-sat"]))
    result = solve(problem, Circuits(prefer="units", engine=engine, max_drawn=50), budget=QUICK)
    optimum = fewest_errors(problem)
    constant = int(problem.counts.sum() - problem.counts.sum(0).max())
    narrower = (constant if h == 0 else fewest_errors(NetworkProblem(x, y, [h])) for h in range(3))
    fewest = next((h for h, errors in enumerate(narrower) if errors == optimum), 3)
    assert (result.stats["preferred"], result.stats["preference_proved"]) == (fewest, True)
    assert result.objective.item() == optimum
    if fewest < 3:
        columns = problem.columns(result.targets)[0]
        assert (columns[:, fewest:] == -1).all()


def test_preferences_with_several_classes_and_layers():
    x = np.array([[0.0], [1], [2], [3]])
    result = solve(NetworkProblem(x, [0, 0, 1, 1], [3]), Circuits(prefer="units"), budget=QUICK)
    assert (result.stats["preferred"], result.stats["preference_proved"]) == (1, True)
    result = solve(NetworkProblem(x, [0, 1, 2, 2], [3]), Circuits(prefer="units"), budget=QUICK)
    assert (result.objective.item(), result.stats["preferred"], result.stats["preference_proved"]) == (0, 2, True)
    result = solve(NetworkProblem(x, [0, 1, 0, 0], [2, 2]), Circuits(prefer="margin"), budget=QUICK)
    assert (result.objective.item(), result.stats["preferred"], result.stats["preference_proved"]) == (0, 0.5, True)


@pytest.mark.parametrize(
    ("x", "y", "errors"),
    [([[2.0], [2], [-2]], [1, 0, 1], 1), ([[1.0], [1], [1], [1]], [2, 0, 2, 1], 2), ([[0.0], [1]], [1, 1], 0)],
)
def test_a_constant_answer_needs_no_unit(x: list[list[float]], y: list[int], errors: int):
    problem = NetworkProblem(x, y, [2])
    result = solve(problem, Circuits(prefer="units"), budget=QUICK)
    assert (result.objective.item(), result.stats["preferred"], result.stats["preference_proved"]) == (errors, 0, True)
    hidden, outputs = problem.columns(result.targets)
    assert (hidden == -1).all()
    assert (outputs == outputs[0]).all()


def test_parity_s_margin():
    # Two hyperplanes between the planes of equal sums of a cube: half the distance of those planes.
    result = solve(NetworkProblem(*parity_table(3), [3]), Circuits(prefer="margin"), budget=QUICK)
    assert result.stats["preferred"] == pytest.approx(1 / math.sqrt(3))


@pytest.mark.slow
def test_a_budget_too_small_proves_no_preference():
    problem = NetworkProblem(*random_table(2, 40), [3])
    proved = solve(problem, Circuits(workers=1, max_drawn=2000), budget=Budget(steps=10**6))
    conflicts = proved.stats["steps"]
    # Too few for the optimum, one more than it takes, and plenty.
    for steps in (conflicts // 4, conflicts + 1, 10**6):
        result = solve(problem, Circuits(prefer="margin", max_drawn=2000), budget=Budget(steps=steps))
        assert result.stats.get("preference_proved", False) is (steps == 10**6)


@pytest.mark.parametrize(("p", "n"), [(1, 9), (2, 30), (4, 30), (8, 40)])
def test_widest_margin_is_attained_and_limited_by_its_points(p: int, n: int):
    rng = np.random.default_rng(p)
    x = np.unique(np.round(rng.uniform(-1, 1, (n, p)), 2), axis=0)
    for _ in range(5):
        column = np.where(x @ rng.normal(size=p) > 0, 1, -1)
        if np.ptp(column) == 0:
            continue
        found = widest_margin(x, column)
        assert found is not None
        z = column * (x @ np.array(found.weight) + found.bias)
        assert z.min() == pytest.approx(1)
        assert np.linalg.norm(found.weight) ** -2 == pytest.approx(float(found.squared))
        part = widest_margin(x[found.samples], np.array(found.signs))
        assert part is not None
        assert part.squared == found.squared
        assert len(found.samples) <= p + 1
        if p == 2:
            assert float(found.squared) ** 0.5 == pytest.approx(margin_in_the_plane(x, column))


def test_what_makes_no_sense_is_refused():
    x, y = random_table(2, 10)
    with pytest.raises(UnknownNameError, match="prefer"):
        Circuits(prefer="wide")
    with pytest.raises(ArgumentError, match="several solutions"):
        Circuits(prefer="margin", solutions=3)
    with pytest.raises(NotAcceptedError, match="one hidden layer"):
        solve(NetworkProblem(x, y, [2, 2]), Circuits(prefer="units"), budget=QUICK)
    with pytest.raises(TooLargeError, match="10 for prefer=margin"):
        solve(
            NetworkProblem(np.random.default_rng(0).normal(size=(9, 11)), y[:9], [2]),
            Circuits(prefer="margin"),
            budget=QUICK,
        )


@pytest.mark.parametrize("settings_", [{"prefer": "units"}, {"solutions": 2}])
def test_an_optimum_found_with_the_last_of_the_time_is_kept_as_it_is(
    settings_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    def no_time(*_: Any) -> Any:
        raise StoppedError

    monkeypatch.setattr(Race, "master", no_time)
    X, y = parity_table(2)
    result = solve(NetworkProblem(X, y, [2]), Circuits(workers=1, **settings_), budget=Budget(seconds=20))
    assert result.optimal
    assert not {"preferred", "solutions"} & result.stats.keys()
    assert "no time was left" in str(result.stats)


def test_a_list_that_no_time_is_left_for_holds_the_optimum_that_is_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Optima, "_next_model", lambda _: None)
    X, y = parity_table(2)
    problem = NetworkProblem(X, y, [2])
    result = solve(problem, Circuits(workers=1, solutions=3), budget=Budget(seconds=20))
    assert problem.objective(result.stats["solutions"]).tolist() == [0]
    assert result.stats["all_solutions"] is False
