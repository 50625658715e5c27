"""Random: the best of some uniform draws, the baseline that knows nothing."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.problems import BlockProblem, LayerProblem, Problem, ProgramProblem
from tpsolve.search._base import Report, Solver
from tpsolve.spins import random_spins


@dataclass(frozen=True)
class Random(Solver):
    """The best of `draws` uniform draws of all targets; one draw a step. Of a program problem the draws are
    the same for all samples, as far as these have the same values.

    Args:
        draws: at least 1.
    """

    draws: int = 1

    name = "random"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, BlockProblem, ProgramProblem)
    one_step = "one draw of all targets of every sample"
    stochastic = True
    counts_passes = True

    def __post_init__(self) -> None:
        check_count("draws", self.draws, 1)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        for _ in range(self.draws):
            if isinstance(problem, ProgramProblem):
                targets = problem.random_targets(1, generator)
            else:
                shape = (*problem.batch_shape, problem.n_vars)
                targets = random_spins(shape, generator, device=problem.device, dtype=problem.dtype)
            report.offer(targets)
            report.spend(1)
            if report.step():
                return
