"""The figures of `diagnose_program`, counted once more by brute force on tiny programs."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tpsolve import Budget
from tpsolve.errors import ArgumentError, ShapeError, ValueSetError
from tpsolve.nn import ProgramLoss, diagnose_program


def read_as(table: Sequence[Sequence[int]], size: int, noise: float = 0.5) -> Tensor:
    """Logits whose largest are at these classes."""
    classes = torch.tensor(table)
    logits = 4.0 * torch.nn.functional.one_hot(classes, size)
    return logits + noise * torch.rand(logits.shape, generator=torch.Generator().manual_seed(0))


def counts(program: Callable[..., Any], size: int, n: int) -> tuple[int, int]:
    """Permutations, and other maps, of `size` values that keep the answers for all n symbols."""
    tuples = list(itertools.product(range(size), repeat=n))
    keep = [
        values
        for values in itertools.product(range(size), repeat=size)
        if all(program(*(values[v] for v in symbols)) == program(*symbols) for symbols in tuples)
    ]
    bijective = sum(len(set(values)) == size for values in keep)
    return bijective, len(keep) - bijective


def total(*symbols: int) -> int:
    return sum(symbols)


def sum_mod_three(a: int, b: int, c: int) -> int:
    return (a + b + c) % 3


def equal(a: int, b: int) -> bool:
    return a == b


def low(a: int, b: int) -> int:
    """Can't tell 2 from 3."""
    return (a < 2) * (1 + a) + 3 * (b < 2) * (1 + b)


@pytest.mark.parametrize(
    ("program", "size", "n", "expected"),
    [
        (total, 4, 2, (1, 0)),
        (sum_mod_three, 3, 3, (3, 0)),
        (equal, 4, 2, (24, 0)),
        (low, 4, 2, (2, 2)),
        (lambda a, b: 0, 3, 2, (6, 21)),
    ],
)
def test_relabelings_are_those_of_brute_force(
    program: Callable[..., Any], size: int, n: int, expected: tuple[int, int]
):
    tuples = list(itertools.product(range(size), repeat=n))
    assert counts(program, size, n) == expected
    loss_fn = ProgramLoss(program, symbols=size)
    found = diagnose_program(loss_fn, read_as(tuples, size), [program(*symbols) for symbols in tuples])
    assert (found.relabelings, found.merging) == expected
    assert (found.tuples, found.compared, found.every) == (len(tuples), len(tuples), True)
    assert found.tried == math.factorial(size)
    assert found.verdict == ("fine" if expected == (1, 0) else "undetermined")
    assert found.calls == len(tuples)


def test_of_many_values_swaps_are_counted_and_one_is_named():
    def program(a: int, b: int) -> tuple[bool, bool]:
        return a in (3, 4), b in (3, 4)

    tuples = list(itertools.product(range(10), repeat=2))
    found = diagnose_program(
        ProgramLoss(program, symbols=10), read_as(tuples, 10), [program(*symbols) for symbols in tuples]
    )
    # Two of {3, 4}, or two of the eight others.
    assert (found.relabelings, found.tried, found.every, found.merging) == (1 + 1 + 28, 46, False, None)
    assert "0 and 1 can change places" in str(found)
    assert "swaps of two values" in str(found)


def test_all_permutations_of_six_values_without_other_maps():
    tuples = list(itertools.product(range(6), repeat=2))
    found = diagnose_program(
        ProgramLoss(lambda a, b: (a - b) % 6, symbols=6), read_as(tuples, 6), [(a - b) % 6 for a, b in tuples]
    )
    assert (found.relabelings, found.tried, found.every, found.merging) == (6, 720, True, None)


def test_values_that_no_sample_has_do_not_make_relabelings_of_their_own():
    # 2 and 3 are never seen: only what becomes of 0 and 1 counts.
    tuples = [(0, 0), (0, 1), (1, 0), (1, 1)]
    found = diagnose_program(ProgramLoss(total, symbols=4), read_as(tuples, 4), [sum(s) for s in tuples])
    assert (found.relabelings, found.tried) == (1, 12)


def test_signs_below_an_xor_can_be_negated_together():
    signs = torch.tensor(list(itertools.product([-1, 1], repeat=2)))
    found = diagnose_program(ProgramLoss(lambda a, b: a * b, symbols="sign"), 2.0 * signs, signs.prod(1), symbols=signs)
    assert (found.kinds, found.relabelings, found.tried, found.merging) == (("sign",), 2, 2, 0)
    assert found.example == "-1 and +1 can change places"
    assert (found.known, found.symbol_accuracy, found.permuted_accuracy) == (8, 1.0, 1.0)
    flipped = diagnose_program(
        ProgramLoss(lambda a, b: a * b, symbols="sign"), -2.0 * signs, signs.prod(1), symbols=signs
    )
    assert (flipped.accuracy, flipped.symbol_accuracy, flipped.permuted_accuracy) == (1.0, 0.0, 1.0)


