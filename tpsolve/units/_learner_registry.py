"""The learners by name; a new one is its file and its line here."""

from typing import Any

from tpsolve.errors import UnknownNameError
from tpsolve.units._base import UnitLearner
from tpsolve.units.learners._hinge import Hinge
from tpsolve.units.learners._least_squares import LeastSquares
from tpsolve.units.learners._logistic import Logistic
from tpsolve.units.learners._perceptron import Perceptron
from tpsolve.units.learners._saturated_hinge import SaturatedHinge
from tpsolve.units.learners._soft_hinge import SoftHinge
from tpsolve.units.learners._squared_hinge import SquaredHinge
from tpsolve.units.separability._separability import Separability

_ALL = (Perceptron, Hinge, SquaredHinge, Logistic, LeastSquares, SaturatedHinge, SoftHinge, Separability)

LEARNERS: dict[str, type[UnitLearner[Any]]] = {learner.name: learner for learner in _ALL}
"""Every learner by its name."""


def find_learner(name: str) -> type[UnitLearner[Any]]:
    """The learner of this name.

    Raises:
        UnknownNameError: there is none; the message offers the nearest names.
    """
    if name not in LEARNERS:
        raise UnknownNameError("learner", str(name), LEARNERS)
    return LEARNERS[name]
