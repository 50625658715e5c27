"""What every registered solver of layer problems promises; a new one is covered without an edit here."""

import dataclasses
import math
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from support.zoo import (
    ALL_LOSSES,
    LAYER_SOLVERS,
    Instance,
    assert_valid,
    flat,
    make_problem,
    one_worker,
    optima,
    with_start,
    zoo,
)
from torch import Tensor

from tpsolve import SOLVERS, Budget, LayerProblem, NetworkProblem, Progress, Result, load_result, solve
from tpsolve.errors import MissingLibraryError, NotAcceptedError
from tpsolve.problems import Problem, State
from tpsolve.search import Solver

pytestmark = pytest.mark.rounding

each_solver = pytest.mark.parametrize("kind", LAYER_SOLVERS, ids=lambda kind: kind.name)


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def same(first: Result, second: Result) -> bool:
    return (
        torch.equal(first.targets, second.targets)
        and torch.equal(first.objective, second.objective)
        and torch.equal(first.bound, second.bound)
        and first.stats["steps"] == second.stats["steps"]
    )


@cache
def medium(loss: str = "hinge", dtype: torch.dtype = torch.float64) -> LayerProblem:
    """Large enough that no solver is done at once, small enough for brute force."""
    return make_problem(7, n=9, m=4, loss=loss, batch=(2,), dtype=dtype, stay=0.25, weighted=True)


@each_solver
@pytest.mark.parametrize("instance", zoo(), ids=str)
def test_result_is_valid_on_the_zoo(kind: type[Solver], instance: Instance):
    problem = with_start(instance.problem)
    assert_valid(problem, solve(problem, one_worker(kind), budget=Budget(steps=300)), optima(instance.problem))


@each_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_result_is_valid_on_random_problems(kind: type[Solver], loss: str, dtype: torch.dtype):
    problem = make_problem(5, n=5, m=4, loss=loss, batch=(2, 2), dtype=dtype, stay=0.25, weighted=True)
    assert_valid(problem, solve(problem, one_worker(kind), budget=Budget(steps=100)), optima(problem))


@each_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_objective_is_the_problem_s_own_to_the_last_bit(kind: type[Solver], dtype: torch.dtype):
    # Sums of 40 real numbers round differently in another order, so this shows who computed them.
    for size in (1, 3, 8):
        problem = make_problem(size, n=16, m=40, loss="logistic", batch=(size,), dtype=dtype)
        result = solve(problem, one_worker(kind), budget=Budget(seconds=0.5, steps=5))
        assert torch.equal(result.objective, problem.objective(result.targets))


@each_solver
def test_equal_seeds_and_steps_give_equal_results(kind: type[Solver]):
    for loss in ("hinge", "soft-hinge", "zero-one"):
        for steps in (3, 40):
            runs = [solve(medium(loss), kind(), budget=Budget(steps=steps), generator=seed(11)) for _ in range(2)]
            assert same(*runs), f"{loss}, {steps} steps"


@each_solver
def test_without_a_generator_the_seed_is_zero(kind: type[Solver]):
    budget = Budget(steps=3)
    first, second = solve(medium(), kind(), budget=budget), solve(medium(), kind(), budget=budget, generator=seed())
    assert same(first, second)


@each_solver
def test_the_seed_matters_to_stochastic_solvers_alone(kind: type[Solver]):
    # Without a start a random search draws where it begins; rules that read the activations have them.
    problem = make_problem(3, n=12, m=6, batch=(4,), started=not kind.stochastic)

    def found(steps: int) -> set[tuple[float, ...]]:
        runs = [solve(problem, one_worker(kind), budget=Budget(steps=steps), generator=seed(s)) for s in range(5)]
        return {tuple(run.targets.flatten().tolist()) for run in runs}

    # The last steps may lead all seeds to the optimum, the first one may draw nothing.
    assert any(len(found(steps)) > 1 for steps in (1, 20)) == kind.stochastic


@pytest.mark.parametrize("kind", [k for k in LAYER_SOLVERS if k.stochastic and not k.exact], ids=lambda kind: kind.name)
def test_the_seed_decides_where_a_search_without_start_begins(kind: type[Solver]):
    problem = make_problem(3, n=12, m=6, batch=(4,), started=False)
    runs = [solve(problem, kind(), budget=Budget(steps=1), generator=seed(s)).targets for s in range(5)]
    assert not all(torch.equal(run, runs[0]) for run in runs)


@each_solver
def test_global_randomness_and_problem_are_left_alone(kind: type[Solver]):
    torch.manual_seed(5)
    before, fingerprint = torch.get_rng_state(), medium().fingerprint
    settings = one_worker(kind)
    solve(medium(), settings, budget=Budget(steps=5))
    assert torch.equal(torch.get_rng_state(), before)
    assert medium().fingerprint == fingerprint
    assert settings == one_worker(kind)


