"""Runs a comparison: every instance, solver and seed under one budget; a row on disk for each."""

import contextlib
import itertools
import json
import math
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tpsolve._archive import delete_written, write_whole
from tpsolve._result import Budget, Progress, Result
from tpsolve._row_log import RowLog
from tpsolve._version import __version__
from tpsolve.compare._suites import SUITES
from tpsolve.errors import (
    ArgumentError,
    FileFormatError,
    FolderError,
    NotAcceptedError,
    TooLargeError,
    UnknownNameError,
)
from tpsolve.problems import Instance, LayerProblem, NetworkProblem, Problem, ProgramProblem, load_problem
from tpsolve.search import SOLVERS, Solver, find_solver, solve, solver_text
from tpsolve.spins import check_count, find_device

LIBRARIES = ("torch", "ortools", "scipy", "numpy")
ANOTHER = "Choose another --name, or --fresh to begin anew."
SETTINGS = "comparison.json"
FIELDS = ("instance", "solver", "seed", "budget", "fingerprint", "exact", "loss", "n_vars", "n_units", "start")
"""What every row holds that is read again."""
OUTCOME = ("objective", "bound", "flips", "seconds", "found_at", "proved_at", "trace")
"""And one of a solve that ended without an error."""


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where it is kept.

    Args:
        folder: of the run; made if missing.
        suite: a name in `SUITES`.
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
    seconds: float = 0.4
    seeds: tuple[int, ...] = (0, 1, 2)
    suite_seed: int = 0
    device: str = "cpu"

    def __post_init__(self):
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
        return RowLog(self.folder / "rows.jsonl", FIELDS, OUTCOME)


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
        FolderError: the folder can't be written, or holds another comparison or rows of other problems.
        FileFormatError: its files are damaged.
    """
    _check_folder(comparison, fresh)
    saved = None if fresh else _saved_instances(comparison)
    instances = _made_instances(comparison) if saved is None else saved
    tasks = list({task.key: task for task in _tasks(comparison, instances, note)}.values())
    if fresh:
        delete_comparison(comparison.folder)
    _claim_folder(comparison)
    if saved is None:
        _save_instances(comparison, instances)
    finished = _finished(comparison, tasks)
    done = [finished[task.key] for task in tasks if task.key in finished]
    waiting = [task for task in tasks if task.key not in finished]
    for task in waiting:
        if progress is not None:
            progress(len(done), len(tasks), f"{solver_text(task.solver)} on {task.instance.name}")
        row = _solve_task(task, comparison, stop)
        if stop():
            break
        comparison.log.append(row)
        done.append(row)
    if progress is not None:
        progress(len(done), len(tasks), "")
    return done


def delete_comparison(folder: Path) -> None:
    """Delete what `run_comparison` and `write_report` have written into `folder`, if it is there, and no other files.

    Raises:
        FolderError: it is not the folder of a comparison, or a file can't be deleted.
    """
    _check_deletable(folder)
    pictures = [f"{name}.{kind}" for name in ("gap", "solved", "wins") for kind in ("png", "svg")]
    instances = [f"instances/{name}" for name in ("[0-9][0-9].npz", "[0-9][0-9][0-9].npz", "index.json")]
    # What marks the folder comes last: a deletion that was cut short can be asked for again.
    delete_written(folder, ["rows.jsonl", "table.csv", "report.html", *pictures, *instances, SETTINGS])


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


def _solve_task(task: Task, comparison: Comparison, stop: Callable[[], bool]) -> dict[str, Any]:
    problem = task.instance.problem

    def callback(progress: Progress) -> bool:
        return stop()

    row = {
        "instance": task.instance.name,
        "solver": solver_text(task.solver),
        "settings": asdict(task.solver),
        "exact": task.solver.exact,
        "seed": task.seed,
        "budget": asdict(comparison.budget),
        **_size(problem),
        "start": None if problem.start is None else problem.objective(problem.start).reshape(-1).tolist(),
        "fingerprint": problem.fingerprint,
        "device": _device_name(problem.device),
        "versions": _versions(),
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
    flat = Result(result.targets.reshape(-1, problem.n_vars), result.objective.reshape(-1), result.bound.reshape(-1))
    flips = None if start is None else (flat.targets != start.reshape_as(flat.targets)).float().mean(-1).tolist()
    return {
        "objective": flat.objective.tolist(),
        "bound": _finite(flat.bound.tolist()),
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


def _finished(comparison: Comparison, tasks: list[Task]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The rows of those tasks that have one, each of the task's own problem and budget."""
    known = {(row["instance"], row["solver"], row["seed"]): row for row in comparison.log.read()}
    found = {task.key: (task, known[task.key]) for task in tasks if task.key in known}
    budget = asdict(comparison.budget)
    for task, row in found.values():
        if row["fingerprint"] != task.instance.problem.fingerprint or row["budget"] != budget:
            what = "problem" if row["budget"] == budget else f"budget, {row['budget']},"
            raise FolderError(
                f"{comparison.folder}: holds a row of {solver_text(task.solver)} on {task.instance.name} "
                f"for another {what} than this comparison. {ANOTHER}"
            )
    return {key: row for key, (_, row) in found.items()}


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


