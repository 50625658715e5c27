"""What every registered solver of program problems promises, on a zoo of tiny programs, against brute force."""

import math
import time
from typing import Any

import pytest
import torch
from support.programs import ZOO, Case, distance, total

from tpsolve import SOLVERS, BlockProblem, Budget, LayerProblem, ProgramProblem, Result, Status, solve
from tpsolve.errors import ArgumentError, BudgetError, TooLargeError
from tpsolve.problems import Fold
from tpsolve.search import find_solver
from tpsolve.testing._laws import require_valid

PARTS = {"warm-start": "warm-start(tabu, k-best)"}
"""Texts of solvers whose default parts don't take programs."""
TEXTS = tuple(PARTS.get(name, name) for name, kind in SOLVERS.items() if issubclass(ProgramProblem, kind.accepts))
PLENTY = Budget(calls=500)
WALK = 15
"""Steps of searches that may walk on without a call among what they have asked."""
COMPLETE = ("enumerate", "k-best", "marginal", "forward-backward", "auto", "warm-start(tabu, k-best)")
"""Solvers that prove the optimum of every program, given as many calls."""

each_solver = pytest.mark.parametrize("text", TEXTS)
DECLARED = ZOO[-1]
"""A program beside constraints, which all solvers take."""
FOLD = next(case for case in ZOO if isinstance(case.program, Fold))


def takes(text: str, case: Case) -> bool:
    """Whether the solver is meant for such a problem."""
    if text == "forward-backward":
        return case is FOLD
    return text != "declared" or case.constraints is not None


PAIRS = [(text, case) for text in TEXTS for case in ZOO if takes(text, case)]


def assert_valid(case: Case, problem: ProgramProblem, result: Result) -> None:
    require_valid(problem, result)
    for b, (symbols, value) in enumerate(zip(result.targets.tolist(), result.objective.tolist(), strict=True)):
        table = dict(case.assignments(b))
        assert tuple(symbols) in table, "values that exist, and those that are given"
        assert value == pytest.approx(table[tuple(symbols)], abs=1e-9)
        assert result.bound[b].item() <= case.optimum(b) + 1e-9, "a bound never exceeds the optimum"
        if result.status[b] is Status.INFEASIBLE:
            assert math.isinf(case.optimum(b))


@pytest.mark.parametrize(("text", "case"), PAIRS, ids=str)
def test_result_is_valid(text: str, case: Case):
    problem = case.problem()
    result = solve(problem, text, budget=PLENTY if text in COMPLETE else Budget(calls=500, steps=WALK))
    assert_valid(case, problem, result)
    start = problem.objective(problem.present)
    if text not in ("random", "posterior-draw", "declared"):
        assert (result.objective <= start + 1e-9).all(), "the present symbols are among what is tried"
    if text in COMPLETE:
        best = [case.optimum(b) for b in range(len(case.labels))]
        assert result.objective.tolist() == pytest.approx(best)
        assert result.status == [Status.INFEASIBLE if math.isinf(v) else Status.OPTIMAL for v in best]


@pytest.mark.slow
@each_solver
@pytest.mark.parametrize("calls", [1, 3, 13])
def test_no_sample_is_called_for_more_than_the_budget(text: str, calls: int):
    for case in (case for known, case in PAIRS if known == text):
        problem = case.problem(slice(0, 1))
        result = solve(problem, text, budget=Budget(calls=calls, steps=WALK))
        assert problem.program is not None
        assert problem.program.counts.calls <= calls, case.name
        assert_valid(case, problem, result)


@pytest.mark.parametrize("calls", [1, 3])
def test_an_enumeration_cut_short_is_no_worse_than_the_present_symbols(calls: int):
    for case in ZOO:
        problem = case.problem()
        result = solve(problem, "enumerate", budget=Budget(calls=calls))
        assert (result.objective <= problem.objective(problem.present)).all(), case.name


@pytest.mark.parametrize("text", ["weighted-draws", "k-best", "posterior-draw", "marginal", "enumerate"])
def test_seconds_end_a_search_of_a_slow_program_whatever_the_calls(text: str):
    def slow(*symbols: int) -> int:
        time.sleep(0.002)
        return sum(symbols)

    problem = ProgramProblem(slow, [99, 99], torch.zeros(2, 6, 10), symbols=10)
    result = solve(problem, text, budget=Budget(calls=10**8, seconds=0.1))
    assert problem.program is not None
    assert 2 <= problem.program.counts.calls < 5000
    assert result.status == [Status.UNKNOWN] * 2


@pytest.mark.slow
@each_solver
def test_a_budget_in_steps_or_seconds_serves_too(text: str):
    case = DECLARED if takes(text, DECLARED) else FOLD
    for budget in (Budget(steps=3), Budget(seconds=1)):
        result = solve(case.problem(), text, budget=budget)
        assert_valid(case, case.problem(), result)
        assert budget.steps is None or result.stats["steps"] <= 3


