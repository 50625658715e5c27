"""Marginal: all consistent assignments, each weighted by its probability."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.problems import Problem, ProgramProblem
from tpsolve.search._base import Report, Solver
from tpsolve.search.programs._listing import longest_list
from tpsolve.search.programs._orders import k_best
from tpsolve.search.programs._target_sets import offer_cheapest, weighted_set


@dataclass(frozen=True)
class Marginal(Solver):
    """All consistent assignments with their probabilities: the gradient of their layer loss is that of -log P(label).

    Where a sample has more assignments than the budget has calls, those of least cost are tried, and the set is what is
    consistent among them: a lower bound on P(label). So too where seconds or memory end before. With all of them it is
    exact inference, the cheapest is proved optimal, and a sample without a consistent one is proved infeasible. All
    calls are one step.

    Args:
        max_assignments: tried of each sample where the budget has no calls.
    """

    max_assignments: int = 2**16

    name = "marginal"
    accepts: ClassVar[tuple[type[Problem], ...]] = (ProgramProblem,)
    one_step = "all calls"
    exact = True

    def __post_init__(self) -> None:
        check_count("max_assignments", self.max_assignments, 1)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, ProgramProblem)
        limit = budget.calls or self.max_assignments
        values, cost = longest_list(lambda count: k_best(problem.cost, count), limit + 1, report)
        # Nothing follows a whole list; else it costs at least as much as the last one.
        whole = torch.tensor([n <= cost.shape[1] for n in problem.count_assignments()], device=problem.device)
        ends = torch.where(whole, torch.inf, cost[:, -1])[:, None]
        following, values, cost = torch.cat([cost, ends], 1), values[:, :limit], cost[:, :limit]
        targets = problem.symbols_of(torch.where(torch.isfinite(cost)[..., None], values, values[:, :1])).transpose(
            0, 1
        )
        value = offer_cheapest(report, targets)
        called = len(value)
        targets, value = targets[:called], value.masked_fill(torch.isinf(cost[:, :called].T), torch.inf)
        following = following[:, called]
        bound = torch.where(torch.isinf(following), torch.inf, problem.least(following) - problem.rounding())
        report.prove(torch.minimum(bound, report.objective))
        log_p = problem.log_probability(targets).masked_fill(torch.isinf(value), -torch.inf)
        report.target_set = weighted_set(targets, log_p)
        report.step()
