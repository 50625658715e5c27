"""What `rounding` and `lower_bound` promise, against exact arithmetic on problems where rounding decides."""

from fractions import Fraction

import pytest
import torch
from support.zoo import EXACT_SOLVERS, Judge, one_worker
from torch import Tensor, nn

from tpsolve import BlockProblem, Budget, LayerProblem, solve
from tpsolve.search import Solver

pytestmark = pytest.mark.rounding

LOSSES = ("perceptron", "hinge", "saturated-hinge", "squared", "logistic", "cross-entropy")
BUDGET = Budget(seconds=60)


def real(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spins(*shape: int, seed: int) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).double() - 1


def edge(side: int, many: int = 40) -> LayerProblem:
    """Zero-one units, samples of one each, whose margin is at best (`side` +1) or at worst (-1) a rounding."""
    weight = real(many, 5, seed=3)
    bias = -side * weight.abs().sum(1)
    targets = torch.zeros(many, many) + side * torch.eye(many)
    return LayerProblem(weight, targets, bias, "zero-one")


# --- rounding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e3])
def test_objectives_are_as_near_to_exact_arithmetic_as_rounding_says(loss: str, size: float):
    labels = torch.arange(6) % 3 if loss == "cross-entropy" else spins(6, 3, seed=1)
    start, weights = spins(6, 7, seed=2), real(6, 7, seed=5).abs()
    inexact = 0
    for stay in (0.0, 1.0):
        problem = LayerProblem(
            size * real(3, 7, seed=0), labels, size * real(3, seed=4), loss, None, start, stay, weights
        )
        for seed in range(5):
            targets = spins(6, 7, seed=10 + seed)
            exact = Judge(problem).objectives(targets)
            for value, true, most in zip(
                problem.objective(targets).tolist(), exact, problem.rounding().tolist(), strict=True
            ):
                assert abs(Fraction(value) - true) <= Fraction(most)
                inexact += Fraction(value) != true
    assert inexact > 0


def test_a_stay_that_outweighs_the_loss_rounds_too():
    weights = 1e3 * real(40, 9, seed=6).abs()
    problem = LayerProblem(
        1e-9 * torch.ones(1, 9).double(), torch.ones(40, 1), None, "hinge", None, spins(40, 9, seed=7), 1.0, weights
    )
    targets = spins(40, 9, seed=8)
    errors = [
        abs(Fraction(value) - true)
        for value, true in zip(problem.objective(targets).tolist(), Judge(problem).objectives(targets), strict=True)
    ]
    assert all(error <= Fraction(most) for error, most in zip(errors, problem.rounding().tolist(), strict=True))
    assert max(errors) > 0


def test_a_block_is_as_near_to_exact_arithmetic_as_rounding_says_where_it_is_a_layer():
    weight, labels = real(3, 7, seed=0), spins(20, 3, seed=1)
    block = nn.Linear(7, 3, dtype=torch.float64)
    block.load_state_dict({"weight": weight, "bias": torch.zeros(3)})
    start = spins(20, 7, seed=2)
    problem = BlockProblem(block.eval(), labels, start, loss="hinge")
    exact = Judge(LayerProblem(weight, labels, None, "hinge")).objectives(start)
    errors = [abs(Fraction(v) - true) for v, true in zip(problem.objective(start).tolist(), exact, strict=True)]
    assert all(error <= Fraction(most) for error, most in zip(errors, problem.rounding().tolist(), strict=True))
    assert max(errors) > 0


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_bounds_of_single_units_are_below_the_optimum_by_rounding():
    # Whole numbers, so that only the unit weights round, and units that all want +1.
    weight, weights = torch.arange(1.0, 13.0).double().reshape(3, 4), real(40, 3, seed=5).abs()
    problem = LayerProblem(weight, torch.ones(40, 3), [-50.0, -60.0, -70.0], "hinge", weights)
    optima = Judge(problem).optima()
    bounds = [Fraction(bound) for bound in problem.lower_bound().tolist()]
    assert all(0 < bound <= optimum for bound, optimum in zip(bounds, optima, strict=True))
    computed = [Fraction(bound) for bound in problem.energy64.lower_bound().tolist()]
    assert any(bound > optimum for bound, optimum in zip(computed, optima, strict=True)), "or nothing is shown"


@pytest.mark.parametrize("side", [1, -1])
def test_zero_one_bounds_hold_where_the_best_margin_is_a_rounding(side: int):
    problem = edge(side)
    optima = Judge(problem).optima()
    assert {0, 1} == set(optima)
    for bound, optimum in zip(problem.lower_bound().tolist(), optima, strict=True):
        assert Fraction(bound) <= optimum


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXACT_SOLVERS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("side", [1, -1])
def test_exact_solvers_prove_no_zero_one_loss_that_exact_arithmetic_undercuts(kind: type[Solver], side: int):
    problem = edge(side, many=6)
    result = solve(problem, one_worker(kind), budget=BUDGET)
    for bound, optimum in zip(result.bound.tolist(), Judge(problem).optima(), strict=True):
        assert Fraction(bound) <= optimum


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXACT_SOLVERS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("loss", ["hinge", "saturated-hinge", "soft-hinge", "squared", "cross-entropy"])
def test_exact_solvers_prove_no_bound_that_exact_arithmetic_undercuts(kind: type[Solver], loss: str):
    labels = torch.arange(8) % 3 if loss == "cross-entropy" else spins(8, 3, seed=1)
    problem = LayerProblem(real(3, 4, seed=11), labels, real(3, seed=12), loss)
    result = solve(problem, one_worker(kind), budget=BUDGET)
    assert bool(result.optimal.all())
    for bound, optimum in zip(result.bound.tolist(), Judge(problem).optima(), strict=True):
        assert Fraction(bound) <= optimum


def test_an_enumeration_that_was_ended_proves_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tpsolve.search.exact._enumerate.BLOCK_ELEMENTS", 4)
    weight = torch.ones(2, 5)
    # The best targets, all +1, come last.
    problem = LayerProblem(weight, [[1, 1]], [-4.0, -4.0])
    result = solve(problem, "enumerate", budget=Budget(steps=2))
    assert result.bound.item() <= Judge(problem).optima()[0] < result.objective.item()
