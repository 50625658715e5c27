"""The checks pass a solver that keeps the contract, and each wrong solver fails the check that is meant for it."""

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tpsolve import Budget, LayerProblem
from tpsolve.errors import ArgumentError
from tpsolve.problems import Problem
from tpsolve.search import Report, Solver
from tpsolve.testing import SOLVER_CHECKS, check_solver, parametrize_with_checks


def spins(problem: Problem, generator: torch.Generator | None) -> Tensor:
    shape = (*problem.batch_shape, problem.n_vars)
    return (2 * torch.randint(2, shape, generator=generator) - 1).to(problem.dtype)


@dataclass(frozen=True)
class Draws(Solver):
    """Random targets, until the budget ends."""

    name = "draws"
    accepts = (LayerProblem,)
    one_step = "one draw"
    stochastic = True

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        stopped = False
        while not stopped:
            report.offer(self.draw(problem, generator, report))
            stopped = report.step()

    def draw(self, problem: Problem, generator: torch.Generator, report: Report) -> Tensor:
        return spins(problem, generator)


@dataclass(frozen=True)
class OtherValues(Draws):
    """Draws halves too."""

    def draw(self, problem: Problem, generator: torch.Generator, report: Report) -> Tensor:
        return spins(problem, generator) / 2


@dataclass(frozen=True)
class Boaster(Draws):
    """Claims that what it finds is optimal."""

    def draw(self, problem: Problem, generator: torch.Generator, report: Report) -> Tensor:
        drawn = spins(problem, generator)
        report.prove(problem.objective(drawn))
        return drawn


@dataclass(frozen=True)
class LaterBoaster(Draws):
    """Claims too much only where nothing is wanted."""

    def draw(self, problem: Problem, generator: torch.Generator, report: Report) -> Tensor:
        drawn = spins(problem, generator)
        if isinstance(problem, LayerProblem) and problem.loss != "cross-entropy" and not problem.targets.any():
            report.offer(torch.ones_like(drawn))
            report.prove(report.objective)
        return drawn


@dataclass(frozen=True)
class Unfinished(Draws):
    """Called exact, but proves nothing."""

    exact = True

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        report.offer(spins(problem, generator))
        report.step()


@dataclass(frozen=True)
class GlobalDraws(Draws):
    """Draws from torch's global generator."""

    def draw(self, problem: Problem, generator: torch.Generator, report: Report) -> Tensor:
        return spins(problem, None)


@dataclass(frozen=True)
class Constant(Draws):
    """Called stochastic, but never draws."""

    def draw(self, problem: Problem, generator: torch.Generator, report: Report) -> Tensor:
        return torch.ones(*problem.batch_shape, problem.n_vars, dtype=problem.dtype)


@dataclass(frozen=True)
class SecretlyRandom(Draws):
    """Draws, but is not called stochastic."""

    stochastic = False


@dataclass(frozen=True)
class Vandal(Draws):
    """Writes to the problem's tensors."""

    def draw(self, problem: Problem, generator: torch.Generator, report: Report) -> Tensor:
        if isinstance(problem, LayerProblem):
            problem.weight.mul_(2)
        return spins(problem, generator)


@dataclass(frozen=True)
class Hoarder(Draws):
    """Remembers an earlier call."""

    calls: ClassVar[list[int]] = []

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        self.calls.append(1)
        generator.manual_seed(len(self.calls))
        super().run(problem, budget, generator, report)


@dataclass(frozen=True)
class Overstepper(Draws):
    """Takes three steps more than it may."""

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        super().run(problem, budget, generator, report)
        for _ in range(3):
            report.step()


@dataclass(frozen=True)
class Overrunner(Draws):
    """Says that it counts passes, and takes one more than it may."""

    counts_passes = True

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        report.offer(spins(problem, generator))
        report.spend(1 if budget.passes is None else budget.passes + 1)
        report.step()


@dataclass(frozen=True)
class Uncounted(Draws):
    """Counts no step."""

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        report.offer(spins(problem, generator))
        report.pulse()


@dataclass(frozen=True)
class Endless(Draws):
    """Heeds nothing that the report says."""

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        while True:
            report.offer(spins(problem, generator))
            report.step()


@dataclass(frozen=True)
class Sleeper(Draws):
    """Looks at no clock, and tells nobody."""

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        time.sleep(0.8)
        report.offer(spins(problem, generator))
        report.step()


@dataclass(frozen=True)
class OwnClock(Draws):
    """Keeps time by itself."""

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        ends = time.monotonic() + (budget.seconds or 60)
        for _ in range(budget.steps or 10**6):
            report.offer(spins(problem, generator))
            report.step()
            if time.monotonic() > ends:
                return


@dataclass(frozen=True)
class Deaf(Draws):
    """Heeds its budget, but not the callback."""

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        for _ in range(20 if budget.steps is None else min(budget.steps, 20)):
            report.offer(spins(problem, generator))
            report.step()


