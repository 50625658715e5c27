"""The nodes that branching drops and keeps: bounds against fractions, targets that don't matter, the anytime bound."""

import itertools

import pytest
import torch
from support.zoo import ALL_LOSSES, Judge, assert_valid, make_problem, optima

from tpsolve import Budget, LayerProblem, Status, solve
from tpsolve.search.exact._branch import _Bounds

EVERY = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=5)), dtype=torch.float64)


@pytest.mark.parametrize("stay", [0.0, 0.3])
@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.rounding
def test_a_node_costs_no_more_than_any_targets_below_it(loss: str, stay: float):
    problem = make_problem(4, n=5, m=4, loss=loss, weighted=True, stay=stay).flatten()
    bounds, judge = _Bounds(problem.energy64), Judge(problem)
    exact = torch.tensor([float(judge.objectives(t[None])[0]) for t in EVERY], dtype=torch.float64)
    ordered, slack = EVERY[:, bounds.order], float(problem.rounding()[0])
    assert bounds.least(bounds.start[None], 0) <= exact.min() + slack
    for depth in range(1, 6):
        signs = torch.unique(ordered[:, :depth], dim=0)
        paid = torch.where(signs > 0, bounds.paid[:depth, 0], bounds.paid[:depth, 1]).sum(1)
        cost = bounds.least(bounds.start + signs @ bounds.columns[:depth], depth) + paid
        for node, least in zip(signs, cost.tolist(), strict=True):
            below = exact[(ordered[:, :depth] == node).all(1)]
            assert least <= below.min() + slack
            assert depth < 5 or least == pytest.approx(float(below.min()), abs=2 * slack)


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_targets_without_influence_are_not_split(loss: str):
    plain = make_problem(7, n=6, m=4, loss=loss)
    weight = torch.cat([plain.weight, torch.zeros(4, 30, dtype=plain.weight.dtype)], dim=1)
    problem = LayerProblem(weight, plain.targets, plain.bias, loss)
    result = solve(problem, "branch", budget=Budget(steps=200))
    assert result.status is Status.OPTIMAL
    assert result.objective == pytest.approx(float(optima(plain)[0]))


def test_nothing_that_matters_needs_no_split():
    problem = LayerProblem(torch.zeros(3, 4), [1, -1, 0], torch.tensor([0.5, 0.5, 0.5]))
    result = solve(problem, "branch", budget=Budget(steps=3))
    assert (result.objective, result.status) == (2.0, Status.OPTIMAL)


@pytest.mark.parametrize("steps", [1, 3, 9, 200])
def test_a_search_cut_short_leaves_a_bound(steps: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tpsolve.search.exact._branch.NODE_NUMBERS", 16)
    # From targets that are not optimal.
    monkeypatch.setattr("tpsolve.search.exact._branch.descend", lambda _, report: report.offer(report.targets))
    problem = make_problem(9, n=8, m=6, loss="soft-hinge", batch=(2,))
    result = solve(problem, "branch", budget=Budget(steps=steps))
    assert_valid(problem, result, optima(problem))
    assert (result.bound >= problem.lower_bound() - problem.rounding()).all()
    assert steps < 200 or result.status == [Status.OPTIMAL, Status.OPTIMAL]


@pytest.mark.parametrize("loss", ["saturated-hinge", "zero-one"])
def test_narrow_batches_find_the_same_optimum(loss: str, monkeypatch: pytest.MonkeyPatch):
    problem = make_problem(11, n=9, m=5, loss=loss, batch=(2,), weighted=True, stay=0.25)
    wide = solve(problem, "branch", budget=Budget(steps=10_000))
    monkeypatch.setattr("tpsolve.search.exact._branch.NODE_NUMBERS", 5)
    narrow = solve(problem, "branch", budget=Budget(steps=10_000))
    assert wide.status == narrow.status == [Status.OPTIMAL, Status.OPTIMAL]
    assert torch.allclose(wide.objective, narrow.objective, rtol=1e-12)
