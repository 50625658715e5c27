"""What searches do where the time is short for their problem: less, and not later; and what checks of answers cost."""

import math
from collections import Counter
from concurrent.futures import Future
from typing import Any, cast

import pytest
import torch
from support.zoo import make_problem

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.errors import TooLargeError
from tpsolve.search import Anneal, Beam, ColumnSearch, CrossEntropy, HillClimb, Report, Solver, Surrogate
from tpsolve.search.local._loop import ChainSolver
from tpsolve.search.network._standardise import Standardised
from tpsolve.search.network.circuits._climb import Climber
from tpsolve.search.network.circuits._race import Race
from tpsolve.search.network.circuits._search_state import SearchState
from tpsolve.search.network.columns import _neighbourhood
from tpsolve.search.network.columns._output_tables import output_tables
from tpsolve.search.network.moves import _line_search, _network_copies
from tpsolve.search.network.seekers._seekers import Seekers
from tpsolve.units.patterns import _all_dichotomies
from tpsolve.units.patterns._all_dichotomies import check_dichotomies


def noisy(points: int, features: int) -> NetworkProblem:
    x = torch.randn(points, features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return NetworkProblem(x, (x[:, 0] * x[:, 1] > 0).long(), [2])


def test_a_part_whose_time_ends_between_two_looks_at_the_clock_is_no_error(monkeypatch: pytest.MonkeyPatch):
    report = Report(make_problem(0, 5, 4).flatten(), Budget(seconds=1), None)
    # A moment is left at the first look, none at the next.
    moments = iter([1 - 1e-9])
    monkeypatch.setattr(Report, "seconds", property(lambda _: next(moments, 2.0)))
    report.run(HillClimb(), torch.Generator())
    assert report.stopped


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


def test_a_first_solver_has_its_time_by_the_clock_of_the_whole_search():
    whole = Report(noisy(20, 2).flatten(), Budget(seconds=600), None)
    first = _line_search._FirstReport(whole, Budget(seconds=100))  # pyright: ignore[reportPrivateUsage]
    whole._started -= 60  # pyright: ignore[reportPrivateUsage]
    assert 30 < first.seconds_left <= 40
    # The whole search waits for its turn: its clock stands still.
    whole._started += 60  # pyright: ignore[reportPrivateUsage]
    assert 90 < first.seconds_left <= 100
    whole.stopped = True
    assert not first.stopped
    whole._ends = 0.0  # pyright: ignore[reportPrivateUsage]
    assert first.pulse()


def test_a_line_search_ends_between_its_networks(monkeypatch: pytest.MonkeyPatch):
    problem = noisy(30, 3).flatten()
    search = _network_copies.Copies(problem, torch.Generator().manual_seed(0))
    state = search.copies(problem.start[:1], 4)
    before = [weight.clone() for weight in state]
    monkeypatch.setattr(_network_copies, "PART_ELEMENTS", 1)
    search.move(state, 0, 0, lambda: True)
    assert (state[0] != before[0]).flatten(1).any(1).tolist() == [True, False, False, False]


def test_a_network_waits_in_a_race_where_checks_take_long(monkeypatch: pytest.MonkeyPatch):
    problem = noisy(30, 2).flatten()
    report = Report(problem, Budget(seconds=600), None)
    state = SearchState(problem, report, torch.Generator().manual_seed(0), 0, 5)
    better = solve(problem, "column-search", budget=Budget(steps=20)).targets
    trivial = float(report.objective)
    report.check_seconds = 5.0
    monkeypatch.setattr(Report, "may_judge", False)
    state.propose(better)
    assert float(report.objective) == trivial
    assert torch.equal(state.best, better)
    state.propose(problem.start)
    state.settle()
    assert float(report.objective) == float(problem.objective(better)) < trivial
    assert state.upper == round(float(report.objective))


def test_what_comes_after_the_end_of_a_race_is_not_taken():
    problem = noisy(30, 2).flatten()
    report = Report(problem, Budget(seconds=600), None)
    state = SearchState(problem, report, torch.Generator().manual_seed(0), 0, 5)
    better = solve(problem, "column-search", budget=Budget(steps=20)).targets
    before = state.upper
    state.seal()
    state.offer(better)
    state.refute(0)
    assert (state.lower, state.upper, float(report.bound)) == (0, before, 0.0)
    state.unseal()
    state.refute(0)
    assert (state.lower, float(report.bound)) == (1, 1.0)


def test_masters_are_freed_when_no_engine_works_any_longer():
    problem = noisy(30, 2).flatten()
    report = Report(problem, Budget(seconds=600), None)
    state = SearchState(problem, report, torch.Generator().manual_seed(0), 0, 5)
    race = Race(problem, report, state, torch.Generator())
    freed: list[int] = []
    race.afterwards(lambda: freed.append(0))
    assert freed == [0]
    working: list[Future[None]] = [Future(), Future()]
    race._working = set(working)  # pyright: ignore[reportPrivateUsage]
    race.afterwards(lambda: freed.append(1))
    working[0].set_result(None)
    assert freed == [0]
    working[1].set_result(None)
    assert freed == [0, 1]


def test_the_first_master_is_its_own_though_a_further_one_was_made_before(monkeypatch: pytest.MonkeyPatch):
    # Two threads of one engine end the process.
    problem = noisy(30, 2).flatten()
    report = Report(problem, Budget(seconds=600), None)
    state = SearchState(problem, report, torch.Generator().manual_seed(0), 0, 5)
    race = Race(problem, report, state, torch.Generator())
    worked: list[Any] = []
    monkeypatch.setattr(Climber, "work", lambda _, master, *__: worked.append(master))
    first, further = object(), object()
    race._seekers = Seekers(report, state, torch.Generator(), race._turns, 0.0)  # pyright: ignore[reportPrivateUsage]
    race._seekers.first_found.set()  # pyright: ignore[reportPrivateUsage]
    race._follow(lambda _: cast("Any", further), True)  # pyright: ignore[reportPrivateUsage]
    race._rise(lambda _: cast("Any", first))  # pyright: ignore[reportPrivateUsage]
    assert worked == [further, first]
    assert race.master(lambda _: cast("Any", object())) is first
    assert race.masters == [further, first]


def test_the_same_targets_are_looked_at_once(monkeypatch: pytest.MonkeyPatch):
    problem = noisy(20, 2)
    looked: list[int] = []
    anew = NetworkProblem._separable_anew  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(NetworkProblem, "_separable_anew", lambda self, t: looked.append(1) or anew(self, t))
    wrong = problem.start.clone()
    wrong[:10] = torch.tensor([1.0, -1.0] * 5)
    values = [problem.flatten().objective(targets[None]).item() for targets in (problem.start, problem.start, wrong)]
    assert len(looked) == 2
    assert values[0] == values[1] < values[2] == math.inf


def test_points_of_many_dimensions_are_refused_at_a_glance(monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    essential = _all_dichotomies.essential
    monkeypatch.setattr(_all_dichotomies, "essential", lambda x: seen.append(len(x)) or essential(x))
    with pytest.raises(TooLargeError, match="500 distinct points of 20 dimensions"):
        check_dichotomies(torch.randn(500, 20, generator=torch.Generator().manual_seed(0)))
    assert seen == [40]
