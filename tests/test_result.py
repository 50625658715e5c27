"""Budget, Progress, Result and how a status follows from an objective and a bound."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tpsolve import Budget, LayerProblem, Progress, Result, Status, solve
from tpsolve.errors import BudgetError, TpsolveError

INF = math.inf
TOLERANCE = 1e-6


def result(objective: Any, bound: Any) -> Result:
    values, bounds = (torch.tensor(v, dtype=torch.float64) for v in (objective, bound))
    return Result(torch.ones(*values.shape, 2), values, bounds, tolerance=torch.full_like(values, TOLERANCE))


STATUSES = [
    (1.0, 1.0, Status.OPTIMAL, 0.0),
    (0.0, 0.0, Status.OPTIMAL, 0.0),
    (1.0, 1.0 - 0.9e-6, Status.OPTIMAL, 0.9e-6),
    (1.0, 1.0 - 1.1e-6, Status.FEASIBLE, 1.1e-6),
    # The size of the objective makes no difference.
    (1e-3, 1e-3 - 0.9e-6, Status.OPTIMAL, 0.9e-6),
    (1e-3, 1e-3 - 1.1e-6, Status.FEASIBLE, 1.1e-6),
    (1e6, 1e6 - 0.9e-6, Status.OPTIMAL, 0.9e-6),
    (1e6, 1e6 - 1.1e-6, Status.FEASIBLE, 1.1e-6),
    (-1e6, -1e6 - 0.9, Status.FEASIBLE, 0.9),
    # A bound above the objective by rounding.
    (1.0, 1.0 + 1e-9, Status.OPTIMAL, 0.0),
    (5.0, 0.0, Status.FEASIBLE, 5.0),
    (5.0, -INF, Status.FEASIBLE, INF),
    (INF, -INF, Status.UNKNOWN, INF),
    (INF, 3.0, Status.UNKNOWN, INF),
    (INF, INF, Status.INFEASIBLE, 0.0),
    (1.0, INF, Status.INFEASIBLE, 0.0),
]


@pytest.mark.parametrize(("objective", "bound", "status", "gap"), STATUSES, ids=lambda v: getattr(v, "name", str(v)))
def test_status_and_gap_follow_from_objective_and_bound(objective: float, bound: float, status: Status, gap: float):
    found = result(objective, bound)
    assert found.status is status
    assert found.gap.item() == pytest.approx(gap, rel=1e-3)
    assert found.optimal.item() is (status is Status.OPTIMAL)
    assert found.gap.shape == found.optimal.shape == ()
    assert found.gap.dtype == torch.float64


def test_statuses_of_a_batch_are_nested_as_the_batch():
    objective, bound = ([[row[i] for row in STATUSES[k : k + 3]] for k in (2, 11)] for i in (0, 1))
    expected = [[row[2] for row in STATUSES[k : k + 3]] for k in (2, 11)]
    found = result(objective, bound)
    assert found.status == expected
    assert found.gap.shape == (2, 3)
    assert found.optimal.tolist() == [[status is Status.OPTIMAL for status in row] for row in expected]


@given(st.floats(-1e9, 1e9), st.floats(0, 1e3), st.floats(0, 1e3))
def test_a_better_bound_never_weakens_a_status(objective: float, gap: float, more: float):
    rank = {Status.FEASIBLE: 0, Status.OPTIMAL: 1}
    looser, tighter = result(objective, objective - gap - more), result(objective, objective - gap)
    assert rank[looser.status] <= rank[tighter.status]
    assert tighter.gap <= looser.gap


def test_without_a_tolerance_only_equal_numbers_are_optimal():
    values = torch.tensor([1.0, 1.0], dtype=torch.float64)
    found = Result(torch.ones(2, 2), values, torch.tensor([1.0, math.nextafter(1.0, 0.0)], dtype=torch.float64))
    assert found.status == [Status.OPTIMAL, Status.FEASIBLE]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {},
            r"budget: got no limit at all, expected seconds, steps, calls or passes\. For example Budget\(seconds=10\)",
        ),
        ({"passes": 2**63}, r"budget.passes: got a number of 64 bits, expected less than 2\^63"),
        ({"seconds": 0}, r"budget.seconds: got 0, expected a positive, finite number of seconds"),
        ({"seconds": -1.5}, r"budget.seconds: got -1.5, expected a positive"),
        ({"seconds": math.nan}, r"budget.seconds: got nan, expected a positive"),
        ({"seconds": INF}, r"budget.seconds: got inf, expected a positive, finite"),
        ({"seconds": True}, r"budget.seconds: got True, expected a positive, finite number of seconds"),
        ({"seconds": 1, "steps": True}, r"budget.steps: got True, expected a positive whole number"),
        ({"calls": True}, r"budget.calls: got True, expected a positive whole number"),
        ({"seconds": "ten"}, r"budget.seconds: got ten, expected a positive"),
        ({"steps": 0}, r"budget.steps: got 0, expected a positive whole number"),
        ({"steps": -3}, r"budget.steps: got -3, expected a positive whole number"),
        ({"steps": 1.5}, r"budget.steps: got 1.5, expected a positive whole number"),
        ({"steps": INF}, r"budget.steps: got inf, expected a positive whole number"),
        ({"seconds": 1, "steps": 0}, r"budget.steps: got 0"),
        ({"seconds": 0, "steps": 1}, r"budget.seconds: got 0"),
    ],
    ids=str,
)
def test_budget_that_makes_no_sense_is_a_typed_error(limits: dict[str, Any], message: str):
    with pytest.raises(BudgetError, match=message) as caught:
        Budget(**limits)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TpsolveError)
    assert caught.value.argument in ("budget", "budget.seconds", "budget.steps", "budget.calls", "budget.passes")


@pytest.mark.parametrize(
    "limits", [{"seconds": 1}, {"seconds": 0.5}, {"steps": 1}, {"seconds": 2, "steps": 3}], ids=str
)
def test_budget_that_makes_sense_is_kept(limits: dict[str, Any]):
    budget = Budget(**limits)
    assert (budget.seconds, budget.steps) == (limits.get("seconds"), limits.get("steps"))


@pytest.mark.parametrize(
    "value", [Budget(steps=1), Progress(1, 0.5, 2.0, 1.0), result(1.0, 0.0)], ids=lambda v: type(v).__name__
)
def test_what_is_reported_cannot_be_changed(value: Any):
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, getattr(value, field.name))


def test_a_result_is_shown_in_five_lines():
    problem = LayerProblem(torch.eye(3), torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]]), start=torch.ones(2, 3))
    result = solve(problem, "enumerate", budget=Budget(steps=10))
    lines = repr(result).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("Result of enumerate: 2 samples of 3 targets, 1 steps in ")
    assert lines[1:] == ["  objective  0", "  bound      0", "  gap        0", "  status     2 optimal"]
    single = Result(torch.ones(3), torch.tensor(2.0).double(), torch.tensor(-math.inf).double())
    assert repr(single).splitlines() == [
        "Result of a search: 1 sample of 3 targets",
        "  objective  2",
        "  bound      -inf",
        "  gap        inf",
        "  status     1 feasible",
    ]


def test_a_result_is_a_table_of_its_samples():
    objective, bound = torch.tensor([2.0, 1.0, math.inf]).double(), torch.tensor([1.0, 1.0, math.inf]).double()
    result = Result(torch.ones(3, 4), objective, bound, stats={"solver": "<tabu>"})
    frame = result.to_frame()
    assert frame["status"].tolist() == ["feasible", "optimal", "infeasible"]
    assert frame["gap"].tolist() == [1.0, 0.0, 0.0]
    page = result._repr_html_()
    assert "<tabu>" not in page
    assert page.count("<tr>") == 4
    many = Result(torch.ones(30, 4), torch.zeros(30).double(), torch.zeros(30).double())
    assert "10 more samples" in many._repr_html_()