def test_kinds_side_by_side_are_relabelled_each_by_itself():
    def program(s: int, a: int, b: int) -> tuple[int, bool]:
        return s, a == b

    tuples = list(itertools.product([-1, 1], range(3), range(3)))
    logits = read_as([(0, a, b) for _, a, b in tuples], 3)
    logits[:, 0, 0] = torch.tensor([3.0 * s for s, _, _ in tuples])
    found = diagnose_program(
        ProgramLoss(program, symbols=["sign", 3, 3]), logits, [program(*symbols) for symbols in tuples]
    )
    assert found.kinds == ("sign", 3)
    assert (found.accuracy, found.relabelings, found.tried) == (1.0, 6, 12)
    assert found.used == found.needed == (2, 3)
    assert "can change places in the units of 3 values" in found.example


def test_masked_symbols_are_not_read():
    table = [(a, b, 0) for a, b in itertools.product(range(3), repeat=2)]
    mask = torch.tensor([[True, True, False]] * len(table))
    logits = read_as(table, 3)
    logits[:, 2] = math.nan
    found = diagnose_program(ProgramLoss(total, symbols=3), logits, [a + b for a, b, _ in table], mask=mask)
    assert (found.accuracy, found.relabelings, found.tuples, found.calls) == (1.0, 1, 9, 9)
    assert found.used == (3,)
    known = diagnose_program(
        ProgramLoss(total, symbols=3), logits, [a + b for a, b, _ in table], mask=mask, symbols=torch.tensor(table)
    )
    assert known.known == 18


def test_constraints_without_a_program_are_judged_too():
    def declare(model: Any, symbols: list[Any], label: int) -> None:
        model.add(sum(symbols) == label)

    tuples = list(itertools.product(range(3), repeat=2))
    loss_fn = ProgramLoss(constraints=declare, symbols=3)
    found = diagnose_program(loss_fn, read_as(tuples, 3), [sum(symbols) for symbols in tuples])
    assert (found.accuracy, found.relabelings, found.tried, found.calls) == (1.0, 1, 6, 0)
    assert (found.consistent, found.changed) == (1.0, 0.0)


def test_a_collapsed_network_is_told():
    labels = [sum(symbols) for symbols in itertools.product(range(5), repeat=2)]
    found = diagnose_program(ProgramLoss(total, symbols=5), read_as([(1, 1)] * 25, 5), labels)
    assert found.verdict == "collapsed"
    assert (found.used, found.needed) == ((1,), (5,))
    assert found.accuracy == labels.count(2) / 25
    assert found.majority == labels.count(4) / 25
    assert "1 of 5 values used" in str(found)


def test_a_network_that_has_not_learned_is_told_from_a_collapsed_one():
    tuples = list(itertools.product(range(5), repeat=2))
    wrong = [((a + 1) % 5, (b + 2) % 5) for a, b in tuples]
    found = diagnose_program(
        ProgramLoss(lambda a, b: 10 * a + b, symbols=5),
        read_as(wrong, 5),
        [10 * a + b for a, b in tuples],
        symbols=torch.tensor(tuples),
    )
    assert (found.used, found.verdict, found.accuracy, found.symbol_accuracy) == ((5,), "not learned", 0.0, 0.0)
    # One permutation serves both units, so only one of the two shifts can be mended.
    assert found.permuted_accuracy == 0.5


def test_a_wrong_reading_that_gives_many_labels_is_told():
    # Even digits are read as one more and odd ones as one less: sums of one of each are right.
    tuples = list(itertools.product(range(6), repeat=2))
    logits = read_as([(a ^ 1, b ^ 1) for a, b in tuples], 6)
    labels = [sum(symbols) for symbols in tuples]
    told = diagnose_program(ProgramLoss(total, symbols=6), logits, labels, symbols=torch.tensor(tuples))
    assert (told.accuracy, told.symbol_accuracy, told.permuted_accuracy) == (0.5, 0.0, 1.0)
    assert (told.verdict, told.relabelings) == ("misread", 1)
    assert str(told).startswith("misread: ")
    assert diagnose_program(ProgramLoss(total, symbols=6), logits, labels).verdict == "half learned"


