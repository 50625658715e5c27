"""The folder of a comparison: what it holds, when a run may begin or go on in it, and how it is deleted."""

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpsolve._check_arguments import check_count, find_device
from tpsolve._result import Budget, Status
from tpsolve._storage._documents import read_json
from tpsolve._storage._folder_lock import LOCKS
from tpsolve._storage._row_log import RowLog
from tpsolve._storage._write_whole import delete_written, make_synced, write_whole
from tpsolve.compare._row_files import OF_SAMPLES, ROWS, SETTINGS, TARGETS, TRACES, row_log, targets_log
from tpsolve.compare.running._instances import MEND as ANOTHER
from tpsolve.compare.running._tasks import Solved
from tpsolve.compare.suites._file_suite import FileSuite
from tpsolve.compare.suites._suites import SUITES
from tpsolve.compare.suites._table_suite import TableSuite
from tpsolve.compare.suites._table_sweep import Sweep
from tpsolve.errors import ArgumentError, FileFormatError, FolderError, UnknownNameError, WorkerError
from tpsolve.search import find_solver

LOCK = "shard{}.lock"


@dataclass(frozen=True)
class Shard:
    """A part of the tasks of a comparison, whose rows have a file of their own.

    Args:
        number: from 1 to `of`, the number of parts.

    Raises:
        ArgumentError: another number.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        check_count("shard", self.of, 1)
        check_count("shard", self.number, 0)
        if not 1 <= self.number <= self.of:
            expected = f"a part from 1/{self.of} to {self.of}/{self.of}"
            raise ArgumentError("shard", f"{self.number}/{self.of}", expected, "The parts are counted from 1.")

    def __str__(self) -> str:
        return f"-{self.number}-of-{self.of}"


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where it is kept.

    Args:
        folder: of the run; made if missing.
        suite: a name in `SUITES`.
        tables: tables in place of a suite, with one network each or several.
        files: problems and tables of one's own, in place of a suite.
        solvers: texts such as "hill-climb:restarts=8"; empty: every installed solver that is not made of others.
        samples: of each instance of a suite; files have their own.
        seconds: budget a sample; an instance has `samples` times as much, a network of a suite too.
        steps: budget of each sample in steps, in place of seconds: equal rows on every run, but for seconds.
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
    tables: TableSuite | Sweep | None = None
    steps: int | None = None
    files: FileSuite | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.folder, Path):
            raise ArgumentError("folder", repr(self.folder), "a pathlib.Path", 'Write Path("runs/mine").')
        if not isinstance(self.suite, str):
            mend = "suite() names a function; FileSuite goes to files=, TableSuite to tables=."
            raise ArgumentError("suite", repr(self.suite), "a name", mend)
        if self.suite not in SUITES:
            raise UnknownNameError("suite", self.suite, SUITES)
        if not isinstance(self.solvers, list | tuple):
            raise ArgumentError("solvers", repr(self.solvers), "a tuple of texts", 'Such as ("tabu", "anneal").')
        for solver in self.solvers:
            find_solver(solver)
        check_count("samples", self.samples, 1)
        if not isinstance(self.seeds, list | tuple | range) or not self.seeds:
            raise ArgumentError("seeds", repr(self.seeds), "a tuple of at least one seed", "Such as (0, 1, 2).")
        for seed in self.seeds:
            check_count("seeds", seed, 0)
        check_count("suite_seed", self.suite_seed, 0)
        Budget(seconds=self.seconds, steps=self.steps)
        find_device(self.device)
        if self.tables is not None and self.files is not None:
            raise ArgumentError("files", "files", "no files beside a folder of tables")

    def budget_of(self, samples: int) -> Budget:
        """Of a solve of an instance of so many samples."""
        samples = self.samples if self.files is None else samples
        return Budget(seconds=self.seconds * samples) if self.steps is None else Budget(steps=self.steps)

    @property
    def source(self) -> str:
        """Where the instances come from, in words."""
        if self.files is not None:
            count = len(self.files.files)
            return f"{count} file{'s' * (count > 1)}"
        return f"the suite {self.suite}" if self.tables is None else f"the tables of {self.tables.folder}"

    @property
    def log(self) -> RowLog:
        """Its rows, but for those of shards."""
        return row_log(self.folder, "")


def check_folder(comparison: Comparison, fresh: bool) -> None:
    """Raise, before any work, if the folder can't be made or holds another comparison: other instances or budget.

    Args:
        fresh: what it holds will be deleted; only the folder of a comparison may be.

    Raises:
        FolderError: as said.
        FileFormatError: its settings are damaged.
    """
    folder = comparison.folder
    if fresh and folder.exists():
        _check_marked(folder)
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise FolderError(f"{folder}: can't be made ({above} is a file). Choose another --runs.")
    if not fresh and (folder / SETTINGS).exists():
        settings, known = _settings(comparison), _read_json(folder / SETTINGS, dict[str, Any])
        changed = [f"{name}={known.get(name)!r}" for name in settings if known.get(name) != settings[name]]
        if changed:
            own = [f"{name}={settings[name]!r}" for name in settings if known.get(name) != settings[name]]
            raise FolderError(
                f"{folder}: holds a comparison with {', '.join(changed)}, and not {', '.join(own)}. {ANOTHER}"
            )


def claim_folder(comparison: Comparison) -> None:
    """Make the folder, and note in it what it compares; that marks it as the folder of a comparison.

    Raises:
        FolderError: it can't be made or written.
    """
    try:
        make_synced(comparison.folder)
    except OSError as error:
        raise FolderError(f"{comparison.folder}: can't be made ({error.strerror}). Choose another --runs.") from error
    settings = json.dumps(_settings(comparison), indent=2).encode()
    write_whole(comparison.folder / SETTINGS, lambda stream: stream.write(settings))


def read_settings(folder: Path, shape: Any) -> Any:
    """What all rows of a folder share, as the type `shape`.

    Raises:
        FileFormatError: it is damaged.
    """
    return _read_json(folder / SETTINGS, shape)


def keep(folder: Path, batch: Sequence[Solved], shard: Shard | None = None) -> list[int]:
    """Append what became of tasks; the targets come first, so that no row is without them.

    Returns:
        Where in its file each row begins.
    """
    part = str(shard or "")
    targets = [dict(solved.targets) for solved in batch if solved.targets is not None]
    if targets:
        targets_log(folder, part).append(*targets)
    return row_log(folder, part).append(*(solved.row for solved in batch))


def check_alike(folder: Path, rows: Iterable[dict[str, Any]], now: dict[str, Any]) -> None:
    """Raise FolderError unless all rows of a folder were made under the `conditions` of `now`."""
    for row in rows:
        words = difference(row, now)
        if words:
            raise FolderError(f"{folder}: holds rows {words}. They are not compared with each other. {ANOTHER}")


def check_of_one_kind(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Raise FolderError unless all rows of a folder were made under the same `conditions`."""
    first = None
    for row in rows:
        made = conditions_of(row)
        first = made if first is None else first
        if made != first:
            words = difference(made, first, "others were")
            raise FolderError(
                f"{folder}: holds rows {words}. They are not compared with each other. Move the rows and targets of "
                "all but one kind away, or run the comparison anew with --fresh."
            )


