"""What every registered solver of layer problems promises; a new one is covered without an edit here."""

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from support.programs import ZOO
from support.zoo import (
    ALL_LOSSES,
    LAYER_SOLVERS,
    Instance,
    assert_valid,
    make_problem,
    one_worker,
    optima,
    with_start,
    zoo,
)
from torch import nn

from tpsolve import SOLVERS, BlockProblem, Budget, LayerProblem, NetworkProblem, ProgramProblem, solve
from tpsolve.errors import MissingLibraryError, NotAcceptedError
from tpsolve.problems import Problem
from tpsolve.search import Solver
from tpsolve.testing import parametrize_with_checks

each_solver = pytest.mark.parametrize("kind", LAYER_SOLVERS, ids=lambda kind: kind.name)


COMPOSED = ("auto", "polish", "portfolio", "restarts", "warm-start")
"""Made of other solvers, whose contract is checked by itself."""


@cache
def medium(loss: str = "hinge", dtype: torch.dtype = torch.float64) -> LayerProblem:
    """Large enough that no solver is done at once, small enough for brute force."""
    return make_problem(7, n=9, m=4, loss=loss, batch=(2,), dtype=dtype, stay=0.25, weighted=True)


@parametrize_with_checks([one_worker(kind) for name, kind in SOLVERS.items() if name not in COMPOSED])
def test_solver_keeps_the_public_contract(subject: Solver, check: Callable[[Solver], None]):
    check(subject)


@pytest.mark.slow
@parametrize_with_checks([one_worker(SOLVERS[name]) for name in COMPOSED])
def test_composed_solver_keeps_the_public_contract(subject: Solver, check: Callable[[Solver], None]):
    check(subject)


@pytest.mark.rounding
@each_solver
@pytest.mark.parametrize("instance", zoo(), ids=str)
def test_result_is_valid_on_the_zoo(kind: type[Solver], instance: Instance):
    problem = with_start(instance.problem)
    assert_valid(problem, solve(problem, one_worker(kind), budget=Budget(steps=100)), optima(instance.problem))


@pytest.mark.slow
@each_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_result_is_valid_on_random_problems(kind: type[Solver], loss: str, dtype: torch.dtype):
    problem = make_problem(5, n=5, m=4, loss=loss, batch=(2, 2), dtype=dtype, stay=0.25, weighted=True)
    assert_valid(problem, solve(problem, one_worker(kind), budget=Budget(steps=50)), optima(problem))


@pytest.mark.rounding
@each_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_objective_is_the_problem_s_own_to_the_last_bit(kind: type[Solver], dtype: torch.dtype):
    # Sums of 40 real numbers round differently in another order, so this shows who computed them.
    for size in (1, 5):
        problem = make_problem(size, n=16, m=40, loss="logistic", batch=(size,), dtype=dtype)
        result = solve(problem, one_worker(kind), budget=Budget(seconds=0.05, steps=5))
        assert torch.equal(result.objective, problem.objective(result.targets))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in LAYER_SOLVERS if k.exact], ids=lambda kind: kind.name)
def test_time_that_is_over_ends_the_proof(kind: type[Solver]):
    # The proof takes each of them at least fifty times as long, so that only one who minds the budget is without it.
    problem = make_problem(4, n=24, m=400, batch=(1,), weighted=True)
    result = solve(problem, one_worker(kind), budget=Budget(seconds=0.3))
    assert_valid(problem, result)
    assert not result.optimal.any()


@pytest.mark.parametrize("name", ["keep", "sign-gradient"])
def test_rules_that_read_the_activations_refuse_a_problem_without(name: str):
    with pytest.raises(NotAcceptedError, match=r"problem: got no start, expected a problem with start.*start="):
        solve(make_problem(1, n=4, m=3, started=False), name, budget=Budget(steps=1))


@pytest.mark.parametrize("kind", [k for k in SOLVERS.values() if k.module], ids=lambda kind: kind.name)
def test_missing_library_is_named_with_the_command_that_installs_it(
    kind: type[Solver], monkeypatch: pytest.MonkeyPatch
):
    package = str(kind.module).partition(".")[0]
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    assert not kind.installed()
    layer = issubclass(LayerProblem, kind.accepts)
    problem = medium() if layer else NetworkProblem([[0.0], [1.0]], [-1, 1], widths=[1])
    if issubclass(ProgramProblem, kind.accepts):
        problem = ProgramProblem(
            None, [1], torch.zeros(1, 1), symbols="sign", constraints=lambda m, s, y: m.add(s[0] == y)
        )
    with pytest.raises(MissingLibraryError, match=rf"{kind.name} needs {package}.*pip install {package}"):
        solve(problem, kind(), budget=Budget(steps=1))


@pytest.mark.rounding
@each_solver
def test_activations_that_are_optimal_are_never_made_worse(kind: type[Solver]):
    # Each unit has its wish at the start, so nothing can be better.
    problem = LayerProblem(torch.eye(4) * 3, [[1, -1, 1, -1]] * 2, start=[1, -1, 1, -1])
    result = solve(problem, one_worker(kind), budget=Budget(steps=50))
    assert_valid(problem, result, (optima(problem)))
    if kind.name != "random":
        assert result.objective.tolist() == [0.0, 0.0]
        assert math.isfinite(result.stats["proved_at"].max())


@pytest.mark.slow
def test_incumbents_are_traced_when_they_are_found():
    problem = with_start(make_problem(3, n=24, m=12, batch=(3,)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        above = nn.Sequential(nn.Linear(24, 6), nn.Tanh(), nn.Linear(6, 3))
    block = BlockProblem(above, [0, 1, 2], problem.start)
    cases: list[tuple[type[Solver], Problem, float]] = [(kind, problem, 0.25) for kind in LAYER_SOLVERS]
    cases += [(kind, block, 0.1) for kind in SOLVERS.values() if BlockProblem in kind.accepts and not kind.exact]
    # Others take other programs, or have parts that take none.
    own = [kind for kind in SOLVERS.values() if kind.name not in ("declared", "forward-backward", "warm-start")]
    cases += [(kind, ZOO[0].problem(), 0.1) for kind in own if ProgramProblem in kind.accepts]
    late: dict[tuple[str, str], tuple[float, float]] = {}
    for kind, of, seconds in cases:
        result = solve(of, one_worker(kind), budget=Budget(seconds=seconds))
        final, found = float(result.objective.mean()), float(result.stats["found_at"].max())
        # Searches below a block compute in float32.
        reached = [p.seconds for p in result.trace if p.objective <= final + 1e-6 * (1 + abs(final))]
        # The machine may be busy between both.
        if math.isfinite(final) and (not reached or reached[0] > found + 0.1):
            late[kind.name, type(of).__name__] = (found, reached[0] if reached else math.inf)
    assert late == {}, "seconds at which the answer was found, and traced"
