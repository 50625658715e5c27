"""Thresholds below what has no gradient: searched by forward passes, or refused by name, never passed over."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tpsolve import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError, ShapeError
from tpsolve.nn import HardThreshold, Program, target_backward
from tpsolve.problems import ProgramCalls

CROSS_ENTROPY = nn.CrossEntropyLoss()


def grad_of(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    assert layer.weight.grad is not None
    return layer.weight.grad


def products(a: int, b: int, c: int, d: int) -> list[int]:
    return [a * b, c * d]


def model_of(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 5), HardThreshold(), nn.Linear(5, 4), HardThreshold(), Program(products), nn.Linear(2, 2)
    )


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(16, 6, generator=g), torch.randint(2, (16,), generator=g)


def test_without_a_search_the_threshold_below_a_program_is_refused_by_name_before_gradients():
    model = model_of()
    with pytest.raises(NotAcceptedError, match=r"model\.3: got a threshold whose output reaches the loss only through"):
        target_backward(model, *batch(), CROSS_ENTROPY)
    assert all(value.grad is None for value in model.parameters())


@pytest.mark.parametrize("solver", ["hill-climb", "enumerate", "tabu", "beam"])
def test_searched_targets_lower_the_loss_and_all_layers_get_gradients(solver: str):
    model, (x, y) = model_of(), batch()
    report = target_backward(model, x, y, CROSS_ENTROPY, solver={-1: solver}, budget=Budget(steps=16))
    assert list(report) == ["1", "3"]
    assert all(value.grad is not None for value in model.parameters())
    above = model[4:]
    losses = [CROSS_ENTROPY(above(t), y) for t in (model[:4](x), report["3"].targets)]
    assert losses[1] < losses[0]
    # What lies above learns as usual.
    CROSS_ENTROPY(above(model[:4](x).detach()), y).backward()
    grad = grad_of(model[5])
    twice = model_of()
    CROSS_ENTROPY(twice(x), y).backward()
    own = grad_of(twice[5])
    assert torch.allclose(grad, 2 * own)


def test_gradients_are_those_of_the_layer_loss_of_the_targets():
    model, (x, y) = model_of(), batch()
    report = target_backward(model, x, y, CROSS_ENTROPY, solver={-1: "enumerate"}, budget=Budget(steps=16))
    targets, problem = report["3"].targets, report.problem("3")
    size = problem.flip_delta(targets).abs() / 2
    h = model[1](model[0](x)).detach()
    z = model[2](h)
    model[3](z).backward(-(targets * size).to(z.dtype))
    grad = grad_of(model[2])
    again = model_of()
    target_backward(again, x, y, CROSS_ENTROPY, solver={-1: "enumerate"}, budget=Budget(steps=16))
    own = grad_of(again[2])
    assert torch.allclose(grad, 2 * own, atol=1e-6)


def test_a_program_at_the_end_of_a_model_is_searched_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), HardThreshold(), Program(products))
    x, _ = batch()
    report = target_backward(model, x, torch.ones(16, 2), nn.MSELoss(), solver="enumerate", budget=Budget(steps=16))
    assert torch.equal(Program(products)(report["1"].targets), torch.ones(16, 2).double())
    assert model[0].weight.grad is not None


@pytest.mark.slow
def test_a_network_below_a_program_learns_what_no_gradient_tells_it():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(128, 3, generator=g)
    # The program gives the label exactly where the two spins are the signs of the first two inputs.
    y = 2 * (x[:, :1] > 0).float() + (x[:, 1:2] > 0).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), HardThreshold(), Program(lambda a, b: 2 * (a > 0) + (b > 0)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    before = (model(x) == y).double().mean()
    for _ in range(60):
        optimizer.zero_grad()
        target_backward(model, x, y, nn.MSELoss(), solver="enumerate", budget=Budget(steps=4))
        optimizer.step()
    assert (model(x) == y).double().mean() > max(0.9, before)


def test_calls_are_remembered_by_all_copies():
    called: list[Any] = []
    program = Program(lambda a, b: called.append((a, b)) or a * b)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 2), HardThreshold(), program)
    target_backward(model, batch()[0], torch.ones(16, 1), nn.MSELoss(), solver="tabu", budget=Budget(steps=8))
    assert len(called) == len(set(called)) <= 4


def test_failed_calls_are_nan_and_avoided():
    def fragile(a: int, b: int) -> int:
        if a == b == 1:
            raise ValueError("both")
        return a + b

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 2), HardThreshold(), Program(fragile))
    x, _ = batch()
    assert torch.isnan(model[2](torch.ones(1, 2))).all()
    report = target_backward(
        model, x, torch.full((16, 1), 2.0), nn.MSELoss(), solver="enumerate", budget=Budget(steps=4)
    )
    assert not (report["1"].targets == 1).all(1).any()
    assert torch.isfinite(report["1"].objective).all()


@pytest.mark.parametrize("flat", [False, True])
def test_one_hot_vectors_are_handed_on_as_class_numbers(flat: bool):
    classes = torch.tensor([[3, 1], [0, 0], [2, 3]])
    hot = nn.functional.one_hot(classes, 4).float()
    program = Program(lambda a, b: [a, b, 10 * a + b], symbols=4)
    expected = [[3, 1, 31], [0, 0, 0], [2, 3, 23]]
    assert program(hot.flatten(1) if flat else hot).tolist() == expected
    assert program(hot.bfloat16()).dtype == torch.bfloat16
    assert program(hot[:0]).shape == (0, 1)
    assert repr(program) == "Program(symbols=4)"
    assert repr(Program(products)) == "Program()"


def test_signs_and_choices_stand_side_by_side():
    program = Program(lambda a, b, c: [a, b, c], symbols=["sign", 3, "sign"])
    assert program(torch.tensor([[-1.0, 0, 0, 1, 1], [1, 1, 0, 0, -1]])).tolist() == [[-1, 2, 1], [1, 0, -1]]


def uneven(a: int) -> list[int]:
    return [1] * (3 if a > 0 else 2)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Program(products)(torch.full((2, 4), 0.5)), ArgumentError, "h: got numbers that are not whole"),
        (lambda: Program(products, symbols=1), ArgumentError, "symbols: got 1"),
        (lambda: Program(products, symbols=["sign", "spin"]), ArgumentError, "'spin'"),
        (lambda: Program(products, symbols=2.5), ArgumentError, "symbols: got 2.5"),  # pyright: ignore[reportArgumentType]
        (lambda: Program(products)([[1, -1]]), ArgumentError, "h: got list"),
        (lambda: Program(products)(torch.ones(2)), ShapeError, "h: got torch.float32 of shape (2,)"),
        (
            lambda: Program(lambda a, b: [[a, b], [b, a]])(torch.ones(2, 2)),
            ArgumentError,
            "program: got answers such as ((1, 1), (1, 1))",
        ),
        (lambda: Program(products)(torch.zeros(2, 20)), ArgumentError, "takes 20 symbols by position"),
        (
            lambda: Program(products, symbols=3)(torch.zeros(2, 12)),
            ArgumentError,
            "h: got vectors that are not one-hot",
        ),
        (lambda: Program(products, symbols=3)(torch.ones(2, 4)), ShapeError, "a multiple of 3"),
        (lambda: Program(products, symbols=["sign", 3])(torch.ones(2, 5)), ShapeError, "4, for the symbols"),
        (lambda: Program(lambda *s: "text")(torch.ones(2, 4)), ArgumentError, "answers such as 'text'"),
        (
            lambda: Program(lambda *s: [1] * (3 if s[0] > 0 else 2))(torch.tensor([[1.0], [-1.0]])),
            ArgumentError,
            "one length",
        ),
        (
            lambda: Program(ProgramCalls(products), batched=True),
            ArgumentError,
            "options: got ['batched']",
        ),
    ],
)
def test_what_makes_no_sense_is_named(make: Any, error: type[Exception], words: str):
    with pytest.raises(error) as raised:
        make()
    assert words in str(raised.value)


def test_a_loss_of_nothing_that_learns_is_named():
    model = nn.Sequential(HardThreshold(), Program(products))
    with pytest.raises(ShapeError, match="a number without gradient"):
        target_backward(model, torch.randn(4, 4), torch.ones(4, 2), nn.MSELoss(), solver="tabu", budget=Budget(steps=2))
