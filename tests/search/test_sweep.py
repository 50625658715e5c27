"""Sweep: optima against brute force in fractions, degenerate points, wide weights, several classes, refusals."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fraction_oracle import fewest
from support.network_oracle import random_table

from tpsolve import Budget, NetworkProblem, Status, solve
from tpsolve.errors import NotAcceptedError, TooLargeError
from tpsolve.search.network.sweep import _pencils as pencils
from tpsolve.search.network.sweep._pencils import Pencils

QUICK = Budget(seconds=60)
VALUES = {
    "grid": st.sampled_from([0.0, 1.0, 2.0]),
    "tenths": st.sampled_from([0.1, 0.2, 0.3, 0.6, 0.7]),
    "last digits": st.sampled_from([1.0, 1 + 2.0**-52, 1 + 2.0**-51]),
    "wide": st.sampled_from([0.0, 1e-9, 3e-9, 1.0, 1e9]),
}
WEIGHTS = st.sampled_from([0.0, 0.1, 1.0, 3.0, 1e-12, 1e12])


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[float]], list[int], list[float] | None]:
    """Few points of up to 5 features: duplicates, contradictions, collinear points, wide weights."""
    count, p, kind = draw(st.integers(1, 7)), draw(st.integers(1, 5)), draw(st.sampled_from(list(VALUES)))
    X = draw(st.lists(st.lists(VALUES[kind], min_size=p, max_size=p), min_size=count, max_size=count))
    if draw(st.booleans()):
        X = [[*row, 2 * row[0] + 1] for row in X]
    y = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    return X, y, draw(st.none() | st.lists(WEIGHTS, min_size=count, max_size=count))


def assert_optimum(problem: NetworkProblem, best: Fraction, result: Any) -> None:
    """The bound is not above the optimum, and the network is as good as the tolerance of a closed gap asks for."""
    slack = 2 * Fraction(problem.rounding().item())
    near = 2 * slack
    assert Fraction(result.bound.item()) <= best + slack
    assert Fraction(result.objective.item()) >= best - slack
    assert Fraction(result.objective.item()) <= best + near
    assert Fraction(result.bound.item()) >= best - near


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(tables())
def test_optimum_is_that_of_brute_force(table: tuple[list[list[float]], list[int], list[float] | None]):
    X, y, weight = table
    problem = NetworkProblem(X, y, [1], weight)
    assert_optimum(problem, fewest(X, y, 1, weight), solve(problem, "sweep", budget=QUICK))


@pytest.mark.parametrize(("p", "n"), [(1, 200), (2, 60), (4, 14)])
@pytest.mark.parametrize("values", ["grid", "real"])
def test_optimum_is_that_of_other_solvers(p: int, n: int, values: str):
    rng = np.random.default_rng(p)
    X = rng.integers(0, 4, (n, p)) if values == "grid" else rng.normal(size=(n, p))
    problem = NetworkProblem(X, rng.integers(0, 2, n), [1])
    result = solve(problem, "sweep", budget=QUICK)
    other = solve(problem, "dichotomies", budget=QUICK)
    assert result.status is other.status is Status.OPTIMAL
    assert result.objective.item() == other.objective.item()


def test_layers_above_one_unit_change_nothing():
    X, y = random_table(2, 30)
    one, deep = (solve(NetworkProblem(X, y, widths), "sweep", budget=QUICK) for widths in ([1], [1, 3, 2]))
    assert one.status is deep.status is Status.OPTIMAL
    assert one.objective.item() == deep.objective.item()


def test_all_sets_of_rows_have_a_pencil(monkeypatch: pytest.MonkeyPatch):
    # Each set of d - 1 rows must have a part that is turned around, whatever the size of a block.
    monkeypatch.setattr(pencils, "_ELEMENTS", 20)
    rng = np.random.default_rng(0)
    for d, count in ((2, 6), (3, 7), (4, 8), (5, 9), (6, 9)):
        rows = np.c_[rng.normal(size=(count, d - 1)), np.ones(count)]
        centres = {tuple(c) for block in Pencils(rows)._centres() for c in block.tolist()}  # pyright: ignore[reportPrivateUsage]
        for through in pencils.combinations(range(count), d - 1):
            assert any(part in centres for part in pencils.combinations(through, d - 2))
        assert d < 4 or len(centres) < math.comb(count, d - 2)


def test_a_stopped_sweep_proves_nothing_and_keeps_what_it_found():
    problem = NetworkProblem(*random_table(4, 60), [1])
    result = solve(problem, "sweep", budget=Budget(steps=1))
    assert result.bound.item() == 0
    assert result.objective.item() < problem.objective(problem.start).item()
    assert torch.isfinite(result.objective)


def test_what_it_can_t_take_is_refused():
    X, y = random_table(2, 20)
    with pytest.raises(NotAcceptedError, match="2 units in the first layer"):
        solve(NetworkProblem(X, y, [2]), "sweep", budget=QUICK)
    with pytest.raises(TooLargeError, match="changes of sides"):
        solve(NetworkProblem(*random_table(20, 200), [1]), "sweep", budget=QUICK)
