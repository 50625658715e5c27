"""Program problems against exhaustive enumeration, and what a program may be and do."""

import asyncio
import itertools
import math
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tpsolve import Budget, ProgramProblem, solve
from tpsolve.errors import (
    ArgumentError,
    FileFormatError,
    FolderError,
    NotFiniteError,
    ShapeError,
    TpsolveError,
    ValueSetError,
)
from tpsolve.problems import DeclaredConstraints, ProgramCalls
from tpsolve.problems.program import _answer_file


def total(*symbols: int) -> int:
    return sum(symbols)


def problem_of(samples: int = 6, units: int = 3, classes: int = 4, seed: int = 0, **settings: Any) -> ProgramProblem:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(samples, units, classes, generator=generator)
    labels = torch.randint(0, units * (classes - 1) + 1, (samples,), generator=generator)
    return ProgramProblem(total, labels, logits, symbols=classes, **settings)


def all_targets(problem: ProgramProblem) -> Tensor:
    """Every assignment of every sample, `(C, B, n)`."""
    each = [(-1, 1) if spin else range(size) for size, spin in zip(problem.sizes, problem.is_spin, strict=True)]
    table = torch.tensor([[int(v) for v in row] for row in itertools.product(*each)])
    return table[:, None].expand(-1, problem.batch_shape[0], -1)


def test_objective_is_the_cost_of_leaving_the_present_symbols_where_the_answer_is_right():
    problem = problem_of()
    targets = all_targets(problem)
    log_p = torch.log_softmax(problem.logits, 2)
    for b, label in enumerate(problem.labels):
        for row, value in zip(targets[:, b].tolist(), problem.objective(targets)[:, b].tolist(), strict=True):
            spent = sum(float(log_p[b, j].max() - log_p[b, j, v]) for j, v in enumerate(row))
            assert value == (pytest.approx(spent) if sum(row) == label else math.inf)
    assert (problem.present == problem.logits.argmax(2)).all()
    assert (problem.disturbance(problem.present) == 0).all()


def test_spins_cost_what_their_pre_activation_says_and_come_as_minus_and_plus_one():
    z = torch.tensor([[0.5, -2.0, 1.0]])
    seen = []
    problem = ProgramProblem(lambda *s: seen.append(s) or s.count(1), [2], z, symbols="sign")
    targets = torch.tensor([[[1, -1, 1]], [[-1, -1, 1]], [[1, 1, 1]], [[-1, 1, 1]]])
    assert problem.objective(targets).flatten().tolist() == [0.0, math.inf, math.inf, 2.5]
    assert set(seen) == {(1, -1, 1), (-1, -1, 1), (1, 1, 1), (-1, 1, 1)}
    log_p = torch.nn.functional.logsigmoid(torch.tensor([0.5, 2.0, 1.0])).sum()
    assert problem.log_probability(problem.present).item() == pytest.approx(float(log_p))


def test_units_of_several_sizes_and_kinds_stand_side_by_side():
    logits = torch.tensor([[[2.0, 9.0, 9.0], [0.0, 1.0, 9.0], [0.0, 1.0, 3.0]]])
    problem = ProgramProblem(lambda s, a, b: (s, a, b), [(-1, 0, 2)], logits, symbols=["sign", 2, 3])
    assert problem.present.tolist() == [[1, 1, 2]]
    assert problem.count_assignments() == [12]
    result = solve(problem, "k-best", budget=Budget(calls=12))
    assert result.targets.tolist() == [[-1, 0, 2]]
    assert result.objective.item() == 3.0


def test_masked_symbols_are_not_there_and_known_ones_stay():
    logits = torch.zeros(2, 3, 4)
    logits[..., 1] = 1.0
    mask = torch.tensor([[True, True, True], [True, False, True]])
    seen = []
    problem = ProgramProblem(
        lambda *s: seen.append(s) or sum(s), [5, 3], logits, symbols=4, mask=mask, known=[[2, -1, -1], [-1, 3, -1]]
    )
    result = solve(problem, "marginal", budget=Budget(calls=64))
    assert result.objective.isfinite().all()
    assert result.targets[0, 0] == 2
    assert result.targets[0].sum() == 5
    assert result.targets[1, [0, 2]].sum() == 3
    assert {len(s) for s in seen} == {2, 3}
    assert problem.count_assignments() == [16, 16]
    # p of what is not there, or known, is 1.
    assert problem.log_probability(result.targets)[1].item() == pytest.approx(
        float(torch.log_softmax(logits[1], 1)[[0, 2], result.targets[1, [0, 2]]].sum())
    )


