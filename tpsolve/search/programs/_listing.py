"""How long a list of assignments may be, and how many of them are called, within seconds and memory."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tpsolve.problems import ProgramProblem
from tpsolve.search._base import Report

MAX_VALUES = 2**24
"""Of the symbols of all samples in one list: with what making it takes, about half a gigabyte."""
FIRST = 1024
"""Assignments that are listed at first where the budget has seconds."""


def longest_list(make: Callable[[int], tuple[Tensor, Tensor]], count: int, report: Report) -> tuple[Tensor, Tensor]:
    """What `make(count)` lists, or a shorter list: of what memory holds, made in a part of the seconds that are left.

    Args:
        make: lists as many assignments of each sample as it is asked for: values `(B, C, n)`, and `(B, ...)`.
    """
    problem = report.problem
    assert isinstance(problem, ProgramProblem)
    count = min(count, max(1, MAX_VALUES // max(1, problem.batch_shape[0] * problem.n_vars)))
    length = min(count, FIRST) if math.isfinite(report.seconds_left) else count
    while True:
        began = report.seconds
        made = make(length)
        spent = report.seconds - began
        # A list twice as long takes twice the time.
        if length >= count or made[0].shape[1] < length or 8 * spent > report.seconds_left:
            return made
        length = min(count, 2 * length)


def objectives(report: Report, part: ProgramProblem, targets: Tensor) -> Tensor:
    """The objectives `(C', R)` of `targets (C, R, n)` of a part of the problem, with the calls that they take.

    C' = C, or less where the budget's seconds end before.
    """
    if math.isinf(report.seconds_left) or len(targets) == 0:
        part.spend(len(targets))
        return part.objective(targets)
    found: list[Tensor] = []
    first, size = 0, 1
    while first < len(targets) and (first == 0 or report.seconds_left > 0):
        began = report.seconds
        found.append(part.objective(targets[first : first + size]))
        spent = report.seconds - began
        first += len(found[-1])
        fits = report.seconds_left / max(spent, 1e-9) * size / 2
        size = max(1, int(min(2 * size, fits)))
    part.spend(first)
    return found[0] if len(found) == 1 else torch.cat(found)
