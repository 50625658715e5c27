"""The folder of a comparison: what it holds, when a run may begin or go on in it, and how it is deleted."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from tpsolve._check_arguments import check_count, find_device
from tpsolve._result import Budget
from tpsolve._storage._documents import read_json
from tpsolve._storage._row_log import RowLog
from tpsolve._storage._write_whole import delete_written, write_whole
from tpsolve.compare._suites import SUITES
from tpsolve.compare._table_suite import TableSuite
from tpsolve.errors import ArgumentError, FileFormatError, FolderError, UnknownNameError
from tpsolve.problems import Instance, Problem, ProgramProblem, load_problem
from tpsolve.search import Solver, find_solver, solver_text

ANOTHER = "Choose another --name, or --fresh to begin anew."
SETTINGS = "comparison.json"
TRACES = "traces/[0-9][0-9][0-9][0-9].js"
"""Of the instances that the page itself does not hold."""


class SolveRow(TypedDict):
    """What every row holds that is read again."""

    instance: str
    solver: str
    seed: int
    budget: dict[str, float | int | None]
    fingerprint: str
    exact: bool
    loss: str
    n_vars: int
    n_units: int
    start: list[float] | None
    network: NotRequired[str]
    points: NotRequired[int]
    assignments: NotRequired[int]
    device: NotRequired[str]
    versions: NotRequired[dict[str, str]]
    error: NotRequired[str]


class SolveOutcome(TypedDict):
    """And one of a solve that ended without an error: an entry a sample."""

    objective: list[float]
    bound: list[float | None]
    flips: list[float] | None
    seconds: float
    found_at: list[float | None]
    proved_at: list[float | None]
    trace: list[tuple[float, float | None, float | None]]
    tolerance: NotRequired[list[float]]


OF_SAMPLES = ("start", "objective", "bound", "flips", "found_at", "proved_at", "tolerance")
"""What a row holds of each sample."""


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where it is kept.

    Args:
        folder: of the run; made if missing.
        suite: a name in `SUITES`.
        tables: tables in place of a suite.
        solvers: texts such as "hill-climb:restarts=8"; empty: every installed solver that is not made of others.
        samples: of each instance.
        seconds: budget a sample; an instance has `samples` times as much, a network too.
        seeds: of the solvers; one that draws nothing runs under the first alone.
        suite_seed: of the instances.
        device: where the problems lie.

    Raises:
        ArgumentError, UnknownNameError: an argument makes no sense.
        DeviceError: there is no such device.
    """

    folder: Path
    suite: str = "digits"
    solvers: tuple[str, ...] = ()
    samples: int = 4
    seconds: float = 0.1
    seeds: tuple[int, ...] = (0, 1, 2)
    suite_seed: int = 0
    device: str = "cpu"
    tables: TableSuite | None = None

    def __post_init__(self) -> None:
        if self.suite not in SUITES:
            raise UnknownNameError("suite", self.suite, SUITES)
        for solver in self.solvers:
            find_solver(solver)
        check_count("samples", self.samples, 1)
        if not self.seeds:
            raise ArgumentError("seeds", "none", "at least one seed")
        Budget(seconds=self.seconds)
        find_device(self.device)

    @property
    def budget(self) -> Budget:
        """Of each solve."""
        return Budget(seconds=self.seconds * self.samples)

    @property
    def log(self) -> RowLog:
        """Its rows."""
        return RowLog(self.folder / "rows.jsonl", SolveRow, SolveOutcome)


