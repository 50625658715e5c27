"""Blocks taken from networks: each is the part of the model above a threshold, to the last number."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tpsolve import BlockProblem, Budget, solve
from tpsolve.errors import NotAcceptedError
from tpsolve.nn import HardThreshold
from tpsolve.problems import harvest, harvest_blocks
from tpsolve.spins import random_spins, sign

CLASSES = 3


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def built(make: Callable[[], nn.Module]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return make().double()


class Unit(nn.Module):
    """threshold(conv(threshold(norm(conv(h)))) + h): a residual unit with two thresholds."""

    def __init__(self):
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3, padding=1)
        self.inner, self.outer = HardThreshold(), HardThreshold()

    def forward(self, h: Tensor) -> Tensor:
        return self.outer(self.two(self.inner(self.norm(self.one(h)))) + h)


class Net(nn.Module):
    """A stem, a residual unit, pooling and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.unit = nn.Conv2d(1, 2, 3, padding=1), HardThreshold(), Unit()
        self.pool, self.top = nn.AvgPool2d(2), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.unit(self.first(self.stem(x)))
        return self.top(self.pool(h).view(x.size(0), -1))


def images(samples: int = 5) -> tuple[Tensor, Tensor]:
    x = torch.randn(samples, 1, 4, 4, generator=seed(), dtype=torch.float64)
    return x, torch.randint(CLASSES, (samples,), generator=seed(1))


def test_linear_network_gives_the_problems_of_harvest():
    def layers() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), HardThreshold(), nn.Linear(6, 5), HardThreshold(), nn.Linear(5, CLASSES))

    model, x = built(layers), torch.randn(7, 4, generator=seed(), dtype=torch.float64)
    labels = torch.randint(CLASSES, (7,), generator=seed(1))
    blocks = harvest_blocks(model, x, labels, loss="logistic", stay=0.25)
    layers_of = harvest(model, x, labels, losses=("logistic",), stay=0.25)
    assert list(blocks) == ["1", "3"]
    for block, layer in zip(blocks.values(), layers_of, strict=True):
        targets = random_spins(block.start.shape, seed(2), dtype=torch.float64)
        assert layer.problem.start is not None
        assert torch.equal(block.start, layer.problem.start)
        torch.testing.assert_close(block.objective(targets), layer.problem.objective(targets))


def test_convolutional_network_is_cut_at_its_thresholds():
    model, (x, labels) = built(Net), images()
    model.eval()
    blocks = harvest_blocks(model, x, labels, loss="squared")
    assert list(blocks) == ["first", "unit.inner", "unit.outer"]
    assert all(problem.shape == (2, 4, 4) for problem in blocks.values())
    unit = model.unit

    # By hand: the topmost threshold, whose block ends at the model's output.
    h1 = sign(model.stem(x)).detach()
    h2 = sign(unit.norm(unit.one(h1))).detach()
    h3 = sign(unit.two(h2) + h1).detach()
    assert [torch.equal(p.start, h) for p, h in zip(blocks.values(), (h1, h2, h3), strict=True)] == [True] * 3
    t = random_spins((5, 2, 4, 4), seed(3), dtype=torch.float64)
    top = functional.cross_entropy(model.top(model.pool(t).flatten(1)), labels, reduction="none")
    torch.testing.assert_close(blocks["unit.outer"].objective(t), top.detach())

    # The inner one, whose block adds what the residual branch brings from below.
    h = h3.clone().requires_grad_()
    loss = functional.cross_entropy(model.top(model.pool(h).flatten(1)), labels, reduction="sum")
    (g3,) = torch.autograd.grad(loss, h)
    z3 = unit.two(t) + h1
    inner = (g3.abs() * (z3 + g3.sign()) ** 2).sum((1, 2, 3))
    torch.testing.assert_close(blocks["unit.inner"].objective(t), inner.detach())
    assert len(blocks["unit.inner"].context) == 1

    # The lowest, which two thresholds read: the inner one, and the outer one through both branches.
    h = h2.clone().requires_grad_()
    z = unit.two(h) + h1
    loss = functional.cross_entropy(model.top(model.pool(unit.outer(z)).flatten(1)), labels, reduction="sum")
    (g2,) = torch.autograd.grad(loss, h)
    z2, hidden = unit.norm(unit.one(t)), sign(unit.norm(unit.one(t)))
    z3 = unit.two(hidden) + t
    first = (g2.abs() * (z2 + g2.sign()) ** 2).sum((1, 2, 3)) + (g3.abs() * (z3 + g3.sign()) ** 2).sum((1, 2, 3))
    torch.testing.assert_close(blocks["first"].objective(t), first.detach())
    assert blocks["first"].context == ()


