"""Restarts: one solver several times, from other targets each time."""

from dataclasses import dataclass

import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.problems import FlipProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search._naming import Composite, as_solver


@dataclass(frozen=True)
class Restarts(Composite):
    """The best of `k` runs of a solver, the first from `start`, the others from random targets: `restarts(tabu, 4)`.

    The runs follow each other, in equal shares of the budget that is left. The setting `restarts` of a local solver
    runs them side by side, which is quicker. Random targets are the same for all samples, so that no result depends on
    the batch. There are fewer runs where the budget ends, or where it has fewer steps, calls or passes than `k`. Steps
    are those of the solver.

    Args:
        solver: a solver or its text.
        k: runs, at least 1.
    """

    solver: Solver | str = "hill-climb"
    k: int = 4

    name = "restarts"
    example = "restarts(polish(anneal, tabu), 4)"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("k", self.k, 1)

    @property
    def solvers(self) -> tuple[Solver, ...]:
        return (as_solver("solver", self.solver),)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, FlipProblem)
        # A run takes a step at least, and a call or a pass.
        limits = (budget.steps, budget.calls, budget.passes)
        k = min([self.k, *(max(1, limit) for limit in limits if limit is not None)])
        for number in range(k):
            if report.stopped:
                return
            start = None
            if number:
                start = problem.random_targets(1, generator)
            report.run(self.solvers[0], generator, share=1 / (k - number), start=start)