def check_worker(row: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise WorkerError unless the row of a worker was made under the `conditions` of `now`."""
    words = difference(row, now)
    if words:
        raise WorkerError(f"A worker on {row['host']} made a row {words}. Install the same versions everywhere.")


def conditions_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a row, what `conditions` names."""
    return {name: row.get(name) for name in ("versions", "threads")}


def difference(row: dict[str, Any], now: dict[str, Any], others: str = "this would be") -> str:
    """What `conditions` differ between a row and others, in words; "": none."""
    for name, value in now.items():
        if row.get(name) != value:
            return f"made with {_in_words(name, row.get(name))}, and {others} made with {_in_words(name, value)}"
    return ""


def _in_words(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{library} {version}" for library, version in value.items())
    return f"{value if value is not None else 'an unknown number of'} {name}"


def check_finished(
    comparison: Comparison, row: dict[str, Any], fingerprint: str, samples: int, budget: dict[str, Any]
) -> None:
    """Check that a row that a folder holds is that of its task.

    Args:
        fingerprint, samples: of the instance of the task. budget: the limits of its budget.

    Raises:
        FolderError: the row is of another problem or budget than its task, or says things that can't be true together.
        FileFormatError: the row is damaged.
    """
    if row["fingerprint"] != fingerprint or row["budget"] != budget:
        what = "problem" if row["budget"] == budget else f"budget, {row['budget']},"
        raise FolderError(
            f"{comparison.folder}: holds a row of {row['solver']} on {row['instance']} for another {what} than "
            f"this comparison. {ANOTHER}"
        )
    if any(row.get(name) is not None and len(row[name]) != samples for name in OF_SAMPLES):
        raise FileFormatError(f"{comparison.log.path}: a row of {samples} samples holds others. {ANOTHER}")
    words = "" if "error" in row else _disorder(row)
    if words:
        raise FolderError(
            f"{comparison.folder}: the row of {row['solver']} on {row['instance']} is false: {words}. {ANOTHER}"
        )


def _disorder(row: dict[str, Any]) -> str:
    """What objectives, bounds and statuses of a row say against each other, in words; "": nothing."""
    tolerances = row.get("tolerance")
    statuses = row.get("status")
    for i, (objective, bound) in enumerate(zip(row["objective"], row["bound"], strict=True)):
        if tolerances is None or (bound is None and statuses is None):
            continue
        gap = math.inf if bound is None else objective - bound
        if gap < -tolerances[i]:
            return f"sample {i}: the bound {bound:.6g} is above the objective {objective:.6g}"
        optimal = gap <= tolerances[i]
        if statuses is not None and statuses[i] != (Status.OPTIMAL if optimal else Status.FEASIBLE).value:
            return f"sample {i}: its objective and bound make it {'not ' * (not optimal)}optimal"
    return ""


def delete_comparison(folder: Path) -> None:
    """Delete what `run_comparison` and `write_report` have written into `folder`, if it is there, and no other files.

    Whoever calls it holds the lock of the folder.

    Raises:
        FolderError: it is not the folder of a comparison, or a file can't be deleted.
    """
    _check_marked(folder)
    pictures = [f"{name}.{kind}" for name in ("gap", "solved", "targets", "ranks", "wins") for kind in ("png", "svg")]
    parts = ["", *(f"-{'[0-9]' * i}-of-{'[0-9]' * j}" for i in range(1, 6) for j in range(1, 6))]
    rows = [name.format(part) for name in (ROWS, TARGETS) for part in parts]
    rows += [f"{LOCK.format(part)}" for part in parts[1:]]
    instances = [*(f"instances/{'[0-9]' * digits}.npz" for digits in range(2, 8)), "instances/index.json"]
    instances += [f"instances/pack-{'[0-9]' * digits}.bin" for digits in range(1, 7)]
    # What marks the folder comes last: a deletion that was cut short can be asked for again.
    for half in folder.glob(".instances.????????"):
        shutil.rmtree(half)
    delete_written(folder, [*rows, "table.csv", "sweep.png", "report.html", TRACES, *pictures, *instances, SETTINGS])


def _check_marked(folder: Path) -> None:
    # A kill between the deletion and what marks the folder anew leaves locks, and a temporary file of that.
    left = [path.match(LOCKS) or path.match(f".{SETTINGS}.????????") for path in folder.glob("*")]
    if not (left and all(left)) and not (folder / SETTINGS).exists():
        raise FolderError(
            f"{folder}: is not the folder of a comparison, and --fresh deletes nothing else. Choose another --name."
        )


def _settings(comparison: Comparison) -> dict[str, Any]:
    """What all rows of a folder share."""
    shared = {
        name: getattr(comparison, name) for name in ("suite", "samples", "seconds", "suite_seed", "device", "steps")
    }
    given = {name: getattr(comparison, name) for name in ("tables", "files")}
    return {**shared, **{name: suite and suite.to_json() for name, suite in given.items()}}


def _read_json(path: Path, shape: Any) -> Any:
    try:
        return read_json(path, shape)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: damaged. {ANOTHER} ({error})") from error
