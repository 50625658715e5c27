"""WarmStart: an exact solver that begins with what a local one found."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tpsolve._result import Budget
from tpsolve.errors import ArgumentError
from tpsolve.problems import LayerProblem, Problem, ProgramProblem
from tpsolve.search._base import Report, Solver
from tpsolve.search._naming import Composite, as_solver

LOCAL_SHARE = 0.1


@dataclass(frozen=True)
class WarmStart(Composite):
    """An exact solver from the best targets of a local one: `warm-start(anneal, cp-sat)`.

    The local solver gets at most a tenth of the budget. `cp-sat` takes the incumbent as its hint and as an upper limit
    of the objective, so that it searches for nothing worse. `k-best` calls nothing that costs more. Steps are
    those of the parts.

    Args:
        local: a solver or its text.
        exact_solver: an exact solver or its text.
    """

    local: Solver | str = "anneal"
    exact_solver: Solver | str = "cp-sat"

    name = "warm-start"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, ProgramProblem)
    exact = True
    example = "warm-start(anneal, cp-sat)"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.solvers[1].exact:
            raise ArgumentError("exact_solver", self.solvers[1].name, "an exact solver such as 'cp-sat'")

    @property
    def solvers(self) -> tuple[Solver, ...]:
        return as_solver("local", self.local), as_solver("exact_solver", self.exact_solver)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        local, exact = self.solvers
        report.run(local, generator, share=LOCAL_SHARE)
        report.run(exact, generator, start=report.incumbent)
