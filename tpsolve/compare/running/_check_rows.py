"""Checks the rows of a comparison against its problems: every objective, and the bounds as far as that is possible."""

import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch

from tpsolve._result import Status
from tpsolve._storage._documents import Count, Whole
from tpsolve._version import __version__
from tpsolve.compare._kept_targets import TargetsByKey
from tpsolve.compare._row_files import OF_SAMPLES, SETTINGS, Key, Places
from tpsolve.compare._run_folder import conditions_of, difference, read_settings
from tpsolve.compare._stored_rows import read_places, stored_rows
from tpsolve.compare.running._instances import MEND, AnyInstance, saved_instances
from tpsolve.compare.running._task_plan import Plan
from tpsolve.compare.running._tasks import size_of, start_of, unpacked
from tpsolve.compare.suites._suites import SUITES
from tpsolve.errors import ArgumentError, FileFormatError, FolderError, TpsolveError, UnknownNameError
from tpsolve.problems import Instance, LayerProblem, NetworkProblem, Problem
from tpsolve.search import find_solver
from tpsolve.search.proofs._check_proof import recount
from tpsolve.search.proofs._check_result import MAX_ENUMERATED, optima


class _Settings(TypedDict):
    suite: str
    samples: Whole
    suite_seed: Count
    seconds: NotRequired[float]
    steps: NotRequired[Whole | None]
    files: NotRequired[Any]


BY_ENUMERATION, RECOUNTED = "compared with the optimum", "recounted"
OWN, NOT_ABOVE = "the problem's own", "only not above an objective"
"""How much is known of a bound."""
KEPT_SECONDS = 3.0
"""Of the processor, in which objectives of rows are recomputed that a comparison takes over."""
_CELLS = 2**21
"""Targets and units of a layer problem that are looked at together."""
_LATE = "there was no time for it"
_DRIFT = 1e-4
"""Of objectives in traces, as a part of them: searches add up many small changes."""
RECOUNT_SECONDS = 10.0
"""For all bounds of a network problem; larger ones are not counted in that time."""


@dataclass
class RowCheck:
    """What was found of one row.

    Args:
        failed: the solve ended with an error, and claims nothing.
        objectives: samples whose objective was recomputed.
        bounds: how many bounds are checked how.
        false: claims that are false, in words.
        missing: why its objectives can't be recomputed; "": they were.
    """

    key: Key
    failed: bool = False
    objectives: int = 0
    bounds: Counter[str] = field(default_factory=Counter)
    false: list[str] = field(default_factory=list)
    missing: str = ""


def check_rows(folder: Path, max_enumerated: int = 20) -> Iterator[RowCheck]:
    """One check a row, in the order of the instances.

    Objectives are recomputed from the targets that are kept beside the rows. Each bound is compared with the objectives
    that all rows reach on its sample, and with the optimum where a layer problem has at most `max_enumerated` targets
    (never more than 24). Those of a network problem of one hidden layer are refuted, or shown, by the errors of all
    hyperplanes through its points, where `RECOUNT_SECONDS` are enough. Instances that can't be saved are made again.
    Settings, moments and traces are compared with what the solver, the comparison and the row itself say.

    Raises:
        FolderError: not the folder of a comparison.
        FileFormatError: its files are damaged.
    """
    if not (folder / SETTINGS).exists():
        raise FolderError(f"{folder}: is not the folder of a comparison.")
    parts, places = read_places(folder)
    targets = TargetsByKey(folder, parts, places)
    settings = read_settings(folder, _Settings)
    instances = _instances(folder, settings)
    numbers = {instance.name: number for number, instance in enumerate(instances)}
    conditions: dict[str, Any] | None = None
    for name, of_instance in places.by_instance():
        problem = instances[numbers[name]].problem if name in numbers else None
        those = list(stored_rows(folder, parts, of_instance))
        checks = _check_instance(folder, problem, those, targets, max_enumerated, recounting=True)
        for row, check in zip(those, checks, strict=True):
            conditions = conditions or conditions_of(row)
            words = difference(row, conditions, "others of the folder were")
            check.false += [f"it was {words}"] if words else []
            if problem is not None and _is_of_another_budget(row, settings, problem):
                check.false.append(f"its budget, {row['budget']}, is not that of the comparison")
            yield check


def _is_of_another_budget(row: dict[str, Any], settings: _Settings, problem: Problem) -> bool:
    """Whether the settings of the comparison, as far as they are known, say another budget than the row."""
    steps = settings.get("steps")
    if "seconds" not in settings or "steps" not in settings:
        return False
    samples = settings["samples"] if settings.get("files") is None else math.prod(problem.batch_shape)
    return row["budget"] != {"seconds": settings["seconds"] * samples if steps is None else None, "steps": steps}


