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
    `predicted_change`. It is exact for a single flip of the squared loss. Where the loss is piecewise linear, H is 0,
    and the rule is that of `sign-gradient`. The size of the prediction serves as importance weight. It costs a gradient
    and one product with the squared weights. So it does below a convolution. Below any other block H is estimated, and
    it costs a forward and 9 backward passes, or 17 where the loss is not convex or one of your own. It needs `start`.
    """

    name = "curvature-flip"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, BlockProblem)
    one_step = "the whole rule"
    step_cost = "C n m"
    needs_start = True
    counts_passes = True

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, LayerProblem | BlockProblem)
        assert problem.start is not None
        if not report.affords(problem.curvature_passes, f"{self.name} here"):
            return
        report.offer(torch.where(problem.predicted_change() < 0, -problem.start, problem.start))
        report.step()
