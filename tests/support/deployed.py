"""Small networks of every kind that can be folded, drawn from a seed, with batch norms of any scales."""

import random
from typing import Any

import torch
from torch import Tensor, nn

from tpsolve.nn import HardThreshold, Staircase, binarize


def draw_norms(model: nn.Module, seed: int = 0) -> Any:
    """The model with batch norms of any scales, of which the first is 0, in evaluation mode."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                for tensor in (module.weight, module.bias, module.running_mean):
                    if tensor is not None:
                        tensor.copy_(torch.randn(tensor.shape, generator=g))
                if module.running_var is not None:
                    module.running_var.uniform_(0.5, 2, generator=g)
                module.weight[0] = 0
    return model.eval()


class Block(nn.Module):
    """Two convolutions and a shortcut, with the functions that models call."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=2), nn.BatchNorm2d(channels), HardThreshold()
        )
        self.last, self.threshold = nn.BatchNorm2d(channels), HardThreshold()

    def forward(self, x: Tensor) -> Tensor:
        return self.threshold(self.last(self.branch(x)) + x)


def network(seed: int) -> tuple[Any, Tensor]:
    """A network of images `(N, 2, 20, 22)` and some of them."""
    draw, low = random.Random(seed), [-1, 0][seed % 2]
    torch.manual_seed(seed)
    channels = draw.choice([4, 6, 66])
    padding: Any = draw.choice(["same", "valid", (1, 0)])
    stride = 1 if padding == "same" else draw.choice([1, 2])
    pool = draw.choice([nn.MaxPool2d(2), nn.MaxPool2d(3, 2, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.Identity()])
    norm = [nn.BatchNorm2d(channels), pool]
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), HardThreshold(low=low)]
    layers += [nn.Conv2d(4, channels, 3 if padding == "same" else (3, 2), stride, padding, bias=draw.random() < 0.5)]
    layers += [*(norm if draw.random() < 0.5 else norm[::-1]), HardThreshold(low=draw.choice([-1, 0]))]
    layers += [Block(channels)] if draw.random() < 0.5 else [nn.MaxPool2d(2)]
    layers += draw.choice([[nn.Flatten()], [nn.AdaptiveAvgPool2d(1), nn.Flatten()], [nn.AvgPool2d(2), nn.Flatten()]])
    layers += [nn.LazyLinear(65), nn.BatchNorm1d(65), HardThreshold(low=low), nn.Dropout()]
    layers += [nn.Linear(65, 7), nn.Tanh(), Staircase(4)] if draw.random() < 0.3 else []
    layers += [nn.LazyLinear(3)]
    model, x = nn.Sequential(*layers), torch.randn(12, 2, 20, 22)
    model(x)
    model = draw_norms(model, seed)
    kind = draw.choice(["binary", "ternary", ""])
    if kind:
        binarize(model, kind, skip=["0"])
    return model, x
