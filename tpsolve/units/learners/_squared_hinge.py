"""Units with a squared hinge: the L2-regularised, L2-loss support vector machine."""

from dataclasses import dataclass
from typing import ClassVar

from tpsolve.units._base import Meter
from tpsolve.units.learners._margin_loss import SQUARED_HINGE, MarginLoss
from tpsolve.units.learners._newton import Point, Problem, minimise
from tpsolve.units.learners._penalised import Penalised


@dataclass(frozen=True)
class SquaredHinge(Penalised):
    """Minimises l2/2 |w|^2 + mean max(0, 1 - t z)^2, by Newton's method.

    `gap` is the gradient's norm over the sum of the norms of the samples' gradients at zero weights.
    Source: Keerthi and DeCoste, "A modified finite Newton method for fast solution of large scale
    linear SVMs" (2005), here for all units at once.
    """

    name: ClassVar[str] = "squared-hinge"
    loss: ClassVar[MarginLoss] = SQUARED_HINGE

    def solve(self, problem: Problem, point: Point, meter: Meter) -> None:
        minimise(problem, self.loss, point, self.tolerance, meter)