def _instances(folder: Path, settings: _Settings) -> Sequence[AnyInstance | Instance[Problem]]:
    saved = saved_instances(folder, "cpu")
    if saved is not None:
        return saved
    if settings["suite"] not in SUITES:
        raise UnknownNameError("suite", settings["suite"], SUITES)
    return SUITES[settings["suite"]](settings["samples"], settings["suite_seed"])


def check_kept(folder: Path, tasks: Plan, parts: Sequence[str], rows: Places, stop: Callable[[], bool]) -> str:
    """Recompute objectives of the rows that a comparison takes over, and say in words of how many.

    Instances come in an order drawn at random, until the seconds of `KEPT_SECONDS` are over: each call takes others
    where there is no time for all. Bounds are compared with the objectives of all rows on the instance.

    Args:
        parts: of the files of the folder. rows: where in them the rows of the tasks stand, and maybe others.
        stop: True ends the check.

    Returns:
        The words; "": there are no such rows.

    Raises:
        FolderError: a row is false.
        FileFormatError: the targets of rows are damaged.
    """
    places = rows.find(tasks.keys())
    there = places >= 0
    kept_rows, of_instances = stored_rows(folder, parts, places[there]), tasks.of_instances[there]
    if not len(kept_rows):
        return ""
    targets, began = TargetsByKey(folder, parts, rows), time.process_time()

    def late() -> bool:
        return time.process_time() - began > KEPT_SECONDS or stop()

    count, recomputed, missing = len(kept_rows), 0, Counter[str]()
    # Tasks come instance by instance.
    numbers, first = np.unique(of_instances, return_index=True)
    ends = np.append(first[1:], count)
    for at in np.random.default_rng().permutation(len(numbers)):
        if late():
            missing[_LATE] = 1
            break
        those = list(kept_rows[first[at] : ends[at]])
        problem = tasks.instances[int(numbers[at])].problem.to("cpu")
        for check in _check_instance(folder, problem, those, targets, 0, late):
            if check.false:
                raise FolderError(
                    f"{folder}: the row of {check.key[1]}, seed {check.key[2]}, on {check.key[0]} is false: "
                    f"{'; '.join(check.false[:3])}. `tpsolve verify {folder}` looks at all rows. {MEND}"
                )
            recomputed += check.missing == ""
            missing.update([check.missing] if check.missing else [])
    kept = f"{count:,} row{'s' * (count != 1)} of earlier runs"
    if not missing:
        return f"{kept}: all objectives were recomputed from their targets."
    late_words = f" There was no time for more: `tpsolve verify {folder}` does all." if missing.pop(_LATE, 0) else ""
    reasons = "".join(f" Not checked: {number:,}, since {words}." for words, number in missing.items())
    return f"{kept}: objectives of {recomputed:,}, drawn at random, were recomputed.{late_words}{reasons}"


def _check_instance(
    folder: Path,
    problem: Problem | None,
    rows: list[dict[str, Any]],
    targets: TargetsByKey,
    max_enumerated: int,
    late: Callable[[], bool] = lambda: False,
    *,
    recounting: bool = False,
) -> Iterator[RowCheck]:
    fingerprint = None if problem is None else problem.fingerprint
    checks: list[tuple[dict[str, Any], RowCheck]] = []
    shaped: dict[Key, torch.Tensor] = {}
    values: dict[Key, list[float]] = {}
    for row in rows:
        key = row["instance"], row["solver"], row["seed"]
        check = RowCheck(key, failed="error" in row)
        checks.append((row, check))
        check.false += _false_settings(row)
        if check.failed:
            continue
        if problem is None or row["fingerprint"] != fingerprint:
            check.false.append("it is of another problem than the instance of its name")
        elif key not in targets:
            check.missing = "no targets are kept of it"
        elif isinstance(problem, LayerProblem):
            shaped[key] = _targets(folder, problem, row, targets[key])
        elif late():
            check.missing = _LATE
        elif isinstance(problem, NetworkProblem) and problem.weight_set is not None:
            kept = targets[key]
            if "weights" not in kept:
                check.missing = "its objective is that of weights, which are not kept"
                continue
            shaped[key] = _targets(folder, problem, row, kept)
            try:
                values[key] = problem.objective(shaped[key], _weights(kept, problem)).reshape(-1).tolist()
            except ArgumentError as error:  # Weights that are none of this problem.
                check.false.append(str(error))
        else:
            shaped[key] = _targets(folder, problem, row, targets[key])
            values[key] = problem.objective(shaped[key]).reshape(-1).tolist()
    if problem is None:
        yield from (check for _, check in checks)
        return
    if isinstance(problem, LayerProblem):
        values = _layer_values(problem, shaped)
    slack = (2 * problem.rounding().reshape(-1)).tolist()
    own, tolerance = problem.lower_bound().reshape(-1).tolist(), problem.tolerance().reshape(-1).tolist()
    least = [min(column, default=math.inf) for column in zip(*values.values(), strict=True)]
    enumerated = isinstance(problem, LayerProblem) and problem.n_vars <= min(max_enumerated, MAX_ENUMERATED)
    if enumerated and least:
        assert isinstance(problem, LayerProblem)
        least = [optimum for optimum, _ in optima(problem.flatten())]
    start, size = start_of(problem), size_of(problem)
    recounts = _Recounts(problem, own, slack) if recounting and isinstance(problem, NetworkProblem) else None
    for row, check in checks:
        if check.key in values:
            check.objectives = len(slack)
            _check_samples(row, check, values[check.key], least, slack, own, tolerance, enumerated, recounts)
            _check_start(row, check, problem, shaped[check.key], start, slack)
            wrong = [f"{name} {row.get(name)!r}" for name, value in size.items() if row.get(name) != value]
            check.false += [f"it tells of {', '.join(wrong)}, which is not its problem's"] if wrong else []
            check.false += _false_moments(row)
        yield check


