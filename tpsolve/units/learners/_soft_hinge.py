"""Units with the soft hinge, a smooth stand-in for the number of errors: not convex."""

from dataclasses import dataclass
from typing import ClassVar

from tpsolve.units._base import Meter
from tpsolve.units.learners._hinge import Hinge, narrow
from tpsolve.units.learners._margin_loss import SOFT_HINGE, MarginLoss
from tpsolve.units.learners._newton import Point, Problem, minimise


@dataclass(frozen=True)
class SoftHinge(Hinge):
    """Looks for a small l2/2 |w|^2 + mean (1 + tanh(-t z)), from the hinge's minimum.

    The loss is not convex. So the result is a stationary point, and there is no bound. `gap` is the gradient's norm,
    relative as in `SquaredHinge`. Source of the loss: Friesen and Domingos (2018), section 4.
    """

    tolerance: float = 1e-4

    name: ClassVar[str] = "soft-hinge"
    convex: ClassVar[bool] = False
    certified: ClassVar[bool] = False
    loss: ClassVar[MarginLoss] = SOFT_HINGE

    def solve(self, problem: Problem, point: Point, meter: Meter) -> None:
        narrow(problem, point, meter, 1e-2, 0.04)
        point.converged[:] = False
        if not meter.stopped:
            minimise(problem, self.loss, point, self.tolerance, meter, direct=True)