def test_figures_of_symbols_are_what_they_say():
    # 0 and 1 are mixed up, and one 2 is read as 1.
    true = torch.tensor([[0, 1], [2, 0], [1, 2], [2, 2]])
    read = torch.tensor([[1, 0], [2, 1], [0, 1], [2, 2]])
    known = true.clone()
    known[3, 1] = -1
    logits = read_as(read.tolist(), 3)
    found = diagnose_program(
        ProgramLoss(total, symbols=3, solver="marginal"), logits, true.sum(1).tolist(), symbols=known
    )
    assert found.known == 7
    assert found.symbol_accuracy == pytest.approx(2 / 7)
    assert found.permuted_accuracy == pytest.approx(6 / 7)
    mean = torch.softmax(logits.double(), 2).mean((0, 1))
    assert found.entropy[0] == pytest.approx(float(torch.special.entr(mean).sum()))
    entropies = []
    log_p = torch.log_softmax(logits.double(), 2)
    for row, label in enumerate(true.sum(1).tolist()):
        pairs = [(a, b) for a, b in itertools.product(range(3), repeat=2) if a + b == label]
        weights = torch.softmax(torch.stack([log_p[row, 0, a] + log_p[row, 1, b] for a, b in pairs]), 0)
        entropies.append(float(torch.special.entr(weights).sum()))
    assert found.posterior_entropy == pytest.approx(sum(entropies) / 4, abs=1e-6)
    assert (found.searched, found.consistent) == (4, 1.0)


@pytest.mark.parametrize("training", [True, False])
def test_loss_and_network_stay_as_they_are(training: bool):
    logits = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss_fn = ProgramLoss(total, symbols=3).train(training)
    loss_fn(logits, [0, 1, 2, 3, 4, 2])
    report, state = loss_fn.report, loss_fn.generator.get_state()
    once = diagnose_program(loss_fn, logits, [0, 1, 2, 3, 4, 2])
    assert loss_fn.report is report
    assert torch.equal(loss_fn.generator.get_state(), state)
    assert loss_fn.training == training
    assert logits.grad is None
    again = diagnose_program(loss_fn, logits, [0, 1, 2, 3, 4, 2])
    assert once.calls == (0 if training else 9)
    assert again.calls == 0
    assert once.consistent == again.consistent == 1.0


@pytest.mark.parametrize("max_calls", [1, 5, 20, 60, 200])
def test_calls_are_bounded_and_what_was_left_out_is_said(max_calls: int):
    tuples = list(itertools.product(range(4), repeat=4))
    loss_fn = ProgramLoss(lambda *s: tuple(v // 2 for v in s), symbols=4, budget=Budget(calls=8))
    labels = [tuple(v // 2 for v in symbols) for symbols in tuples]
    found = diagnose_program(loss_fn, read_as(tuples, 4), labels, max_calls=max_calls)
    assert found.calls <= max_calls
    assert found.judged == min(max_calls, 256)
    assert found.accuracy == 1.0
    assert found.compared < found.tuples or found.tuples == 0
    assert "max_calls is used up" in str(found)
    # Four of these are right: whatever is left out, none of them is ruled out.
    assert found.relabelings >= 4
    whole = diagnose_program(loss_fn, read_as(tuples, 4), labels)
    assert (whole.relabelings, whole.compared, whole.judged, whole.searched) == (4, 256, 256, 256)


def test_calls_that_fail_are_inconsistent():
    def program(a: int, b: int) -> int:
        if a == 2:
            raise ValueError("never 2")
        return a + b

    tuples = [(0, 0), (1, 0), (0, 1), (2, 1)]
    found = diagnose_program(ProgramLoss(program, symbols=3), read_as(tuples, 3), [0, 1, 1, 3])
    assert (found.accuracy, found.tuples) == (0.75, 3)


def test_without_consistent_symbols_nothing_is_said_of_relabelings():
    found = diagnose_program(ProgramLoss(total, symbols=3), read_as([(0, 0), (1, 1), (2, 2)], 3), [3, 1, 9])
    assert (found.tuples, found.compared, found.example) == (0, 0, "")
    assert "not judged" in str(found)
    assert found.consistent == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"loss_fn": torch.nn.MSELoss()}, ArgumentError, "loss_fn: got MSELoss, expected a ProgramLoss"),
        ({"logits": [[1.0]]}, ArgumentError, "logits: got list"),
        ({"logits": torch.zeros(3)}, ShapeError, "logits: got shape (3,)"),
        ({"labels": [1]}, ShapeError, "labels: got 1 labels"),
        ({"max_calls": 0}, ArgumentError, "max_calls: got 0"),
        ({"symbols": torch.zeros(3, 3, dtype=torch.int64)}, ShapeError, "symbols: got"),
        ({"symbols": torch.full((3, 2), 7)}, ValueSetError, "symbols: got 7"),
        ({"mask": torch.ones(3, 2)}, ShapeError, "mask: got"),
    ],
)
def test_what_makes_no_sense_is_named(change: dict[str, Any], error: type[Exception], words: str):
    arguments: dict[str, Any] = {
        "loss_fn": ProgramLoss(total, symbols=3),
        "logits": torch.zeros(3, 2, 3),
        "labels": [0, 1, 2],
        **change,
    }
    with pytest.raises(error) as raised:
        diagnose_program(**arguments)
    assert words in str(raised.value)
