"""KBest: the symbols that cost least, called in order until the program gives the label."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.problems import Problem, ProgramProblem
from tpsolve.search._base import Report, Solver
from tpsolve.search.programs._listing import longest_list, objectives
from tpsolve.search.programs._orders import k_best


@dataclass(frozen=True)
class KBest(Solver):
    """All assignments in the exact order of their cost, until one is at least as good as any that may follow.

    With the loss "equal" the first consistent one is the cheapest there is, which is proved: all cheaper ones have been
    called. A sample whose assignments are all called without success is proved infeasible. Calls are made in batches
    that double, of the samples that are still open. One call of each open sample a step.

    Args:
        max_listed: assignments listed of each sample where the budget has neither steps nor calls.
    """

    max_listed: int = 1024

    name = "k-best"
    accepts: ClassVar[tuple[type[Problem], ...]] = (ProgramProblem,)
    one_step = "one call of each open sample"
    exact = True

    def __post_init__(self) -> None:
        check_count("max_listed", self.max_listed, 1)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, ProgramProblem)
        limits = [limit for limit in (budget.steps, budget.calls) if limit is not None]
        count = min(limits, default=self.max_listed)
        values, cost = longest_list(lambda count: k_best(problem.cost, count), count + 1, report)
        count = min(count, cost.shape[1])
        targets = problem.symbols_of(values)
        # What follows the last that is listed costs at least as much; nothing follows a whole list.
        complete = torch.tensor([n <= count for n in problem.count_assignments()], device=problem.device)
        first, size = 0, 1
        open_rows = torch.arange(len(cost), device=problem.device)
        while len(open_rows) and first < count:
            last = min(first + size, count)
            last = first + _offer(problem, report, targets, cost, open_rows, first, last)
            ends = torch.where(complete, torch.inf, cost[:, -1])
            following = cost[:, last] if last < cost.shape[1] else ends
            listed_all = complete & ~torch.isfinite(following)
            bound = torch.where(listed_all, torch.inf, problem.least(following) - problem.rounding())
            bound = torch.minimum(bound, report.objective)
            report.prove(bound[open_rows], open_rows)
            report.steps = last - 1
            if report.step():
                return
            still = report.objective > report.bound
            open_rows = (still & torch.isfinite(following)).nonzero()[:, 0]
            first, size = last, 2 * size


def _offer(
    problem: ProgramProblem, report: Report, targets: Tensor, cost: Tensor, rows: Tensor, first: int, last: int
) -> int:
    """Call and offer, until the seconds end; how many of each sample were called."""
    part = problem.select(rows)
    tried = targets[rows, first:last].transpose(0, 1)
    listed = torch.isfinite(cost[rows, first:last]).transpose(0, 1)
    # What is not there is the first one again, which costs no call.
    tried = torch.where(listed[..., None], tried, targets[rows, :1].transpose(0, 1))
    value = objectives(report, part, tried)
    place = value.argmin(0)
    report.offer(tried[place, torch.arange(len(rows), device=place.device)], rows)
    return len(value)
