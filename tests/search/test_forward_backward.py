"""Folds and exact inference through them, against all assignments one by one."""

import itertools
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tpsolve import Budget, ProgramProblem, Status, solve
from tpsolve.errors import ArgumentError, NotAcceptedError
from tpsolve.nn import ProgramLoss
from tpsolve.problems import Fold

ONE = Budget(steps=1)
BAD: Any = 3


def add(total: int, symbol: int) -> int:
    return total + symbol


def digit_sum(state: tuple[int, int | None, int, int], digit: int) -> tuple[int, int | None, int, int]:
    """Two numbers, read from their last digits on: a carry, a digit that waits for its partner, a place, what is
    written so far."""
    carry, first, place, written = state
    if first is None:
        return carry, digit, place, written
    carry, last = divmod(carry + first + digit, 10)
    return carry, None, place + 1, written + 10**place * last


SUM = Fold(
    digit_sum,
    (0, None, 0, 0),
    finish=lambda state: state[3] + 10 ** state[2] * state[0],
    possible=lambda state, label: state[3] == label % 10 ** state[2],
)


def machine(seed: int, states: int, label_states: bool) -> Fold:
    """A random automaton some of whose transitions fail."""
    table = torch.randint(-1, states, (states, 6), generator=torch.Generator().manual_seed(seed)).tolist()

    def step(state: int, symbol: int) -> int:
        following = table[state][symbol + 1]
        if following < 0:
            raise LookupError("no transition")
        return following

    return Fold(step, 0, finish=None if label_states else lambda state: state % 2)


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 5), st.booleans(), st.booleans())
def test_all_ways_count_as_though_listed(seed: int, units: int, states: int, spins: bool, by_state: bool):
    generator = torch.Generator().manual_seed(seed)
    fold, samples = machine(seed, states, by_state), 3
    kinds: list[int | str] = [("sign" if spins and j % 2 else 2 + (seed + j) % 3) for j in range(units)]
    width = max(2 if kind == "sign" else int(kind) for kind in kinds)
    logits = 2 * torch.randn(samples, units, width, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, states, (samples,), generator=generator).tolist()
    mask = torch.rand(samples, units, generator=generator) < 0.8
    mask[:, 0] = True
    known = torch.where(torch.rand(samples, units, generator=generator) < 0.2, 1, -1)
    known = torch.where(torch.tensor([kind == "sign" for kind in kinds]), known.clamp(min=0), known)
    settings: dict[str, Any] = {"symbols": kinds, "mask": mask, "known": known}
    result = solve(ProgramProblem(fold, labels, logits, **settings), "forward-backward", budget=ONE)

    plain = ProgramProblem(lambda *symbols: fold(*symbols), labels, logits, **settings)
    found = result.target_set
    assert found is not None
    assert found.shares is not None
    assert found.entropy is not None
    log_p = torch.log_softmax(plain.logits, 2)
    for b in range(samples):
        ways: list[tuple[float, float, tuple[int, ...]]] = []
        for values in itertools.product(*[torch.isfinite(row).nonzero()[:, 0].tolist() for row in plain.cost[b]]):
            symbols = [2 * v - 1 if kinds[j] == "sign" else v for j, v in enumerate(values) if mask[b, j]]
            try:
                if fold(*symbols) != labels[b]:
                    continue
            except LookupError:
                continue
            cost = sum(float(plain.cost[b, j, v]) for j, v in enumerate(values))
            ways.append((cost, sum(float(log_p[b, j, v]) for j, v in enumerate(values)), values))
        if not ways:
            assert result.status[b] is Status.INFEASIBLE
            assert float(found.weights[b].sum()) == 0
            continue
        assert result.status[b] is Status.OPTIMAL
        assert float(result.objective[b]) == pytest.approx(min(ways)[0], abs=1e-12)
        total = math.fsum(math.exp(log) for _, log, _ in ways)
        share = torch.zeros(units, plain.cost.shape[2], dtype=torch.float64)
        for _, log, values in ways:
            share[range(units), list(values)] += math.exp(log) / total
        assert torch.allclose(found.shares[b], share, atol=1e-10)
        entropy = -math.fsum(math.exp(log) / total * (log - math.log(total)) for _, log, _ in ways)
        assert float(found.entropy[b]) == pytest.approx(entropy, abs=1e-10)