@dataclass(frozen=True)
class Task:
    """One solve: what becomes one row."""

    instance: Instance[Problem]
    solver: Solver
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies its row within a run."""
        return self.instance.name, solver_text(self.solver), self.seed


def check_folder(comparison: Comparison, fresh: bool) -> None:
    """Raise, before any work, if the folder can't be made or holds another comparison: other instances or budget.

    Args:
        fresh: what it holds will be deleted; only the folder of a comparison may be.

    Raises:
        FolderError: as said.
        FileFormatError: its settings are damaged.
    """
    folder = comparison.folder
    if fresh:
        _check_deletable(folder)
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise FolderError(f"{folder}: can't be made ({above} is a file). Choose another --runs.")
    if not fresh and (folder / SETTINGS).exists():
        settings, known = _settings(comparison), _read_json(folder / SETTINGS, dict[str, Any])
        changed = [f"{name}={known.get(name)!r}" for name in settings if known.get(name) != settings[name]]
        if changed:
            raise FolderError(f"{folder}: holds a comparison with {', '.join(changed)}. {ANOTHER}")


def claim_folder(comparison: Comparison) -> None:
    """Make the folder, and note in it what it compares; that marks it as the folder of a comparison.

    Raises:
        FolderError: it can't be made or written.
    """
    try:
        comparison.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{comparison.folder}: can't be made ({error.strerror}). Choose another --runs.") from error
    settings = json.dumps(_settings(comparison), indent=2).encode()
    write_whole(comparison.folder / SETTINGS, lambda stream: stream.write(settings))


def save_instances(comparison: Comparison, instances: list[Instance[Problem]]) -> None:
    """Keep the instances in the folder, so that a resumed run has the same; programs are made again instead."""
    if any(isinstance(instance.problem, ProgramProblem) for instance in instances):
        return
    folder = comparison.folder / "instances"
    folder.mkdir(exist_ok=True)
    for number, instance in enumerate(instances):
        instance.problem.save(folder / f"{number:02d}.npz")
    names = json.dumps([instance.name for instance in instances], indent=2).encode()
    write_whole(folder / "index.json", lambda stream: stream.write(names))


def saved_instances(comparison: Comparison) -> list[Instance[Problem]] | None:
    """The instances that the folder keeps; None: there are none yet.

    Raises:
        FileFormatError: they are damaged.
    """
    folder = comparison.folder / "instances"
    if not (folder / "index.json").exists():
        return None
    names = _read_json(folder / "index.json", list[str])
    device = find_device(comparison.device)
    return [Instance(name, load_problem(folder / f"{i:02d}.npz").to(device)) for i, name in enumerate(names)]


def limits_of(budget: Budget) -> dict[str, Any]:
    """What a row says of a budget. Calls stand in it only where they are limited: older rows know none."""
    return {name: limit for name, limit in asdict(budget).items() if name != "calls" or limit is not None}


def finished_rows(comparison: Comparison, tasks: list[Task]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The rows of those tasks that have one, by their keys.

    Raises:
        FolderError: a row is of another problem or budget than its task.
        FileFormatError: the rows are damaged.
    """
    known = {(row["instance"], row["solver"], row["seed"]): row for row in comparison.log.read()}
    found = {task.key: (task, known[task.key]) for task in tasks if task.key in known}
    budget = limits_of(comparison.budget)
    for task, row in found.values():
        if row["fingerprint"] != task.instance.problem.fingerprint or row["budget"] != budget:
            what = "problem" if row["budget"] == budget else f"budget, {row['budget']},"
            raise FolderError(
                f"{comparison.folder}: holds a row of {solver_text(task.solver)} on {task.instance.name} "
                f"for another {what} than this comparison. {ANOTHER}"
            )
        count = math.prod(task.instance.problem.batch_shape)
        if any(row.get(name) is not None and len(row[name]) != count for name in OF_SAMPLES):
            raise FileFormatError(f"{comparison.log.path}: a row of {count} samples holds others. {ANOTHER}")
    return {key: row for key, (_, row) in found.items()}


def delete_comparison(folder: Path) -> None:
    """Delete what `run_comparison` and `write_report` have written into `folder`, if it is there, and no other files.

    Raises:
        FolderError: it is not the folder of a comparison, or a file can't be deleted.
    """
    _check_deletable(folder)
    pictures = [f"{name}.{kind}" for name in ("gap", "solved", "targets", "ranks", "wins") for kind in ("png", "svg")]
    instances = [f"instances/{name}" for name in ("[0-9][0-9].npz", "[0-9][0-9][0-9].npz", "index.json")]
    # What marks the folder comes last: a deletion that was cut short can be asked for again.
    delete_written(folder, ["rows.jsonl", "table.csv", "report.html", TRACES, *pictures, *instances, SETTINGS])


def _check_deletable(folder: Path) -> None:
    if folder.exists() and not (folder / SETTINGS).exists():
        raise FolderError(
            f"{folder}: is not the folder of a comparison, and --fresh deletes nothing else. Choose another --name."
        )


def _settings(comparison: Comparison) -> dict[str, Any]:
    """What all rows of a folder share."""
    shared = {name: getattr(comparison, name) for name in ("suite", "samples", "seconds", "suite_seed", "device")}
    return {**shared, "tables": comparison.tables and comparison.tables.to_json()}


def _read_json(path: Path, shape: Any) -> Any:
    try:
        return read_json(path, shape)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: damaged. {ANOTHER} ({error})") from error
