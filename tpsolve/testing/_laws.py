"""What holds of every result."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tpsolve._result import Result, Status
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.testing._cases import domains


def require(condition: object, message: str) -> None:
    """Raise AssertionError with `message` unless `condition` holds; not an assert statement, which -O leaves out."""
    if not condition:
        raise AssertionError(message)


def equal_results(first: Result, second: Result) -> bool:
    """Whether two runs found and proved the same in as many steps."""
    return (
        torch.equal(first.targets, second.targets)
        and torch.equal(first.objective, second.objective)
        and torch.equal(first.bound, second.bound)
        and first.stats["steps"] == second.stats["steps"]
    )


def flat(values: Any) -> list[Any]:
    """Nested lists, such as the status of a batch, as one list."""
    return [v for part in values for v in flat(part)] if isinstance(values, list) else [values]


def status_of(objective: float, bound: float, tolerance: float) -> Status:
    """The status that follows from an objective and a bound; a gap of at most `tolerance` is closed."""
    if bound == math.inf:
        return Status.INFEASIBLE
    if objective == math.inf:
        return Status.UNKNOWN
    return Status.OPTIMAL if objective - bound <= tolerance else Status.FEASIBLE


def require_valid(problem: Problem, result: Result, where: str = "") -> None:
    """Raise AssertionError unless `result` is one of `problem`: shapes, value sets, and figures that fit together."""
    at = f"{where}: " if where else ""
    batch, shape = problem.batch_shape, (*problem.batch_shape, *problem.target_shape)
    targets = result.targets
    require(tuple(targets.shape) == shape, f"{at}targets of shape {tuple(targets.shape)}, expected {shape}")
    require(targets.dtype == problem.dtype, f"{at}targets of {targets.dtype}, expected {problem.dtype}")
    require(targets.device == problem.device, f"{at}targets on {targets.device}, expected {problem.device}")
    for number, (column, allowed) in enumerate(zip(_columns(targets, problem), domains(problem), strict=True)):
        values = sorted(set(column.tolist()))
        require(set(values) <= set(allowed), f"{at}target {number} has the values {values}, expected {allowed}")
    for name, tensor in (("objective", result.objective), ("bound", result.bound)):
        require(tuple(tensor.shape) == batch, f"{at}{name} of shape {tuple(tensor.shape)}, expected {batch}")
        require(tensor.dtype == torch.float64, f"{at}{name} of {tensor.dtype}, expected float64")
        require(tensor.device == problem.device, f"{at}{name} on {tensor.device}, expected {problem.device}")
    own = problem.objective(targets)
    if isinstance(problem, NetworkProblem) and problem.weight_set is not None:
        own = problem.objective(targets, result.stats.get("weights"))
    require(torch.equal(result.objective, own), f"{at}the objective is not the problem's own")

    objective, bound = result.objective.flatten().tolist(), result.bound.flatten().tolist()
    require(all(b <= v for b, v in zip(bound, objective, strict=True)), f"{at}a bound above its objective")
    rounding, least = (each.flatten().tolist() for each in (problem.rounding(), problem.least_difference()))
    allowed = [max(2 * r, math.nextafter(d - 2 * r, -math.inf)) for r, d in zip(rounding, least, strict=True)]
    require(result.tolerance is not None, f"{at}a result without a tolerance")
    assert result.tolerance is not None
    require(result.tolerance.flatten().tolist() == allowed, f"{at}the tolerance is not the problem's own")
    statuses = [status_of(*each) for each in zip(objective, bound, allowed, strict=True)]
    require(flat(result.status) == statuses, f"{at}a status that does not follow from objective and bound")
    optimal = [status is Status.OPTIMAL for status in statuses]
    require(result.optimal.flatten().tolist() == optimal, f"{at}`optimal` differs from the status")
    _require_times(result, optimal, at)
    # A search may tell of objectives in the problem's dtype, which drift a little with each flip.
    _require_trace(result, 1e-4 if problem.dtype == torch.float32 else 1e-9, at)


def _columns(targets: Tensor, problem: Problem) -> Tensor:
    return targets.reshape(-1, problem.n_vars).T


def _require_times(result: Result, optimal: Sequence[bool], at: str) -> None:
    stats = result.stats
    for name in ("found_at", "proved_at"):
        require(stats[name].shape == result.objective.shape, f"{at}{name} of shape {tuple(stats[name].shape)}")
    proved = torch.isfinite(stats["proved_at"]).flatten().tolist()
    require(proved == list(optimal), f"{at}proved_at is finite where the status is not optimal, or the reverse")
    late = torch.isfinite(stats["found_at"]) & (stats["found_at"] > stats["seconds"])
    require(not late.any(), f"{at}found_at lies after the end")


def _require_trace(result: Result, drift: float, at: str) -> None:
    require(result.trace, f"{at}no trace: call report.step() or report.pulse()")
    for before, after in itertools.pairwise(result.trace):
        require(before.step <= after.step and before.seconds <= after.seconds, f"{at}the trace goes back in time")
        require(before.bound <= after.bound, f"{at}a bound of the trace falls")
        allowed = before.objective + drift * (1 + abs(after.objective))
        require(after.objective <= allowed, f"{at}an objective of the trace rises")
