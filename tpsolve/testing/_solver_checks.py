"""What every solver promises, one function a promise; each takes the solver's settings."""

import copy
import dataclasses
import math
import pickle
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from tpsolve._result import Budget, Progress, Result, load_result
from tpsolve.errors import BudgetError, ContradictionError, NotAcceptedError, ShapeError, ValueSetError
from tpsolve.problems import BlockProblem, LayerProblem, NetworkProblem, Problem, ProgramProblem
from tpsolve.search import LocalSolver, Report, Solver, solve
from tpsolve.search._naming import with_parts
from tpsolve.testing._cases import (
    Case,
    busy_problems,
    cases_of,
    losses_of,
    random_block_problem,
    random_layer_problem,
    random_network_problem,
    random_program_problem,
    takes,
)
from tpsolve.testing._laws import equal_results, require, require_valid

STEPS = Budget(seconds=1, steps=15)
"""Of searches whose length does not matter."""
EXTRA_STEPS = 16
"""By how much a native or exact solver may exceed its steps: it ends at its next conflict or node."""
ATTEMPTS = 3
"""Runs of which one must be in time: the machine may be busy during another."""
LATE = 0.5
"""Seconds by which a search may exceed twice its budget: what a native solver needs to start and to end."""


LOOKS = 12
"""At a clock that then shows that time is over."""


class _Clock:
    """Stands still for so many looks, and then shows that all time is over."""

    def __init__(self, looks: int):
        self.looks = looks

    def perf_counter(self) -> float:
        self.looks -= 1
        return 0.0 if self.looks >= 0 else 1e6


class OverrunError(Exception):
    """Raised from a callback, to end a search that does not end by itself."""


def check_class(solver: Solver) -> None:
    """Settings are a frozen dataclass with defaults, equal, hashable, picklable; the class says what it is."""
    kind = type(solver)
    require("__dataclass_params__" in vars(kind), f"{kind.__name__} is no dataclass of its own: add @dataclass")
    for attribute in ("name", "accepts", "one_step"):
        require(getattr(kind, attribute, None), f"{kind.__name__} has no {attribute}")
    settings = {field.name for field in dataclasses.fields(kind)}
    stray = settings & {"name", "accepts", "losses", "one_step", "exact", "stochastic", "needs_start", "module"}
    require(not stray, f"{sorted(stray)} became settings: leave out their annotations")
    require((kind.__doc__ or "").strip() and not (kind.__doc__ or "").startswith(f"{kind.__name__}("), "no docstring")
    require(all(issubclass(one, Problem) for one in kind.accepts), "accepts holds something else than problems")
    for field in dataclasses.fields(kind):
        try:
            setattr(solver, field.name, getattr(solver, field.name))
        except dataclasses.FrozenInstanceError:
            continue
        raise AssertionError(f"{field.name} can be changed: @dataclass(frozen=True)")
    require(kind() == kind(), "two objects with the default settings differ")
    for twin in (copy.deepcopy(solver), dataclasses.replace(solver), pickle.loads(pickle.dumps(solver))):
        require(twin == solver and hash(twin) == hash(solver), "a copy differs from the original")


def check_targets(solver: Solver) -> None:
    """Targets have the problem's value sets, shape, dtype and device, and cost what the result says."""
    for case in _cases(solver):
        result = _solved(case, solver, STEPS)
        require_valid(case.problem, result, case.name)
        found, true = result.objective.reshape(-1), case.value(result.targets)
        same = (found == true) | ((found - true).abs() <= 2 * case.rounding)
        require(same.all(), f"{case.name}: objective {found.tolist()} of targets that cost {true.tolist()}")


