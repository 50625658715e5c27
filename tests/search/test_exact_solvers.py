"""Exact solvers against brute force in rational arithmetic, on more than 300 random problems over all losses."""

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from scipy.optimize import milp
from support.zoo import (
    ALL_LOSSES,
    EXACT_SOLVERS,
    UNIT_LOSSES,
    Judge,
    assert_valid,
    layer_problems,
    make_problem,
    one_worker,
    optima,
    with_start,
)

from tpsolve import Budget, LayerProblem, Status, solve
from tpsolve.errors import TooLargeError
from tpsolve.search import CpSat, Enumerate, Milp, Solver, find_solver
from tpsolve.search.exact._cp_sat import IntegerModel
from tpsolve.testing._laws import flat

pytestmark = pytest.mark.rounding

EXAMPLES = 46
"""Random problems of each loss; every exact solver takes all of them. Some are drawn twice."""
AT_LEAST = 38
"""How many of them must differ: 8 losses times 38 are more than 300 different problems."""
BUDGET = Budget(seconds=60)
"""As good as none, even on a slow machine; but a search that never ends is a failure."""

each_exact = pytest.mark.parametrize("kind", EXACT_SOLVERS, ids=lambda kind: kind.name)


def assert_optimal(problem: LayerProblem, solver: Solver, optimum: tuple[Fraction, ...]) -> None:
    """Assert that `solver` proves the optimum: its bound never above it, in exact arithmetic, and its targets at it."""
    result = solve(problem, solver, budget=BUDGET)
    assert_valid(problem, result, optimum)
    assert set(flat(result.status)) == {Status.OPTIMAL}, f"{solver.name}: {result.status}, {result.stats['notes']}"
    reached = Judge(problem).objectives(result.targets)
    for value, best in zip(reached, optimum, strict=True):
        assert value - best <= Fraction(1, 10**6) * max(1, best)


def test_there_are_three_exact_solvers_at_least():
    assert {"enumerate", "cp-sat", "milp"} <= {kind.name for kind in EXACT_SOLVERS}


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.slow
def test_exact_solvers_equal_brute_force(loss: str):
    seen: set[str] = set()
    kinds: set[tuple[str, bool]] = set()

    @settings(max_examples=EXAMPLES)
    @given(layer_problems(loss))
    def check(problem: LayerProblem) -> None:
        seen.add(problem.fingerprint)
        kinds.update(
            [
                ("weighted", problem.unit_weight is not None),
                ("stay", bool(problem.stay)),
                ("float32", problem.dtype == torch.float32),
                ("batch", problem.batch_shape != ()),
                ("don't-care", loss != "cross-entropy" and bool((problem.targets == 0).any())),
                ("zero row", bool((problem.weight == 0).all(1).any())),
            ]
        )
        optimum = tuple(Judge(problem).optima())
        for kind in EXACT_SOLVERS:
            assert_optimal(problem, one_worker(kind), optimum)

    check()
    assert len(seen) >= AT_LEAST
    names = {"weighted", "stay", "float32", "batch", "zero row", *({"don't-care"} if loss != "cross-entropy" else ())}
    assert {(name, truth) for name in names for truth in (True, False)} <= kinds, "with and without each of them"


def test_the_problems_are_more_than_300():
    assert AT_LEAST * len(ALL_LOSSES) > 300


@each_exact
@pytest.mark.parametrize("scale", [2.0**-20, 1e-3, 1e3])
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_weights_of_any_size_are_solved(kind: type[Solver], scale: float, loss: str):
    problem = make_problem(3, n=5, m=3, loss=loss, weighted=True)
    problem = LayerProblem(problem.weight * scale, problem.targets, problem.bias * scale, loss, problem.unit_weight)
    assert_optimal(problem, one_worker(kind), optima(problem))


@each_exact
@pytest.mark.parametrize("loss", ["hinge", "soft-hinge", "zero-one", "cross-entropy"])
def test_weights_of_unlike_size_are_solved(kind: type[Solver], loss: str):
    base = make_problem(8, n=5, m=3, loss=loss)
    weight = base.weight * torch.tensor([1e-3, 1e-2, 1.0, 30.0, 1e3])
    problem = LayerProblem(weight, base.targets, base.bias, loss)
    assert_optimal(problem, one_worker(kind), optima(problem))