@each_solver
def test_callback_hears_progress_and_stops_the_search(kind: type[Solver]):
    problem = make_problem(2, n=12, m=24, batch=(12,))
    every = 2.0 * torch.cartesian_prod(*[torch.arange(2)] * 12) - 1
    optimum = problem.objective(every[:, None].expand(-1, 12, -1)).amin(0)
    assert (problem.lower_bound() < optimum - 0.1).all(), "no sample ends by itself"
    heard: list[Any] = []

    def stop_at_once(progress: Progress) -> bool | None:
        heard.append(progress)
        return True if len(heard) == 1 else None

    result = solve(problem, one_worker(kind), budget=Budget(seconds=60), callback=stop_at_once)
    assert_valid(problem, result, [Fraction(v) for v in optimum.tolist()])
    assert all(isinstance(progress, Progress) for progress in heard)
    # Once is enough: what follows are the last words of a sample and of the call, not of 12 samples.
    assert 1 <= len(heard) <= 3
    assert heard[-1].objective == pytest.approx(result.objective.mean().item(), rel=1e-12)
    assert heard[-1].bound == pytest.approx(result.bound.mean().item(), rel=1e-12)


@each_solver
def test_callback_that_returns_nothing_changes_nothing(kind: type[Solver]):
    heard: list[Progress] = []
    settings, budget = one_worker(kind), Budget(steps=20)
    silent = solve(medium(), settings, budget=budget)
    assert same(solve(medium(), settings, budget=budget, callback=heard.append), silent)
    assert heard


@each_solver
@pytest.mark.parametrize("budget", [Budget(seconds=1e-6), Budget(steps=1), Budget(seconds=1e-6, steps=1)], ids=str)
@pytest.mark.parametrize("loss", ["hinge", "soft-hinge", "cross-entropy"])
def test_budget_of_almost_nothing_is_a_result(kind: type[Solver], budget: Budget, loss: str):
    assert_valid(medium(loss), solve(medium(loss), one_worker(kind), budget=budget), optima(medium(loss)))


class Clock:
    """A clock that stands still for so many looks, and then shows that all time is over."""

    def __init__(self, looks: int):
        self.looks = looks

    def perf_counter(self) -> float:
        self.looks -= 1
        return 0.0 if self.looks >= 0 else 1e6


@pytest.mark.parametrize("kind", [k for k in LAYER_SOLVERS if not k.exact], ids=lambda kind: kind.name)
def test_time_that_is_over_ends_the_search(kind: type[Solver], monkeypatch: pytest.MonkeyPatch):
    problem = make_problem(4, n=22, m=30, batch=(3,), weighted=True)
    free = solve(problem, one_worker(kind), budget=Budget(steps=40))
    looks = 12
    with monkeypatch.context() as patch:
        patch.setattr("tpsolve.search.base.time", Clock(looks))
        result = solve(problem, one_worker(kind), budget=Budget(seconds=0.3, steps=40))
    assert_valid(problem, result)
    assert result.stats["steps"] <= looks, "each step looks at the clock"
    assert result.stats["steps"] < free.stats["steps"] or free.stats["steps"] == 1, "a rule is done after one step"


@pytest.mark.parametrize("kind", [k for k in LAYER_SOLVERS if k.exact], ids=lambda kind: kind.name)
def test_time_that_is_over_ends_the_proof(kind: type[Solver]):
    # The proof takes each of them at least fifty times as long, so that only one who minds the budget is without it.
    problem = make_problem(4, n=24, m=400, batch=(1,), weighted=True)
    result = solve(problem, one_worker(kind), budget=Budget(seconds=0.3))
    assert_valid(problem, result)
    assert not result.optimal.any()


@each_solver
def test_budget_in_steps_is_kept(kind: type[Solver]):
    problem = make_problem(4, n=10, m=8, batch=(3,), weighted=True)
    result = solve(problem, one_worker(kind), budget=Budget(steps=2))
    assert result.stats["steps"] <= 2 or kind.exact, "native solvers end at the next conflict or node"
    assert result.stats["steps"] <= 50


@each_solver
def test_problem_without_start_is_solved_or_refused(kind: type[Solver]):
    problem = make_problem(1, n=4, m=3, batch=(2,), started=False)
    try:
        kind().check(problem)
    except NotAcceptedError:
        with pytest.raises(NotAcceptedError, match="start"):
            solve(problem, kind(), budget=Budget(steps=1))
    else:
        assert_valid(problem, solve(problem, one_worker(kind), budget=Budget(steps=100)), optima(problem))


@pytest.mark.parametrize("name", ["keep", "sign-gradient"])
def test_rules_that_read_the_activations_refuse_a_problem_without(name: str):
    with pytest.raises(NotAcceptedError, match=r"problem: got no start, expected a problem with start.*start="):
        solve(make_problem(1, n=4, m=3, started=False), name, budget=Budget(steps=1))