def check_bounds(solver: Solver) -> None:
    """No bound, final or on the way, exceeds the optimum over all targets; with time, an exact solver meets it."""
    for case in _cases(solver):
        budget = Budget(seconds=60) if solver.exact else STEPS
        optimum, slack = case.optimum, case.rounding
        result = _solved(case, solver, budget)
        bound, objective = result.bound.reshape(-1), result.objective.reshape(-1)
        require((bound <= optimum + slack).all(), f"{case.name}: bound {bound.tolist()}, optimum {optimum.tolist()}")
        mean = float((optimum + slack).mean())  # +inf where a sample has no answer
        highest = max(moment.bound for moment in result.trace)
        require(
            highest <= mean or highest <= mean + 1e-12 * abs(mean),
            f"{case.name}: a mean bound of {highest} in the trace, optimum {mean}",
        )
        if solver.exact:
            closed = (objective == bound) | ((objective - bound) <= case.tolerance)
            require(
                closed.all(), f"{case.name}: exact, but the gap is open: {objective.tolist()}, bound {bound.tolist()}"
            )


def check_degenerate_problems(solver: Solver) -> None:
    """Don't-cares, a single target, ties, weights of 0, and nothing wanted at all are solved like any other problem."""
    for case in _cases(solver, degenerate=True):
        result = _solved(case, solver, STEPS)
        require_valid(case.problem, result, case.name)
        bound, optimum = result.bound.reshape(-1), case.optimum
        require((bound <= optimum + case.rounding).all(), f"{case.name}: bound {bound.tolist()} above the optimum")


def check_equal_seeds(solver: Solver) -> None:
    """Equal seeds and steps give equal results; without a generator the seed is 0."""
    for problem in _busy(solver):
        for steps, seed in ((2, 0), (12, 11)):
            budget = Budget(steps=steps)
            first = solve(problem, solver, budget=budget, generator=_seeded(seed))
            again = solve(problem, solver, budget=budget, generator=None if seed == 0 else _seeded(seed))
            same = equal_results(first, again)
            require(same, f"{_kind(problem)}, {steps} steps, seed {seed}: runs differ. Draw from `generator` only")


def check_seed_matters(solver: Solver) -> None:
    """Without `stochastic` the seed changes nothing; with it, it matters to a search without a start.

    The second half is asked of solvers that take layer problems without start; and it is not asked where all seeds find
    the optimum at once.
    """
    if not solver.stochastic:
        for problem in _busy(solver):
            runs = [solve(problem, solver, budget=Budget(steps=3), generator=_seeded(s)) for s in range(2)]
            require(all(equal_results(runs[0], run) for run in runs), "not stochastic, but the seed changes the result")
        return
    for loss in losses_of(solver)[:1]:
        make = partial(random_layer_problem, 3, n=12, m=6, loss=loss, batch=(4,), started=False)
        case = Case("no start", make)
        if not takes(solver, case.problem):
            continue
        # The first step may draw nothing, the last ones may lead all seeds to the optimum.
        for steps in (1, 20):
            runs = [solve(case.problem, solver, budget=Budget(steps=steps), generator=_seeded(s)) for s in range(5)]
            different = any(not torch.equal(run.targets, runs[0].targets) for run in runs)
            if different or all((run.objective <= case.optimum + 2 * case.rounding).all() for run in runs):
                break
        else:
            raise AssertionError("stochastic, but five seeds give equal targets")


def check_global_randomness(solver: Solver) -> None:
    """The random states of torch, numpy and Python are left alone."""
    for problem in _busy(solver):
        before = _global_states()
        solve(problem, solver, budget=Budget(steps=5))
        require(_global_states() == before, "a global random state changed. Draw from `generator` only")


def check_input(solver: Solver) -> None:
    """The problem and the settings are as before."""
    for problem in _busy(solver):
        before, settings = _tensors(problem), copy.deepcopy(solver)
        solve(problem, solver, budget=Budget(steps=5))
        after = _tensors(problem)
        for name, tensor in before.items():
            require(torch.equal(tensor, after[name]), f"{_kind(problem)}.{name} was changed in place")
        require(solver == settings, "the settings changed")


