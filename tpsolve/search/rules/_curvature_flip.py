"""CurvatureFlip: flip where gradient and curvature together predict a gain."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tpsolve._result import Budget
from tpsolve.problems import BlockProblem, LayerProblem, Problem
from tpsolve.search._base import Report, Solver


@dataclass(frozen=True)
class CurvatureFlip(Solver):
    """Flip each activation whose predicted change -2 h g + 2 H_jj is negative, all at once; one step.

    g and H are gradient and Hessian of the objective at the activations h. The prediction is that of
    `predicted_change`: exact for a single flip of the squared loss; where the loss is piecewise linear H
    is 0 and the rule that of `sign-gradient`. Its size serves as importance weight. Needs `start`. Costs
    a gradient and one product with the squared weights; below a block, where H is estimated, two
    forward and 9 backward passes.
    """

    name = "curvature-flip"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, BlockProblem)
    one_step = "the whole rule"
    step_cost = "C n m"
    needs_start = True

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, LayerProblem | BlockProblem)
        assert problem.start is not None
        report.offer(torch.where(problem.predicted_change() < 0, -problem.start, problem.start))
        report.step()
