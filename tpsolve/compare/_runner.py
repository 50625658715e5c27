"""Runs a comparison: every instance, solver and seed under one budget; a row on disk for each."""

import contextlib
import itertools
import math
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch

from tpsolve._check_arguments import find_device
from tpsolve._result import Progress, Result
from tpsolve._storage._folder_lock import locked
from tpsolve._version import __version__
from tpsolve.compare._run_folder import (
    Comparison,
    Task,
    check_folder,
    claim_folder,
    delete_comparison,
    finished_rows,
    limits_of,
    save_instances,
    saved_instances,
)
from tpsolve.compare._suites import SUITES
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError
from tpsolve.problems import Instance, LayerProblem, NetworkProblem, Problem, ProgramProblem
from tpsolve.search import SOLVERS, Solver, find_solver, solve, solver_text

LIBRARIES = ("torch", "ortools", "scipy", "numpy")


def run_comparison(
    comparison: Comparison,
    *,
    fresh: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    note: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Solve what has no row yet, and return the rows of all finished tasks.

    Args:
        fresh: delete the comparison that the folder holds, once this one can begin.
        progress: called with (rows finished, rows in all, what is solved now).
        stop: asked many times a second; True ends cleanly, dropping only the solve under way.
        note: told of each solver named in `comparison.solvers` that does not take all instances.

    Raises:
        NotAcceptedError, TooLargeError: a solver named in `comparison.solvers` takes no instance; before any work.
        FolderInUseError: another process writes into the folder.
        FolderError: the folder can't be written, or holds another comparison or rows of other problems.
        FileFormatError: its files are damaged.
    """
    check_folder(comparison, fresh)
    with locked(comparison.folder):
        return _run(comparison, fresh, progress, stop, note)


def _run(
    comparison: Comparison,
    fresh: bool,
    progress: Callable[[int, int, str], None] | None,
    stop: Callable[[], bool],
    note: Callable[[str], None],
) -> list[dict[str, Any]]:
    if not fresh:
        # Another process may have changed the folder before this one locked it.
        check_folder(comparison, fresh)
    saved = None if fresh else saved_instances(comparison)
    instances = _made_instances(comparison) if saved is None else saved
    tasks = list({task.key: task for task in _tasks(comparison, instances, note)}.values())
    if fresh:
        delete_comparison(comparison.folder)
    claim_folder(comparison)
    if saved is None:
        save_instances(comparison, instances)
    finished = finished_rows(comparison, tasks)
    done = [finished[task.key] for task in tasks if task.key in finished]
    waiting = [task for task in tasks if task.key not in finished]
    versions = _versions() if waiting else {}
    for task in waiting:
        if progress is not None:
            progress(len(done), len(tasks), f"{solver_text(task.solver)} on {task.instance.name}")
        row = _solve_task(task, comparison, versions, stop)
        if stop():
            break
        comparison.log.append(row)
        done.append(row)
    if progress is not None:
        progress(len(done), len(tasks), "")
    return done


def _made_instances(comparison: Comparison) -> list[Instance[Problem]]:
    device = find_device(comparison.device)
    if comparison.tables is not None:
        made = comparison.tables.instances()
    else:
        made = SUITES[comparison.suite](comparison.samples, comparison.suite_seed)
    return [Instance(instance.name, instance.problem.to(device)) for instance in made]


def _tasks(comparison: Comparison, instances: list[Instance[Problem]], note: Callable[[str], None]) -> Iterator[Task]:
    chosen = comparison.solvers or tuple(name for name, kind in SOLVERS.items() if kind.compared and kind.installed())
    solvers = {text: find_solver(text) for text in chosen}
    refusals = {text: _refusals(solver, instances) for text, solver in solvers.items()}
    for text in comparison.solvers:
        refused = refusals[text]
        if len(refused) == len(instances):
            raise next(iter(refused.values()))
        if refused:
            note(f"{text}: left out on {', '.join(refused)}. {next(iter(refused.values()))}")
    for instance, text in itertools.product(instances, chosen):
        if instance.name not in refusals[text]:
            solver = solvers[text]
            for seed in comparison.seeds if solver.stochastic else comparison.seeds[:1]:
                yield Task(instance, solver, seed)


def _refusals(solver: Solver, instances: list[Instance[Problem]]) -> dict[str, ArgumentError]:
    """Why the solver does not take an instance, by the names of those."""
    found: dict[str, ArgumentError] = {}
    for instance in instances:
        try:
            solver.check(instance.problem)
        except (NotAcceptedError, TooLargeError) as error:
            found[instance.name] = error
    return found


def _solve_task(
    task: Task, comparison: Comparison, versions: dict[str, str], stop: Callable[[], bool]
) -> dict[str, Any]:
    problem = task.instance.problem

    def callback(progress: Progress) -> bool:
        return stop()

    row = {
        "instance": task.instance.name,
        "solver": solver_text(task.solver),
        "settings": asdict(task.solver),
        "exact": task.solver.exact,
        "seed": task.seed,
        "budget": limits_of(comparison.budget),
        **_size(problem),
        "start": None if problem.start is None else problem.objective(problem.start).reshape(-1).tolist(),
        "fingerprint": problem.fingerprint,
        "device": _device_name(problem.device),
        "versions": versions,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    generator = torch.Generator().manual_seed(task.seed)
    try:
        result = solve(problem, task.solver, budget=comparison.budget, generator=generator, callback=callback)
    except Exception as error:  # A solver that fails is a row with its reason, not the end of the comparison.
        return {**row, "error": f"{type(error).__name__}: {error}"}
    return {**row, **_outcome(task.instance, result)}


def _size(problem: Problem) -> dict[str, Any]:
    """Columns of a row that depend on the kind of problem."""
    if isinstance(problem, NetworkProblem):
        layers = "-".join(map(str, (problem.inputs.shape[1], *problem.layers)))
        units = {"n_units": sum(problem.layers), "network": layers, "points": len(problem.inputs)}
        return {"loss": "training errors", "n_vars": problem.n_vars, **units}
    if isinstance(problem, ProgramProblem):
        loss = problem.loss if isinstance(problem.loss, str) else problem.loss.__name__
        size = {"n_vars": problem.n_vars, "n_units": problem.n_vars, "assignments": max(problem.count_assignments())}
        return {"loss": loss, **size}
    assert isinstance(problem, LayerProblem)
    return {"loss": problem.loss, "n_vars": problem.n_vars, "n_units": problem.n_units}


def _outcome(instance: Instance[Problem], result: Result) -> dict[str, Any]:
    """One entry a sample; a problem without a batch, such as a network's, is one sample."""
    problem, start = instance.problem, instance.problem.start
    tolerance = torch.zeros_like(result.objective) if result.tolerance is None else result.tolerance
    targets, tolerance = result.targets.reshape(-1, problem.n_vars), tolerance.reshape(-1)
    flat = Result(targets, result.objective.reshape(-1), result.bound.reshape(-1), tolerance=tolerance)
    flips = None if start is None else (flat.targets != start.reshape_as(flat.targets)).float().mean(-1).tolist()
    return {
        "objective": flat.objective.tolist(),
        "bound": _finite(flat.bound.tolist()),
        "tolerance": tolerance.tolist(),
        "status": [status.value for status in flat.status],
        "flips": flips,
        "seconds": result.stats["seconds"],
        "steps": result.stats["steps"],
        "found_at": _finite(result.stats["found_at"].reshape(-1).tolist()),
        "proved_at": _finite(result.stats["proved_at"].reshape(-1).tolist()),
        "notes": result.stats["notes"],
        "trace": [_finite([p.seconds, p.objective, p.bound]) for p in result.trace],
    }


def _finite(values: list[float]) -> list[float | None]:
    """JSON has no infinity: null stands for "not yet"."""
    return [value if math.isfinite(value) else None for value in values]


def _versions() -> dict[str, str]:
    """Of the libraries that are installed."""
    found = {"tpsolve": __version__}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads, {platform.machine()}"