@each_exact
def test_unit_weights_of_unlike_size_are_solved(kind: type[Solver]):
    for loss in ("hinge", "soft-hinge", "cross-entropy"):
        base = make_problem(8, n=5, m=3, loss=loss)
        weights = 1000.0 if loss == "cross-entropy" else [1e-3, 1.0, 1e3]
        problem = LayerProblem(base.weight, base.targets, base.bias, loss, weights)
        assert_optimal(problem, one_worker(kind), optima(problem))


LARGE_NUMBERS = {
    "squared": LayerProblem(
        torch.tensor([[4509.1, -5852.0, 3970.25, -9876.65, -4729.0]], dtype=torch.float64), [1], loss="squared"
    ),
    "squared, a batch": LayerProblem([[-60.0, 820, -910, -860, -70]], [[0], [-1], [1]], loss="squared"),
    "hinge": LayerProblem(
        [[-1e6, -1e6, 1e6, 1e6, 1e6, -2e6], [1e6, 0, 1e6, 0, -2e6, 2e6], [-1e6, 0, 0, 2e6, -1e6, -2e6]], [1, -1, -1]
    ),
    "perceptron, weighted": LayerProblem([[-1.0, -1], [2, 1], [1, 2]], [1, 1, 1], None, "perceptron", 1e7),
    "soft hinge, weighted": LayerProblem([[-1.0, -1], [2, 1], [1, 2]], [1, 1, 1], None, "soft-hinge", 1e6),
}


@each_exact
@pytest.mark.parametrize("name", LARGE_NUMBERS)
def test_large_numbers_cost_no_optimum(kind: type[Solver], name: str):
    assert_optimal(LARGE_NUMBERS[name], one_worker(kind), optima(LARGE_NUMBERS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e3, 1e4, 1e5])
def test_squared_losses_of_large_weights_are_proved_by_milp(size: float):
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        weight = size * torch.randn(3, 5, generator=generator, dtype=torch.float64)
        targets = 2 * torch.randint(0, 2, (3,), generator=generator) - 1
        problem = LayerProblem(weight, targets, loss="squared")
        assert_optimal(problem, Milp(), optima(problem))


def test_margins_of_1e12_are_no_proof_that_all_targets_are_excluded():
    weight = [[-1127770357760.0, -434940968960.0, 2449831362560.0], [455080968192.0, 748665896960.0, 1020915744768.0]]
    problem = LayerProblem(weight, [1, -1], loss="soft-hinge")
    result = solve(problem, "milp", budget=BUDGET)
    # t = (-1, -1, 1) gives both units what they want, by more than 1e11.
    assert (result.objective.item(), result.bound.item(), result.status) == (0.0, 0.0, Status.OPTIMAL)


def test_a_bound_of_highs_above_known_targets_is_dropped_with_a_note(monkeypatch: pytest.MonkeyPatch):
    calls: list[float] = []

    # HiGHS is made to err in the second of three samples.
    def erring(*given: Any, **settings: Any) -> Any:
        answer = milp(*given, **settings)
        calls.append(answer.mip_dual_bound)
        if len(calls) == 2:
            answer.mip_dual_bound = 2 * answer.mip_dual_bound + 1e6
        return answer

    monkeypatch.setattr("scipy.optimize.milp", erring)
    problem = make_problem(12, n=9, m=5, batch=(3,))
    result = solve(problem, "milp", budget=BUDGET)
    assert_valid(problem, result, optima(problem))
    assert result.status == [Status.OPTIMAL, Status.FEASIBLE, Status.OPTIMAL]
    assert result.bound[1] == problem.lower_bound()[1]
    assert list(result.stats["notes"]) == [1]
    assert result.stats["notes"][1].startswith("HiGHS is wrong here: it claims the bound ")


@pytest.mark.parametrize(("name", "share"), [("small", 0.0), ("large", 0.9)])
def test_tolerances_of_highs_are_taken_off_its_bounds(name: str, share: float, monkeypatch: pytest.MonkeyPatch):
    # HiGHS may end a part in a million above the optimum, or above by what wrong signs of its prices are worth.
    def erring(price: Any, *, bounds: Any, **settings: Any) -> Any:
        answer = milp(price, bounds=bounds, **settings)
        if answer.mip_dual_bound is not None:
            answer.mip_dual_bound *= 1 + 4e-7 * (share == 0)
            answer.mip_dual_bound += share * (1e-6 + 1e-7 * float(bounds[1].sum()))
        return answer

    monkeypatch.setattr("scipy.optimize.milp", erring)
    problem = make_problem(12, n=9, m=5)
    if name == "large":
        # Two more units disagree about the first target, so that no bound of single units closes the gap.
        large, first = LARGE_NUMBERS["hinge"].weight, torch.tensor([[1.0] + [0.0] * 5] * 2)
        problem = LayerProblem(torch.cat([large, first]), [1, -1, -1, 1, -1])
    result = solve(problem, "milp", budget=BUDGET)
    assert result.stats["notes"] == {}
    assert_valid(problem, result, optima(problem))


