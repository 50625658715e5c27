"""Per-unit learners, batched over units, and certificates of what can be learned.

This file is the registry of learners: a new one is its file and its line below. Command line, network solvers and
contract tests read the table `LEARNERS` that is made of these lines. Learners of users and of installed plug-ins join
it.
"""

from typing import TYPE_CHECKING, Any

from tpsolve.units._base import UnitFit as UnitFit
from tpsolve.units._base import UnitLearner as UnitLearner
from tpsolve.units._base import Units as Units
from tpsolve.units._learner_registry import LEARNERS as LEARNERS
from tpsolve.units._learner_registry import find_learner as find_learner
from tpsolve.units.checking._certificate import Certificate as Certificate
from tpsolve.units.patterns._all_dichotomies import dichotomies as dichotomies
from tpsolve.units.patterns._all_dichotomies import dichotomy_count as dichotomy_count
from tpsolve.units.separability._conflicts import Circuit as Circuit
from tpsolve.units.separability._conflicts import circuits as circuits
from tpsolve.units.separability._widest import widest_margin as widest_margin

# The learners, in the order in which they are listed.
# isort: off
from tpsolve.units.learners._perceptron import Perceptron as Perceptron
from tpsolve.units.learners._hinge import Hinge as Hinge
from tpsolve.units.learners._squared_hinge import SquaredHinge as SquaredHinge
from tpsolve.units.learners._logistic import Logistic as Logistic
from tpsolve.units.learners._least_squares import LeastSquares as LeastSquares
from tpsolve.units.learners._saturated_hinge import SaturatedHinge as SaturatedHinge
from tpsolve.units.learners._soft_hinge import SoftHinge as SoftHinge
from tpsolve.units.separability._separability import Separability as Separability
# isort: on

if TYPE_CHECKING:
    from tpsolve.units._unit_classifier import UnitClassifier as UnitClassifier

LEARNERS.register_all(vars())


def __getattr__(name: str) -> Any:
    """The estimator is loaded when it is asked for: scikit-learn takes a second."""
    if name == "UnitClassifier":
        from tpsolve.units._unit_classifier import UnitClassifier

        return UnitClassifier
    raise AttributeError(f"module 'tpsolve.units' has no attribute {name!r}")