@pytest.mark.parametrize("stay", [0.0, 0.5])
def test_losses_of_ones_own_are_added_to_the_cost(stay: float):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 2, 3, generator=generator)
    problem = ProgramProblem(total, [0, 1, 3, 9], logits, symbols=3, stay=stay, loss=lambda a, y: abs(a - y))
    targets = all_targets(problem)
    expected = (targets.sum(2) - torch.tensor([0, 1, 3, 9])).abs() + stay * problem.disturbance(targets)
    assert torch.equal(problem.objective(targets), expected)
    result = solve(problem, "k-best", budget=Budget(calls=9))
    assert torch.allclose(result.objective, expected.amin(0))
    assert result.optimal.all()


def test_each_distinct_assignment_is_called_once_and_remembered_across_problems():
    called = []
    program = ProgramCalls(lambda *s: called.append(s) or sum(s))
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(5, 2, 3, generator=generator)
        solve(ProgramProblem(program, [1, 2, 3, 4, 0], logits, symbols=3), "marginal", budget=Budget(calls=9))
    assert sorted(called) == sorted(itertools.product(range(3), repeat=2))
    assert program.counts.calls == 9
    assert program.counts.remembered > 9


def test_the_oldest_answers_leave_a_full_memory():
    program = ProgramCalls(total, max_remembered=2)
    program.answers([(1, 2), (3, 4), (5, 6)])
    program.answers([(5, 6), (3, 4)])
    assert program.counts.calls == 3
    program.answers([(1, 2)])
    assert program.counts.calls == 4


async def slow_total(*symbols: int) -> int:
    await asyncio.sleep(0)
    return sum(symbols)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ProgramCalls(lambda array: array.sum(1), batched="numpy"),
        lambda: ProgramCalls(lambda tensor: tensor.sum(1), batched="torch"),
        lambda: ProgramCalls(lambda array: [int(row.sum()) for row in array], batched=True),
        lambda: ProgramCalls(slow_total),
        lambda: ProgramCalls(total, executor=ThreadPoolExecutor(2)),
        lambda: ProgramCalls(lambda *s: np.int64(sum(s))),
        lambda: ProgramCalls(lambda *s: torch.tensor(sum(s))),
    ],
    ids=["numpy", "torch", "list", "async", "threads", "numpy number", "tensor"],
)
def test_a_program_may_be_called_in_many_ways(make: Any):
    expected = solve(problem_of(), "k-best", budget=Budget(calls=64))
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(6, 3, 4, generator=generator)
    labels = torch.randint(0, 10, (6,), generator=generator)
    found = solve(ProgramProblem(make(), labels, logits, symbols=4), "k-best", budget=Budget(calls=64))
    assert torch.equal(found.targets, expected.targets)
    assert torch.equal(found.objective, expected.objective)


@pytest.mark.parametrize(
    ("answer", "label"),
    [("ab", "ab"), ((1, [2]), [1, (2,)]), ({"a": 1}, {"a": 1}), (None, None), ({1, 2}, {2, 1}), (np.arange(2), [0, 1])],
    ids=str,
)
def test_answers_of_any_kind_are_compared(answer: Any, label: Any):
    problem = ProgramProblem(lambda a: answer if a else "other", [label], torch.zeros(1, 1, 2), symbols=2)
    assert problem.objective(torch.tensor([[[0]], [[1]]])).flatten().tolist() == [math.inf, 0.0]


def test_calls_that_raise_or_give_nan_are_wrong_and_counted():
    def fragile(a: int) -> float:
        if a == 0:
            raise ZeroDivisionError("no digit")
        return math.nan if a == 1 else 5.0

    problem = ProgramProblem(fragile, [5.0], torch.zeros(1, 1, 3), symbols=3)
    result = solve(problem, "marginal", budget=Budget(calls=3))
    assert problem.program is not None
    assert result.targets.tolist() == [[2]]
    assert (problem.program.counts.calls, problem.program.counts.failed) == (3, 2)
    assert problem.program.counts.first_failure == "ZeroDivisionError: no digit"


