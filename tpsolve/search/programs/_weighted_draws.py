"""WeightedDraws: symbols drawn around the network's belief, and weights that make their gradient the marginal's."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.errors import ArgumentError
from tpsolve.problems import Problem, ProgramProblem
from tpsolve.search._base import Report, Solver
from tpsolve.search.programs._target_sets import offer_cheapest, weighted_set
from tpsolve.spins import check_count


@dataclass(frozen=True)
class WeightedDraws(Solver):
    """Assignments drawn from a proposal q, all consistent ones kept, with weights p / q that sum to 1 in each sample.

    The proposal is the network's p of each symbol, mixed with the uniform distribution. The layer loss of the set is
    then
    -log P(label) up to a constant, by self-normalised importance sampling: its gradient tends to the exact marginal's
    as draws grow. A single cheapest assignment locks a network in the first consistent reading of its inputs; the
    set does not. All draws are one step. The cheapest of them is the result's targets.

    Args:
        draws: of each sample; None: the budget's calls, or 64.
        uniform: share of the uniform distribution in the proposal, from 0 to 1.
    """

    draws: int | None = None
    uniform: float = 0.2

    name = "weighted-draws"
    accepts: ClassVar[tuple[type[Problem], ...]] = (ProgramProblem,)
    one_step = "all draws"
    stochastic = True

    def __post_init__(self) -> None:
        if self.draws is not None:
            check_count("draws", self.draws, 1)
        if isinstance(self.uniform, bool) or not isinstance(self.uniform, int | float) or not 0 <= self.uniform <= 1:
            raise ArgumentError("uniform", self.uniform, "a share from 0 to 1")

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, ProgramProblem)
        count = budget.calls or 64
        count = count if self.draws is None else min(self.draws, budget.calls or self.draws)
        targets, log_weight = self.draw(problem, count, generator)
        value = offer_cheapest(report, targets)
        report.target_set = weighted_set(targets, log_weight.masked_fill(torch.isinf(value), -torch.inf))
        report.step()

    def draw(self, problem: ProgramProblem, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` assignments `(C, B, n)`, the present symbols first, and log p - log q of each `(C, B)`."""
        log_p = torch.log_softmax(problem.logits, 2)
        possible = torch.isfinite(log_p)
        even = possible / possible.sum(2, keepdim=True)
        q = (1 - self.uniform) * log_p.exp() + self.uniform * even
        drawn = torch.multinomial(
            q.flatten(0, 1).to(generator.device), max(1, count - 1), replacement=True, generator=generator
        )
        values = drawn.to(problem.device).reshape(*q.shape[:2], -1).permute(2, 0, 1)[: count - 1]
        values = torch.cat([problem.values_of(problem.present)[None], values])
        ratio = (log_p - q.log()).masked_fill(~possible, -torch.inf)
        log_weight = ratio.expand(len(values), *ratio.shape).gather(-1, values[..., None])[..., 0].sum(-1)
        return problem.symbols_of(values), log_weight
