"""One hard table on several workers: one process first, cubes for what it leaves open, the better of both proofs."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.network_oracle import fewest_errors, random_table

from tpsolve import Budget, Result, solve
from tpsolve.compare import conquer
from tpsolve.compare.running import _conquer
from tpsolve.errors import ArgumentError, BudgetError, NotAcceptedError
from tpsolve.problems import NetworkProblem, make_table
from tpsolve.search import make_proof, verify_proof

STEPS = 5000


class Inline(Executor):
    """Works at once, and counts."""

    count = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.count += 1
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def in_steps(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Result], Result] = lambda result: result
) -> list[Budget]:
    """The first process has a budget in steps, and `change` alters what it finds; its budgets as they were."""
    budgets = []

    def counted(*arguments: Any, budget: Budget, **others: Any) -> Result:
        budgets.append(budget)
        return change(solve(*arguments, budget=Budget(steps=STEPS), **others))

    monkeypatch.setattr(_conquer, "solve", counted)
    return budgets


TRIVIAL = {
    "exclusive or": ([[0.0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]),
    "a line": ([[float(k), 0] for k in range(9)], [k >= 4 for k in range(9)]),
    "labels that contradict each other": ([[0.0, 0], [0, 0], [1, 1]], [0, 1, 1]),
    "random": random_table(2, 9, 3),
}


@pytest.mark.parametrize("name", TRIVIAL)
def test_a_trivial_table_takes_the_steps_of_one_process_and_no_worker(name: str, monkeypatch: pytest.MonkeyPatch):
    X, y = (np.array(values) for values in TRIVIAL[name])
    problem = NetworkProblem(X, y, widths=[2])
    alone = solve(problem, "circuits", budget=Budget(steps=STEPS), generator=_conquer.torch.Generator().manual_seed(0))
    budgets, executor = in_steps(monkeypatch), Inline()
    # Without an executor it would start processes.
    monkeypatch.setattr(_conquer, "load_ahead", lambda: pytest.fail("a process was started"))
    for found in (conquer(problem, seconds=50.0, workers=8), conquer(problem, seconds=5000.0, executor=executor)):
        assert found.objective.item() == found.bound.item() == fewest_errors(problem)
        assert found.stats["steps"] == alone.stats["steps"]
        assert found.targets.equal(alone.targets)
        assert found.stats["cubes"] == executor.count == 0
    assert [budget.seconds for budget in budgets] == [5.0, 30.0]


def hard() -> NetworkProblem:
    return NetworkProblem(*make_table("random-2-24-s1"), widths=[2])


@pytest.mark.slow
def test_what_one_process_leaves_open_is_conquered_from_its_network_on(monkeypatch: pytest.MonkeyPatch):
    problem, executor = hard(), Inline()
    in_steps(monkeypatch, lambda result: replace(result, bound=result.bound - 2))
    found = conquer(problem, seconds=60.0, workers=3, executor=executor)
    assert (found.objective.item(), found.bound.item()) == (4, 4)
    assert (found.stats["solver"], found.stats["cubes"]) == ("cubes", executor.count)
    assert executor.count >= 3 * _conquer.CUBES_EACH
    assert all(finding.holds for finding in verify_proof(make_proof(problem, found), *make_table("random-2-24-s1")))


@pytest.mark.slow
def test_the_higher_bound_of_one_process_counts_with_its_own_evidence(monkeypatch: pytest.MonkeyPatch):
    problem = hard()

    def worse(result: Result) -> Result:
        """Its bound, and the targets where a search begins."""
        assert problem.start is not None
        return replace(result, targets=problem.start, objective=problem.objective(problem.start))

    in_steps(monkeypatch, worse)
    found = conquer(problem, seconds=60.0, executor=Inline())
    assert found.bound.item() == 4 <= found.objective.item()
    assert problem.objective(found.targets).item() == found.objective.item()
    assert found.stats["solver"] == "circuits"
    findings = verify_proof(make_proof(problem, found), *make_table("random-2-24-s1"))
    assert all(finding.holds for finding in findings), findings


def test_who_asks_to_stop_while_one_process_works_gets_no_cubes(monkeypatch: pytest.MonkeyPatch):
    executor = Inline()
    found = conquer(hard(), seconds=60.0, executor=executor, callback=lambda progress: True)
    assert executor.count == 0
    assert found.bound.item() <= found.objective.item()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"seconds": 0.0}, BudgetError),
        ({"seconds": 5.0, "alone_seconds": -1.0}, BudgetError),
        ({"seconds": 5.0, "workers": 0}, ArgumentError),
    ],
)
def test_bad_settings_are_refused_before_any_work(
    settings: dict[str, Any], error: type[Exception], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_conquer, "solve", lambda *_, **__: pytest.fail("work has begun"))
    with pytest.raises(error):
        conquer(hard(), executor=Inline(), **settings)


def test_a_problem_that_circuits_does_not_take_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_conquer, "solve", lambda *_, **__: pytest.fail("work has begun"))
    with pytest.raises(NotAcceptedError):
        conquer(NetworkProblem([[0], [1]], [0, 1], widths=[2], weight_set="ternary"), seconds=5.0, executor=Inline())
