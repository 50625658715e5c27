"""PosteriorDraw: one draw from the network's belief, given that the program gives the label."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.problems import Problem, ProgramProblem
from tpsolve.search._base import Report, Solver
from tpsolve.search.programs._listing import longest_list
from tpsolve.search.programs._orders import perturbed_best
from tpsolve.search.programs._target_sets import offer_cheapest, weighted_set


@dataclass(frozen=True)
class PosteriorDraw(Solver):
    """Different assignments in the order of log p plus Gumbel noise; the first consistent one is the target set.

    The noise of different assignments is independent. So the first of them that is consistent is an exact draw from p
    given the label, wherever the budget reaches one; no assignment is called twice. The cheapest consistent one of
    those listed is the result's targets. All calls are one step.
    Source: Kool, van Hoof and Welling, Stochastic beams and where to find them (ICML 2019).

    Args:
        max_listed: assignments listed of each sample where the budget has no calls.
    """

    max_listed: int = 64

    name = "posterior-draw"
    accepts: ClassVar[tuple[type[Problem], ...]] = (ProgramProblem,)
    one_step = "all calls"
    stochastic = True

    def __post_init__(self) -> None:
        check_count("max_listed", self.max_listed, 1)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, ProgramProblem)
        count = budget.calls or self.max_listed
        values, cost = longest_list(lambda count: perturbed_best(problem.logits, count, generator), count, report)
        listed = torch.isfinite(cost)
        targets = problem.symbols_of(torch.where(listed[..., None], values, values[:, :1])).transpose(0, 1)
        value = offer_cheapest(report, targets)
        targets, consistent = targets[: len(value)], torch.isfinite(value) & listed.T[: len(value)]
        first = consistent & (consistent.cumsum(0) == 1)
        report.target_set = weighted_set(targets, torch.where(first, 0.0, -torch.inf))
        report.step()
