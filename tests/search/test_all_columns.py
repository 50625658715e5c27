"""Networks of whole weights by listing all columns: the optimum of trying all weights, proved."""

import itertools
import random
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.whole_oracle import least_objective

from tpsolve import Budget, NetworkProblem, Status, solve
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError
from tpsolve.search import AllColumns, make_proof, verify_proof
from tpsolve.search.network.whole import _all_columns

QUICK = Budget(seconds=60)
ALONE = AllColumns(search_seconds=0)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_nothing_costs_less_than_what_is_proved(data: st.DataObject):
    count = data.draw(st.integers(3, 6))
    value = st.sampled_from(data.draw(st.sampled_from([(-1, 1), (0, 1, 2), (-7, 0, 12)])))
    x = data.draw(st.lists(st.tuples(value, value), min_size=count, max_size=count))
    y = [0, 1, *data.draw(st.lists(st.integers(0, 1), min_size=count - 2, max_size=count - 2))]
    weight = data.draw(st.lists(st.sampled_from([0.5, 1, 3]), min_size=count, max_size=count))
    sets: dict[str, Any] = {
        "weight_set": data.draw(st.sampled_from([(-1, 0, 1), (-1, 1), (-2, 0, 3), (1, 4)])),
        "bias_set": data.draw(st.sampled_from([(-1, 0, 1), (0,), (-3, 2)])),
        "penalty": data.draw(st.sampled_from([0.0, 0.25])),
    }
    problem = NetworkProblem([list(map(float, row)) for row in x], y, [data.draw(st.integers(1, 2))], weight, **sets)
    result = solve(problem, ALONE, budget=QUICK)
    assert result.status == Status.OPTIMAL
    assert result.objective.item() == pytest.approx(least_objective(problem), abs=1e-9)


def test_three_units_and_any_biases():
    g = torch.Generator().manual_seed(0)
    x = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    parity = (x.prod(1) > 0).long().tolist()
    for width, expected in ((1, 2), (2, 1), (3, 0)):
        problem = NetworkProblem(x, parity, [width], weight_set="ternary")
        result = solve(problem, ALONE, budget=QUICK)
        assert (result.objective.item(), result.bound.item(), result.status) == (expected, expected, Status.OPTIMAL)
    # Weights of samples that rounding would confuse, and points whose sums are far apart.
    problem = NetworkProblem(
        torch.randint(-50, 50, (12, 2), generator=g).double(),
        torch.randint(2, (12,), generator=g).tolist(),
        [2],
        torch.rand(12, generator=g).mul(64).round() / 64,
        weight_set=range(-2, 3),
    )
    both = [solve(problem, solver, budget=QUICK) for solver in (ALONE, "weight-box:workers=1")]
    assert both[0].objective.item() == both[0].bound.item() == both[1].bound.item()


def test_few_sums_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch):
    g = torch.Generator().manual_seed(1)
    x = torch.randint(0, 4, (30, 4), generator=g).double()
    problem = NetworkProblem(x, torch.randint(2, (30,), generator=g).tolist(), [2], weight_set="ternary")
    whole = solve(problem, ALONE, budget=QUICK)
    monkeypatch.setattr(_all_columns, "_AT_ONCE", 2000)
    parts = solve(problem, ALONE, budget=QUICK)
    assert whole.objective.item() == parts.objective.item() == parts.bound.item() > 0
    assert parts.stats["steps"] > whole.stats["steps"]


def test_large_whole_numbers_take_no_more_memory():
    x = [[10.0**12, 1], [10.0**12 + 1, 3], [0, 2], [5, 0], [10.0**12 - 2, 2]]
    problem = NetworkProblem(x, [0, 1, 0, 1, 1], [1], weight_set="ternary")
    rows = [tuple(map(Fraction, row)) for row in x]
    assert solve(problem, ALONE, budget=QUICK).bound.item() == fewest(rows, [-1, 1, -1, 1, 1], (-1, 0, 1), 1)


def test_a_budget_too_small_proves_nothing():
    g = torch.Generator().manual_seed(1)
    x = torch.randint(0, 4, (30, 4), generator=g).double()
    problem = NetworkProblem(x, torch.randint(2, (30,), generator=g).tolist(), [3], weight_set="ternary")
    result = solve(problem, ALONE, budget=Budget(steps=3))
    assert result.bound.item() == problem.lower_bound().item() < result.objective.item()
    problem.check_weights(result.stats["weights"])


