"""Runs a comparison: every instance, solver and seed under one budget; a row on disk for each."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tpsolve._check_arguments import check_count, find_device
from tpsolve._result import Budget
from tpsolve._storage._folder_lock import RUN, locked
from tpsolve._storage._memory_limit import check_memory
from tpsolve.compare._row_files import Places, key_of, parts_of, place_of, row_log
from tpsolve.compare._run_folder import (
    LOCK,
    Comparison,
    Shard,
    check_alike,
    check_finished,
    check_folder,
    check_of_one_kind,
    check_worker,
    claim_folder,
    conditions_of,
    delete_comparison,
    keep,
)
from tpsolve.compare._stored_rows import StoredRows, stored_rows
from tpsolve.compare.running._check_rows import check_kept
from tpsolve.compare.running._execute import Anywhere, Workers, here, spread
from tpsolve.compare.running._instances import AnyInstance, MadeInstance, save_instances, saved_instances
from tpsolve.compare.running._start import load_ahead
from tpsolve.compare.running._task_plan import Plan, Solve, Waiting
from tpsolve.compare.running._tasks import Task, conditions, limits_of
from tpsolve.compare.suites._suites import SUITES
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError, TpsolveError
from tpsolve.problems import Instance
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
    max_memory: float | None = None,
) -> StoredRows:
    """Solve what has no row yet, and return the rows of all finished tasks, in the order of the tasks.

    The rows are a sequence of dicts, as `rows.jsonl` has them. It takes little memory: each row is read from its file,
    as a new dict, when it is asked for. The files are held open, so that rows outlive their folder.

    With a budget in steps, rows are the same however many workers or shards there are, but for what is measured:
    seconds, load, time.

    Args:
        fresh: delete the comparison that the folder holds, once this one can begin.
        progress: called with (rows finished, rows in all, what is solved now).
        stop: asked many times a second; True ends cleanly, dropping only the solves under way.
        note: told of each solver named in `comparison.solvers` that does not take all instances, and what was checked
            of the rows of earlier runs: objectives are recomputed from their targets, of as many rows as it can do in
            3 s of the processor, whose instances are drawn at random.
        workers: tasks at a time. Several have a process each, with one thread. A task whose process dies is begun once
            more; if its process dies again, its row has that as its error.
        executor: carries out the tasks in place of processes of this machine, `workers` at a time, with one thread
            each, which is set for good in the processes that it uses. It may be of another library. Its workers need
            the same versions.
        shard: only these tasks; other processes, also on other machines that share the folder, may do others. Rows of
            shards have files of their own, which every reading of the folder merges.
        max_memory: GiB that each solve may take beyond what its process takes before. One that asks for more is a row
            with that error. Solves have processes of their own then, also with one worker. On Linux.

    Raises:
        NotAcceptedError, TooLargeError: a solver named in `comparison.solvers` takes no instance, or none of them takes
            one of `comparison.files`; before any work.
        FolderInUseError: another process writes into the folder.
        FolderError: the folder can't be written, or holds another comparison, rows of other problems, rows whose
            claims were found false, or rows that were made with other versions or another number of threads.
        FileFormatError: its files are damaged.
        WorkerError: a worker can't be started, or has other versions.
    """
    check_count("workers", workers, 1)
    if max_memory is not None:
        check_memory("max_memory", max_memory)
        if sys.platform != "linux":
            raise ArgumentError(
                "max_memory", f"{max_memory:g} on {sys.platform}", "Linux", "Other systems have no limit."
            )
    if fresh and shard is not None:
        raise ArgumentError("fresh", "it for a shard", "no fresh", "It would delete the rows of the other shards.")
    check_folder(comparison, fresh)
    if (workers > 1 or max_memory is not None) and executor is None:
        load_ahead()
    with locked(comparison.folder, RUN if shard is None else LOCK.format(shard)):
        tasks, known = _plan(comparison, fresh, note, shard)
        if shard is not None:
            tasks = _part(comparison, tasks, shard)
        tasks = tasks.limited(max_memory=max_memory)
        words = check_kept(comparison.folder, tasks, known.parts, known.places, stop)
        if words:
            note(words)
        return _execute(comparison, tasks, known, progress, stop, workers, executor, shard)


@dataclass
class _Known:
    """The rows that a folder holds.

    Args:
        parts: of its files. places: where in them the rows stand.
        conditions: each of the `conditions` under which rows were made.
        wrong: what was found first of a row that is not that of its task; None: all are.
    """

    parts: list[str]
    places: Places = field(default_factory=Places)
    conditions: dict[str, dict[str, Any]] = field(default_factory=dict)
    wrong: TpsolveError | None = None

    @classmethod
    def of(
        cls, comparison: Comparison, instances: Sequence[AnyInstance], solves: Sequence[Solve], own: str
    ) -> "_Known":
        """Read and check all rows, one after the other."""
        folder = comparison.folder
        found = cls(parts_of(folder, own))
        numbers = {instance.name: number for number, instance in enumerate(instances)}
        possible = {(text, seed) for _, text, seed in solves}
        budgets = {samples: limits_of(budget) for samples, budget in _budgets(comparison, instances).items()}
        for number, part in enumerate(found.parts):
            for row, start in row_log(folder, part).each():
                key = key_of(row)
                made = conditions_of(row)
                found.conditions.setdefault(repr(made), made)
                found.places.add(key, place_of(number, start))
                if found.wrong is None and key[0] in numbers and key[1:] in possible:
                    instance = instances[numbers[key[0]]]
                    budget = budgets[instance.samples]
                    try:
                        check_finished(comparison, row, instance.fingerprint, instance.samples, budget)
                    except TpsolveError as error:
                        found.wrong = error
        return found


def _plan(comparison: Comparison, fresh: bool, note: Callable[[str], None], shard: Shard | None) -> tuple[Plan, _Known]:
    """All tasks, and the rows that the folder holds; it holds their instances then."""
    if not fresh:
        # Another process may have changed the folder before this one locked it.
        check_folder(comparison, fresh)
    device = find_device(comparison.device)
    saved = None if fresh else saved_instances(comparison.folder, device)
    made = _made_instances(comparison) if saved is None else []
    instances = made if saved is None else saved
    # Before the folder is touched: a solver may take no instance.
    tasks, known = _tasks(comparison, instances, note, None if fresh else shard, fresh)
    if fresh:
        delete_comparison(comparison.folder)
    claim_folder(comparison)
    if saved is None:
        kept = save_instances(comparison.folder, made, device)
        if kept is not made:
            # Of another shard, that was faster, and may have rows of them.
            tasks, known = _tasks(comparison, kept, note, shard)
    if known.wrong is not None:
        raise known.wrong
    return tasks, known


def _part(comparison: Comparison, tasks: Plan, shard: Shard) -> Plan:
    """The tasks of a shard; in seconds those of whole instances, since only solves of one host are compared."""
    if comparison.steps is not None:
        return tasks[shard.number - 1 :: shard.of]
    instances = np.unique(tasks.of_instances)
    return tasks.take(np.isin(tasks.of_instances, instances[shard.number - 1 :: shard.of]))


def _execute(
    comparison: Comparison,
    tasks: Plan,
    known: _Known,
    progress: Callable[[int, int, str], None] | None,
    stop: Callable[[], bool],
    workers: int,
    executor: Executor | None,
    shard: Shard | None,
) -> StoredRows:
    """Carry out the tasks that have no row; this process alone writes."""
    folder, part = comparison.folder, known.parts.index(str(shard or ""))
    waiting = tasks.take(known.places.find(tasks.keys()) < 0)
    # A solve that runs out of memory may end its process.
    apart = workers > 1 or executor is not None or tasks.max_memory is not None
    now = conditions(1 if apart else None)
    check_of_one_kind(folder, known.conditions.values())
    if len(waiting):
        check_alike(folder, known.conditions.values(), now)
    finished = len(tasks) - len(waiting)

    def begun(task: Task) -> None:
        if progress is not None:
            progress(finished, len(tasks), task.title)

    with ExitStack() as held:
        if not (apart and waiting):
            outcomes = here(waiting, stop, begun)
        else:
            waiting = waiting.limited(threads=1)
            count = min(workers, len(waiting))
            places = Anywhere(executor, count) if executor is not None else held.enter_context(Workers(count))
            outcomes = spread(Waiting(waiting), places, stop, begun)
        for batch in outcomes:
            for solved in batch:
                check_worker(solved.row, now)
            starts = keep(folder, batch, shard)
            for solved, start in zip(batch, starts, strict=True):
                known.places.add(key_of(solved.row), place_of(part, start))
            finished += len(batch)
    if progress is not None:
        progress(finished, len(tasks), "")
    found = known.places.find(tasks.keys())
    return stored_rows(folder, known.parts, found[found >= 0])


def _made_instances(comparison: Comparison) -> list[MadeInstance]:
    device = find_device(comparison.device)
    given = comparison.tables or comparison.files
    if given is not None:
        made = given.instances()
    else:
        made = SUITES[comparison.suite](comparison.samples, comparison.suite_seed)
    _check_made(made, comparison.source)
    return [MadeInstance.of(Instance(instance.name, instance.problem.to(device))) for instance in made]


def _check_made(made: object, source: str) -> None:
    """Refuse what no comparison can be made of.

    Raises:
        ArgumentError: it is no list of instances, or two have one name, under which only one would have rows.
    """
    mend = 'Return [Instance("a", problem), ...].'
    if not isinstance(made, Sequence):
        raise ArgumentError("suite", f"{type(made).__name__} from {source}", "a list of Instance", mend)
    for each in made:
        if not isinstance(each, Instance):
            raise ArgumentError("suite", f"{type(each).__name__} in the list of {source}", "a list of Instance", mend)
    counts = Counter(instance.name for instance in made)
    for name, count in counts.items():
        if count > 1:
            mend = 'Give each its own: Instance("a", made.problem).'
            raise ArgumentError("suite", f"{count} instances called {name!r} from {source}", "different names", mend)


def _tasks(
    comparison: Comparison,
    instances: Sequence[AnyInstance],
    note: Callable[[str], None],
    shard: Shard | None = None,
    fresh: bool = False,
) -> tuple[Plan, _Known]:
    """Each task once, in the order of the instances, and the rows that the folder holds; none if `fresh`.

    Solvers are asked whether they take an instance, which loads it, but for those that have a row of it.
    """
    chosen = comparison.solvers or tuple(name for name, kind in SOLVERS.items() if kind.compared and kind.installed())
    if comparison.steps is not None and not comparison.solvers:
        for name in (name for name in chosen if name in LONG_STEPS):
            if any(_refusal(find_solver(name), instance) is None for instance in instances):
                note(f"{name}: left out with steps, of which one can take minutes. --solver {name} has it.")
        chosen = tuple(name for name in chosen if name not in LONG_STEPS)
    solvers = {text: find_solver(text) for text in chosen}
    solves: dict[tuple[str, int], Solve] = {}
    columns: dict[str, list[int]] = {}
    for text, solver in solvers.items():
        own = [
            (solver_text(solver), seed) for seed in (comparison.seeds if solver.stochastic else comparison.seeds[:1])
        ]
        for name, seed in own:
            solves.setdefault((name, seed), (solver, name, seed))
        columns[text] = [list(solves).index(key) for key in own]
    listed = list(solves.values())
    part = str(shard or "")
    known = _Known(["", part] if part else [""]) if fresh else _Known.of(comparison, instances, listed, part)
    every = Plan(instances, listed, _budgets(comparison, instances), np.arange(len(instances) * len(listed)))
    wanted = (known.places.find(every.keys()) >= 0).reshape(len(instances), len(listed))
    refused: dict[str, dict[str, ArgumentError]] = {text: {} for text in chosen}
    for number, instance in enumerate(instances):
        for text, solver in solvers.items():
            error = None if wanted[number, columns[text]].any() else _refusal(solver, instance)
            if error is None:
                wanted[number, columns[text]] = True
            else:
                refused[text][instance.name] = error
    if comparison.files is not None:
        _check_taken(comparison, instances, refused)
    for text in comparison.solvers:
        reasons = list(refused[text].values())
        if reasons and len(reasons) == len(instances):
            raise reasons[0]
        for reason in dict.fromkeys(map(str, reasons)):
            where = [name for name, error in refused[text].items() if str(error) == reason]
            note(f"{text}: left out on {', '.join(where)}. {reason}")
    return every.take(wanted.reshape(-1)), known


def _budgets(comparison: Comparison, instances: Sequence[AnyInstance]) -> dict[int, Budget]:
    """Of a solve, by the number of samples of its instance."""
    return {samples: comparison.budget_of(samples) for samples in {instance.samples for instance in instances}}


def _check_taken(
    comparison: Comparison, instances: Sequence[AnyInstance], refused: dict[str, dict[str, ArgumentError]]
) -> None:
    """Raise where a file that was named would be in no row."""
    for instance in instances:
        reasons = {text: of[instance.name] for text, of in refused.items() if instance.name in of}
        # A solver that takes no file has an error of its own.
        if comparison.solvers and len(reasons) == len(refused) and len(instances) > 1:
            first = next(iter(reasons.values()))
            raise NotAcceptedError(
                "solvers",
                ", ".join(reasons),
                f"one at least that takes {instance.name}",
                f"Add one, or leave the file out. The first says: {first}",
            )


def _refusal(solver: Solver, instance: AnyInstance) -> ArgumentError | None:
    """Why the solver does not take an instance."""
    try:
        solver.check(instance.problem)
    except (NotAcceptedError, TooLargeError) as error:
        return error
    return None
