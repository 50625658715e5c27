"""`target_backward` searches the network that ran, or refuses before `.grad` changes and says what to write instead."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from tpsolve import Budget
from tpsolve.nn import HardThreshold, target_backward
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
    torch.testing.assert_close(problem.objective(problem.start.flatten(1)).sum(), report.loss)
