"""RefitSearch: its fits, and what it finds where the optimum is known."""

import itertools

import numpy as np
import pytest
import torch
from support.network_oracle import each_known_optimum, fewest_errors, random_table

from tpsolve import Budget, solve
from tpsolve.errors import ArgumentError, TooLargeError
from tpsolve.problems import NetworkProblem, make_table
from tpsolve.search import RefitSearch
from tpsolve.search.network.moves import _refit_search
from tpsolve.search.network.moves._refit import refit

pytestmark = pytest.mark.rounding


def never() -> bool:
    return False


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def uniform(number: int):
    generator = seed(number)
    return lambda *shape: torch.rand(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("number", range(10))
def test_a_fit_gives_up_the_points_that_can_not_be_had(number: int):
    # All points but three, of twice the cost, are on the right side of a hyperplane, which few fits may miss.
    rng = np.random.default_rng(number)
    x = torch.from_numpy(np.c_[rng.normal(size=(60, 3)), np.ones(60)])
    worth = (x @ torch.from_numpy(rng.normal(size=4))).sign()
    worth[:3] *= -2
    found = refit(torch.zeros(32, 4).double(), x[None], worth.expand(32, -1), uniform(number), never)
    assert torch.allclose(found.norm(dim=1), torch.ones(32).double())
    assert float(((found @ x.T * worth <= 0) * worth.abs()).sum(1).min()) <= 6


def test_units_without_worth_stay_and_a_stop_is_heard():
    w, x = torch.eye(2, 3).double(), torch.ones(1, 5, 3).double()
    assert torch.equal(refit(w, x, torch.zeros(2, 5), uniform(0), never), w)
    asked = []
    refit(w, x, torch.ones(2, 5), uniform(0), lambda: asked.append(0) or True)
    full = []
    refit(w, x, torch.ones(2, 5), uniform(0), lambda: bool(full.append(0)))
    assert 0 < len(asked) < len(full)


@pytest.mark.parametrize("number", range(6))
def test_the_optimum_of_a_few_points_is_found(number: int):
    inputs, labels = random_table(2, 8, number)
    problem = NetworkProblem(inputs, labels, [1 + number % 2])
    result = solve(problem, RefitSearch(copies=16), budget=Budget(steps=60), generator=seed())
    assert result.objective.item() == fewest_errors(problem)


@each_known_optimum
@pytest.mark.slow
def test_optimum_is_found(table: str, widths: tuple[int, ...], optimum: int):
    problem = NetworkProblem(*make_table(table), widths=widths)
    result = solve(problem, RefitSearch(), budget=Budget(steps=400), generator=seed(1))
    assert result.objective.item() == optimum
    assert problem.errors(problem.columns(result.targets)[-1]).item() == optimum


def test_classes_weights_and_equal_seeds():
    inputs, labels = make_table("random-3-30-s2")
    classes = (labels > 0) + 1 * (inputs[:, 0] > 0.3)
    for scale in (1e-12, 1.0, 1e12):
        problem = NetworkProblem(inputs, classes, widths=(2,), weight=scale * np.arange(1, 31))
        first, second = (
            solve(problem, RefitSearch(copies=4), budget=Budget(steps=20), generator=seed(5)) for _ in range(2)
        )
        assert torch.equal(first.targets, second.targets)
        assert first.objective < problem.objective(problem.start)


def test_fits_that_see_some_points_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_refit_search, "_FITTED_POINTS", 25)
    x = np.array(list(itertools.product(range(8), repeat=2)))
    problem = NetworkProblem(x, (x[:, 0] + x[:, 1] > 7) & (x[:, 0] < 6), [2])
    assert solve(problem, RefitSearch(), budget=Budget(steps=60), generator=seed()).objective.item() == 0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ArgumentError):
        RefitSearch(copies=0)
    with pytest.raises(TooLargeError, match="501 inputs"):
        solve(NetworkProblem(np.eye(3, 501), [0, 1, 0], [1]), RefitSearch(), budget=Budget(steps=1))