@pytest.mark.parametrize(("loss", "number"), [("soft-hinge", 24), ("soft-hinge", 30), ("cross-entropy", 27)])
@pytest.mark.parametrize("solver", ["cp-sat:workers=1", "milp"])
def test_neighbours_of_an_answer_stay_in_the_search(solver: str, loss: str, number: int):
    # The first answer is that of lines which are refined afterwards; a neighbour is better.
    generator = torch.Generator().manual_seed(number)
    weight = 3 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
    by_class = loss == "cross-entropy"
    targets = number % 4 if by_class else 2 * torch.randint(0, 2, (4,), generator=generator) - 1
    problem = LayerProblem(weight, targets, torch.randn(4, generator=generator), loss)
    assert_optimal(problem, find_solver(solver), optima(problem))


def test_the_bound_of_the_rest_is_no_bound_of_excluded_targets(monkeypatch: pytest.MonkeyPatch):
    excludes: list[bool] = []
    build = IntegerModel.build

    def noted(self: IntegerModel, hint: Any, excluded: Any = (), most: float = math.inf) -> Any:
        excludes.append(bool(excluded))
        return build(self, hint, excluded)

    monkeypatch.setattr(IntegerModel, "build", noted)
    # Known targets are excluded from the start, and much is known of the others.
    monkeypatch.setattr(IntegerModel, "bound", lambda *_: 1e3)
    problem = make_problem(8, n=4, m=3, loss="soft-hinge")
    assert_optimal(problem, CpSat(workers=1), optima(problem))
    assert all(excludes)


@pytest.mark.slow
@each_exact
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_larger_problems_agree_with_brute_force(kind: type[Solver], loss: str):
    # Deep enough that native solvers branch, restart and cut.
    problem = make_problem(12, n=9, m=5, loss=loss, batch=(2,), weighted=True, stay=0.25)
    assert_optimal(problem, one_worker(kind), optima(problem))


@each_exact
def test_one_target_and_classes_with_equal_rows_are_solved(kind: type[Solver]):
    # One target and three pieces a unit: CP-SAT 9.15 once called this infeasible, for a detection of its own
    # that overflows when each of exactly one literals bounds the same variable.
    problem = LayerProblem(torch.ones(2, 1, dtype=torch.float64), [1, -1], loss="soft-hinge")
    assert_optimal(problem, one_worker(kind), (Fraction(2),))
    problem = LayerProblem(torch.ones(3, 2), [0, 2], loss="cross-entropy")
    assert_optimal(problem, one_worker(kind), optima(problem))


@pytest.mark.slow
@each_exact
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_sums_that_cancel_to_zero_are_told_from_positive_ones(kind: type[Solver], dtype: torch.dtype):
    # Wanted -1, and z = 0 gives +1: sums that cancel cost a whole error. The weights have no short binary form,
    # but the 24 digits of float32, so that float64 sums them exactly.
    for base in torch.tensor([1 / 3, 1e-3]).to(dtype):
        weight = base * torch.tensor([[1, 1, -1], [1, -1, 1]], dtype=dtype)
        for bias in (0 * base, base, -base):
            problem = LayerProblem(
                weight, [[-1, -1], [1, -1], [-1, 1]], bias.expand(2), loss="zero-one", stay=0.01, start=[1] * 3
            )
            assert not problem.energy64.blur().any()
            result = solve(problem, one_worker(kind), budget=BUDGET)
            assert set(result.status) == {Status.OPTIMAL}
            every = 2.0 * torch.cartesian_prod(*[torch.arange(2)] * 3) - 1
            least = problem.objective(every[:, None].expand(-1, 3, -1)).amin(0)
            assert torch.allclose(result.objective, least, rtol=0, atol=1e-6)