def check_reuse(solver: Solver) -> None:
    """One object serves many problems: what it did before changes nothing."""
    first = _busy(solver)
    for problem in first:
        fresh = solve(problem, copy.deepcopy(solver), budget=Budget(steps=10))
        for other in (*first, *(case.problem for case in _cases(solver)[:2])):
            solve(other, solver, budget=Budget(steps=2))
        again = solve(problem, solver, budget=Budget(steps=10))
        require(equal_results(again, fresh), f"{_kind(problem)}: an earlier call changed the result")


def check_steps(solver: Solver) -> None:
    """A budget in steps is kept, and at least one step is counted."""
    for problem in _busy(solver):
        for steps in (1, 5):
            most = steps + EXTRA_STEPS * (solver.exact or solver.module is not None)

            def guard(progress: Progress, most: int = most) -> None:
                if progress.step > most:
                    raise OverrunError

            try:
                result = solve(problem, solver, budget=Budget(steps=steps), callback=guard)
            except OverrunError:
                raise AssertionError(f"a budget of {steps} steps, but the search goes on. Heed report.step()") from None
            counted = result.stats["steps"]
            require(counted <= most, f"a budget of {steps} steps, but {counted} were counted")
            require(counted >= 1 or bool(result.optimal.all()), "no step was counted. Call report.step()")


def check_passes(solver: Solver) -> None:
    """A budget in passes is kept and what was taken is told, or refused by a solver that counts none."""
    for problem in _busy(solver):
        if not isinstance(problem, LayerProblem | BlockProblem):
            continue
        for passes in (1, 3, 20):
            budget = Budget(passes=passes)
            if not all(part.counts_passes for part in with_parts(solver)):
                try:
                    solve(problem, solver, budget=Budget(seconds=1, passes=passes))
                except BudgetError:
                    break
                raise AssertionError("a budget in passes was taken without counts_passes")
            result = solve(problem, solver, budget=budget)
            require_valid(problem, result, f"{_kind(problem)}, {budget}")
            taken = result.stats["passes"]
            require((taken <= passes).all(), f"a budget of {passes} passes, but {taken.tolist()} were taken")
            again = solve(problem, solver, budget=budget)
            require(equal_results(result, again), f"{_kind(problem)}: {passes} passes give other results once more")


def check_seconds(solver: Solver) -> None:
    """A budget in seconds is kept: at most twice as long, and half a second more for what can't be interrupted."""
    seconds = 0.1
    most = 2 * seconds + LATE
    for problem in _large(solver):
        attempts = (_seconds_taken(solver, problem, seconds, most) for _ in range(ATTEMPTS))
        taken = next((taken for taken in attempts if taken <= most), math.inf)
        require(taken <= most, f"{_kind(problem)}: a budget of {seconds} s, but {taken:.2f} s were taken. Heed report")


def check_clock(solver: Solver) -> None:
    """When time is over, the search ends at its next step. Asked of solvers of layer problems that are not exact."""
    if solver.exact:
        return
    for problem in _large(solver):
        if isinstance(problem, LayerProblem):
            free = solve(problem, solver, budget=Budget(steps=24)).stats["steps"]
            with patch("tpsolve.search._base.time", _Clock(LOOKS)):
                result = solve(problem, solver, budget=Budget(seconds=0.3, steps=24))
            require_valid(problem, result, _kind(problem))
            steps = result.stats["steps"]
            require(steps <= LOOKS, f"{steps} steps, though time was over after {LOOKS} looks at the clock")
            require(steps < free or free <= 1, f"as many steps as without a limit in seconds: {free}")


def check_smallest_budgets(solver: Solver) -> None:
    """Next to no time or a single step is a result, too."""
    for problem in _busy(solver):
        for budget in (Budget(seconds=1e-6), Budget(steps=1), Budget(seconds=1e-6, steps=1)):
            require_valid(problem, solve(problem, solver, budget=budget), f"{_kind(problem)}, {budget}")


