"""Units with the squared loss: Adaline's solution."""

from dataclasses import dataclass
from typing import ClassVar

from tpsolve.units._base import Meter
from tpsolve.units.learners._margin_loss import SQUARED, MarginLoss
from tpsolve.units.learners._newton import Point, Problem, minimise
from tpsolve.units.learners._penalised import Penalised


@dataclass(frozen=True)
class LeastSquares(Penalised):
    """Minimises l2/2 |w|^2 + mean (t - z)^2; with l2 = 0 the weights of minimum norm that do.

    `gap` is the gradient's norm over the sum of the norms of the samples' gradients at zero weights.
    Source: Widrow and Hoff, "Adaptive switching circuits" (1960).
    """

    name: ClassVar[str] = "least-squares"
    loss: ClassVar[MarginLoss] = SQUARED

    def solve(self, problem: Problem, point: Point, meter: Meter) -> None:
        minimise(problem, self.loss, point, self.tolerance, meter)
