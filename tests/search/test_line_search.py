"""LineSearch: its lines against brute force, and what it finds where the optimum is known."""

import itertools

import pytest
import torch
from support.network_oracle import each_known_optimum

from tpsolve import Budget, solve
from tpsolve.errors import ArgumentError, NotAcceptedError, UnknownNameError
from tpsolve.problems import NetworkProblem, make_table
from tpsolve.search import LineSearch
from tpsolve.search.network._lines import best_on_lines

pytestmark = pytest.mark.rounding


@pytest.mark.parametrize("seed", range(20))
def test_best_on_lines_is_the_best_of_all_points_of_the_lines(seed: int):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, w, directions = normal(9, 3), normal(2, 3), normal(2, 4, 3)
    residual = torch.randint(-3, 4, (2, 9), generator=generator).double()
    slope = directions @ x.T
    moved = best_on_lines(w, w @ x.T, directions, slope, residual, torch.zeros(2, 4, 10))
    assert torch.allclose(moved.norm(dim=1), torch.ones(2, dtype=torch.float64))

    def worth(row: int, weights: torch.Tensor) -> float:
        return float(residual[row] @ (x @ weights).sign())

    for row, line in itertools.product(range(2), range(4)):
        breaks = (-(x @ w[row]) / slope[row, line]).sort().values
        between = [breaks[0] - 1, *((breaks[1:] + breaks[:-1]) / 2), breaks[-1] + 1]
        assert worth(row, moved[row]) >= max(worth(row, w[row] + t * directions[row, line]) for t in between)
    assert worth(0, moved[0]) >= worth(0, w[0])


def test_lines_without_a_change_leave_the_weights():
    w = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    flat = torch.zeros(1, 1, 2, dtype=torch.float64)
    moved = best_on_lines(w, w @ torch.eye(2).double(), flat, flat, torch.ones(1, 2).double(), torch.zeros(1, 1, 3))
    assert torch.equal(moved, w)


@each_known_optimum
@pytest.mark.slow
def test_optimum_is_found(table: str, widths: tuple[int, ...], optimum: int):
    problem = NetworkProblem(*make_table(table), widths=widths)
    result = solve(problem, LineSearch(), budget=Budget(steps=400), generator=torch.Generator().manual_seed(1))
    assert result.objective.item() == optimum
    assert problem.errors(problem.columns(result.targets)[-1]).item() == optimum


@pytest.mark.slow
def test_classes_and_equal_seeds():
    inputs, labels = make_table("random-3-30-s2")
    problem = NetworkProblem(inputs, (labels > 0) + 1 * (inputs[:, 0] > 0.3), widths=(3,))
    assert problem.layers == (3, 3)
    first, second = (
        solve(problem, LineSearch(copies=4), budget=Budget(steps=60), generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert torch.equal(first.targets, second.targets)
    assert first.objective < problem.objective(problem.start)


@pytest.mark.slow
def test_search_improves_on_its_first_network():
    problem = NetworkProblem(*make_table("random-2-60-s4"), widths=(3,))
    poor = "ftprop:patience=1"
    start = solve(problem, poor, budget=Budget(steps=2))
    found = solve(problem, LineSearch(first=poor, first_steps=2), budget=Budget(steps=200))
    assert found.objective < start.objective


def test_settings_that_make_no_sense():
    problem = NetworkProblem(*make_table("checkerboard-2"), widths=(2,))
    for make in (lambda: LineSearch(copies=0), lambda: LineSearch(share=1.0), lambda: LineSearch(first_steps=0)):
        with pytest.raises(ArgumentError):
            make()
    with pytest.raises(UnknownNameError):
        solve(problem, LineSearch(first="surogate"), budget=Budget(steps=1))
    with pytest.raises(NotAcceptedError):
        solve(problem, LineSearch(first="hill-climb"), budget=Budget(steps=1))
