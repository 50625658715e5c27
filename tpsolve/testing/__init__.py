"""Checks that authors of solvers and learners run against their own: what the package promises of its own, as tests.

With pytest, each check of each object becomes one test::

    from tpsolve.testing import parametrize_with_checks

    @parametrize_with_checks([MySolver(), MyLearner()])
    def test_keeps_the_contract(subject, check):
        check(subject)

`check_solver` and `check_learner` run all checks without pytest. A check raises AssertionError with what it expected.
"""

from tpsolve.testing._learner_checks import LEARNER_CHECKS as LEARNER_CHECKS
from tpsolve.testing._run_checks import check_learner as check_learner
from tpsolve.testing._run_checks import check_solver as check_solver
from tpsolve.testing._run_checks import parametrize_with_checks as parametrize_with_checks
from tpsolve.testing._solver_checks import SOLVER_CHECKS as SOLVER_CHECKS
