"""What every registered learner promises; a new one is covered without an edit here."""

from collections.abc import Callable

from tpsolve.testing import parametrize_with_checks
from tpsolve.units import LEARNERS, UnitLearner


@parametrize_with_checks([kind(bias=bias) for kind in LEARNERS.values() for bias in (True, False)])
def test_learner_keeps_the_public_contract(subject: UnitLearner, check: Callable[[UnitLearner], None]):
    check(subject)
