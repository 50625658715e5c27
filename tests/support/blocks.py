"""Modules to put above targets: small networks of every kind that a block problem takes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tpsolve import BlockProblem

CLASSES = 3


class Residual(nn.Module):
    """h + conv(batch norm(h)), on maps of two channels."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.conv(self.norm(h))


def _head(n: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(n, CLASSES)]


ARCHITECTURES: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "linear": ((5,), lambda: nn.Linear(5, CLASSES)),
    "layers": ((5,), lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, CLASSES))),
    "convolution": ((2, 3, 3), lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), *_head(12))),
    "frozen-norm": ((2, 2, 2), lambda: nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 2), *_head(2))),
    "pooling": ((2, 4, 4), lambda: nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.MaxPool2d(2), *_head(8))),
    "residual": ((2, 3, 2), lambda: nn.Sequential(Residual(), nn.ReLU(), *_head(12))),
}
"""Name: shape of the activation, and what makes the module."""


def make_block(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """The architecture of this name, frozen, with statistics of batch norms that are not the first ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        block = ARCHITECTURES[name][1]()
        for module in block.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return block.to(dtype).eval()


def make_block_problem(
    name: str, samples: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0, **rest: Any
) -> BlockProblem:
    """A block problem on classes, activations and labels drawn under this seed."""
    g = torch.Generator().manual_seed(seed)
    start = 2.0 * torch.randint(2, (samples, *ARCHITECTURES[name][0]), generator=g) - 1
    labels = torch.randint(CLASSES, (samples,), generator=g)
    return BlockProblem(make_block(name, dtype, seed), labels, start, **rest)


def judge(name: str, problem: BlockProblem, targets: Tensor) -> Tensor:
    """The objective of `targets (B, *shape)` without a stay penalty, from the module itself."""
    output = make_block(name)(targets.double().reshape(-1, *ARCHITECTURES[name][0])).detach()
    return functional.cross_entropy(output, problem.targets, reduction="none")
