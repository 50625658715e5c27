"""Tasks of a comparison: one solve each, a value that any process can carry out, and what it becomes."""

import base64
import contextlib
import math
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tpsolve._result import Budget, Progress, Result
from tpsolve._storage._memory_limit import is_full, memory_limit, taken
from tpsolve._version import __version__
from tpsolve.compare._row_files import EXACT, KeptTargets, Key
from tpsolve.compare.running._instances import AnyInstance
from tpsolve.compare.running._rounded_first import solve_any
from tpsolve.errors import FileFormatError
from tpsolve.problems import LayerProblem, NetworkProblem, Problem, ProgramProblem
from tpsolve.search import Solver

LIBRARIES = ("torch", "ortools", "scipy", "numpy")


@dataclass(frozen=True, slots=True)
class Task:
    """One solve: what becomes one row.

    Args:
        text: of the solver, as `solver_text` gives it.
        threads: of torch, which are set where it is carried out; None: as many as there are.
        max_memory: GiB that the solve may take, beyond what its process took before its first one; None: no limit.
    """

    instance: AnyInstance
    solver: Solver
    text: str
    seed: int
    budget: Budget
    threads: int | None = None
    max_memory: float | None = None

    @property
    def key(self) -> Key:
        """What identifies its row within a run."""
        return self.instance.name, self.text, self.seed

    @property
    def title(self) -> str:
        """Instance and solver."""
        return f"{self.text} on {self.instance.name}"

    def carry_out(self, stop: Callable[[], bool]) -> "Solved":
        """Solve it; a solver that fails gives a row with its reason.

        Args:
            stop: asked many times a second; True ends the search.
        """

        def callback(progress: Progress) -> bool:
            return stop()

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        row = _row(self)
        generator = torch.Generator().manual_seed(self.seed)
        limit = nullcontext() if self.max_memory is None else memory_limit(self.max_memory, _taken_first())
        problem = self.instance.problem
        try:
            with limit:
                result = solve_any(problem, self.solver, budget=self.budget, generator=generator, callback=callback)
        except Exception as error:  # A solver that fails is a row with its reason, not the end of the comparison.
            reason = f"{type(error).__name__}: {error}"
            if self.max_memory is not None and is_full(error):
                reason = f"MemoryError: it takes more than {self.max_memory:g} GiB"
            return Solved({**row, "error": reason}, None)
        if not bool(result.objective.isfinite().all()):
            return Solved({**row, "error": "NotFound: no targets with an objective were found"}, None)
        return Solved({**row, **_outcome(problem, result)}, _kept(self, result))

    def failed(self, reason: str) -> "Solved":
        """What becomes of it if it could not be carried out."""
        if self.max_memory is not None:
            reason = f"{reason}; a solve may take {self.max_memory:g} GiB"
        return Solved({**_row(self), "threads": self.threads or torch.get_num_threads(), "error": reason}, None)


@dataclass(frozen=True)
class Solved:
    """What became of a task: its row, and the targets that the row's objectives are of; None if it failed."""

    row: dict[str, Any]
    targets: KeptTargets | None


@cache
def _taken_first() -> int:
    """Bytes that this process had when it was first asked: what tasks leave behind is no reason for a higher limit."""
    return taken()


def conditions(threads: int | None = None) -> dict[str, Any]:
    """What all rows of a run must have in common: versions of libraries, and threads of a solve."""
    return {"versions": dict(versions()), "threads": threads or torch.get_num_threads()}


def limits_of(budget: Budget) -> dict[str, Any]:
    """What a row says of a budget. Calls stand in it only where they are limited: older rows know none."""
    return {name: limit for name, limit in vars(budget).items() if name not in ("calls", "passes") or limit is not None}