@each_exact
def test_rounding_at_zero_is_never_claimed_as_proof(kind: type[Solver]):
    # 0.1 + 0.2 - 0.3 is 5.6e-17 in float64, 2.8e-17 in truth; -0.1 + 0.4 - 0.3 and others round to either side of 0.
    weight = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.2, 0.6]], dtype=torch.float64)
    for targets in ([1, 1], [-1, -1], [1, -1], [-1, 1]):
        for bias in ([0.0, 0.0], [0.4, -0.2], [-0.2, 0.4]):
            problem = LayerProblem(weight, targets, bias, loss="zero-one")
            result = solve(problem, one_worker(kind), budget=BUDGET)
            assert Fraction(result.bound.item()) <= Judge(problem).optima()[0]
            every = 2.0 * torch.cartesian_prod(*[torch.arange(2)] * 4) - 1
            assert result.bound.item() <= problem.objective(every).min().item()


@each_exact
def test_a_bound_holds_for_products_that_round_to_whole_numbers(kind: type[Solver]):
    # c w1 and c w2 round to 2^20, c b to -2^21 - 1; in truth the first unit costs 1.6e-10 less than the 1 they make.
    third, w1 = 1 / 3, 3.0 * 2**20
    weight = torch.tensor([[w1, math.nextafter(w1, math.inf)], [1.0, 1.0]], dtype=torch.float64)
    weights = torch.tensor([third, 1.0], dtype=torch.float64)
    problem = LayerProblem(weight, [1, -1], [-2 * w1 - 3, 0.0], "perceptron", weights)
    assert Fraction(third * w1) != Fraction(third) * Fraction(w1)
    assert_optimal(problem, one_worker(kind), optima(problem))


@each_exact
@pytest.mark.parametrize("loss", UNIT_LOSSES)
def test_a_unit_that_reads_nothing_is_paid_in_full(kind: type[Solver], loss: str):
    # Its margin is -1 whatever t is, beside two units that disagree, so that no bound of single units closes the gap.
    weight = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    problem = LayerProblem(weight, [1, 1, -1], [-1.0, 0.0, 0.0], loss)
    assert (problem.lower_bound().item() < optima(problem)[0] - 0.1) or loss == "perceptron"
    assert_optimal(problem, one_worker(kind), optima(problem))


def test_enumeration_refuses_more_targets_than_it_can_take():
    problem = LayerProblem(torch.ones(1, 25), [1])
    with pytest.raises(TooLargeError, match=r"problem: got 25 targets, expected at most 24 for enumerate.*CpSat\(\)"):
        solve(problem, "enumerate", budget=Budget(steps=1))
    assert Enumerate().check(LayerProblem(torch.ones(1, 24), [1])) is None


def test_enumeration_in_blocks_equals_enumeration_at_once(monkeypatch: pytest.MonkeyPatch):
    problem = make_problem(6, n=8, m=3, batch=(3,), loss="logistic", stay=0.25)
    whole = solve(problem, "enumerate", budget=Budget(seconds=30))
    assert whole.stats["steps"] == 1
    monkeypatch.setattr("tpsolve.search.exact._enumerate.BLOCK_ELEMENTS", 3 * 3 * 50)
    blocks = solve(problem, "enumerate", budget=Budget(seconds=30))
    assert blocks.stats["steps"] == 6  # 256 targets in blocks of 50
    assert torch.equal(blocks.targets, whole.targets)
    assert torch.equal(blocks.bound, whole.bound)

    unfinished = solve(problem, "enumerate", budget=Budget(steps=5))
    assert torch.equal(unfinished.bound, problem.lower_bound()), "an unfinished enumeration proves nothing"
    assert (unfinished.objective >= whole.objective).all()
    assert set(unfinished.status) <= {Status.FEASIBLE, Status.OPTIMAL}


@pytest.mark.parametrize("solver", ["enumerate", "auto:proof=True"])
@pytest.mark.parametrize("passes", [1, 2, 5])
def test_an_enumeration_cut_short_is_no_worse_than_its_start(solver: str, passes: int):
    problem = with_start(make_problem(3, n=9, m=5, batch=(8,)))
    descended = solve(problem, "hill-climb", budget=Budget(seconds=9)).targets
    problem = LayerProblem(problem.weight, problem.targets, start=descended)
    result = solve(problem, solver, budget=Budget(passes=passes))
    assert (result.objective <= problem.objective(descended)).all()
    assert result.stats["passes"].tolist() == [passes] * 8
    assert result.trace[0].objective == problem.objective(descended).mean().item()
