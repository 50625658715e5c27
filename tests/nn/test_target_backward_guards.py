"""`target_backward` searches the network that ran, or refuses before `.grad` changes and says what to write instead."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, kl_div, one_hot
from torch.utils.checkpoint import checkpoint

from tpsolve import Budget
from tpsolve.errors import NotAcceptedError
from tpsolve.nn import HardThreshold, diagnose, target_backward
from tpsolve.nn.passes._recording import record
from tpsolve.nn.passes._replay import noise_of_norms
from tpsolve.problems import BlockProblem

F64 = torch.float64
FEW = Budget(steps=4)


def batch(*shape: int, samples: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, *shape, dtype=F64, generator=generator)
    return x, torch.randint(3, (samples,), generator=generator)


def double(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
    return 2 * output


class BinaryLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight.sign(), self.bias)


class Shifted(nn.BatchNorm1d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


class Reversed(nn.Flatten):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).flip(1)


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(double)
    return layer


def patched(layer: nn.Linear) -> nn.Module:
    layer.forward = lambda input: functional.linear(input, layer.weight * 3)
    return layer


class Own(nn.Sequential):
    """Cut by torch.fx, since it is no bare `nn.Sequential`."""


ABOVE: dict[str, Callable[[], list[nn.Module]]] = {
    "own forward": lambda: [BinaryLinear(4, 3)],
    "hook": lambda: [hooked(nn.Linear(4, 3))],
    "forward of the instance": lambda: [patched(nn.Linear(4, 3))],
    "norm with own forward": lambda: [nn.Linear(4, 3), Shifted(3)],
    "norm with a hook": lambda: [nn.Linear(4, 3), hooked(nn.BatchNorm1d(3))],
    "flatten with own forward": lambda: [Reversed(), nn.Linear(4, 3)],
}


@pytest.mark.parametrize("container", [nn.Sequential, Own])
@pytest.mark.parametrize("case", ABOVE)
def test_layers_that_do_more_than_their_class_are_searched_as_they_are(case: str, container: type[nn.Sequential]):
    torch.manual_seed(0)
    model = container(nn.Linear(5, 4), HardThreshold(), *ABOVE[case]()).double()
    report = target_backward(model, *batch(5), cross_entropy, solver="hill-climb", budget=FEW)
    problem = report.problem("1")
    assert isinstance(problem, BlockProblem)
    torch.testing.assert_close(problem.objective(problem.start).sum(), report.loss)


@pytest.mark.parametrize("container", [nn.Sequential, Own])
def test_a_parametrised_linear_layer_is_a_linear_map(container: type[nn.Sequential]):
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    model = container(nn.Linear(5, 4), HardThreshold(), layer).double()
    problem = target_backward(model, *batch(5), cross_entropy).problem("1")
    assert not isinstance(problem, BlockProblem)
    report = target_backward(model, *batch(5), cross_entropy, solver="hill-climb", budget=FEW)
    assert problem.start is not None
    torch.testing.assert_close(problem.objective(problem.start).sum(), report.loss)


class Between(nn.Module):
    """A function between two linear layers, after the threshold; `first` is what comes before it."""

    def __init__(self, function: Callable[["Between", Tensor, Tensor], Tensor]):
        super().__init__()
        self.first, self.threshold, self.top = nn.Linear(5, 5), HardThreshold(), nn.Linear(5, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.function(self, self.threshold(self.first(x)), x))


def noise(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (arguments[0] + torch.randn_like(arguments[0]),)


def noisy(model: nn.Sequential) -> nn.Module:
    model[3].register_forward_pre_hook(noise)
    return model


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "instance norm with statistics": (
        lambda: nn.Sequential(
            nn.Linear(5, 4),
            HardThreshold(),
            nn.Unflatten(1, (2, 2)),
            nn.InstanceNorm1d(2, track_running_stats=True),
            nn.Flatten(),
            HardThreshold(),
            nn.Linear(4, 3),
        ),
        "1: got modules between it and model.5",
    ),
    "noise before the next threshold": (
        lambda: noisy(nn.Sequential(nn.Linear(5, 4), HardThreshold(), nn.Linear(4, 4), HardThreshold())),
        "1: got modules between it and model.3",
    ),
    "hook on the threshold": (
        lambda: nn.Sequential(nn.Linear(5, 4), hooked(HardThreshold()), nn.Linear(4, 3)),
        "1: got a HardThreshold whose output a hook",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_search_of_another_network_than_ran_is_refused_before_gradients_change(case: str):
    torch.manual_seed(0)
    make, message = REFUSED[case]
    model, (x, y) = make().double(), batch(5)
    with pytest.raises(NotAcceptedError, match=f"model.{message}"):
        target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=FEW)
    assert all(p.grad is None for p in model.parameters())
    torch.manual_seed(1)
    report = target_backward(model, x, y, cross_entropy)
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    torch.manual_seed(1)
    cross_entropy(model(x), y).backward()
    for one, p in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad, rtol=0, atol=0)
    if case != "hook on the threshold":
        with pytest.raises(NotAcceptedError, match=f"model.{message}"):
            report[next(iter(report))]


@pytest.mark.parametrize("dropout", [nn.Dropout, nn.Dropout1d])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, F64])
def test_dropout_modules_are_held_at_their_mask(dropout: type[nn.Module], dtype: torch.dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), HardThreshold(), nn.Unflatten(1, (4, 2)), dropout(0.5), nn.Flatten())
    model = nn.Sequential(model, nn.Linear(8, 3)).to(dtype)
    x, y = batch(5)
    report = target_backward(model, x.to(dtype), y, cross_entropy, solver="hill-climb", budget=FEW)
    problem = report.problem("0.1")
    assert problem.start is not None
    torch.testing.assert_close(problem.objective(problem.start).sum(), report.loss.double(), rtol=1e-2, atol=1e-2)


def test_a_threshold_left_to_the_closed_form_may_have_functional_dropout_above():
    class Two(Between):
        def __init__(self) -> None:
            super().__init__(lambda model, h, x: functional.dropout(h))
            self.second, self.last = HardThreshold(), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.second(super().forward(x)))

    report = target_backward(Two().double(), *batch(5), cross_entropy, solver={-1: "hill-climb"}, budget=FEW)
    assert report["second"].stats["solver"] == "hill-climb"


SMOOTHED = partial(cross_entropy, label_smoothing=0.2)


def test_curvature_flips_below_a_block_with_smoothed_labels():
    torch.manual_seed(0)
    top = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    model, (x, y) = nn.Sequential(nn.Linear(5, 4), HardThreshold(), top).double(), batch(5)
    report = target_backward(model, x, y, SMOOTHED, solver="curvature-flip", budget=FEW)
    problem, h = report.problem("1"), report._pass.recording.calls["1"].h
    assert isinstance(problem, BlockProblem)
    torch.testing.assert_close(problem.objective(h).sum(), report.loss)
    delta = problem.flip_delta(h)
    for b, j in itertools.product(range(len(h)), range(4)):
        flipped = h.clone()
        flipped[b, j] *= -1
        assert delta[b, j].item() == pytest.approx((SMOOTHED(top(flipped), y) - report.loss).item(), abs=1e-9)


@pytest.mark.parametrize("solver", ["milp", "polish(milp, hill-climb)"])
def test_solvers_that_need_a_known_loss_are_refused_before_gradients_change(solver: str):
    model, (x, y) = nn.Sequential(nn.Linear(5, 4), HardThreshold(), nn.Linear(4, 3)).double(), batch(5)
    with pytest.raises(NotAcceptedError, match=r"model\.1: got milp"):
        target_backward(model, x, y, lambda o, t: cross_entropy(o, t), solver=solver, budget=FEW)
    assert all(p.grad is None for p in model.parameters())


LOSSES: dict[str, Any] = {
    "squares": lambda o, t: (o - one_hot(t, 3)).square().mean(),
    "binary": lambda o, t: binary_cross_entropy_with_logits(o, one_hot(t, 3).double(), reduction="sum"),
    "soft labels": lambda o, t: cross_entropy(o, 0.8 * one_hot(t, 3) + 0.1),
    "scaled": lambda o, t: 1024 * cross_entropy(o, t) / 4,
    "distilled": lambda o, t: kl_div(o.log_softmax(1), one_hot(t, 3) * 0.7 + 0.1, reduction="batchmean"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_curvature_flips_below_any_loss_that_can_be_differentiated_twice(name: str):
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(5, 4), HardThreshold(), nn.Linear(4, 3)).double(), batch(5)
    report = target_backward(model, x, y, LOSSES[name], solver="curvature-flip", budget=FEW)
    problem: Any = report.problem("1")
    h = report._pass.recording.calls["1"].h
    torch.testing.assert_close(problem.objective(h).sum(), report.loss)
    change = problem.predicted_change()
    assert torch.equal(report["1"].targets, torch.where(change < 0, -h, h))
    hessian = torch.autograd.functional.hessian(lambda u: LOSSES[name](model[2](u), y), h)
    exact = hessian.flatten(2).flatten(0, 1).diagonal().reshape(h.shape)  # pyright: ignore[reportAttributeAccessIssue]
    slope = torch.autograd.functional.jacobian(lambda u: LOSSES[name](model[2](u), y), h)
    expected = -2 * h * slope + 2 * exact  # pyright: ignore[reportOperatorIssue]
    # Eight random directions: exact but for the entries of the Hessian beside its diagonal.
    assert ((change - expected).abs() <= 2.5 * exact.abs().amax() + 1e-9).all()
    assert (change - expected).abs().mean() < 0.5 * exact.abs().mean() + 1e-9


def test_losses_that_can_be_differentiated_once_are_refused_before_gradients_change():
    class Once(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(z: Tensor) -> Tensor:
            return z.square()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            return 2 * ctx.saved_tensors[0] * gradients[0]

    model, (x, y) = nn.Sequential(nn.Linear(5, 4), HardThreshold(), nn.Linear(4, 3)).double(), batch(5)
    for solver in ("curvature-flip", "portfolio(keep, polish(curvature-flip, hill-climb))"):
        with pytest.raises(NotAcceptedError, match="loss_fn: got one that can't be differentiated twice"):
            target_backward(model, x, y, lambda o, t: Once.apply(o).sum(), solver=solver, budget=FEW)
    assert all(p.grad is None for p in model.parameters())


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool):
        super().__init__()
        self.first, self.top, self.reentrant = nn.Linear(5, 4), nn.Linear(4, 3), reentrant
        self.part = nn.Sequential(HardThreshold(), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.top(checkpoint(self.part, self.first(x), use_reentrant=self.reentrant))


def test_a_search_that_a_reentrant_checkpoint_would_drop_is_refused():
    model, (x, y) = Checkpointed(reentrant=True).double(), batch(5)
    with pytest.raises(NotAcceptedError, match=r"model.part.0: got a call without autograd.* use_reentrant=False"):
        target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=FEW)
    assert all(p.grad is None for p in model.parameters())
    target_backward(model, x, y, cross_entropy)
    target_backward(model.requires_grad_(False), x.requires_grad_(), y, cross_entropy, solver="keep", budget=FEW)
    report = target_backward(Checkpointed(False).double(), x, y, cross_entropy, solver="hill-climb", budget=FEW)
    assert report["part.0"].stats["solver"] == "hill-climb"


def test_frozen_layers_are_passed_over():
    class Tuned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(5, 4), HardThreshold()).requires_grad_(False)
            self.top = nn.Sequential(nn.Linear(4, 4), HardThreshold(), nn.Linear(4, 3))

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                h = functional.dropout(self.body(x))
            return self.top(h)

    report = target_backward(Tuned().double(), *batch(5), cross_entropy, solver="hill-climb", budget=FEW)
    assert list(report) == ["top.1"]


def test_a_report_of_searches_that_found_nothing_says_so():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), HardThreshold(), nn.Linear(4, 3)).double()
    x, y = batch(5)
    x[0, 0] = torch.nan
    report = target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=FEW)
    assert str(report).splitlines() == [
        "loss nan",
        "2: sign-gradient, 0 passes a sample, 6 of 6 samples keep the closed form",
    ]


@pytest.mark.parametrize("seed", [0, 1])
def test_batch_norms_of_constant_channels_are_no_reason_to_refuse(seed: int):
    # Maxima of spins are +1 nearly everywhere. What batch norm makes of them is rounding, once more another one.
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 16, 3, padding=1), HardThreshold(), nn.MaxPool2d(5, 1), nn.Conv2d(16, 6, 1)]
    model = nn.Sequential(*layers, nn.BatchNorm2d(6), HardThreshold(), nn.Flatten(), nn.Linear(54, 3))
    x, y = torch.randn(8, 1, 7, 7), torch.arange(8) % 3
    report = target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=Budget(steps=1))
    assert not any(report.fallbacks.values())
    assert diagnose(model, x, y, cross_entropy, flips=4)


def test_rounding_in_batch_norms_is_small_where_channels_differ():
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.BatchNorm2d(3), HardThreshold())
    with record(model) as recording:
        model(x)
    # Of 16 epsilons of numbers that are not 10 deviations from 0.
    assert 0 < noise_of_norms(model, recording) < 10 * 16 * torch.finfo(x.dtype).eps
    with record(model.eval()) as recording:
        model(x)
    assert noise_of_norms(model, recording) == 0
