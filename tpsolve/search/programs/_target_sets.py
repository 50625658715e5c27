"""What solvers of program problems make of many assignments of a sample: the cheapest, and weighted sets."""

import torch
from torch import Tensor

from tpsolve._result import TargetSet
from tpsolve.problems import ProgramProblem
from tpsolve.search._base import Report
from tpsolve.search.programs._listing import objectives


def offer_cheapest(report: Report, targets: Tensor, rows: Tensor | None = None) -> Tensor:
    """Offer the best of `targets (C, R, n)` of each of the samples `rows (R,)`, by default all.

    Returns:
        the objectives of all, `(C, R)`, or of the first of them, as many as are called before the seconds end.
    """
    problem = report.problem
    assert isinstance(problem, ProgramProblem)
    part = problem if rows is None else problem.select(rows)
    value = objectives(report, part, targets)
    place = value.argmin(0)
    report.offer(targets[place, torch.arange(len(place), device=place.device)], rows)
    return value


def weighted_set(targets: Tensor, log_weight: Tensor) -> TargetSet:
    """The set of the different `targets (C, B, n)`, weighted by exp of `log_weight (C, B)`; -inf: not in it."""
    weights = torch.softmax(log_weight, 0).nan_to_num(0.0)
    return TargetSet(targets.transpose(0, 1), weights.T)