def test_its_proof_is_checked_by_trying_all_weights():
    x = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    y = (x.prod(1) > 0).long().tolist()
    problem = NetworkProblem(x, y, [2], weight_set="ternary", penalty=0.125)
    proof = make_proof(problem, solve(problem, AllColumns(), budget=QUICK))
    assert [finding.holds for finding in verify_proof(proof, x.numpy(), y)] == [True] * 4


def test_what_it_is_not_made_for_is_refused(monkeypatch: pytest.MonkeyPatch):
    x = [[0.0, 1.0], [1.0, 0.0]]
    for table, y, widths, words in (
        (x, [0, 1], [4], "three|at most 3 units"),
        (x, [0, 1], [1, 1], "one hidden layer"),
        ([*x, [1.0, 1.0]], [0, 1, 2], [1], "3 classes"),
    ):
        with pytest.raises(NotAcceptedError, match=words):
            solve(NetworkProblem(table, y, widths, weight_set="ternary"), ALONE, budget=QUICK)
    with pytest.raises(NotAcceptedError, match="weight_set"):
        solve(NetworkProblem(x, [0, 1], [1]), ALONE, budget=QUICK)
    wide = NetworkProblem(2.0 * torch.eye(30) - 1, [0, 1] * 15, [1], weight_set="ternary")
    with pytest.raises(TooLargeError, match=r"2\^52 weights"):
        solve(wide, ALONE, budget=QUICK)
    with pytest.raises(ArgumentError, match="search_seconds"):
        AllColumns(search_seconds=-1)
    monkeypatch.setattr(_all_columns, "MAX_CELLS", 3)
    problem = NetworkProblem(x, [0, 1], [1], weight_set="ternary", penalty=0.125)
    result = solve(problem, ALONE, budget=QUICK)
    assert "not listed" in result.stats["notes"][0]
    assert result.bound.item() == 0


def fewest(rows: list[tuple[Fraction, ...]], wanted: list[int], values: tuple[int, ...], width: int) -> int:
    """Errors of the best network of weights in `values` and any biases, by trying all in fractions."""
    columns = set()
    for weight in itertools.product(values, repeat=len(rows[0])):
        sums = [sum(w * v for w, v in zip(weight, row, strict=True)) for row in rows]
        columns |= {tuple(1 if total >= at else -1 for total in sums) for at in [*sums, max(sums) + 1]}
    codes = list(itertools.product((-1, 1), repeat=width))
    tables = {
        tuple(1 if sum(w * c for w, c in zip(weight, code, strict=True)) >= at else -1 for code in codes)
        for weight in itertools.product(values, repeat=width)
        for at in range(-width, width + 2)
    }
    told = [dict(zip(codes, table, strict=True)) for table in tables]
    return min(
        sum(table[code] != want for code, want in zip(zip(*hidden, strict=True), wanted, strict=True))
        for hidden in itertools.product(columns, repeat=width)
        for table in told
    )


@pytest.mark.parametrize("seed", range(12))
def test_numbers_that_float64_rounds_are_compared_as_fractions(seed: int):
    draw = random.Random(seed)
    tiny, base = Fraction(1, 10**18), draw.choice([Fraction(1, 3), Fraction(10**17)])
    rows = [(base * draw.randint(0, 3) + tiny * draw.randint(-1, 1), Fraction(draw.randint(0, 3), 3)) for _ in range(5)]
    wanted = [-1, *(draw.choice([-1, 1]) for _ in range(3)), 1]
    values, width = draw.choice([(-1, 0, 1), (-1, 1)]), 1 + seed % 2
    problem = NetworkProblem([list(map(float, row)) for row in rows], wanted, [width], weight_set=values, exact=rows)
    result = solve(problem, ALONE, budget=QUICK)
    # Where float64 has no bias between two sums, weights may not reach the bound.
    assert result.bound.item() == fewest(rows, wanted, values, width) <= result.objective.item()
    plain = NetworkProblem(problem.samples, wanted, [width], weight_set=values)
    exact = [tuple(map(Fraction, row)) for row in problem.samples.tolist()]
    assert solve(plain, ALONE, budget=QUICK).bound.item() == fewest(exact, wanted, values, width)