def test_answers_on_disk_outlive_a_crash_in_mid_batch(tmp_path: Any):
    path, called = tmp_path / "answers.sqlite", []

    def program(a: int, b: int) -> int:
        called.append((a, b))
        if len(called) == 5:
            raise KeyboardInterrupt
        return a + b

    logits = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    first = ProgramProblem(ProgramCalls(program, path=path), [1, 2, 9], logits, symbols=3)
    with pytest.raises(KeyboardInterrupt):
        solve(first, "k-best", budget=Budget(calls=9))
    before = len(called)
    again = ProgramProblem(ProgramCalls(program, path=path), [1, 2, 9], logits, symbols=3)
    result = solve(again, "marginal", budget=Budget(calls=9))
    assert result.status[2].value == "infeasible"
    # The fifth call gave no answer; no other was made twice.
    assert len(called) - before == 9 - 4
    assert len(set(called)) == 9


def test_a_foreign_file_is_no_memory(tmp_path: Any):
    (tmp_path / "x").write_text("not a memory" * 100)
    with pytest.raises(FileFormatError, match="no memory of a program"):
        ProgramCalls(total, path=tmp_path / "x")


LOGITS = torch.zeros(2, 2, 3)
HUGE = torch.tensor([[[1e308, -1e308], [0.0, 0.0]]], dtype=torch.float64)


def wrong(value: Any) -> Any:
    """What a type checker would refuse."""
    return value


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ProgramProblem(wrong(3), [1, 2], LOGITS, symbols=3), ArgumentError, "program: got int"),
        (lambda: ProgramProblem(lambda a: a, [1, 2], LOGITS, symbols=3), ArgumentError, "takes 2 symbols by position"),
        (lambda: ProgramProblem(lambda *, a: a, [1, 2], LOGITS, symbols=3), ArgumentError, "Wrap it: lambda"),
        (lambda: ProgramProblem(total, [1], LOGITS, symbols=3), ShapeError, "labels: got 1 labels, expected 2"),
        (lambda: ProgramProblem(total, 4, LOGITS, symbols=3), ArgumentError, "labels: got int"),
        (lambda: ProgramProblem(total, [1, 2], LOGITS, symbols=1), ArgumentError, "nothing to search"),
        (lambda: ProgramProblem(total, [1, 2], LOGITS, symbols="spin"), ArgumentError, "symbols: got 'spin'"),
        (lambda: ProgramProblem(total, [1, 2], LOGITS, symbols=[3]), ShapeError, "1 units, expected 2"),
        (lambda: ProgramProblem(total, [1, 2], LOGITS, symbols=4), ShapeError, "3 logits a unit, expected at least 4"),
        (lambda: ProgramProblem(total, [1, 2], LOGITS[..., 0], symbols=3), ShapeError, "(B, n, 3) for choices"),
        (lambda: ProgramProblem(total, [1, 2], LOGITS / 0, symbols=3), NotFiniteError, "NaN"),
        (lambda: ProgramProblem(total, [1, 2], LOGITS.long(), symbols=3), ArgumentError, "a tensor of real numbers"),
        (lambda: ProgramProblem(total, [1], HUGE, symbols=2), ArgumentError, "logits: got costs that sum up to inf"),
        (lambda: ProgramProblem(total, [1], 1e-8 * HUGE, symbols=2, stay=1e9), ArgumentError, "at most 1e+300"),
        (lambda: ProgramProblem(total, [1, 2], LOGITS, symbols=3, stay=-1), ArgumentError, "stay: got -1"),
        (lambda: ProgramProblem(total, [1, 2], LOGITS, symbols=3, loss="close"), ArgumentError, "loss: got 'close'"),
        (
            lambda: ProgramProblem(total, [1, 2], LOGITS, symbols=3, known=[[3, 0], [0, 0]]),
            ValueSetError,
            "known: got 3",
        ),
        (lambda: ProgramProblem(total, [1, 2], LOGITS, symbols=3, mask=[[True, False]]), ShapeError, "mask"),
        (
            lambda: ProgramProblem(total, [1, 2], LOGITS, symbols=3, mask=[[True, False], [False, False]]),
            ValueSetError,
            "no symbol in sample 1",
        ),
        (lambda: ProgramProblem(total, [1, 2], LOGITS, symbols=wrong(2.5)), ArgumentError, "symbols: got 2.5"),
        (lambda: ProgramProblem(total, [1, 2], LOGITS, symbols=wrong(None)), ArgumentError, "symbols: got None"),
        (
            lambda: ProgramProblem(
                lambda a, b: {"sum": np.ones(2)}, [{"sum": np.ones(2)}] * 2, LOGITS, symbols=3
            ).consistent(torch.zeros(2, 2, dtype=torch.int64)),
            ArgumentError,
            "program: got an answer of type dict, and == with a label of type dict raises ValueError",
        ),
        (lambda: ProgramProblem(total, [1, 2], LOGITS, symbols=3).answers(wrong(None)), ArgumentError, "targets: got"),
        (lambda: ProgramCalls(total, batched="rows"), ArgumentError, "batched: got 'rows'"),
        (lambda: ProgramCalls(total, max_remembered=-1), ArgumentError, "max_remembered: got -1"),
    ],
)
def test_what_makes_no_sense_is_named(make: Any, error: type[TpsolveError], words: str):
    with pytest.raises(error) as raised:
        make()
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (lambda array: array.sum(1)[1:], "8 answers for 9 assignments"),
        (lambda array: 3, "no sequence for 9 assignments"),
        (lambda array: array.fill(0) or list(range(len(array))), "changes its input"),
    ],
    ids=["fewer", "none", "changed"],
)
def test_batches_that_are_answered_wrongly_are_refused(program: Any, words: str):
    problem = ProgramProblem(ProgramCalls(program, batched=True), [1, 2], LOGITS, symbols=3)
    with pytest.raises(ArgumentError, match=words):
        solve(problem, "marginal", budget=Budget(calls=9))


