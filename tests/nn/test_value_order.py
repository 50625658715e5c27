"""The order of values: what moves, what stays, and that the loss is that of the logits in their new order."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tpsolve import Budget
from tpsolve.errors import ArgumentError
from tpsolve.nn import ProgramLoss
from tpsolve.nn.programs import _value_order

SHIFTED = torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 9])
"""Each digit is read as the next one: 0 is not in use, and 8 and 9 are one."""
BATCHES = -(-_value_order.WINDOW // 50)


def less(a: int, b: int) -> bool:
    return a < b


def read_as(digits: Tensor, reading: Tensor) -> Tensor:
    """Logits `(B, n, 10)` of a network that reads the digits so."""
    return 6.0 * nn.functional.one_hot(reading[digits], 10).float()


def shown(loss_fn: ProgramLoss, reading: Tensor, label: Any, batches: int, n: int = 2, **options: Any) -> ProgramLoss:
    """The loss, after it has seen so many batches of 50 random samples."""
    generator = torch.Generator().manual_seed(1)
    loss_fn.explained = 0.9
    for _ in range(batches):
        digits = torch.randint(10, (50, n), generator=generator)
        loss_fn(read_as(digits, reading), [label(*row) for row in digits.tolist()], **options)
    return loss_fn


@pytest.mark.parametrize("unused", [0, 4])
def test_the_value_that_is_not_in_use_comes_to_where_two_inputs_share_one(unused: int):
    reading = torch.where(torch.arange(10) >= unused, SHIFTED, torch.arange(10))
    loss_fn = ProgramLoss(less, symbols=10, count=2)
    with pytest.warns(UserWarning, match=r"read the symbols with read\(logits\)"):
        shown(loss_fn, reading, less, BATCHES)
    read = loss_fn.read(read_as(torch.arange(10)[:, None].expand(-1, 2), reading))
    assert torch.equal(read[:, 0], read[:, 1])
    assert read[:8, 0].tolist() == list(range(8))
    assert read[8, 0] == read[9, 0]
    assert read[8, 0] >= 8
    assert sorted(loss_fn.order[10].tolist()) == list(range(10))
    digits = torch.cartesian_prod(torch.arange(10), torch.arange(10))
    wrong = [row for row in digits.tolist() if less(*read[row, 0].tolist()) != less(*row)]
    assert wrong == [[8, 9]]


@pytest.mark.parametrize(
    ("program", "reading"),
    [
        (lambda a, b: a + b, SHIFTED),
        (lambda a, b: (a - b) % 10, SHIFTED),
        (less, torch.arange(10)),
        # Alike wherever they stand.
        (lambda a, b: a == b, SHIFTED),
    ],
    ids=["sums", "differences", "all in use", "equality"],
)
def test_where_the_labels_need_the_order_or_say_nothing_of_it_no_value_moves(program: Any, reading: Tensor):
    # Labels of the readings themselves: all is explained.
    loss_fn = shown(
        ProgramLoss(program, symbols=10), reading, lambda a, b: program(int(reading[a]), int(reading[b])), BATCHES
    )
    assert loss_fn.order == {}
    assert loss_fn.explained > 0.9


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"reorder": False}, {}),
        ({"loss": lambda answer, label: float(answer != label)}, {}),
        ({}, {"known": torch.full((50, 2), -1)}),
    ],
    ids=["switched off", "another loss", "known symbols"],
)
def test_it_rests(settings: dict[str, Any], options: dict[str, Any]):
    assert shown(ProgramLoss(less, symbols=10, **settings), SHIFTED, less, BATCHES, **options).order == {}


def test_it_rests_in_eval_while_little_is_explained_and_where_processes_share_the_network(
    monkeypatch: pytest.MonkeyPatch,
):
    assert shown(ProgramLoss(less, symbols=10).eval(), SHIFTED, less, BATCHES).order == {}
    loss_fn = ProgramLoss(less, symbols=10)
    monkeypatch.setattr(_value_order, "EXPLAINED", 1.0)
    assert shown(loss_fn, SHIFTED, less, BATCHES).order == {}
    monkeypatch.undo()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert shown(ProgramLoss(less, symbols=10), SHIFTED, less, BATCHES).order == {}


def test_units_of_other_sizes_spins_and_hidden_symbols_are_left_alone():
    loss_fn = ProgramLoss(lambda a, s, b, c: a < b and s > 0 and c >= 0, symbols=[10, "sign", 10, 3], count=4)
    loss_fn.explained = 0.9
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([True, True, True, True])
    logits = torch.zeros(50, 4, 10)
    # A value of three is not in use either, and the spins are +1.
    logits[:, 1, 0], logits[:, 3, 1] = 6.0, 6.0

    def step() -> None:
        digits = torch.randint(10, (50, 2), generator=generator)
        logits[:, [0, 2]] = read_as(digits, SHIFTED)
        loss_fn(logits, [less(*row) for row in digits.tolist()], mask=mask.expand(50, -1))

    for _ in range(BATCHES - 1):
        step()
    with pytest.warns(UserWarning, match="of 10 was not in use"):
        step()
    assert loss_fn.order.keys() == {10}
    read = loss_fn.read(logits)
    assert bool((read[:, 1] == 1).all())
    assert bool((read[:, 3] == 1).all())


def with_places(loss_fn: ProgramLoss, places: dict[int, list[int]]) -> ProgramLoss:
    state = loss_fn.get_extra_state()
    state["order"]["places"] = places
    loss_fn.set_extra_state(state)
    return loss_fn


def test_value_and_gradient_are_those_of_the_logits_in_their_order():
    place = [2, 0, 3, 1]
    logits = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = [0, 1, 2, 3, 4, 5]
    budget = Budget(calls=16)
    one, two = (ProgramLoss(lambda a, b: a + b, symbols=4, solver="marginal", budget=budget) for _ in range(2))
    with_places(one, {4: place})
    own, true = one(logits, labels), two(logits[..., place], labels)
    assert torch.equal(own, true)
    assert torch.equal(torch.autograd.grad(own, logits)[0], torch.autograd.grad(true, logits)[0])
    assert one.predict(logits) == two.predict(logits[..., place])
    assert one.accuracy(logits, labels) == two.accuracy(logits[..., place], labels)
    assert torch.equal(one.read(logits), logits[..., place].argmax(2))


@pytest.mark.parametrize("units", [1, 2])
def test_a_settled_layer_has_the_values_at_their_logits(units: int):
    loss_fn = with_places(ProgramLoss(less, symbols=4, count=2), {4: [3, 0, 1, 2]})
    layer, inputs = nn.Linear(5, 4 * units), torch.randn(6, 2 // units, 5)
    read = loss_fn.read(layer(inputs).view(6, 2, 4))
    loss_fn.settle(layer)
    assert loss_fn.order == {}
    assert torch.equal(layer(inputs).view(6, 2, 4).argmax(2), read)
    assert torch.equal(loss_fn.read(layer(inputs).view(6, 2, 4)), read)


def test_what_can_not_be_settled_is_named():
    loss_fn = ProgramLoss(less, symbols=4)
    with pytest.raises(ArgumentError, match="layer: got 6 outputs for symbols 4"):
        loss_fn.settle(nn.Linear(3, 6))
    with pytest.raises(ArgumentError, match="layer: got Conv2d"):
        loss_fn.settle(nn.Conv2d(1, 1, 1))  # pyright: ignore[reportArgumentType]


def test_a_run_that_was_saved_goes_on_as_if_it_had_not_been():
    """In the middle of a window, and after a move."""
    losses = []
    for saved in (None, BATCHES // 2, BATCHES + 1):
        generator = torch.Generator().manual_seed(1)
        loss_fn, own = ProgramLoss(less, symbols=10), []
        loss_fn.explained = 0.9
        for batch in range(BATCHES + 3):
            if batch == saved:
                state, loss_fn = loss_fn.state_dict(), ProgramLoss(less, symbols=10)
                loss_fn.load_state_dict(state)
            digits = torch.randint(10, (50, 2), generator=generator)
            logits, labels = read_as(digits, SHIFTED), [less(*row) for row in digits.tolist()]
            with pytest.warns(UserWarning, match="in use") if batch == BATCHES - 1 else torch.no_grad():
                own.append(float(loss_fn(logits, labels)))
        losses.append(own)
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize(
    "change",
    [
        {"places": {4: [0, 0, 1, 2]}},
        {"places": {4: [0.0, 1.0, 2.0, 3.0]}},
        {"places": {4: [2**70, 1, 2, 3]}},
        {"places": {4: "abcd"}},
        {"tries": 3},
        {"labels": 3},
    ],
)
def test_an_order_that_is_none_is_named(change: dict[str, Any]):
    loss_fn = ProgramLoss(less, symbols=4)
    state = loss_fn.get_extra_state()
    state["order"] |= change
    with pytest.raises(ArgumentError, match="get_extra_state"):
        loss_fn.set_extra_state(state)


def test_older_states_have_no_order():
    state = ProgramLoss(less, symbols=4).get_extra_state()
    del state["order"]
    loss_fn = with_places(ProgramLoss(less, symbols=4), {4: [3, 0, 1, 2]})
    loss_fn.set_extra_state(state)
    assert loss_fn.order == {}


def test_reorder_is_true_or_false():
    with pytest.raises(ArgumentError, match="reorder"):
        ProgramLoss(less, symbols=4, reorder=1)  # pyright: ignore[reportArgumentType]
