"""Runs a comparison: every instance, solver and seed under one budget; a row on disk for each."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from tpsolve._check_arguments import check_count, find_device
from tpsolve._storage._folder_lock import RUN, locked
from tpsolve.compare._run_folder import (
    LOCK,
    Comparison,
    Shard,
    check_alike,
    check_folder,
    check_worker,
    claim_folder,
    delete_comparison,
    finished_rows,
    keep,
    key_of,
    read_rows,
    save_instances,
    saved_instances,
)
from tpsolve.compare._suites import SUITES
from tpsolve.compare.running._execute import Anywhere, Workers, here, spread
from tpsolve.compare.running._tasks import Task, conditions
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError
from tpsolve.problems import Instance, Problem
from tpsolve.search import SOLVERS, Solver, find_solver, solver_text

LONG_STEPS = ("milp", "big-m")
"""Solvers whose step is a node of HiGHS, the root with all that is done there: nine tenths of a comparison by steps."""


def run_comparison(
    comparison: Comparison,
    *,
    fresh: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    note: Callable[[str], None] = lambda _: None,
    workers: int = 1,
    executor: Executor | None = None,
    shard: Shard | None = None,
) -> list[dict[str, Any]]:
    """Solve what has no row yet, and return the rows of all finished tasks, in the order of the tasks.

    With a budget in steps, rows are the same however many workers or shards there are, but for what is measured:
    seconds, load, time.

    Args:
        fresh: delete the comparison that the folder holds, once this one can begin.
        progress: called with (rows finished, rows in all, what is solved now).
        stop: asked many times a second; True ends cleanly, dropping only the solves under way.
        note: told of each solver named in `comparison.solvers` that does not take all instances.
        workers: tasks at a time. Several have a process each, with one thread. A task whose process dies is begun once
            more; if its process dies again, its row has that as its error.
        executor: carries out the tasks in place of processes of this machine, `workers` at a time, with one thread
            each, which is set for good in the processes that it uses. It may be of another library. Its workers need
            the same versions.
        shard: only these tasks; other processes, also on other machines that share the folder, may do others. Rows of
            shards have files of their own, which every reading of the folder merges.

    Raises:
        NotAcceptedError, TooLargeError: a solver named in `comparison.solvers` takes no instance; before any work.
        FolderInUseError: another process writes into the folder.
        FolderError: the folder can't be written, or holds another comparison, rows of other problems, or rows that
            were made with other versions or another number of threads.
        FileFormatError: its files are damaged.
        WorkerError: a worker can't be started, or has other versions.
    """
    check_count("workers", workers, 1)
    if fresh and shard is not None:
        raise ArgumentError("fresh", "it for a shard", "no fresh", "It would delete the rows of the other shards.")
    check_folder(comparison, fresh)
    with locked(comparison.folder, RUN if shard is None else LOCK.format(shard)):
        tasks = _plan(comparison, fresh, note)
        if shard is not None:
            tasks = tasks[shard.number - 1 :: shard.of]
        return _execute(comparison, tasks, progress, stop, workers, executor, shard)


def _plan(comparison: Comparison, fresh: bool, note: Callable[[str], None]) -> list[Task]:
    """All tasks; the folder holds their instances then."""
    if not fresh:
        # Another process may have changed the folder before this one locked it.
        check_folder(comparison, fresh)
    saved = None if fresh else saved_instances(comparison.folder, find_device(comparison.device))
    instances = _made_instances(comparison) if saved is None else saved
    # Before the folder is touched: a solver may take no instance.
    tasks = _tasks(comparison, instances, note)
    if fresh:
        delete_comparison(comparison.folder)
    claim_folder(comparison)
    if saved is None:
        kept = save_instances(comparison, instances)
        if kept is not instances:
            tasks = _tasks(comparison, kept, note)
    return tasks


def _execute(
    comparison: Comparison,
    tasks: list[Task],
    progress: Callable[[int, int, str], None] | None,
    stop: Callable[[], bool],
    workers: int,
    executor: Executor | None,
    shard: Shard | None,
) -> list[dict[str, Any]]:
    """Carry out the tasks that have no row; this process alone writes."""
    rows = finished_rows(comparison, tasks)
    waiting = [task for task in tasks if task.key not in rows]
    apart = workers > 1 or executor is not None
    now = conditions(1 if apart else None)
    if waiting:
        check_alike(comparison.folder, read_rows(comparison.folder).values(), now)

    def begun(task: Task) -> None:
        if progress is not None:
            progress(len(rows), len(tasks), f"{solver_text(task.solver)} on {task.instance.name}")

    with ExitStack() as held:
        if not (apart and waiting):
            outcomes = here(waiting, stop, begun)
        else:
            waiting = [replace(task, threads=1) for task in waiting]
            count = min(workers, len(waiting))
            places = Anywhere(executor, count) if executor is not None else held.enter_context(Workers(count))
            outcomes = spread(waiting, places, stop, begun)
        for solved in outcomes:
            check_worker(solved.row, now)
            keep(comparison.folder, solved, shard)
            rows[key_of(solved.row)] = solved.row
    if progress is not None:
        progress(len(rows), len(tasks), "")
    return [rows[task.key] for task in tasks if task.key in rows]


def _made_instances(comparison: Comparison) -> list[Instance[Problem]]:
    device = find_device(comparison.device)
    given = comparison.tables or comparison.files
    if given is not None:
        made = given.instances()
    else:
        made = SUITES[comparison.suite](comparison.samples, comparison.suite_seed)
    return [Instance(instance.name, instance.problem.to(device)) for instance in made]


def _tasks(comparison: Comparison, instances: list[Instance[Problem]], note: Callable[[str], None]) -> list[Task]:
    """Each task once, in the order of the instances."""
    return list({task.key: task for task in _all_tasks(comparison, instances, note)}.values())


def _all_tasks(
    comparison: Comparison, instances: list[Instance[Problem]], note: Callable[[str], None]
) -> Iterator[Task]:
    # Once for each instance: it takes a while.
    fingerprints = {instance.name: instance.problem.fingerprint for instance in instances}
    chosen = comparison.solvers or tuple(name for name, kind in SOLVERS.items() if kind.compared and kind.installed())
    solvers = {text: find_solver(text) for text in chosen}
    refusals = {text: _refusals(solver, instances) for text, solver in solvers.items()}
    if comparison.steps is not None and not comparison.solvers:
        for name in LONG_STEPS:
            if len(refusals[name]) < len(instances):
                note(f"{name}: left out with steps, of which one can take minutes. --solver {name} has it.")
        chosen = tuple(name for name in chosen if name not in LONG_STEPS)
    for text in comparison.solvers:
        refused = refusals[text]
        if len(refused) == len(instances):
            raise next(iter(refused.values()))
        if refused:
            note(f"{text}: left out on {', '.join(refused)}. {next(iter(refused.values()))}")
    for instance, text in itertools.product(instances, chosen):
        if instance.name not in refusals[text]:
            solver, budget = solvers[text], comparison.budget_of(instance.problem)
            for seed in comparison.seeds if solver.stochastic else comparison.seeds[:1]:
                yield Task(instance, solver, seed, budget, fingerprints[instance.name])


def _refusals(solver: Solver, instances: list[Instance[Problem]]) -> dict[str, ArgumentError]:
    """Why the solver does not take an instance, by the names of those."""
    found: dict[str, ArgumentError] = {}
    for instance in instances:
        try:
            solver.check(instance.problem)
        except (NotAcceptedError, TooLargeError) as error:
            found[instance.name] = error
    return found
