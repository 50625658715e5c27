"""What searches do where the time is short for their problem: less, and not later; and what checks of answers cost."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from support.zoo import make_problem

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.search import Anneal, Beam, ColumnSearch, CrossEntropy, HillClimb, Report, Solver, Surrogate
from tpsolve.search.local._loop import ChainSolver
from tpsolve.search.network._standardise import Standardised
from tpsolve.search.network.columns import _neighbourhood
from tpsolve.search.network.columns._output_tables import output_tables


def noisy(points: int, features: int) -> NetworkProblem:
    x = torch.randn(points, features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return NetworkProblem(x, (x[:, 0] * x[:, 1] > 0).long(), [2])


@pytest.mark.parametrize("solver", ["big-m", "weight-box"])
def test_a_model_that_takes_longer_than_the_budget_is_not_written_down(solver: str, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        pytest.fail("a solver was called")

    monkeypatch.setattr("scipy.optimize.milp", fail)
    monkeypatch.setattr("tpsolve.search.network._weight_box.run_cp_sat", fail)
    problem = noisy(4000, 10)
    result = solve(problem, solver, budget=Budget(seconds=0.02))
    assert "no time was left" in result.stats["notes"][0]
    assert torch.equal(result.targets, problem.start)


def test_a_step_of_column_search_ends_between_its_networks():
    problem = noisy(30_000, 3).flatten()
    hood = _neighbourhood.Lines(problem, output_tables(problem, "test"), torch.Generator().manual_seed(0))
    state = hood.start(4)
    before = state.weights.clone() if state.weights is not None else None
    hood.step(state, 0, lambda: True)
    assert before is not None
    assert state.weights is not None
    moved = (state.weights != before).any(2).any(1)
    assert moved.tolist() == [True, False, False, False]
    hood.step(state, 0, lambda: False)
    assert (state.weights != before).any(2).any(1).all()


@pytest.mark.parametrize(
    ("solver", "fewer"),
    [
        (HillClimb(restarts=7), HillClimb(restarts=2)),
        (Anneal(), Anneal(restarts=2)),
        (Beam(beam_width=8), Beam(beam_width=3)),
        (CrossEntropy(), CrossEntropy(population=3)),
    ],
    ids=lambda solver: solver.name,
)
def test_where_time_is_short_a_search_has_fewer_chains(solver: ChainSolver, fewer: ChainSolver):
    assert solver.with_copies(3) == fewer
    assert fewer.copies == 3


def test_a_search_has_all_its_chains_where_there_is_time_or_only_steps_count(monkeypatch: pytest.MonkeyPatch):
    made: list[int] = []
    problem = make_problem(3, n=6, m=4, batch=(2,)).flatten()
    repeat = type(problem).repeat
    monkeypatch.setattr(type(problem), "repeat", lambda self, copies: made.append(copies) or repeat(self, copies))
    for budget in (Budget(seconds=60), Budget(steps=2), Budget(seconds=1e-9)):
        solve(problem, HillClimb(restarts=7), budget=budget)
    assert made == [8, 8, 1]


def test_chunks_of_restarts_train_as_all_of_them_do(monkeypatch: pytest.MonkeyPatch):
    problem = noisy(60, 3)
    found = [solve(problem, Surrogate(restarts=6), budget=Budget(steps=12)).objective]
    monkeypatch.setattr("tpsolve.search.network._surrogate.PART_ELEMENTS", 240)
    found.append(solve(problem, Surrogate(restarts=6), budget=Budget(steps=12)).objective)
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("solver", [ColumnSearch(), Surrogate(restarts=5), "ftprop", "circuits"])
def test_no_targets_are_judged_twice_in_one_call(solver: Solver | str, monkeypatch: pytest.MonkeyPatch):
    judged: Counter[bytes] = Counter()
    objective = NetworkProblem.objective

    def counted(self: NetworkProblem, targets: torch.Tensor) -> torch.Tensor:
        judged[targets.reshape(-1).double().numpy().tobytes()] += 1
        return objective(self, targets)

    monkeypatch.setattr(NetworkProblem, "objective", counted)
    problem = noisy(25, 3)
    result = solve(problem, solver, budget=Budget(steps=40))
    final = result.targets.reshape(-1).double().numpy().tobytes()
    assert judged[final] == 1
    assert 0 < result.stats["judge_seconds"] <= result.stats["seconds"]


def test_what_a_solver_writes_into_the_report_is_judged_anew():
    class Lying(Solver):
        name, one_step, accepts = "lying", "nothing", (NetworkProblem,)

        def run(self, problem: Any, budget: Budget, generator: torch.Generator, report: Report) -> None:
            report.offer(problem.start)
            report.objective[:] = 0.0
            report.targets[:] = -report.targets

    problem = noisy(20, 2)
    result = solve(problem, Lying(), budget=Budget(steps=1))
    assert result.objective == problem.objective(result.targets) > 0


def test_networks_that_wait_for_a_check_are_offered_at_the_end(monkeypatch: pytest.MonkeyPatch):
    problem = noisy(30, 2)
    report = Report(problem.flatten(), Budget(seconds=60), None)
    standard = Standardised(problem.flatten(), report)
    layers = [
        (torch.randn(n, p, dtype=torch.float64), torch.randn(n, dtype=torch.float64)) for n, p in ((2, 2), (1, 2))
    ]
    monkeypatch.setattr(Report, "may_judge", False)
    standard.offer(7.0, layers)
    standard.offer(8.0, [(w + 1, b) for w, b in layers])
    layers[0][0].zero_()
    assert torch.isinf(report.objective).all()
    standard.finish()
    assert torch.isfinite(report.objective).all()
    assert report.judge_seconds > 0
    standard.finish()


def test_checks_take_a_tenth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch):
    report = Report(noisy(30, 2).flatten(), Budget(seconds=60), None)
    now = [0.0]
    monkeypatch.setattr("tpsolve.search._base.time.perf_counter", lambda: now[0])
    report._started = 0.0
    now[0] = 1.0
    assert report.may_judge
    objective = NetworkProblem.objective

    def slow(self: NetworkProblem, targets: torch.Tensor) -> torch.Tensor:
        now[0] += 2.0
        return objective(self, targets)

    monkeypatch.setattr(NetworkProblem, "objective", slow)
    report.offer(report.problem.start)  # pyright: ignore[reportArgumentType]
    assert report.judge_seconds == 2.0
    now[0] = 22.9
    assert not report.may_judge
    now[0] = 23.1
    assert report.may_judge
    steps = Report(noisy(30, 2).flatten(), Budget(steps=5), None)
    assert steps.may_judge
    assert math.isinf(steps.seconds_left)