def unpacked(kept: Mapping[str, Any], shape: tuple[int, int], where: str) -> Tensor:
    """The targets `shape`, float64, that `KeptTargets` hold.

    Raises:
        FileFormatError: they are of another shape, or damaged.
    """
    count = math.prod(shape)
    try:
        if "bits" in kept:
            packed = np.frombuffer(base64.b64decode(kept["bits"], validate=True), dtype=np.uint8)
            if len(packed) != -(-count // 8):
                raise ValueError(f"{len(packed)} bytes of bits")
            values = np.unpackbits(packed, count=count) * 2.0 - 1.0
        else:
            values = np.array(kept["values"], dtype=np.float64)
        if tuple(kept["shape"]) != shape or len(values) != count:
            raise ValueError(f"a shape of {tuple(kept['shape'])}, not {shape}")
    except (ValueError, KeyError, OverflowError) as error:
        raise FileFormatError(f"{where}: targets that are none of this problem ({error}).") from error
    return torch.from_numpy(values).reshape(shape)


def _row(task: Task) -> dict[str, Any]:
    """What a row says of its task, and of where it is carried out."""
    problem = task.instance.problem
    return {
        "instance": task.instance.name,
        "solver": task.text,
        "settings": asdict(task.solver),
        "exact": task.solver.exact,
        "seed": task.seed,
        "budget": limits_of(task.budget),
        **size_of(problem),
        "start": start_of(problem),
        "fingerprint": task.instance.fingerprint,
        "device": _device_name(problem.device),
        "host": platform.node(),
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        **conditions(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def start_of(problem: Problem) -> list[float] | None:
    """Objectives of the targets where a search begins; None: there are none, or they have no objective."""
    if problem.start is None:
        return None
    if isinstance(problem, NetworkProblem) and problem.weight_set is not None:
        value = problem.objective(problem.start, problem.start_weights)
    else:
        value = problem.objective(problem.start)
    return value.reshape(-1).tolist() if bool(value.isfinite().all()) else None


def size_of(problem: Problem) -> dict[str, Any]:
    """Columns of a row that depend on the kind of problem."""
    if isinstance(problem, NetworkProblem):
        layers = "-".join(map(str, (problem.inputs.shape[1], *problem.layers)))
        units = {"n_units": sum(problem.layers), "network": layers, "points": len(problem.inputs)}
        # Of tables whose numbers float64 rounds.
        numbers = {} if problem.exact is None else {"numbers": EXACT}
        return {"loss": "training errors", "n_vars": problem.n_vars, **units, **numbers}
    if isinstance(problem, ProgramProblem):
        loss = problem.loss if isinstance(problem.loss, str) else problem.loss.__name__
        size = {"n_vars": problem.n_vars, "n_units": problem.n_vars, "assignments": max(problem.count_assignments())}
        return {"loss": loss, **size}
    assert isinstance(problem, LayerProblem)
    return {"loss": problem.loss, "n_vars": problem.n_vars, "n_units": problem.n_units}


def _outcome(problem: Problem, result: Result) -> dict[str, Any]:
    """One entry a sample; a problem without a batch, such as a network's, is one sample."""
    start = problem.start
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


def _kept(task: Task, result: Result) -> KeptTargets:
    targets = result.targets.reshape(-1, task.instance.problem.n_vars).cpu().numpy()
    name, solver, seed = task.key
    kept = KeptTargets(instance=name, solver=solver, seed=seed, shape=targets.shape)
    if np.isin(targets, (-1, 1)).all():
        kept["bits"] = base64.b64encode(np.packbits(targets > 0).tobytes()).decode()
    else:
        kept["values"] = targets.astype(np.int64).reshape(-1).tolist()
    problem = task.instance.problem
    if isinstance(problem, NetworkProblem) and problem.weight_set is not None and "weights" in result.stats:
        kept["weights"] = [(weight.tolist(), bias.tolist()) for weight, bias in result.stats["weights"]]
    return kept


def _finite(values: list[float]) -> list[float | None]:
    """JSON has no infinity: null stands for "not yet"."""
    return [value if math.isfinite(value) else None for value in values]


@cache
def versions() -> dict[str, str]:
    """Of Python, and of the libraries that are installed."""
    found = {"tpsolve": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@cache
def _processor() -> str:
    """The name of the processor, or its kind where the system tells no name."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads, {platform.machine()}"