@dataclass(frozen=True)
class NeedsStart(Draws):
    """Fails without a start, instead of saying so."""

    def draw(self, problem: Problem, generator: torch.Generator, report: Report) -> Tensor:
        assert problem.start is not None
        return problem.start


@dataclass(frozen=True)
class OwnStart(Draws):
    """Begins at the problem's start where the report says another."""

    def draw(self, problem: Problem, generator: torch.Generator, report: Report) -> Tensor:
        return spins(problem, generator) if problem.start is None else problem.start


@dataclass(frozen=True)
class Omnivore(Draws):
    """Forgets to ask the base class what it accepts."""

    def check(self, problem: Problem) -> None:
        pass


@dataclass(frozen=True)
class Scribbler(Draws):
    """Leaves something in the result that no file holds."""

    def draw(self, problem: Problem, generator: torch.Generator, report: Report) -> Tensor:
        report.stats["problem"] = problem
        return spins(problem, generator)


@dataclass(frozen=True)
class Annotated(Draws):
    """Its name became a setting."""

    name: str = "annotated"  # pyright: ignore[reportIncompatibleVariableOverride]


class Undecorated(Draws):
    """No dataclass of its own."""


@dataclass(frozen=True)
class Stepless(Draws):
    """Does not say what a step is."""

    one_step = ""


WRONG = {
    OtherValues: "check_targets",
    Boaster: "check_bounds",
    LaterBoaster: "check_degenerate_problems",
    Unfinished: "check_bounds",
    GlobalDraws: "check_equal_seeds",
    Constant: "check_seed_matters",
    SecretlyRandom: "check_seed_matters",
    Vandal: "check_input",
    Hoarder: "check_reuse",
    Overstepper: "check_steps",
    Overrunner: "check_passes",
    Uncounted: "check_steps",
    Endless: "check_steps",
    Sleeper: "check_seconds",
    OwnClock: "check_clock",
    Deaf: "check_callback_stops",
    NeedsStart: "check_no_start",
    OwnStart: "check_start_of_report",
    Omnivore: "check_refusals",
    Scribbler: "check_saving",
    Annotated: "check_class",
    Undecorated: "check_class",
    Stepless: "check_class",
}
CHECKS = {check.__name__: check for check in SOLVER_CHECKS}


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solvers that are late on a quiet machine too need no second chance."""
    monkeypatch.setattr("tpsolve.testing._solver_checks.ATTEMPTS", 1)


@pytest.mark.slow
def test_solver_that_keeps_the_contract_passes_every_check():
    check_solver(Draws())


@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
def test_wrong_solver_fails_the_check_that_is_meant_for_it(kind: type[Solver], one_attempt: None):
    with pytest.raises(AssertionError):
        CHECKS[WRONG[kind]](kind())


@pytest.mark.parametrize(
    ("kind", "check", "words"),
    [
        (Scribbler, "check_saving", "the result can't be saved"),
        (OtherValues, "check_targets", "other values, such as"),
        (GlobalDraws, "check_global_randomness", "a global random state changed"),
        (Endless, "check_seconds", "a budget of 0.1 s, but inf s were taken"),
        (Endless, "check_callback_stops", "Heed report.step()"),
        (Uncounted, "check_steps", "no step was counted"),
        (Overrunner, "check_passes", "a budget of 1 passes, but [2, 2"),
        (Vandal, "check_input", "LayerProblem.weight was changed in place"),
        (Annotated, "check_class", "['name'] became settings"),
        (Stepless, "check_class", "Stepless has no one_step"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_message_says_what_is_wrong(kind: type[Solver], check: str, words: str, one_attempt: None):
    with pytest.raises(AssertionError) as failed:
        CHECKS[check](kind())
    assert words in str(failed.value)


def test_every_check_but_that_of_the_gpu_has_a_solver_that_fails_it():
    caught = {*WRONG.values(), "check_global_randomness"}
    # A callback can change a result only through its clock; a budget of nothing is a budget.
    assert set(CHECKS) - caught == {"check_callback_is_passive", "check_smallest_budgets", "check_gpu"}


class Foreign(Problem):
    """A kind of problem that the checks have not heard of."""


def test_solver_of_other_problems_is_told_that_the_checks_have_none():
    @dataclass(frozen=True)
    class Elsewhere(Draws):
        """Takes no problem of tpsolve's."""

        accepts = (Foreign,)

    for check in ("check_targets", "check_steps"):
        with pytest.raises(AssertionError, match=r"takes none|refuses every"):
            CHECKS[check](Elsewhere())


def test_tests_are_made_of_subjects_and_checks():
    mark = parametrize_with_checks([Draws()])
    names, rows = mark.args
    assert names == ("subject", "check")
    assert [row.id for row in rows] == [f"draws-{check}" for check in CHECKS]
    wrong: Any = "hill-climb"
    with pytest.raises(ArgumentError, match="settings of a solver or a learner"):
        parametrize_with_checks([wrong])


@parametrize_with_checks([Draws()])
def test_the_decorator_makes_tests_that_run(subject: Solver, check: Any):
    assert isinstance(subject, Draws)
    assert CHECKS[check.__name__] is check
