"""AlexNet as DoReFa-Net changed it: batch norm in place of response normalisation and dropout."""

from collections.abc import Sequence

from torch import nn

from tpsolve.errors import ArgumentError
from tpsolve.train.models._activations import NewActivation

EPS = 1e-4


def alexnet(shape: Sequence[int], classes: int, activation: NewActivation) -> nn.Sequential:
    """Five convolutions, three of them in two groups, and three linear layers, for images of 224 x 224.

    Source: Zhou et al., "DoReFa-Net", 2016 (arXiv 1606.06160), and its public code. Pooling precedes
    the activations.

    Args:
        shape: of one image, (channels, 224, 224).
    """
    if tuple(shape[1:]) != (224, 224):
        raise ArgumentError("model", f"alexnet for images of {shape[1]} x {shape[2]}", "224 x 224")

    def block(inputs: int, outputs: int, kernel: int, groups: int, pool: nn.Module | None) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        pooling = [] if pool is None else [pool]
        return [convolution, nn.BatchNorm2d(outputs, eps=EPS), *pooling, activation()]

    def linear(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs, eps=EPS), activation()]

    return nn.Sequential(
        nn.Conv2d(shape[0], 96, 12, stride=4),
        activation(),
        *block(96, 256, 5, 2, nn.MaxPool2d(3, 2, padding=1)),
        *block(256, 384, 3, 1, nn.MaxPool2d(3, 2, padding=1)),
        *block(384, 384, 3, 2, None),
        *block(384, 256, 3, 2, nn.MaxPool2d(3, 2)),
        nn.Flatten(),
        *linear(256 * 6 * 6, 4096),
        *linear(4096, 4096),
        nn.Linear(4096, classes),
    )