def _false_settings(row: dict[str, Any]) -> list[str]:
    """What the row says of its solver, and the solver itself does not, in words."""
    try:
        solver = find_solver(row["solver"])
    except TpsolveError:  # Of a package that is not here, or of a version that had others.
        return []
    kind = ("heuristic", "exact")
    false = [f"its solver is {kind[solver.exact]}, not {kind[row['exact']]}"] if row["exact"] != solver.exact else []
    same_version = row.get("versions", {}).get("tpsolve") == __version__
    if same_version and row.get("settings") != json.loads(json.dumps(asdict(solver))):
        false.append(f"its settings are not those of {row['solver']}")
    return false


def _false_moments(row: dict[str, Any]) -> list[str]:
    """What the seconds and the trace of a row say against each other, and against its objectives, in words."""
    seconds, trace, false = row["seconds"], row["trace"], list[str]()
    moments = [at for at in (*row["found_at"], *row["proved_at"], *(at for at, *_ in trace)) if at is not None]
    if not all(0 <= at <= seconds for at in moments) or not trace:
        false.append(f"it tells of no moments, or of some that are not within its {seconds:.6g} seconds")
    statuses = row.get("status")
    if statuses is not None and any(
        (at is None) == (status == Status.OPTIMAL.value) for at, status in zip(row["proved_at"], statuses, strict=True)
    ):
        false.append("it was proved at no moment where it is optimal, or at some where it is not")
    reached, infinite = sum(row["objective"]) / len(row["objective"]), (math.inf, -math.inf)
    points = [[at, *(end if v is None else v for v, end in zip(of, infinite, strict=True))] for at, *of in trace]
    for (at, value, bound), (later, better, higher) in itertools.pairwise([*points, [seconds, reached, math.inf]]):
        if at > later or better > value + _DRIFT * (1 + abs(better)) or bound > higher:
            false.append("its trace goes back in time, or tells of better objectives or bounds than later ones")
            break
    return false


class _Recounts:
    """Which bounds all hyperplanes through the points of a problem show, within `RECOUNT_SECONDS` in all."""

    def __init__(self, problem: NetworkProblem, own: list[float], slack: list[float]) -> None:
        self._problem, self._own, self._slack = problem, own[0] + slack[0], slack[0]
        self._left, self._known = RECOUNT_SECONDS, dict[float, bool | None]()

    def of(self, bound: float) -> bool | None:
        """Whether the bound holds; None: not counted."""
        problem = self._problem
        if problem.weight_set is not None or bound <= self._own or self._left <= 0:
            return None
        if bound not in self._known:
            began, weight = time.monotonic(), None if problem.weight is None else problem.weight.tolist()
            labels = [problem.classes[k] for k in problem.index.tolist()]
            least = Fraction(bound) - Fraction(self._slack)
            given = problem.exact_rows(), labels, weight, problem.classes, problem.widths, least
            self._known[bound] = recount(*given, self._left)
            self._left -= time.monotonic() - began
        return self._known[bound]


