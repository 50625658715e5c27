"""Keep: the activations as they are, the baseline that does nothing."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tpsolve._result import Budget
from tpsolve.problems import BlockProblem, LayerProblem, Problem, ProgramProblem
from tpsolve.search._base import Report, Solver


@dataclass(frozen=True)
class Keep(Solver):
    """The activations as they are: the objective without any search. It takes one step and needs `start`."""

    name = "keep"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, BlockProblem, ProgramProblem)
    one_step = "the whole rule"
    needs_start = True
    counts_passes = True

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert problem.start is not None
        report.offer(problem.start)
        report.spend(1)
        report.step()
