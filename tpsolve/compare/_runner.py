"""Runs a comparison: every instance, solver and seed under one budget; a row on disk for each."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from tpsolve._check_arguments import find_device
from tpsolve._storage._folder_lock import locked
from tpsolve.compare._run_folder import (
    Comparison,
    check_alike,
    check_folder,
    claim_folder,
    delete_comparison,
    finished_rows,
    keep,
    save_instances,
    saved_instances,
)
from tpsolve.compare._suites import SUITES
from tpsolve.compare.running._tasks import Task, carry_out, conditions
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError
from tpsolve.problems import Instance, Problem
from tpsolve.search import SOLVERS, Solver, find_solver, solver_text


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
        FolderError: the folder can't be written, or holds another comparison, rows of other problems, or rows that
            were made with other versions or another number of threads.
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
    saved = None if fresh else saved_instances(comparison.folder, find_device(comparison.device))
    instances = _made_instances(comparison) if saved is None else saved
    tasks = list({task.key: task for task in _tasks(comparison, instances, note)}.values())
    if fresh:
        delete_comparison(comparison.folder)
    claim_folder(comparison)
    if saved is None:
        save_instances(comparison, instances)
    rows = finished_rows(comparison, tasks)
    waiting = [task for task in tasks if task.key not in rows]
    if waiting:
        check_alike(comparison, list(rows.values()), conditions())
    for task in waiting:
        if progress is not None:
            progress(len(rows), len(tasks), f"{solver_text(task.solver)} on {task.instance.name}")
        solved = carry_out(task, stop)
        if stop():
            break
        keep(comparison, solved)
        rows[task.key] = solved.row
    if progress is not None:
        progress(len(rows), len(tasks), "")
    return [rows[task.key] for task in tasks if task.key in rows]


def _made_instances(comparison: Comparison) -> list[Instance[Problem]]:
    device = find_device(comparison.device)
    if comparison.tables is not None:
        made = comparison.tables.instances()
    else:
        made = SUITES[comparison.suite](comparison.samples, comparison.suite_seed)
    return [Instance(instance.name, instance.problem.to(device)) for instance in made]


def _tasks(comparison: Comparison, instances: list[Instance[Problem]], note: Callable[[str], None]) -> Iterator[Task]:
    # Once for each instance: it takes a while.
    fingerprints = {instance.name: instance.problem.fingerprint for instance in instances}
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
                yield Task(instance, solver, seed, comparison.budget, fingerprints[instance.name])


def _refusals(solver: Solver, instances: list[Instance[Problem]]) -> dict[str, ArgumentError]:
    """Why the solver does not take an instance, by the names of those."""
    found: dict[str, ArgumentError] = {}
    for instance in instances:
        try:
            solver.check(instance.problem)
        except (NotAcceptedError, TooLargeError) as error:
            found[instance.name] = error
    return found