class ForeignProblem(Problem):
    """A kind of problem that no solver has heard of."""

    batch_shape, n_vars, device, dtype, start = (), 1, torch.device("cpu"), torch.float32, None

    def objective(self, targets: Tensor) -> Tensor:
        return targets.sum(-1).double()

    def flip_delta(self, targets: Tensor) -> Tensor:
        return -2 * targets

    def lower_bound(self) -> Tensor:
        return torch.tensor(-1.0, dtype=torch.float64)

    def rounding(self) -> Tensor:
        return torch.tensor(0.0, dtype=torch.float64)

    def state(self, targets: Tensor) -> State:
        raise AssertionError("a refused problem is not touched")

    def flatten(self) -> "ForeignProblem":
        raise AssertionError("a refused problem is not touched")

    def select(self, keep: Tensor) -> "ForeignProblem":
        return self

    def repeat(self, copies: int) -> "ForeignProblem":
        return self

    def to(self, device: torch.device | str) -> "ForeignProblem":
        return self

    def save(self, path: Any) -> None:
        raise AssertionError("never saved")

    @property
    def fingerprint(self) -> str:
        return ""


@pytest.mark.parametrize("kind", SOLVERS.values(), ids=lambda kind: kind.name)
def test_foreign_problem_is_refused_before_any_work(kind: type[Solver]):
    if issubclass(ForeignProblem, kind.accepts):
        pytest.skip(f"{kind.name} takes problems of any kind")
    with pytest.raises(NotAcceptedError, match=rf"problem: got ForeignProblem, expected .* for {kind.name}"):
        solve(ForeignProblem(), kind(), budget=Budget(steps=1))


@pytest.mark.parametrize("kind", [k for k in SOLVERS.values() if k.module], ids=lambda kind: kind.name)
def test_missing_library_is_named_with_the_command_that_installs_it(
    kind: type[Solver], monkeypatch: pytest.MonkeyPatch
):
    package = str(kind.module).partition(".")[0]
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    assert not kind.installed()
    layer = issubclass(LayerProblem, kind.accepts)
    problem = medium() if layer else NetworkProblem([[0.0], [1.0]], [-1, 1], widths=[1])
    with pytest.raises(MissingLibraryError, match=rf"{kind.name} needs {package}.*pip install {package}"):
        solve(problem, kind(), budget=Budget(steps=1))


@each_solver
def test_result_survives_saving(kind: type[Solver], tmp_path: Path):
    result = solve(medium(), one_worker(kind), budget=Budget(steps=20))
    result.save(tmp_path / "result", fingerprint=medium().fingerprint)
    loaded, fingerprint = load_result(tmp_path / "result")
    assert fingerprint == medium().fingerprint
    for name in ("targets", "objective", "bound", "gap"):
        before, after = getattr(result, name), getattr(loaded, name)
        assert torch.equal(before, after)
        assert before.dtype == after.dtype
    assert loaded.trace == result.trace
    assert loaded.status == result.status
    assert {name: loaded.stats[name] for name in ("solver", "steps", "seconds")} == {
        name: result.stats[name] for name in ("solver", "steps", "seconds")
    }
    for name in ("found_at", "proved_at"):
        assert [float(v) for v in flat(loaded.stats[name])] == result.stats[name].flatten().tolist()


@pytest.mark.parametrize("kind", SOLVERS.values(), ids=lambda kind: kind.name)
def test_settings_are_frozen_equal_and_named(kind: type[Solver]):
    settings = kind()
    assert settings == kind()
    assert hash(settings) == hash(kind())
    assert SOLVERS[kind.name] is kind
    assert kind.__doc__
    for field in dataclasses.fields(settings):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(settings, field.name, getattr(settings, field.name))


@each_solver
def test_one_solver_serves_many_problems(kind: type[Solver]):
    settings, budget = one_worker(kind), Budget(steps=10)
    other = make_problem(9, n=4, m=6, loss="squared", batch=(3,), dtype=torch.float32)
    fresh = solve(medium(), one_worker(kind), budget=budget)
    solve(other, settings, budget=Budget(seconds=0.01))
    assert same(solve(medium(), settings, budget=budget), fresh), "an earlier call leaves nothing behind"


@each_solver
def test_activations_that_are_optimal_are_never_made_worse(kind: type[Solver]):
    # Each unit has its wish at the start, so nothing can be better.
    problem = LayerProblem(torch.eye(4) * 3, [[1, -1, 1, -1]] * 2, start=[1, -1, 1, -1])
    result = solve(problem, one_worker(kind), budget=Budget(steps=50))
    assert_valid(problem, result, (optima(problem)))
    if kind.name != "random":
        assert result.objective.tolist() == [0.0, 0.0]
        assert math.isfinite(result.stats["proved_at"].max())