def check_callback_stops(solver: Solver) -> None:
    """The callback hears `Progress`; if it returns True, the search ends with what it has."""
    for problem in _busy(solver):
        heard: list[Progress] = []

        def stop(progress: Progress, heard: list[Progress] = heard) -> bool:
            if len(heard) > 100:
                raise OverrunError
            heard.append(progress)
            return True

        try:
            result = solve(problem, solver, budget=Budget(seconds=60), callback=stop)
        except OverrunError:
            raise AssertionError("the callback asked to stop 100 times. Heed report.step() or report.pulse()") from None
        require_valid(problem, result, _kind(problem))
        # What follows are the last words of the parts of a solver, and of the call.
        require(1 <= len(heard) <= 5, f"the callback that asks to stop was called {len(heard)} times")
        _require_last_words(heard[-1], result)


def check_callback_is_passive(solver: Solver) -> None:
    """A callback that returns nothing changes nothing."""
    for problem in _busy(solver):
        heard: list[Progress] = []
        silent = solve(problem, solver, budget=Budget(steps=10))
        told = solve(problem, solver, budget=Budget(steps=10), callback=heard.append)
        require(equal_results(told, silent), f"{_kind(problem)}: a callback changed the result")
        require(heard, "the callback was never called: call report.step() or report.pulse()")


def check_no_start(solver: Solver) -> None:
    """A layer problem without activations is solved, or refused before any work."""
    for loss in losses_of(solver)[:1]:
        bare = random_layer_problem(1, n=4, m=3, loss=loss, batch=(2,), started=False)
        if takes(solver, bare):
            require_valid(bare, solve(bare, solver, budget=STEPS), "no start")
            continue
        try:
            solve(bare, solver, budget=STEPS)
        except NotAcceptedError as error:
            require("start" in str(error), f"refused without a word of the start: {error}")


def check_start_of_report(solver: Solver) -> None:
    """A search that is a part of another begins at `report.start`, wherever the problem's own start is.

    Asked of solvers of layer problems that do not read the activations (`needs_start`); a local search is asked too
    that it ends no higher than it began.
    """
    if solver.needs_start:
        return
    for loss in losses_of(solver)[:1]:
        first = random_layer_problem(5, n=8, m=6, loss=loss, batch=(3,))
        assert first.start is not None
        second = LayerProblem(first.weight, first.targets, first.bias, loss, start=-first.start)
        if not takes(solver, first):
            continue
        begin = solve(first, "hill-climb:restarts=4", budget=Budget(steps=100)).targets
        found = [_searched_from(solver, problem, begin) for problem in (first, second)]
        same = torch.equal(found[0].targets, found[1].targets)
        require(same, "report.start was given, but the result depends on problem.start. Begin at report.start")
        if isinstance(solver, LocalSolver):
            worse = found[0].objective > first.objective(begin) + 2 * first.rounding()
            require(not worse.any(), "a local search ended above the targets where it began")


def check_refusals(solver: Solver) -> None:
    """Problems of kinds that are not in `accepts` are refused before any work."""
    others = (
        random_layer_problem(1, n=3, m=2),
        random_block_problem(3, 2),
        random_network_problem(4),
        random_program_problem(2, 2, constrained=True),
    )
    for problem in others:
        if not isinstance(problem, solver.accepts):
            try:
                solve(problem, solver, budget=Budget(steps=1))
            except NotAcceptedError:
                continue
            raise AssertionError(f"a {_kind(problem)} was not refused. Begin check() with super().check(problem)")


def check_saving(solver: Solver) -> None:
    """A result is written to a file and read back; what a solver adds to `report.stats` must be plain."""
    for problem in _busy(solver):
        result = solve(problem, solver, budget=Budget(steps=5))
        with tempfile.TemporaryDirectory() as folder:
            try:
                result.save(Path(folder) / "result.npz", fingerprint=problem.fingerprint)
            except TypeError as error:
                raise AssertionError(f"the result can't be saved: {error}") from error
            loaded, fingerprint = load_result(Path(folder) / "result.npz")
        require(fingerprint == problem.fingerprint, "another fingerprint")
        for name in ("targets", "objective", "bound"):
            require(torch.equal(getattr(loaded, name), getattr(result, name)), f"{name} differs after saving")
        require(loaded.trace == result.trace and loaded.status == result.status, "trace or status differs after saving")


