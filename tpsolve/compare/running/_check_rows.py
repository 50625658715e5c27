"""Checks the rows of a comparison against its problems: every objective, and the bounds as far as that is possible."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypedDict

import torch

from tpsolve._storage._documents import Count, Positive
from tpsolve.compare._run_folder import OF_SAMPLES, SETTINGS, read_rows, read_settings, read_targets
from tpsolve.compare.running._instances import AnyInstance, saved_instances
from tpsolve.compare.running._tasks import Key, unpacked
from tpsolve.compare.suites._suites import SUITES
from tpsolve.errors import ArgumentError, FileFormatError, FolderError, UnknownNameError
from tpsolve.problems import Instance, LayerProblem, NetworkProblem, Problem
from tpsolve.search.proofs._check_proof import recount
from tpsolve.search.proofs._check_result import MAX_ENUMERATED, optima


class _Settings(TypedDict):
    suite: str
    samples: Positive
    suite_seed: Count


BY_ENUMERATION, RECOUNTED = "compared with the optimum", "recounted"
OWN, NOT_ABOVE = "the problem's own", "only not above an objective"
"""How much is known of a bound."""
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

    Raises:
        FolderError: not the folder of a comparison.
        FileFormatError: its files are damaged.
    """
    if not (folder / SETTINGS).exists():
        raise FolderError(f"{folder}: is not the folder of a comparison.")
    rows, targets = read_rows(folder), read_targets(folder)
    instances = {instance.name: instance for instance in _instances(folder)}
    of_instance: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.values():
        of_instance[row["instance"]].append(row)
    for name, those in of_instance.items():
        problem = instances[name].problem if name in instances else None
        yield from _check_instance(folder, problem, those, targets, max_enumerated)


def _instances(folder: Path) -> Sequence[AnyInstance | Instance[Problem]]:
    saved = saved_instances(folder, "cpu")
    if saved is not None:
        return saved
    settings = read_settings(folder, _Settings)
    if settings["suite"] not in SUITES:
        raise UnknownNameError("suite", settings["suite"], SUITES)
    return SUITES[settings["suite"]](settings["samples"], settings["suite_seed"])


def _check_instance(
    folder: Path,
    problem: Problem | None,
    rows: list[dict[str, Any]],
    targets: dict[Key, dict[str, Any]],
    max_enumerated: int,
) -> Iterator[RowCheck]:
    fingerprint = None if problem is None else problem.fingerprint
    checks, values = [], {}
    for row in rows:
        key = row["instance"], row["solver"], row["seed"]
        check = RowCheck(key, failed="error" in row)
        checks.append((row, check))
        if check.failed:
            continue
        if problem is None or row["fingerprint"] != fingerprint:
            check.false.append("it is of another problem than the instance of its name")
        elif key not in targets:
            check.missing = "no targets are kept of it"
        elif isinstance(problem, NetworkProblem) and problem.weight_set is not None and "weights" not in targets[key]:
            check.missing = "its objective is that of weights, which are not kept"
        else:
            try:
                values[key] = _recomputed(folder, problem, row, targets[key], check)
            except ArgumentError as error:  # Weights that are none of this problem.
                check.false.append(str(error))
    if problem is None:
        yield from (check for _, check in checks)
        return
    slack = (2 * problem.rounding().reshape(-1)).tolist()
    own, tolerance = problem.lower_bound().reshape(-1).tolist(), problem.tolerance().reshape(-1).tolist()
    least = [min(column, default=math.inf) for column in zip(*values.values(), strict=True)]
    enumerated = isinstance(problem, LayerProblem) and problem.n_vars <= min(max_enumerated, MAX_ENUMERATED)
    if enumerated and least:
        assert isinstance(problem, LayerProblem)
        least = [optimum for optimum, _ in optima(problem.flatten())]
    recounts = _Recounts(problem, own, slack) if isinstance(problem, NetworkProblem) else None
    for row, check in checks:
        if check.key in values:
            _check_samples(row, check, values[check.key], least, slack, own, tolerance, enumerated, recounts)
        yield check


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


def _recomputed(
    folder: Path, problem: Problem, row: dict[str, Any], kept: dict[str, Any], check: RowCheck
) -> list[float]:
    """The objectives of the row's targets."""
    count = math.prod(problem.batch_shape)
    if any(row.get(name) is not None and len(row[name]) != count for name in (*OF_SAMPLES, "status")):
        raise FileFormatError(f"{folder}: a row of {count} samples holds others.")
    flat = unpacked(kept, (count, problem.n_vars), f"{folder}: {' '.join(map(str, check.key))}")
    shaped = flat.reshape(*problem.batch_shape, *problem.target_shape).to(problem.dtype)
    if "values" in kept:
        shaped = shaped.to(torch.int64)
    check.objectives = count
    if isinstance(problem, NetworkProblem) and problem.weight_set is not None:
        return problem.objective(shaped, _weights(kept, problem)).reshape(-1).tolist()
    return problem.objective(shaped).reshape(-1).tolist()


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
    claims = zip(row["objective"], row["bound"], row["status"], row.get("tolerance") or tolerance, strict=True)
    for i, (claimed, bound, status, closed) in enumerate(claims):
        if not (claimed == values[i] or abs(claimed - values[i]) <= slack[i]):
            check.false.append(f"sample {i}: the objective is {values[i]:.6g}, not {claimed:.6g}")
        if closed > tolerance[i] * (1 + 1e-9):
            check.false.append(f"sample {i}: a gap of {closed:.6g} is not closed, only one of {tolerance[i]:.6g}")
        optimal = bound is not None and claimed - bound <= closed
        if (status == "optimal") != optimal:
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
