"""The solver Dichotomies against brute force, known optima, and its own tree of patterns."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.network_oracle import fewest_errors, parity_table, random_table

from tpsolve import Budget, NetworkProblem, Status, solve
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError
from tpsolve.search import Dichotomies
from tpsolve.search.network.columns import _pattern_tree as pattern_tree
from tpsolve.search.network.columns import _scan as scan
from tpsolve.search.network.columns._pattern_tree import build_tree

pytestmark = pytest.mark.rounding


def proved(problem: NetworkProblem, **hints: int) -> float:
    result = solve(problem, Dichotomies(**hints), budget=Budget(seconds=120))
    assert result.status is Status.OPTIMAL
    return result.objective.item()


@st.composite
def problems(draw: st.DrawFn) -> NetworkProblem:
    """Small grids with duplicates, points on lines, contradictions and weights, whole or not."""
    count, p = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    X = draw(st.lists(st.lists(st.integers(0, 2), min_size=p, max_size=p), min_size=count, max_size=count))
    y = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    weight = draw(st.none() | st.lists(st.sampled_from([0, 0.1, 1, 2.5, 3]), min_size=count, max_size=count))
    return NetworkProblem(X, y, [draw(st.integers(1, 3))], weight)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(problems(), st.sampled_from([0, 100]), st.booleans())
def test_optimum_is_that_of_brute_force(problem: NetworkProblem, hint_steps: int, one_by_one: bool):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_FEW", math.inf if one_by_one else -1)
        assert proved(problem, hint_steps=hint_steps) == pytest.approx(fewest_errors(problem), abs=1e-9)


@pytest.mark.parametrize(
    ("table", "units", "optimum"),
    [
        (random_table(2, 40), 1, None),
        (random_table(2, 40), 2, 8),
        (random_table(2, 40), 3, 5),
        (random_table(2, 80), 2, 21),
        (parity_table(3), 3, 0),
        (parity_table(4), 2, 2),
        (parity_table(4), 4, 0),
    ],
)
def test_known_optima_are_proved_and_the_networks_exist(table: tuple, units: int, optimum: int | None):
    X, y = table
    problem = NetworkProblem(X, y, [units])
    result = solve(problem, Dichotomies(), budget=Budget(seconds=120))
    assert result.status is Status.OPTIMAL
    assert optimum is None or result.objective.item() == optimum
    named = problem.predict(problem.network(result.targets)(torch.as_tensor(X).double()))
    assert sum(a != b for a, b in zip(named, y.tolist(), strict=True)) == result.objective.item()


def test_the_search_needs_no_hint(monkeypatch: pytest.MonkeyPatch):
    # Small batches and hardly any room: the search also goes deep first.
    monkeypatch.setattr(scan, "_FEW", -1)
    monkeypatch.setattr(scan, "_MAX_OPEN", 50)
    monkeypatch.setattr(scan, "_BATCH", 2**12)
    X, y = random_table(2, 24, seed=3)
    problem = NetworkProblem(X, y, [2])
    deep = proved(problem, hint_steps=0)
    monkeypatch.undo()
    assert deep == proved(problem)


def test_bound_rises_and_never_exceeds_the_optimum(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scan, "_FEW", -1)
    monkeypatch.setattr(scan, "_BATCH", 2**14)
    X, y = random_table(2, 40)
    problem, bounds = NetworkProblem(X, y, [2]), []
    solve(problem, Dichotomies(), budget=Budget(seconds=120), callback=lambda p: bounds.append(p.bound))
    assert bounds == sorted(bounds)
    assert len(set(bounds)) > 3
    assert max(bounds) == 8


def test_budget_in_steps_gives_equal_results_with_a_bound_that_holds():
    X, y = random_table(2, 40)
    problem = NetworkProblem(X, y, [3])
    runs = [solve(problem, Dichotomies(), budget=Budget(steps=20)) for _ in range(2)]
    assert torch.equal(runs[0].targets, runs[1].targets)
    assert runs[0].bound == runs[1].bound
    assert runs[0].stats["steps"] == 20
    assert runs[0].bound.item() <= 5 <= runs[0].objective.item()


@pytest.mark.parametrize("change", ["samples", "features", "labels", "affine"])
def test_symmetries_leave_the_optimum_alone(change: str):
    X, y = random_table(2, 20, seed=5)
    optimum = proved(NetworkProblem(X, y, [2]))
    X = torch.as_tensor(X * 100).round()
    if change == "samples":
        order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
        X, y = X[order], y[order.numpy()]
    elif change == "features":
        X = X.flip(1)
    elif change == "labels":
        y = -y
    else:
        X = X @ torch.tensor([[3.0, 1], [-2, 5]], dtype=torch.float64) + 7
    assert proved(NetworkProblem(X, y, [2])) == optimum


def test_balls_of_the_tree_hold_the_patterns_of_their_leaves():
    generator = torch.Generator().manual_seed(0)
    patterns = (torch.randint(0, 2, (300, 12), generator=generator) * 2 - 1).to(torch.int8).unique(dim=0)
    weight = torch.randint(0, 4, (12,), generator=generator).double()
    tree = build_tree(patterns, weight)
    leaves = (tree.children == 0).nonzero()[:, 0]
    assert sorted(tree.first[leaves].tolist()) == list(range(len(leaves)))
    distance = ((patterns[:, None] != patterns) * weight).sum(-1)
    nearest = distance[:, tree.centre[leaves]].min(1).values
    assert nearest.max() == 0, "every pattern has a leaf at distance 0"
    for node in range(len(tree.centre)):
        inside = (tree.first[leaves] >= tree.first[node]) & (tree.last[leaves] <= tree.last[node])
        below = tree.centre[leaves[inside]]
        assert distance[tree.centre[node], below].max() <= tree.radius[node]
        if tree.children[node]:
            assert 2 <= tree.children[node] <= pattern_tree.BRANCHES
            first = int(tree.child[node])
            own = range(first, first + int(tree.children[node]))
            assert sum(int(tree.last[c] - tree.first[c]) for c in own) == int(inside.sum())


def test_what_it_does_not_take_is_refused_before_any_work():
    X, budget = torch.randn(9, 2, generator=torch.Generator().manual_seed(0)), Budget(steps=1)
    with pytest.raises(NotAcceptedError, match=r"3 classes, expected two classes for dichotomies"):
        solve(NetworkProblem(X, [0, 1, 2] * 3, [2]), "dichotomies", budget=budget)
    with pytest.raises(TooLargeError, match=r"6 hidden units, expected at most 5"):
        solve(NetworkProblem(X, [0, 1, 0] * 3, [6]), "dichotomies", budget=budget)
    wide = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    with pytest.raises(TooLargeError, match=r"300 distinct points of 6 dimensions: up to .* dichotomies"):
        solve(NetworkProblem(wide, [0, 1] * 150, [2]), "dichotomies", budget=budget)
    with pytest.raises(ArgumentError, match="hint_steps"):
        Dichotomies(hint_steps=-1)