def test_the_loss_is_minus_log_p_of_the_label_with_its_gradient():
    logits = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    labels = [0, 5, 7, 12]
    losses = [
        ProgramLoss(Fold(add), 5, 3, balance=0, confidence=0),
        ProgramLoss(lambda *s: sum(s), 5, 3, balance=0, confidence=0, solver="marginal", budget=Budget(calls=125)),
    ]
    assert losses[0].solver.name == "forward-backward"
    values = [loss_fn(logits, labels) for loss_fn in losses]
    slopes = [torch.autograd.grad(value, logits)[0] for value in values]
    assert values[0].item() == pytest.approx(values[1].item(), abs=1e-12)
    assert torch.allclose(slopes[0], slopes[1], atol=1e-12)
    assert losses[0].report is not None
    assert losses[0].report.result.objective.isfinite().all()


def test_a_fold_is_read_in_evaluation_too():
    loss_fn = ProgramLoss(Fold(add), 5, 3).eval()
    value = loss_fn(torch.zeros(2, 3, 5), [3, 4])
    assert value.item() > 0
    assert loss_fn.report is not None
    assert loss_fn.report.consistent == 2


def test_sums_of_two_numbers_of_fifteen_digits_are_proved():
    generator = torch.Generator().manual_seed(0)
    digits = torch.randint(10, (4, 30), generator=generator)
    labels = [
        int("".join(map(str, row[0::2][::-1]))) + int("".join(map(str, row[1::2][::-1]))) for row in digits.tolist()
    ]
    assert [SUM(*row) for row in digits.tolist()] == labels
    problem = ProgramProblem(SUM, labels, torch.randn(4, 30, 10, generator=generator), symbols=10)
    result = solve(problem, "forward-backward", budget=ONE)
    assert set(result.status) == {Status.OPTIMAL}
    assert problem.consistent(result.targets).all()
    found = result.target_set
    assert found is not None
    assert found.shares is not None
    assert torch.allclose(found.shares.sum(2), torch.ones(4, 30, dtype=torch.float64))


def test_logits_without_any_way_are_infeasible_and_teach_nothing():
    logits = torch.zeros(2, 2, 3, requires_grad=True)
    loss_fn = ProgramLoss(Fold(add), 3, 2, balance=0, confidence=0)
    with pytest.warns(UserWarning, match="no symbols give 9"):
        loss_fn(logits, [9, 2]).backward()
    assert loss_fn.report is not None
    assert loss_fn.report.unreachable == 1
    assert logits.grad is not None
    assert logits.grad[0].abs().sum() == 0
    assert logits.grad[1].abs().sum() > 0


def test_what_is_no_fold_is_refused_by_name():
    logits = torch.zeros(1, 2, 3)
    for problem in (
        ProgramProblem(lambda a, b: a + b, [1], logits, symbols=3),
        ProgramProblem(Fold(add), [1], logits, symbols=3, loss=lambda a, y: abs(a - y)),
    ):
        with pytest.raises(NotAcceptedError, match="Fold"):
            solve(problem, "forward-backward", budget=ONE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fold(BAD), "step: got int"),
        (lambda: Fold(add, []), "start: got a state of type list"),
        (lambda: Fold(add, finish=BAD), "finish: got int"),
        (lambda: Fold(add, max_states=0), "max_states: got 0"),
    ],
)
def test_bad_folds_are_refused(make: Any, message: str):
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (Fold(lambda state, symbol: [*(state or ()), symbol], None), "step: got a state of type list"),
        (
            Fold(lambda state, symbol: (*state, symbol), (), max_states=8),
            "more than 8 states after 2 symbols.* possible=",
        ),
        (
            Fold(add, possible=lambda state, label: bool(1 // 0)),
            "possible: got a function that raises ZeroDivisionError",
        ),
    ],
)
def test_folds_that_fail_on_the_way_are_named(fold: Fold, message: str):
    problem = ProgramProblem(fold, [(1, 1, 1)], torch.zeros(1, 3, 3), symbols=3)
    with pytest.raises(ArgumentError, match=message):
        solve(problem, "forward-backward", budget=ONE)


def test_a_fold_crosses_without_its_trellises():
    fold = Fold(add)
    problem = ProgramProblem(fold, [2], torch.zeros(1, 2, 3), symbols=3)
    solve(problem, "forward-backward", budget=ONE)
    assert pickle.loads(pickle.dumps(fold))(1, 2) == 3
