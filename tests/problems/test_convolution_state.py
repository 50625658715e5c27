"""Flips below a convolution, computed where they are felt, against the module itself."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tpsolve import BlockProblem
from tpsolve.problems.block._convolution_state import ConvolutionState

SHAPE = (2, 7, 6)
LAYERS: dict[str, list[Any]] = {
    "alone": [lambda: nn.Conv2d(2, 3, 3)],
    "padded": [lambda: nn.Conv2d(2, 3, 3, padding=1), lambda: nn.MaxPool2d(2)],
    "strided": [lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), lambda: nn.BatchNorm2d(3)],
    "norms": [
        lambda: nn.Conv2d(2, 3, 5, padding=2, bias=False), lambda: nn.BatchNorm2d(3), nn.Identity,
        lambda: nn.MaxPool2d((3, 2)), lambda: nn.BatchNorm2d(3, affine=False), nn.Flatten,
    ],
    "means": [lambda: nn.Conv2d(2, 2, 2, padding=1), lambda: nn.AvgPool2d(2)],
    "wide": [lambda: nn.Conv2d(2, 2, (7, 6), padding=3)],
}  # fmt: skip
LOSSES = {
    "soft-hinge": lambda m: 1 - torch.tanh(m),
    "hinge": lambda m: torch.relu(1 - m),
    "squared": lambda m: (1 - m) ** 2,
}


def make(name: str, loss: str = "soft-hinge", seed: int = 0, samples: int = 3, **rest: Any) -> BlockProblem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        block = nn.Sequential(*(layer() for layer in LAYERS[name])).double().eval()
        for norm in block:
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
        start = (2.0 * torch.randint(2, (samples, *SHAPE)) - 1).double()
        output = block(start)
        targets = torch.randint(-1, 2, output.shape).double()
        weight = torch.rand(output.shape).double()
    return BlockProblem(block, targets, start, loss, weight, **rest)


def value(problem: BlockProblem, loss: str, targets: Tensor) -> Tensor:
    """The objective `(B,)` from the module and the formula of the loss."""
    block: Any = problem._copies[torch.float64]
    weight: Any = problem.unit_weight
    z = block(targets.reshape(-1, *SHAPE)).detach()
    margins = problem.targets * z
    return (torch.where(problem.targets == 0, 0.0, weight * LOSSES[loss](margins))).flatten(1).sum(1)


def all_flips(problem: BlockProblem, loss: str, targets: Tensor) -> Tensor:
    before, flips = value(problem, loss, targets), []
    for unit in range(targets.shape[1]):
        other = targets.clone()
        other[:, unit] *= -1
        flips.append(value(problem, loss, other) - before)
    return torch.stack(flips, 1)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", LAYERS)
def test_flip_deltas_are_those_of_the_module_also_after_flips_and_a_sweep(name: str, loss: str):
    problem = make(name, loss).flatten()
    state = problem.state(problem.start)
    assert isinstance(state, ConvolutionState)
    every = ConvolutionState(state.form, state.passes, problem.start, problem.n_vars)
    for turn in range(3):
        torch.testing.assert_close(every.objective, value(problem, loss, every.targets))
        torch.testing.assert_close(every.flip_delta(), all_flips(problem, loss, every.targets), rtol=1e-9, atol=1e-9)
        where = torch.tensor([True, turn != 1, True])
        every.flip(torch.tensor([5, 11, 80])[:3] + turn, where)
        most = torch.full((1, 3), 0.0 if turn == 1 else -torch.inf, dtype=torch.float64)
        every.sweep(lambda units, most=most: most)
    before = every.objective.clone()
    every.refresh()
    torch.testing.assert_close(every.objective, before)


@pytest.mark.parametrize("name", LAYERS)
def test_kept_gradient_is_that_of_the_module(name: str):
    problem = make(name, candidates=4).flatten()
    state = problem.state(problem.start)
    assert isinstance(state, ConvolutionState)
    for turn in range(4):
        delta = state.flip_delta()
        tried = torch.isfinite(delta)
        assert (tried.sum(1) == 4).all()
        exact = all_flips(problem, "soft-hinge", state.targets)
        torch.testing.assert_close(delta[tried], exact[tried], rtol=1e-9, atol=1e-9)
        gradient = problem.passes.gradient(state.targets)
        best = (state.targets * gradient).topk(4, dim=1).indices
        assert torch.equal(tried, torch.zeros_like(tried).scatter(1, best, True)), "the flips of the steepest gradient"
        state.flip(delta.argmin(1), torch.tensor([True, True, turn % 2 == 0]))
        state = state.select(torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("loss", ["soft-hinge", "squared"])
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "means"])
def test_curvature_is_exact(name: str, loss: str):
    problem = make(name, loss, stay=0.25, stay_weight=torch.rand(3, *SHAPE)).flatten()
    block: Any = problem._copies[torch.float64]
    given: Any = problem.unit_weight
    kappa: Any = problem.stay_weight
    start = problem.start.reshape(3, *SHAPE).clone().requires_grad_()
    z = block(start)
    s, c = problem.targets, torch.where(problem.targets == 0, 0.0, given)
    jacobian = torch.stack(
        [torch.autograd.grad(out.sum(), start, retain_graph=True)[0].flatten(1) for out in z.flatten(1).unbind(1)], 1
    )
    tanh = torch.tanh(z.detach())
    curve = 2 * c if loss == "squared" else c * 2 * s * tanh * (1 - tanh**2)
    slope = 2 * c * (z.detach() - s) if loss == "squared" else -c * s * (1 - tanh**2)
    first = torch.einsum("bm,bmn->bn", slope.flatten(1), jacobian)
    second = torch.einsum("bm,bmn->bn", curve.flatten(1), jacobian**2)
    expected = 2 * second - 2 * problem.start * first + problem.stay * kappa.reshape(3, -1)
    torch.testing.assert_close(problem.predicted_change(), expected)
    assert problem.curvature_passes == 3


@pytest.mark.parametrize(
    "block",
    [
        nn.Sequential(nn.Conv2d(2, 4, 3, groups=2)),
        nn.Sequential(nn.Conv2d(2, 3, 2, dilation=2)),
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")),
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()),
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(3, 1)),
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2, ceil_mode=True)),
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 1)),
        nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 3, 3)),
    ],
)
def test_other_blocks_are_run_as_they_are(block: nn.Module):
    start = 2.0 * torch.randint(2, (2, *SHAPE), generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        targets = block(start).sign()
    problem = BlockProblem(block.eval(), targets, start, "hinge")
    assert problem.convolution is None


def _twice(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return 2 * output


def test_a_hook_or_another_forward_is_no_plain_convolution():
    start = 2.0 * torch.randint(2, (2, *SHAPE), generator=torch.Generator().manual_seed(0)) - 1
    block = nn.Sequential(nn.Conv2d(2, 3, 3))
    block[0].register_forward_hook(_twice)
    with torch.no_grad():
        targets = block(start).sign()
    assert BlockProblem(block.eval(), targets, start, "hinge").convolution is None
    conv = nn.Conv2d(2, 3, 3)
    conv.forward = lambda input: functional.relu(nn.Conv2d.forward(conv, input))
    assert BlockProblem(nn.Sequential(conv), targets, start, "hinge").convolution is None
