"""`solve`: arguments are checked first, the problem is the judge, claims are held against it."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.zoo import Judge, assert_valid, make_problem, optima

import tpsolve
from tpsolve import SOLVERS, Budget, LayerProblem, Progress, Status, solve
from tpsolve.errors import ArgumentError, ContradictionError, TpsolveError, UnknownNameError
from tpsolve.problems import Problem
from tpsolve.search import CpSat, HillClimb, Random, Report, Solver, find_solver, solver_text

BUDGET = Budget(steps=100)


@dataclass(frozen=True)
class Scripted(Solver):
    """A solver that does what a test tells it."""

    script: Any = None

    name = "scripted"
    accepts = (LayerProblem,)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        self.script(problem, report)


# --- arguments --------------------------------------------------------------------------------------------------------

PROBLEM = make_problem(1, n=4, m=3, batch=(2,))

BAD_CALLS: list[tuple[str, tuple[Any, Any], dict[str, Any], type[TpsolveError], str]] = [
    ("problem", ("hinge", "keep"), {}, ArgumentError, r"problem: got str, expected a Problem such as LayerProblem"),
    ("budget", (PROBLEM, "keep"), {"budget": 10}, ArgumentError, r"budget: got 10, expected a Budget\. For example"),
    ("budget-none", (PROBLEM, "keep"), {"budget": None}, ArgumentError, r"budget: got None, expected a Budget"),
    (
        "solver-number",
        (PROBLEM, 5),
        {},
        ArgumentError,
        r"solver: got 5, expected a solver such as HillClimb\(\), or a name",
    ),
    (
        "solver-class",
        (PROBLEM, HillClimb),
        {},
        ArgumentError,
        r"solver: got <class .*HillClimb'>, expected a solver such",
    ),
    (
        "solver-misspelt",
        (PROBLEM, "hill-clmb"),
        {},
        UnknownNameError,
        r"solver: got 'hill-clmb', expected one of .*cp-sat.*Did you mean 'hill-climb'",
    ),
    ("generator", (PROBLEM, "tabu"), {"generator": 0}, ArgumentError, "generator: got int, expected a torch.Generator"),
    ("callback", (PROBLEM, "tabu"), {"callback": 1}, ArgumentError, "callback: got int"),
    ("solver-foreign", (PROBLEM, "qqqq"), {}, UnknownNameError, r"solver: got 'qqqq', expected one of [a-z, -]*\.$"),
]


@pytest.mark.parametrize(
    ("args", "changes", "kind", "message"), [row[1:] for row in BAD_CALLS], ids=[row[0] for row in BAD_CALLS]
)
def test_bad_call_is_a_typed_error_before_any_work(
    args: tuple[Any, Any], changes: dict[str, Any], kind: type[TpsolveError], message: str
):
    heard: list[Progress] = []
    with pytest.raises(kind, match=message) as caught:
        solve(*args, **{"budget": BUDGET, "callback": heard.append, **changes})
    assert type(caught.value) is kind
    assert isinstance(caught.value, ValueError)
    assert not heard


BAD_SETTINGS: list[tuple[str, Any, str]] = [
    ("draws-none", lambda: Random(draws=0), r"draws: got 0, expected a whole number of at least 1"),
    ("draws-part", lambda: Random(draws=1.5), r"draws: got 1.5, expected"),  # pyright: ignore[reportArgumentType]
    ("restarts-negative", lambda: HillClimb(restarts=-1), r"restarts: got -1, expected a whole number of at least 0"),
    ("restarts-part", lambda: HillClimb(restarts=0.5), r"restarts: got 0.5, expected a whole"),  # pyright: ignore[reportArgumentType]
    ("improvement", lambda: HillClimb(improvement="best"), r"improvement: got 'best', expected 'steepest' or 'first'"),
    ("workers-none", lambda: CpSat(workers=0), r"workers: got 0, expected a whole number of at least 1"),
    ("workers-part", lambda: CpSat(workers=1.5), r"workers: got 1.5, expected a whole number"),  # pyright: ignore[reportArgumentType]
]


@pytest.mark.parametrize(("make", "message"), [row[1:] for row in BAD_SETTINGS], ids=[row[0] for row in BAD_SETTINGS])
def test_settings_that_make_no_sense_are_a_typed_error(make: Any, message: str):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_solvers_are_found_by_name_or_given():
    for name, kind in SOLVERS.items():
        assert find_solver(name) == kind()
    climb = HillClimb(restarts=3)
    assert find_solver(climb) is climb


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hill-climb:restarts=8", HillClimb(restarts=8)),
        ("hill-climb:restarts=8,improvement=first", HillClimb(restarts=8, improvement="first")),
        ("hill-climb:", HillClimb()),
        ("cp-sat:workers=2", CpSat(workers=2)),
        ("cp-sat:workers=None", CpSat()),
        ("random:draws=7", Random(draws=7)),
    ],
)
def test_a_text_names_a_solver_with_its_settings(text: str, expected: Solver):
    assert find_solver(text) == expected
    assert find_solver(solver_text(expected)) == expected


COMPOSED = {
    "polish": "polish(anneal, hill-climb)",
    "restarts": "restarts(hill-climb, 4)",
    "portfolio": "portfolio(tabu, anneal)",
    "warm-start": "warm-start(anneal, cp-sat)",
}
"""Solvers made of others always name them."""


def test_the_text_of_a_solver_is_its_shortest():
    for name, kind in SOLVERS.items():
        assert solver_text(kind()) == (COMPOSED.get(name, name))
    assert solver_text(HillClimb(restarts=8, improvement="first")) == "hill-climb:restarts=8,improvement=first"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("hill-climb:restart=8", UnknownNameError, r"setting of hill-climb: got 'restart'.*Did you mean 'restarts'"),
        ("hill-climb:restarts", ArgumentError, r"got 'restarts', expected setting=value.*hill-climb:restarts=1"),
        ("hill-climb:restarts=many", ArgumentError, r"restarts: got many, expected a whole number"),
        ("random:draws=many", ArgumentError, r"draws: got many, expected"),
        ("keep:now=1", ArgumentError, r"expected keep alone: it has no settings"),
        ("hill:restarts=8", UnknownNameError, r"solver: got 'hill', expected one of"),
    ],
)
def test_a_text_that_makes_no_sense_is_a_typed_error(text: str, kind: type[TpsolveError], message: str):
    with pytest.raises(kind, match=message):
        find_solver(text)


def test_public_names_are_there():
    for name in tpsolve.__all__:
        assert getattr(tpsolve, name) is not None


# --- the judge --------------------------------------------------------------------------------------------------------


def test_the_problem_recomputes_the_objective_of_every_offer():
    best = torch.tensor([[1.0, 1.0, -1.0, 1.0], [-1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)

    def script(problem: Problem, report: Report) -> None:
        report.offer(best)
        report.step(objective=torch.zeros(2, dtype=torch.float64))

    result = solve(PROBLEM, Scripted(script), budget=BUDGET)
    assert_valid_but_trace(result, best)


def assert_valid_but_trace(result: tpsolve.Result, targets: torch.Tensor) -> None:
    assert torch.equal(result.targets, targets)
    assert torch.equal(result.objective, PROBLEM.objective(targets))


def test_worse_offers_do_not_replace_better_ones():
    g = torch.Generator().manual_seed(3)
    offers = [2.0 * torch.randint(0, 2, (2, 4), generator=g).double() - 1 for _ in range(10)]
    # The worst ones come last.
    values = torch.stack([PROBLEM.objective(t) for t in offers])
    offers.append(torch.stack([offers[int(values[:, b].argmax())][b] for b in range(2)]))

    def script(problem: Problem, report: Report) -> None:
        for offer in offers:
            report.offer(offer)
            report.step()

    result = solve(PROBLEM, Scripted(script), budget=BUDGET)
    assert_valid(PROBLEM, result, optima(PROBLEM))
    assert torch.equal(result.objective, torch.stack([PROBLEM.objective(t) for t in offers]).amin(0))


def test_offers_and_proofs_of_some_samples_reach_these_alone():
    problem = make_problem(3, n=3, m=2, batch=(4,))
    rows = torch.tensor([3, 1])

    def script(flat: Problem, report: Report) -> None:
        report.offer(-torch.ones(2, 3, dtype=torch.float64), rows)
        report.prove(torch.tensor([0.25, 0.125]), rows)
        report.prove(-1.0)

    result = solve(problem, Scripted(script), budget=BUDGET)
    start = problem.start
    assert start is not None
    for row in range(4):
        kept = -torch.ones(3, dtype=torch.float64) if row in (1, 3) else start[row]
        assert torch.equal(result.targets[row], kept)
    expected = torch.maximum(problem.lower_bound(), torch.tensor([0, 0.125, 0, 0.25], dtype=torch.float64))
    assert torch.equal(result.bound, torch.minimum(expected, result.objective))


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
def test_nothing_found_is_a_result_at_the_start_or_at_plus_one(batch: tuple[int, ...], started: bool):
    problem = make_problem(2, n=4, m=3, batch=batch, started=started)
    result = solve(problem, Scripted(lambda problem, report: None), budget=BUDGET)
    assert_valid(problem, result, optima(problem))
    expected = problem.start if problem.start is not None else torch.ones(*batch, 4)
    assert torch.equal(result.targets, expected.to(result.targets.dtype))


# --- shares -----------------------------------------------------------------------------------------------------------


def turns(
    monkeypatch: pytest.MonkeyPatch, samples: int, spent: Callable[[int, float], float]
) -> list[tuple[int, float]]:
    """Row and seconds of each turn of samples that share 30 seconds, if a turn takes what `spent` says."""
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("tpsolve.search._base.time", clock)
    report = Report(make_problem(1, n=4, m=3, batch=(samples,)), Budget(seconds=30), None)
    taken = []
    for row, budget in report.each_sample():
        assert budget.seconds is not None
        taken.append((int(row), budget.seconds))
        assert len(taken) < 20, "turns without end"
        clock.now += spent(int(row), budget.seconds)
    return taken


def test_samples_share_the_time_equally(monkeypatch: pytest.MonkeyPatch):
    taken = turns(monkeypatch, 3, lambda row, share: share)
    assert [row for row, _ in taken] == [0, 1, 2]
    assert [share for _, share in taken] == pytest.approx([10, 10, 10])


def test_time_left_over_goes_to_the_samples_that_were_cut_short(monkeypatch: pytest.MonkeyPatch):
    taken = turns(monkeypatch, 3, lambda row, share: share if row == 0 else 1.0)
    assert [row for row, _ in taken] == [0, 1, 2, 0]
    assert [share for _, share in taken] == pytest.approx([10, 10, 19, 18])


def test_turns_end_where_shares_no_longer_grow(monkeypatch: pytest.MonkeyPatch):
    # Each leaves a twentieth of its share: together less than a turn had.
    taken = turns(monkeypatch, 2, lambda row, share: 0.95 * share)
    assert [row for row, _ in taken] == [0, 1]


# --- claims -----------------------------------------------------------------------------------------------------------


def test_a_bound_above_the_solver_s_own_targets_is_a_contradiction():
    def script(problem: Problem, report: Report) -> None:
        report.offer(torch.ones(2, 4))
        report.prove(PROBLEM.objective(torch.ones(2, 4)) + torch.tensor([0.0, 1e-3]))

    with pytest.raises(
        ContradictionError, match=r"scripted claims the bound .* for sample 1, but its own targets reach"
    ):
        solve(PROBLEM, Scripted(script), budget=BUDGET)


def test_a_bound_above_by_rounding_is_no_contradiction_and_is_brought_down():
    def script(problem: Problem, report: Report) -> None:
        report.offer(torch.ones(2, 4))
        report.prove(PROBLEM.objective(torch.ones(2, 4)) + PROBLEM.rounding())

    result = solve(PROBLEM, Scripted(script), budget=BUDGET)
    assert torch.equal(result.bound, result.objective)
    assert result.status == [Status.OPTIMAL] * 2


def test_a_heuristic_that_meets_the_problem_s_bound_has_earned_optimal():
    # One hinge unit gets its wish by t = sign(V), at no cost.
    problem = LayerProblem([[2.0, -3.0, 1.0]], [[1]], start=[1, 1, 1])
    result = solve(problem, HillClimb(), budget=BUDGET)
    assert result.status == [Status.OPTIMAL]
    assert result.targets.tolist() == [[1.0, -1.0, 1.0]] or result.objective.item() == 0
    assert math.isfinite(result.stats["proved_at"].item())


def test_bounds_only_ever_rise():
    def script(problem: Problem, report: Report) -> None:
        report.prove(torch.tensor([0.2, 0.1], dtype=torch.float64))
        report.step()
        report.prove(0.15)
        report.step()
        report.prove(-math.inf)

    problem = LayerProblem(torch.ones(2, 4), [[1, -1]] * 2)
    assert problem.lower_bound().max() < 1e-9
    result = solve(problem, Scripted(script), budget=BUDGET)
    assert result.bound.tolist() == [0.2, 0.15]
    assert [round(p.bound, 12) for p in result.trace][-1] == 0.175


# --- local solvers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("improvement", ["steepest", "first"])
@pytest.mark.parametrize("loss", ["hinge", "saturated-hinge", "squared", "cross-entropy"])
def test_hill_climbing_ends_where_no_single_flip_helps(loss: str, improvement: str):
    problem = make_problem(6, n=14, m=9, loss=loss, batch=(5,), weighted=True, stay=0.25)
    result = solve(problem, HillClimb(improvement=improvement), budget=Budget(steps=1000))
    assert result.stats["steps"] < 100
    assert (problem.flip_delta(result.targets) >= -1e-9).all()
    assert problem.start is not None
    assert (result.objective <= problem.objective(problem.start)).all(), "it begins at the start"


def test_steepest_descent_takes_the_best_flip_of_each_step():
    problem = make_problem(6, n=10, m=9, batch=(3,))
    assert problem.start is not None
    targets = problem.start.clone()
    for steps in range(1, 4):
        delta = problem.flip_delta(targets)
        best = delta.argmin(1)
        for row in range(3):
            if delta[row, best[row]] < -1e-9:
                targets[row, best[row]] *= -1
        assert torch.equal(solve(problem, HillClimb(), budget=Budget(steps=steps)).targets, targets)


def test_restarts_never_make_the_best_worse_and_often_better():
    problem = make_problem(9, n=16, m=20, batch=(6,))
    alone = solve(problem, HillClimb(), budget=Budget(steps=1000)).objective
    many = solve(problem, HillClimb(restarts=20), budget=Budget(steps=1000)).objective
    assert (many <= alone + 1e-9).all()
    assert (many < alone - 1e-6).any()


def test_random_keeps_the_best_of_its_draws():
    problem = make_problem(9, n=8, m=6, batch=(3,))
    values = []
    for draws in (1, 2, 5, 40):
        result = solve(problem, Random(draws=draws), budget=BUDGET, generator=torch.Generator().manual_seed(4))
        assert result.stats["steps"] == draws
        values.append(result.objective)
    for fewer, more in itertools.pairwise(values):
        assert (more <= fewer).all()
    assert (values[-1] < values[0]).any()


def test_keep_keeps():
    problem = make_problem(9, n=8, m=6, batch=(3,), stay=0.25)
    result = solve(problem, "keep", budget=BUDGET)
    assert problem.start is not None
    assert torch.equal(result.targets, problem.start)
    starts = problem.start
    assert result.objective.tolist() == pytest.approx([float(v) for v in Judge(problem).objectives(starts)], rel=1e-13)