@each_solver
def test_equal_seeds_give_equal_results_whatever_is_remembered(text: str):
    problem = (DECLARED if takes(text, DECLARED) else FOLD).problem()
    budget = Budget(calls=9, steps=WALK)
    runs = [solve(problem, text, budget=budget, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(runs[0].targets, runs[1].targets)
    assert torch.equal(runs[0].bound, runs[1].bound)


@pytest.mark.parametrize("text", ["hill-climb:restarts=2", "tabu", "beam", "guided-random", "cross-entropy-method"])
@pytest.mark.parametrize("calls", [3, 20])
def test_samples_are_searched_as_though_alone(text: str, calls: int):
    # Not so for anneal, whose temperature falls with the calls of all samples.
    case = ZOO[0]
    together = solve(case.problem(), text, budget=Budget(calls=calls))
    for b in range(len(case.labels)):
        alone = solve(case.problem(slice(b, b + 1)), text, budget=Budget(calls=calls))
        assert alone.objective[0] == together.objective[b]


def test_more_assignments_than_enumerate_takes_are_refused_by_name():
    problem = ProgramProblem(total, [3], torch.zeros(1, 7, 10), symbols=10)
    with pytest.raises(TooLargeError, match=r"10000000 assignments .* 2\^20 for enumerate.* k-best"):
        solve(problem, "enumerate", budget=Budget(calls=10))


@pytest.mark.parametrize("solver", ["tabu", "enumerate", "sign-gradient"])
def test_calls_alone_are_no_budget_of_problems_that_have_none(solver: str):
    problem = LayerProblem([[1.0, 2.0]], [[1]], start=[1, -1])
    with pytest.raises(BudgetError, match="LayerProblem has no calls") as raised:
        solve(problem, solver, budget=Budget(calls=10))
    assert "seconds or steps" in str(raised.value)
    assert solve(problem, solver, budget=Budget(calls=10, steps=5)).objective.isfinite().all()


def test_blocks_have_no_calls_either():
    block = torch.nn.Linear(3, 2).eval()
    problem = BlockProblem(block, [0, 1], torch.ones(2, 3))
    with pytest.raises(BudgetError, match="BlockProblem has no calls"):
        solve(problem, "tabu", budget=Budget(calls=10))


def cheapest_by_sums(cost: torch.Tensor, label: int, weight: float) -> float:
    """min over assignments of weight |sum - label| + cost, by the least cost of each sum."""
    least = {0: 0.0}
    for unit in cost.tolist():
        following: dict[int, float] = {}
        for so_far, spent in least.items():
            for value, more in enumerate(unit):
                key = so_far + value
                following[key] = min(following.get(key, math.inf), spent + more)
        least = following
    return min(weight * abs(s - label) + spent for s, spent in least.items())


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "least"), [("tabu", 10), ("anneal:restarts=3,sweeps=20", 8), ("beam", 9)])
def test_a_graded_loss_leads_to_the_cheapest_symbols_where_their_order_does_not(solver: str, least: int):
    logits = torch.randn(10, 5, 10, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    # Few assignments have these sums, and most of the others cost less.
    labels = [44, 1, 43, 2, 42, 44, 1, 2, 3, 45]

    def problem() -> ProgramProblem:
        return ProgramProblem(total, labels, logits, symbols=10, loss=lambda a, y: 2 * distance(a, y))

    best = [cheapest_by_sums(problem().cost[b], label, 2.0) for b, label in enumerate(labels)]

    def solved(text: str) -> int:
        found = solve(problem(), text, budget=Budget(calls=1500)).objective.tolist()
        return sum(abs(f - v) < 1e-9 for f, v in zip(found, best, strict=True))

    assert solved(solver) >= least
    assert solved("k-best") <= 2


def test_auto_takes_what_fits_the_calls():
    auto: Any = find_solver("auto")
    case = ZOO[0]
    assert auto.choose(case.problem(), Budget(calls=27)) == "marginal"
    assert auto.choose(case.problem(), Budget(calls=26)) == "k-best"
    assert auto.choose(case.problem(), Budget(seconds=1)) == "marginal"
    assert auto.choose(DECLARED.problem(), Budget(calls=3)) == "declared"
    assert auto.choose(FOLD.problem(), Budget(calls=3)) == "forward-backward"
    graded = next(case for case in ZOO if case.name == "graded")
    assert auto.choose(graded.problem(), Budget(calls=20)) == "portfolio(k-best, tabu)"


def test_a_target_set_outlives_the_parts_of_a_composite():
    case = ZOO[0]
    result = solve(case.problem(), "portfolio(tabu, marginal)", budget=PLENTY)
    assert result.target_set is not None
    assert result.target_set.weights.sum(1).tolist() == pytest.approx([1.0] * 5)


def test_parts_share_the_calls_and_what_the_first_has_asked_is_known_to_the_second():
    case = ZOO[0]
    problem = case.problem(slice(0, 1))
    assert problem.program is not None
    solve(problem, "restarts(hill-climb, 3)", budget=Budget(calls=27))
    assert problem.program.counts.calls <= 27
    asked: list[int] = []
    answers = problem.program.answers
    problem.program.answers = lambda keys: asked.extend([1] * len(keys)) or answers(keys)
    result = solve(problem, "polish(tabu, tabu)", budget=PLENTY)
    # 27 assignments at most, and those that are offered.
    assert len(asked) <= 27 + 6
    assert_valid(case, problem, result)


def test_a_loss_below_zero_is_named_by_a_search_too():
    problem = ProgramProblem(total, [3], torch.zeros(1, 2, 3), symbols=3, loss=lambda a, y: -1.0)
    with pytest.raises(ArgumentError, match="loss"):
        solve(problem, "tabu", budget=Budget(calls=10))