def check_gpu(solver: Solver) -> None:
    """Problems on a CUDA device get their results there; where there is no such device, nothing is asked."""
    if torch.cuda.is_available():
        for problem in _busy(solver):
            there = problem.to("cuda")
            require_valid(there, solve(there, solver, budget=Budget(steps=20)), f"{_kind(problem)} on cuda")


SOLVER_CHECKS: tuple[Callable[[Solver], None], ...] = (
    check_class,
    check_targets,
    check_bounds,
    check_degenerate_problems,
    check_equal_seeds,
    check_seed_matters,
    check_global_randomness,
    check_input,
    check_reuse,
    check_steps,
    check_passes,
    check_seconds,
    check_clock,
    check_smallest_budgets,
    check_callback_stops,
    check_callback_is_passive,
    check_no_start,
    check_start_of_report,
    check_refusals,
    check_saving,
    check_gpu,
)
"""What `check_solver` runs, in this order; the docstring of each says what it asserts."""


def _cases(solver: Solver, *, degenerate: bool = False) -> list[Any]:
    found = list(cases_of(solver, degenerate=degenerate))
    layers = issubclass(LayerProblem, solver.accepts)
    require(found or (degenerate and not layers), f"{solver.name} refuses every small problem of the kinds it accepts")
    return found


def _solved(case: Case, solver: Solver, budget: Budget) -> Result:
    try:
        return solve(case.problem, solver, budget=budget)
    except (ShapeError, ValueSetError, ContradictionError) as error:
        raise AssertionError(f"{case.name}: {error}") from error


def _busy(solver: Solver) -> list[Problem]:
    found = busy_problems(solver)
    kinds = ", ".join(kind.__name__ for kind in (LayerProblem, BlockProblem, NetworkProblem, ProgramProblem))
    require(found, f"{solver.name} takes none of the problems of the checks: {kinds}")
    return found


def _large(solver: Solver) -> list[Problem]:
    """Layer problems that keep a search busy for seconds, and for other kinds the busy ones."""
    loss = next(iter(losses_of(solver)), None)
    rest = [problem for problem in _busy(solver) if not isinstance(problem, LayerProblem)]
    layers = [] if loss is None else [random_layer_problem(4, n=22, m=30, loss=loss, batch=(3,), weighted=True)]
    return [problem for problem in layers if takes(solver, problem)] + rest


def _seconds_taken(solver: Solver, problem: Problem, seconds: float, most: float) -> float:
    def guard(progress: Progress) -> None:
        if progress.seconds > most:
            raise OverrunError

    began = time.perf_counter()
    try:
        require_valid(problem, solve(problem, solver, budget=Budget(seconds=seconds), callback=guard))
    except OverrunError:
        return math.inf
    return time.perf_counter() - began


def _require_last_words(progress: Progress, result: Result) -> None:
    for name, mean in (("objective", result.objective.mean()), ("bound", result.bound.mean())):
        told, kept = getattr(progress, name), float(mean)
        require(math.isclose(told, kept, rel_tol=1e-9), f"the last {name} told is {told}, that of the result {kept}")


def _searched_from(solver: Solver, problem: Problem, start: Tensor) -> Report:
    report = Report(problem.flatten(), Budget(steps=8), None)
    report.run(solver, _seeded(0), start=start)
    return report


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _global_states() -> tuple[Any, ...]:
    state: Any = np.random.get_state()
    return torch.get_rng_state().tolist(), state[1].tolist(), state[2:], random.getstate()


def _tensors(problem: Problem) -> dict[str, Tensor]:
    """Copies of the tensors that the problem holds, those of its modules too, by name."""
    found: dict[str, Tensor] = {}
    for name, value in vars(problem).items():
        if isinstance(value, Tensor):
            found[name] = value.clone()
        elif isinstance(value, torch.nn.Module):
            found |= {f"{name}.{key}": tensor.clone() for key, tensor in value.state_dict().items()}
    return found


def _kind(problem: Problem) -> str:
    return type(problem).__name__