def _targets(folder: Path, problem: Problem, row: dict[str, Any], kept: dict[str, Any]) -> torch.Tensor:
    """The targets of a row, `(*batch, *target_shape)`."""
    count = math.prod(problem.batch_shape)
    if any(row.get(name) is not None and len(row[name]) != count for name in OF_SAMPLES):
        raise FileFormatError(f"{folder}: a row of {count} samples holds others.")
    where = f"{folder}: {row['instance']} {row['solver']} {row['seed']}"
    shaped = unpacked(kept, (count, problem.n_vars), where).reshape(*problem.batch_shape, *problem.target_shape)
    return shaped.to(torch.int64 if "values" in kept else problem.dtype)


def _layer_values(problem: LayerProblem, shaped: dict[Key, torch.Tensor]) -> dict[Key, list[float]]:
    """The objectives of the targets of each row, many rows at a time."""
    keys, values = list(shaped), {}
    at_once = max(1, _CELLS // (math.prod(problem.batch_shape) * (problem.n_vars + problem.n_units) + 1))
    for first in range(0, len(keys), at_once):
        some = keys[first : first + at_once]
        found = problem.objective(torch.stack([shaped[key] for key in some]))
        values |= dict(zip(some, found.reshape(len(some), -1).tolist(), strict=True))
    return values


def _check_start(
    row: dict[str, Any],
    check: RowCheck,
    problem: Problem,
    targets: torch.Tensor,
    start: list[float] | None,
    slack: list[float],
) -> None:
    """Whether the row tells the objective of its problem's start, and how many targets differ from it."""
    told = row["start"]
    if (row["flips"] is None) != (problem.start is None):
        check.false.append("it does not tell which targets differ from the start, or there is no start")
    if (told is None) != (start is None) or any(
        not (a == b or abs(a - b) <= near) for a, b, near in zip(told or (), start or (), slack, strict=False)
    ):
        check.false.append(f"the objective of the start is {start}, not {told}")
    if row["flips"] is not None and problem.start is not None:
        differ = targets.reshape(len(slack), -1) != problem.start.reshape(len(slack), -1)
        if any(abs(a - b) > 1e-6 for a, b in zip(row["flips"], differ.float().mean(-1).tolist(), strict=True)):
            check.false.append("other targets than it says differ from the start")


def _weights(kept: dict[str, Any], problem: NetworkProblem) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Raises ArgumentError: they are not the weights of such a network."""
    try:
        return [
            (torch.tensor(weight, dtype=torch.float64), torch.tensor(bias, dtype=torch.float64))
            for weight, bias in kept["weights"]
        ]
    except (ValueError, TypeError) as error:
        sizes = "-".join(map(str, problem.layers))
        raise ArgumentError("weights", "rows of several lengths", f"those of layers of {sizes} units") from error


def _check_samples(
    row: dict[str, Any],
    check: RowCheck,
    values: list[float],
    least: list[float],
    slack: list[float],
    own: list[float],
    tolerance: list[float],
    enumerated: bool,
    recounts: _Recounts | None,
) -> None:
    # Rows of early versions have no status.
    statuses = row.get("status") or [None] * len(values)
    claims = zip(row["objective"], row["bound"], statuses, row.get("tolerance") or tolerance, strict=True)
    for i, (claimed, bound, status, closed) in enumerate(claims):
        if not (claimed == values[i] or abs(claimed - values[i]) <= slack[i]):
            check.false.append(f"sample {i}: the objective is {values[i]:.6g}, not {claimed:.6g}")
        if abs(closed - tolerance[i]) > 1e-9 * tolerance[i]:
            check.false.append(f"sample {i}: the tolerance is {tolerance[i]:.6g}, not {closed:.6g}")
        optimal = bound is not None and claimed - bound <= closed
        if status is not None and status != (Status.OPTIMAL if optimal else Status.FEASIBLE).value:
            check.false.append(f"sample {i}: its objective and bound make it {'' if optimal else 'not '}optimal")
        if bound is None:
            continue
        if bound > least[i] + slack[i]:
            words = "the optimum" if enumerated else "an objective that was found"
            check.false.append(f"sample {i}: the bound {bound:.6g} is above {words}, {least[i]:.6g}")
        elif enumerated:
            check.bounds[BY_ENUMERATION] += 1
        elif recounts is not None and (shown := recounts.of(bound)) is not None:
            if shown:
                check.bounds[RECOUNTED] += 1
            else:
                check.false.append(f"sample {i}: some hyperplanes make fewer errors than the bound {bound:.6g}")
        else:
            check.bounds[OWN if bound <= own[i] + slack[i] else NOT_ABOVE] += 1
