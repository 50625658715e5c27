"""Per-unit learners, batched over units, and certificates of what can be learned."""

from typing import TYPE_CHECKING, Any

from tpsolve.units._base import UnitFit, UnitLearner, Units
from tpsolve.units._learner_registry import LEARNERS, find_learner
from tpsolve.units.checking._certificate import Certificate
from tpsolve.units.learners._hinge import Hinge
from tpsolve.units.learners._least_squares import LeastSquares
from tpsolve.units.learners._logistic import Logistic
from tpsolve.units.learners._perceptron import Perceptron
from tpsolve.units.learners._saturated_hinge import SaturatedHinge
from tpsolve.units.learners._soft_hinge import SoftHinge
from tpsolve.units.learners._squared_hinge import SquaredHinge
from tpsolve.units.patterns._all_dichotomies import dichotomies, dichotomy_count
from tpsolve.units.separability._conflicts import Circuit, circuits
from tpsolve.units.separability._separability import Separability
from tpsolve.units.separability._widest import widest_margin

if TYPE_CHECKING:
    from tpsolve.units._unit_classifier import UnitClassifier

__all__ = [
    "LEARNERS",
    "Certificate",
    "Circuit",
    "Hinge",
    "LeastSquares",
    "Logistic",
    "Perceptron",
    "SaturatedHinge",
    "Separability",
    "SoftHinge",
    "SquaredHinge",
    "UnitClassifier",
    "UnitFit",
    "UnitLearner",
    "Units",
    "circuits",
    "dichotomies",
    "dichotomy_count",
    "find_learner",
    "widest_margin",
]


def __getattr__(name: str) -> Any:
    """The estimator is loaded when it is asked for: scikit-learn takes a second."""
    if name == "UnitClassifier":
        from tpsolve.units._unit_classifier import UnitClassifier

        return UnitClassifier
    raise AttributeError(f"module 'tpsolve.units' has no attribute {name!r}")
