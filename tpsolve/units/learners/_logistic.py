"""Units with the logistic loss: L2-regularised logistic regression."""

from dataclasses import dataclass
from typing import ClassVar

from tpsolve.units._base import Meter
from tpsolve.units.learners._margin_loss import LOGISTIC, MarginLoss
from tpsolve.units.learners._newton import Point, Problem, minimise
from tpsolve.units.learners._penalised import Penalised


@dataclass(frozen=True)
class Logistic(Penalised):
    """Minimises l2/2 |w|^2 + mean log(1 + exp(-t z)), by Newton's method.

    `gap` is the gradient's norm over the sum of the norms of the samples' gradients at zero weights.
    With l2 = 0 and separable targets there is no minimum: the weights grow until the gap is small.
    Source: Lin, Weng and Keerthi, "Trust region Newton method for large-scale logistic regression"
    (2008), here for all units at once and with a line search.
    """

    name: ClassVar[str] = "logistic"
    loss: ClassVar[MarginLoss] = LOGISTIC

    def solve(self, problem: Problem, point: Point, meter: Meter) -> None:
        minimise(problem, self.loss, point, self.tolerance, meter)