def _check_deletable(folder: Path) -> None:
    if folder.exists() and not (folder / SETTINGS).exists():
        raise FolderError(
            f"{folder}: is not the folder of a comparison, and --fresh deletes nothing else. Choose another --name."
        )


def _check_folder(comparison: Comparison, fresh: bool) -> None:
    """Hold, before any work, that the folder can be made, and that it keeps one comparison: equal instances, budget."""
    folder = comparison.folder
    if fresh:
        _check_deletable(folder)
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise FolderError(f"{folder}: can't be made ({above} is a file). Choose another --runs.")
    if not fresh and (folder / SETTINGS).exists():
        settings, known = _settings(comparison), _read_json(folder / SETTINGS, dict)
        changed = [f"{name}={known.get(name)!r}" for name in settings if known.get(name) != settings[name]]
        if changed:
            raise FolderError(f"{folder}: holds a comparison with {', '.join(changed)}. {ANOTHER}")


def _claim_folder(comparison: Comparison) -> None:
    try:
        comparison.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{comparison.folder}: can't be made ({error.strerror}). Choose another --runs.") from error
    settings = json.dumps(_settings(comparison), indent=2).encode()
    write_whole(comparison.folder / SETTINGS, lambda stream: stream.write(settings))


def _settings(comparison: Comparison) -> dict[str, Any]:
    """What all rows of a folder share."""
    return {name: getattr(comparison, name) for name in ("suite", "samples", "seconds", "suite_seed", "device")}


def _made_instances(comparison: Comparison) -> list[Instance[Problem]]:
    device = find_device(comparison.device)
    made = SUITES[comparison.suite](comparison.samples, comparison.suite_seed)
    return [Instance(instance.name, instance.problem.to(device)) for instance in made]


def _save_instances(comparison: Comparison, instances: list[Instance[Problem]]) -> None:
    """Once, so that a resumed run has the same; programs can't be saved, and are made again."""
    if any(isinstance(instance.problem, ProgramProblem) for instance in instances):
        return
    folder = comparison.folder / "instances"
    folder.mkdir(exist_ok=True)
    for number, instance in enumerate(instances):
        instance.problem.save(folder / f"{number:02d}.npz")
    names = json.dumps([instance.name for instance in instances], indent=2).encode()
    write_whole(folder / "index.json", lambda stream: stream.write(names))


def _saved_instances(comparison: Comparison) -> list[Instance[Problem]] | None:
    """Those in the run's folder; None: there are none yet."""
    folder = comparison.folder / "instances"
    if not (folder / "index.json").exists():
        return None
    names = _read_json(folder / "index.json", list)
    device = find_device(comparison.device)
    return [Instance(name, load_problem(folder / f"{i:02d}.npz").to(device)) for i, name in enumerate(names)]


def _read_json(path: Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise FileFormatError(f"{path}: damaged. {ANOTHER}") from error
    if not isinstance(value, kind):
        raise FileFormatError(f"{path}: damaged. {ANOTHER}")
    return value
