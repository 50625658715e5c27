"""SignGradient: each target against the sign of the gradient, the paper's closed-form rule."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tpsolve._result import Budget
from tpsolve.problems import BlockProblem, LayerProblem, Problem
from tpsolve.search._base import Report, Solver


@dataclass(frozen=True)
class SignGradient(Solver):
    """t = sign(-dE/dh) at the activations: the exact minimiser of the linearised problem.

    The stay penalty is linear in t and takes part. Where the coefficient of a target is 0, the activation stays. The
    zero-one loss has no slope, so its activations all stay. It takes one step and needs `start`.
    Source: Friesen and Domingos (2018), section 3.3.
    """

    name = "sign-gradient"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, BlockProblem)
    one_step = "the whole rule"
    needs_start = True
    counts_passes = True

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, LayerProblem | BlockProblem)
        assert problem.start is not None
        if not report.affords(2, f"{self.name} here"):
            return
        gradient = problem.gradient()
        report.offer(torch.where(gradient == 0, problem.start, -gradient.sign()))
        report.step()
