"""All checks of one object at once, or as tests of pytest."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tpsolve.errors import ArgumentError
from tpsolve.search import Solver
from tpsolve.testing._learner_checks import LEARNER_CHECKS
from tpsolve.testing._solver_checks import SOLVER_CHECKS
from tpsolve.units import UnitLearner

if TYPE_CHECKING:
    import pytest


def check_solver(solver: Solver) -> None:
    """Run every check of `SOLVER_CHECKS` on `solver`, settings such as `MySolver(restarts=3)`; takes some seconds.

    The checks solve small problems of each kind that the solver accepts. They enumerate all targets of these, so
    that the optimum is known. See `SOLVER_CHECKS` for what they assert.

    Raises:
        AssertionError: a check fails; its message says what was expected.
        ArgumentError: no object of a class derived from `tpsolve.search.Solver`.
    """
    _run(solver)


def check_learner(learner: UnitLearner[Any]) -> None:
    """Run every check of `LEARNER_CHECKS` on `learner`, settings such as `MyLearner(bias=False)`.

    Raises:
        AssertionError: a check fails; its message says what was expected.
        ArgumentError: no object of a class derived from `tpsolve.units.UnitLearner`.
    """
    _run(learner)


def parametrize_with_checks(subjects: Sequence[Solver | UnitLearner[Any]]) -> "pytest.MarkDecorator":
    """A decorator of a test with the arguments `subject` and `check`: it runs once for each subject and check.

    Subjects whose library is not installed are skipped. The names of the checks are in the ids of the tests, so that
    `pytest -k check_bounds` runs one of them.

    Raises:
        ArgumentError: a subject that is neither a solver nor a learner.
    """
    import pytest

    rows = []
    for subject in subjects:
        checks = _checks(subject)
        missing = isinstance(subject, Solver) and not subject.installed()
        skip = pytest.mark.skipif(missing, reason=f"{getattr(subject, 'module', None)} is not installed")
        rows += [pytest.param(subject, one, id=f"{subject.name}-{one.__name__}", marks=skip) for one in checks]
    return pytest.mark.parametrize(("subject", "check"), rows)


def _run(subject: Any) -> None:
    for check in _checks(subject):
        check(subject)


def _checks(subject: Any) -> tuple[Callable[[Any], None], ...]:
    if isinstance(subject, Solver):
        return SOLVER_CHECKS
    if isinstance(subject, UnitLearner):
        return LEARNER_CHECKS
    raise ArgumentError("subject", repr(subject), "settings of a solver or a learner, such as MySolver()")
