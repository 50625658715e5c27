"""Units with a saturated hinge, which no single sample can pull far: not convex."""

from dataclasses import dataclass
from typing import ClassVar

from tpsolve.units._base import Meter
from tpsolve.units.learners._hinge import Hinge, narrow
from tpsolve.units.learners._margin_loss import SATURATED_HINGE, MarginLoss, smooth_saturated_hinge
from tpsolve.units.learners._newton import Point, Problem, minimise

_HINGE_WIDTH, _WIDTHS = 0.04, (0.2, 0.04, 0.01)


@dataclass(frozen=True)
class SaturatedHinge(Hinge):
    """Looks for a small l2/2 |w|^2 + mean min(2, max(0, 1 - t z)), from the hinge's minimum.

    The loss is not convex. So the result is a local minimum, and there is no bound. Each step majorises the concave
    part (Yuille and Rangarajan, "The concave-convex procedure", 2003). `gap` is the gradient's norm with both kinks
    smoothed over 0.01, relative as in `SquaredHinge`. Source of the loss: Friesen and Domingos (2018), section 3.
    """

    tolerance: float = 1e-4

    name: ClassVar[str] = "saturated-hinge"
    convex: ClassVar[bool] = False
    certified: ClassVar[bool] = False
    loss: ClassVar[MarginLoss] = SATURATED_HINGE

    def solve(self, problem: Problem, point: Point, meter: Meter) -> None:
        narrow(problem, point, meter, 1e-2, _HINGE_WIDTH)
        for width in _WIDTHS:
            point.converged[:] = False
            if not meter.stopped:
                minimise(problem, smooth_saturated_hinge(width), point, self.tolerance, meter, direct=True)
