"""ProgramLoss in the loops of users: other precisions, accumulation, data parallelism, crashes."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tpsolve import Budget
from tpsolve.nn import ProgramLoss

PLAIN: dict[str, Any] = {"balance": 0, "confidence": 0}


def total(*symbols: int) -> int:
    return sum(symbols)


def batch(samples: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(samples, 6, generator=generator), torch.randint(5, (samples,), generator=generator)


def encoder() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 6)


def gradient(model: nn.Module) -> Tensor:
    return torch.cat([value.grad.flatten() for value in model.parameters() if value.grad is not None])


def test_under_autocast_the_loss_is_in_float32_and_near():
    x, y = batch()
    losses = []
    for enabled in (False, True):
        model, loss_fn = encoder(), ProgramLoss(total, symbols=3, solver="marginal")
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = loss_fn(model(x).view(-1, 2, 3), y)
        loss.backward()
        assert loss.dtype == torch.float32
        assert gradient(model).isfinite().all()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_gradients_in_float64_are_those_of_finite_differences():
    logits = torch.randn(3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss_fn = ProgramLoss(total, symbols=3, solver="marginal", **PLAIN)
    assert torch.autograd.gradcheck(lambda z: loss_fn(z, [1, 2, 4]), logits)


def test_accumulated_parts_give_the_gradient_of_the_whole():
    x, y = batch()
    whole, parts = encoder(), encoder()
    ProgramLoss(total, symbols=3, solver="marginal", **PLAIN)(whole(x).view(-1, 2, 3), y).backward()
    loss_fn = ProgramLoss(total, symbols=3, solver="marginal", **PLAIN)
    for part in (slice(0, 4), slice(4, 8)):
        (16 * loss_fn(parts(x[part]).view(-1, 2, 3), y[part]) / 2).backward()
    assert torch.allclose(gradient(parts), 16 * gradient(whole), atol=1e-5)


@pytest.mark.usefixtures("process_group")
def test_data_parallel_training_has_the_gradient_of_one_process():
    x, y = batch()
    alone = encoder()
    ProgramLoss(total, symbols=3)(alone(x).view(-1, 2, 3), y).backward()
    parallel = nn.parallel.DistributedDataParallel(encoder())
    ProgramLoss(total, symbols=3)(parallel(x).view(-1, 2, 3), y).backward()
    torch.testing.assert_close(gradient(parallel), gradient(alone))


def test_a_crash_of_the_program_in_mid_step_loses_no_answer():
    called: list[tuple[int, ...]] = []

    def program(*symbols: int) -> int:
        if len(called) == 5:
            raise KeyboardInterrupt
        called.append(symbols)
        return sum(symbols)

    loss_fn = ProgramLoss(program, symbols=3, solver="marginal")
    with pytest.raises(KeyboardInterrupt):
        loss_fn(torch.zeros(2, 2, 3), [1, 2])
    called.append((-1,))
    loss_fn(torch.zeros(2, 2, 3), [1, 2])
    assert len(called) == 9 + 1
    assert len(set(called)) == 9 + 1


def test_a_program_of_torch_may_track_gradients():
    weight = torch.ones(2, requires_grad=True)
    loss_fn = ProgramLoss(lambda s: (s * weight).sum(1), symbols=3, batched="torch", solver="marginal")
    loss_fn(torch.zeros(2, 2, 3, requires_grad=True), [1.0, 2.0]).backward()
    assert weight.grad is None
    assert loss_fn.report is not None
    assert loss_fn.report.consistent == 2


def test_a_label_that_no_symbols_give_is_counted_and_named_once():
    loss_fn = ProgramLoss(total, symbols=3, budget=Budget(calls=9))
    logits = torch.zeros(3, 2, 3)
    with pytest.warns(UserWarning, match="labels: no symbols give 99"):
        loss_fn(logits, [99, 1, 98])
    assert loss_fn.report is not None
    assert loss_fn.report.unreachable == 2
    assert "2 samples have a label that no symbols give" in str(loss_fn.report)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_fn(logits, [99, 1, 98])
        # What was not asked is not named.
        ProgramLoss(total, symbols=3, budget=Budget(calls=8))(logits, [99, 1, 98])
