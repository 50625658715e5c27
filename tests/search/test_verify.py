"""`verify_result`: an honest result holds, and a changed objective, target or bound is refuted."""

import dataclasses
import itertools

import pytest
from support.zoo import ALL_LOSSES, make_problem, with_start, zoo

from tpsolve import Budget, LayerProblem, NetworkProblem, Result, solve
from tpsolve.errors import NotAcceptedError, ShapeError
from tpsolve.search import verify_result
from tpsolve.search._base import USUAL
from tpsolve.search._naming import SOLVERS


def problem_and_result(loss: str = "hinge") -> tuple[LayerProblem, Result]:
    problem = make_problem(4, n=6, m=5, loss=loss, batch=(3,), weighted=True, stay=0.25)
    return problem, solve(problem, "enumerate", budget=Budget(steps=1000))


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.parametrize("max_enumerated", [20, 3], ids=["enumerated", "too-large"])
def test_honest_results_hold(loss: str, max_enumerated: int):
    problem, result = problem_and_result(loss)
    checks = verify_result(problem, result, max_enumerated)
    assert [check.holds for check in checks] == [True] * 3
    assert all(check.status.startswith("optimal, by" if max_enumerated == 20 else "optimal, if") for check in checks)


def test_zoo_holds():
    for instance in zoo():
        problem = with_start(instance.problem)
        for solver in ("keep", "hill-climb", "enumerate"):
            checks = verify_result(problem, solve(problem, solver, budget=Budget(steps=100)))
            assert len(checks) == problem.n_samples
            assert all(check.holds for check in checks)


@pytest.mark.parametrize("max_enumerated", [20, 3], ids=["enumerated", "too-large"])
def test_a_changed_objective_is_refuted(max_enumerated: int):
    problem, result = problem_and_result()
    claimed = result.objective.clone()
    claimed[1] -= 1e-3
    checks = verify_result(problem, dataclasses.replace(result, objective=claimed), max_enumerated)
    assert [check.holds for check in checks] == [True, False, True]
    assert checks[1].status == "refuted"
    assert "as claimed" in checks[1].objective


def test_changed_targets_are_refuted():
    problem, result = problem_and_result()
    targets = result.targets.clone()
    targets[2, 0] *= -1
    checks = verify_result(problem, dataclasses.replace(result, targets=targets))
    assert [check.holds for check in checks] == [True, True, False]


def test_a_bound_above_the_optimum_is_refuted_where_it_can_be_known():
    problem, best = problem_and_result()
    assert problem.start is not None
    worse = problem.objective(problem.start)
    assert (worse > best.objective + 0.1).all()
    claim = Result(problem.start, worse, best.objective + 0.05)
    assert [check.holds for check in verify_result(problem, claim)] == [False] * 3
    assert [check.holds for check in verify_result(problem, claim, max_enumerated=3)] == [True] * 3
    above = Result(problem.start, worse, worse + 1e-3)
    assert [check.holds for check in verify_result(problem, above, max_enumerated=3)] == [False] * 3


def test_a_result_of_another_problem_is_refused():
    _, result = problem_and_result()
    with pytest.raises(ShapeError, match=r"result.targets: got shape \(3, 6\)"):
        verify_result(make_problem(1, n=5, m=3, batch=(3,)), result)


PARITY = list(itertools.product((-1, 1), repeat=3))


def network_and_result(widths: tuple[int, ...], solver: str = "circuits") -> tuple[NetworkProblem, Result]:
    problem = NetworkProblem(PARITY, [a * b * c for a, b, c in PARITY], widths)
    return problem, solve(problem, solver, budget=Budget(seconds=20))


def test_a_network_without_errors_is_optimal_by_the_problem_s_own_bound():
    problem, result = network_and_result((3,))
    (check,) = verify_result(problem, result)
    assert check.holds
    assert (check.objective, check.bound) == ("0 recomputed", "0 not above the objective")
    assert check.status == "optimal, by the problem's own bound"


def test_bound_of_a_network_with_errors_is_said_to_be_unchecked():
    problem, result = network_and_result((1,))
    (check,) = verify_result(problem, result)
    assert check.holds
    assert check.objective == "2 recomputed"
    assert check.status == "optimal, if the bound holds (tpsolve exact --save writes proofs that can be checked)"


def test_targets_of_a_network_that_no_weights_give_are_refuted():
    problem, result = network_and_result((3,))
    columns = problem.columns(result.targets)
    columns[0] = columns[0].clone()
    columns[0][:, 0] = problem.inputs.prod(1)  # parity: no hyperplane
    changed = dataclasses.replace(result, targets=problem.pack(*columns))
    (check,) = verify_result(problem, changed)
    assert not check.holds
    assert check.objective == "inf recomputed, not 0 as claimed"


@pytest.mark.parametrize("kind", USUAL)
def test_solvers_that_messages_offer_take_the_kind_of_problem(kind: str):
    assert kind in [accepted.__name__ for accepted in SOLVERS[USUAL[kind]].accepts]


def test_solver_of_layers_names_one_for_networks():
    problem, _ = network_and_result((1,))
    with pytest.raises(NotAcceptedError, match=r"for cp-sat\. For a NetworkProblem take circuits\."):
        solve(problem, "cp-sat", budget=Budget(steps=1))
