"""Per-unit learners, batched over units, and certificates of what can be learned."""

from tpsolve.units.base import UnitFit, UnitLearner, Units
from tpsolve.units.certificate import Certificate
from tpsolve.units.circuits import Circuit, circuits
from tpsolve.units.dichotomies import dichotomies, dichotomy_count
from tpsolve.units.hinge import Hinge
from tpsolve.units.least_squares import LeastSquares
from tpsolve.units.logistic import Logistic
from tpsolve.units.perceptron import Perceptron
from tpsolve.units.registry import LEARNERS, find_learner
from tpsolve.units.saturated_hinge import SaturatedHinge
from tpsolve.units.separability import Separability
from tpsolve.units.soft_hinge import SoftHinge
from tpsolve.units.squared_hinge import SquaredHinge

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
    "UnitFit",
    "UnitLearner",
    "Units",
    "circuits",
    "dichotomies",
    "dichotomy_count",
    "find_learner",
]
