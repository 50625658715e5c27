"""Polish: one solver, then another from where the first ended."""

from dataclasses import dataclass

import torch

from tpsolve._result import Budget
from tpsolve.problems import Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search._naming import Composite, as_solver

FIRST_SHARE = 0.5


@dataclass(frozen=True)
class Polish(Composite):
    """A solver, then another from the best targets of the first: `polish(sign-gradient, tabu:tenure=5)`.

    The first gets at most half of the budget, and the second gets what is left. A second solver that begins anywhere
    else than at given targets, such as `random`, makes no use of the first. Steps are those of the parts.

    Args:
        solver: the first, a solver or its text.
        then: the second.
    """

    solver: Solver | str = "anneal"
    then: Solver | str = "hill-climb"

    name = "polish"
    example = "polish(sign-gradient, tabu:tenure=5)"

    @property
    def solvers(self) -> tuple[Solver, ...]:
        return as_solver("solver", self.solver), as_solver("then", self.then)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        first, second = self.solvers
        report.run(first, generator, share=FIRST_SHARE)
        report.run(second, generator, start=report.incumbent)