def test_output_that_skips_a_threshold_is_the_aim():
    class Highway(nn.Module):
        def __init__(self):
            super().__init__()
            self.below, self.middle, self.top = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, CLASSES)
            self.one, self.two = HardThreshold(), HardThreshold()

        def forward(self, x: Tensor) -> Tensor:
            h = self.one(self.below(x))
            return self.top(h + self.two(self.middle(h)))

    model, x = built(Highway), torch.randn(6, 4, generator=seed(), dtype=torch.float64)
    labels = torch.randint(CLASSES, (6,), generator=seed(1))
    blocks = harvest_blocks(model, x, labels)
    assert [problem.loss for problem in blocks.values()] == ["cross-entropy", "cross-entropy"]
    t = random_spins((6, 5), seed(2), dtype=torch.float64)
    through = functional.cross_entropy(model.top(t + sign(model.middle(t))), labels, reduction="none")
    torch.testing.assert_close(blocks["one"].objective(t), through.detach())
    h1 = sign(model.below(x))
    beside = functional.cross_entropy(model.top(h1 + t), labels, reduction="none")
    torch.testing.assert_close(blocks["two"].objective(t), beside.detach())


def test_solved_targets_lower_the_loss_of_the_network_itself():
    model, (x, labels) = built(Net), images(12)
    model.eval()
    problem = harvest_blocks(model, x, labels)["unit.outer"]
    result = solve(problem, "hill-climb", budget=Budget(steps=100))

    def loss(replacement: Tensor) -> Tensor:
        hook = model.unit.outer.register_forward_hook(lambda module, arguments, output: replacement)
        try:
            return functional.cross_entropy(model(x), labels, reduction="none").detach()
        finally:
            hook.remove()

    torch.testing.assert_close(result.objective, loss(result.targets))
    assert (result.objective < loss(problem.start)).all()


def test_model_is_left_as_it_was():
    model, (x, labels) = built(Net), images()
    model.train()
    model.unit.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    harvest_blocks(model, x, labels)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in model.parameters())
    assert not x.requires_grad


def test_threshold_that_is_called_twice_has_two_problems():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.top, self.act = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3), HardThreshold()

        def forward(self, x: Tensor) -> Tensor:
            return self.top(self.act(self.two(self.act(self.one(x)))))

    x = torch.randn(6, 4, generator=seed(), dtype=torch.float64)
    blocks = harvest_blocks(built(Shared), x, torch.zeros(6, dtype=torch.long))
    assert [(name, p.loss) for name, p in blocks.items()] == [("act", "hinge"), ("act:2", "cross-entropy")]
    assert all(isinstance(problem, BlockProblem) for problem in blocks.values())


class Branches(nn.Module):
    """Looks at its data to decide what to do."""

    def __init__(self):
        super().__init__()
        self.linear, self.act = nn.Linear(4, CLASSES), HardThreshold()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.sum() > 0 else self.act(self.linear(x))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Branches(), r"TraceError .* when traced, expected a model that torch.fx can trace.*by hand"),
        (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, CLASSES)), r"no hard threshold"),
        (
            nn.Sequential(nn.Linear(4, 6), HardThreshold(), nn.Unflatten(1, (2, 3))),
            r"outputs \(6, 2, 3\), expected",
        ),
    ],
)
def test_models_that_have_no_blocks_are_refused(model: nn.Module, message: str):
    with pytest.raises(NotAcceptedError, match=rf"model: got {message}"):
        harvest_blocks(model, torch.randn(6, 4, generator=seed()), torch.zeros(6, dtype=torch.long))
