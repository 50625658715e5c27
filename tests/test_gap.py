"""When a gap is closed: by rounding, or because objectives are multiples of a measure; and that measure."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.zoo import make_problem, optima

from tpsolve import Budget, LayerProblem, NetworkProblem, Status, solve
from tpsolve._gap import closing_tolerance, common_measure, is_closed

XOR = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0]
SIZES = (1e-12, 1e-9, 1e-7, 1.0, 3e5, 1e12)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def tolerance(rounding: float, least_difference: float) -> float:
    return closing_tolerance(number(rounding), number(least_difference)).item()


def test_a_gap_is_closed_up_to_two_roundings():
    slack = closing_tolerance(number(1e-3), number(0.0))
    assert slack.item() == 2e-3
    assert is_closed(number(1.0), number(1.0 - 1.9e-3), slack)
    assert not is_closed(number(1.0), number(1.0 - 2.1e-3), slack)


def test_objectives_that_differ_are_told_apart_and_others_not():
    assert tolerance(0.0, 1.0) == math.nextafter(1.0, 0.0)
    # Each of the two may be off by as much.
    assert tolerance(0.125, 1.0) == math.nextafter(0.75, 0.0)
    assert tolerance(0.4, 1.0) == 0.8
    assert tolerance(0.0, 0.0) == 0.0


@given(st.lists(st.integers(-(2**53), 2**53).map(float), max_size=6), st.integers(-900, 900))
def test_common_measure_is_the_largest_that_divides_all(values: list[float], exponent: int):
    values = [math.ldexp(value, exponent) for value in values]
    found = common_measure(np.array(values))
    multiples = [Fraction(value) / found if found else Fraction(0) for value in values]
    assert all(multiple.denominator == 1 for multiple in multiples)
    assert found == 0 or math.gcd(*(int(multiple) for multiple in multiples)) == 1
    assert (found == 0) == (not any(values))


@pytest.mark.parametrize("size", SIZES)
def test_no_weight_is_so_small_that_wrong_networks_are_optimal(size: float):
    problem = NetworkProblem(*XOR, [2], weight=[size] * 4)
    assert problem.least_difference() == size
    # No search at all: the best constant network has two errors.
    kept = solve(problem, "column-search", budget=Budget(steps=1), callback=lambda _: True)
    found = solve(problem, "circuits", budget=Budget(steps=1000))
    assert (found.objective, found.status) == (0.0, Status.OPTIMAL)
    assert kept.status is (Status.OPTIMAL if kept.objective == 0 else Status.FEASIBLE)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("loss", ["hinge", "zero-one", "squared", "soft-hinge"])
def test_unit_weights_of_any_size_change_no_status(loss: str, size: float):
    plain = make_problem(5, n=5, m=4, loss=loss)
    problem = LayerProblem(
        plain.weight, plain.targets, plain.bias, loss, torch.full((4,), size, dtype=torch.float64), torch.ones(5)
    )
    best = float(optima(problem)[0])
    for solver in ("keep", "hill-climb", "enumerate", "cp-sat:workers=1", "milp"):
        result = solve(problem, solver, budget=Budget(steps=100_000))
        assert (result.status is Status.OPTIMAL) <= (result.objective <= best * (1 + 1e-9))
        assert (result.status is Status.OPTIMAL) or solver in ("keep", "hill-climb")


def test_one_huge_weight_opens_no_gap_of_the_others():
    # Units 0 and 1 are huge and agree; the two below them disagree about a cost of 1e-3.
    weight = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    unit_weight = torch.tensor([1e9, 1e9, 1e-3, 1e-3], dtype=torch.float64)
    problem = LayerProblem(weight, [1, -1, 1, 1], None, "hinge", unit_weight, start=[1.0, 1.0])
    values = [problem.objective(torch.tensor(t)).item() for t in itertools.product((-1.0, 1.0), repeat=2)]
    assert sorted(values)[1] - sorted(values)[0] < 1e-6 * max(values)
    assert problem.tolerance() < 1e-3
    result = solve(problem, "cp-sat:workers=1", budget=Budget(steps=1000))
    assert result.status is Status.OPTIMAL
    assert result.objective == min(values)


@pytest.mark.parametrize("seed", range(6))
def test_zero_one_objectives_are_multiples_of_what_their_weights_share(seed: int):
    generator = torch.Generator().manual_seed(seed)
    unit_weight = 0.375 * torch.randint(0, 9, (2, 4), generator=generator)
    plain = make_problem(seed, n=4, m=4, loss="zero-one", batch=(2,))
    problem = LayerProblem(plain.weight, plain.targets, plain.bias, "zero-one", unit_weight)
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4)), dtype=plain.dtype)
    values = problem.objective(every[:, None].expand(-1, 2, -1))
    for k, measure in enumerate(problem.least_difference().tolist()):
        assert measure >= 0.375 or not unit_weight[k].any()
        assert all(value % measure == 0 for value in values[:, k].tolist() if measure)
    staying = LayerProblem(plain.weight, plain.targets, loss="zero-one", start=torch.ones(2, 4), stay=0.3)
    assert staying.least_difference().tolist() == [0.0, 0.0]