@pytest.mark.parametrize(
    ("targets", "error"),
    [
        ([[0, 3], [0, 0]], ValueSetError),
        ([[0, -1], [0, 0]], ValueSetError),
        ([[0], [0]], ShapeError),
        ([[0.0, 0.0], [0.0, 0.0]], ArgumentError),
    ],
)
def test_targets_that_are_none_are_refused(targets: Any, error: type[TpsolveError]):
    problem = ProgramProblem(total, [1, 2], LOGITS, symbols=3)
    for method in (problem.objective, problem.disturbance, problem.loss_of, problem.log_probability):
        with pytest.raises(error):
            method(torch.tensor(targets))


@pytest.mark.parametrize("state", [3, [3], [((0, "a"), 1)], [((0, 1),)]])
def test_a_memory_that_is_none_is_refused_and_changes_nothing(state: Any):
    program = ProgramCalls(total)
    program.load_state([((0, 1), 1)])
    with pytest.raises(ArgumentError, match=r"state: got .*, expected what state\(\) gave"):
        program.load_state(state)
    assert program.state() == [((0, 1), 1)]


class _Broken(Executor):
    """Its processes die after the first call."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if args == (0, 0):
            future.set_result(fn(*args))
        else:
            future.set_exception(BrokenExecutor("a process has died"))
        return future


def test_what_a_broken_executor_has_not_run_is_not_remembered_as_failed():
    calls = ProgramCalls(total, executor=_Broken())
    with pytest.raises(ArgumentError, match=r"executor: got BrokenExecutor \(a process has died\)"):
        calls.answers([(0, 0), (1, 1), (2, 2)])
    assert calls.counts.failed == 0
    calls.executor = None
    assert calls.answers([(0, 0), (1, 1), (2, 2)]) == [0, 2, 4]
    with ThreadPoolExecutor(1) as pool:
        pass
    with pytest.raises(ArgumentError, match="executor: got RuntimeError"):
        ProgramCalls(total, executor=pool).answers([(0, 0)])


def test_no_call_begins_after_an_interrupt():
    called: list[int] = []

    def program(a: int) -> int:
        called.append(a)
        if a == 1:
            raise KeyboardInterrupt
        return a

    with ThreadPoolExecutor(1) as pool:
        # Holds the only thread until all calls wait.
        gate = threading.Event()
        pool.submit(gate.wait)
        threading.Timer(0.02, gate.set).start()
        slow = ProgramCalls(lambda a: time.sleep(0.002) or program(a), executor=pool)
        with pytest.raises(KeyboardInterrupt):
            slow.answers([(a,) for a in range(50)])
    assert len(called) < 40


def test_a_process_pool_takes_what_pickle_takes():
    with ProcessPoolExecutor(1) as pool, pytest.raises(ArgumentError, match="program: got a function that can't cross"):
        ProgramCalls(lambda a: a, executor=pool)


class _Async:
    async def __call__(self, a: int, b: int) -> int:
        return a + b


def test_coroutines_are_awaited_or_refused():
    assert ProgramCalls(_Async()).answers([(1, 2)]) == [3]
    with pytest.raises(ArgumentError, match="program: got a function that returns a coroutine"):
        ProgramCalls(lambda a, b: _Async()(a, b)).answers([(1, 2)])


def test_answers_on_disk_serve_threads(tmp_path: Any):
    calls = ProgramCalls(total, path=tmp_path / "answers.sqlite", max_remembered=1)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda a: calls.answers([(a, b) for b in range(9)]), range(9)))
    assert found == [[a + b for b in range(9)] for a in range(9)]


def test_answers_are_on_disk_before_the_batch_ends_and_the_file_is_free(tmp_path: Any, monkeypatch: Any):
    monkeypatch.setattr(_answer_file, "SAVE_SECONDS", -1)
    path = tmp_path / "answers.sqlite"
    other = ProgramCalls(lambda a: -1, path=path)
    seen: list[Any] = []

    def program(a: int) -> int:
        # Another process could write now.
        other.answers([(100 + a,)])
        seen.append(ProgramCalls(lambda a: "none", path=path).answers([(a - 1,)]))
        return a

    ProgramCalls(program, path=path).answers([(1,)])
    calls = ProgramCalls(program, path=path)
    calls.answers([(2,), (3,)])
    assert seen == [["none"], [1], [2]]


@pytest.mark.parametrize("answer", [{1: 2}, {"failed": True}, {1, 2}], ids=["keys", "failed", "set"])
def test_answers_that_would_change_on_disk_are_refused(tmp_path: Any, answer: Any):
    with pytest.raises(ArgumentError, match="program: got an answer of type"):
        ProgramCalls(lambda a: answer, path=tmp_path / "x").answers([(1,)])


@pytest.mark.parametrize("answer", [{"a": [1, 2]}, (math.nan, 1), 2**80, True, None, "\ud800", math.inf], ids=repr)
def test_answers_on_disk_come_back_as_they_were(tmp_path: Any, answer: Any):
    calls = [ProgramCalls(lambda a: answer, path=tmp_path / "x") for _ in range(2)]
    first, again = (each.answers([(1,)])[0] for each in calls)
    assert repr(first) == repr(again)
    assert calls[1].counts.calls == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_full_disk_is_named():
    with pytest.raises(FolderError, match="can't be read or written"):
        ProgramCalls(total, path="/dev/full")


def test_constraints_may_be_checked_by_threads_at_once():
    constraints = DeclaredConstraints(lambda model, symbols, label: model.add(sum(symbols) == label))
    every = [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda s: constraints.holds(s, (3, 3, 3), 3), every))
    assert found == [sum(s) == 3 for s in every]


@pytest.mark.parametrize("max_remembered", [40, 2**20])
def test_threads_share_one_memory(max_remembered: int):
    calls = ProgramCalls(lambda a, b: (a + b) % 7, max_remembered=max_remembered)
    rng = np.random.default_rng(0)
    batches = [[tuple(pair) for pair in part] for part in rng.integers(0, 10, (400, 25, 2)).tolist()]

    def work(batch: list[tuple[int, int]]) -> bool:
        right = calls.answers(batch) == [(a + b) % 7 for a, b in batch]
        known = calls.giving(3, 2, 1000)
        copied = calls.state()
        calls.knows_all((tuple(range(10)),) * 2)
        return (
            right and all((a + b) % 7 == 3 for a, b in known.tolist()) and all((a + b) % 7 == y for (a, b), y in copied)
        )

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, batches))
    finally:
        sys.setswitchinterval(before)
    remembered = calls.state()
    assert len(remembered) == min(max_remembered, 100)
    for answer in range(7):
        known = {tuple(key) for key in calls.giving(answer, 2, 1000).tolist()}
        assert known == {key for key, value in remembered if value == answer}
