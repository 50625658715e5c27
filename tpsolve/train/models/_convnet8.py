"""The eight-layer convolutional network of Friesen and Domingos (2018), section 4."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from tpsolve.errors import ArgumentError
from tpsolve.nn import RealShortcut
from tpsolve.train.models._activations import NewActivation

EPS = 1e-4
"""Of batch norm, as in the paper's recipe."""


def convnet8(
    shape: Sequence[int], classes: int, activation: NewActivation, dropout: float, shortcuts: bool = False
) -> nn.Sequential:
    """Seven convolutions and an output layer; batch norm after all convolutions but the first, numbered 0.

    The layers are those of DoReFa-Net's SVHN model (Zhou et al. 2016), fitted to images of 32 x 32;
    dropout stands before its convolution 6. The paper gives the parameters for 10 classes of
    (3, 32, 32) images, 1,492,554; these layers have them.

    Args:
        shape: of one image, (channels, 32, 32).
        dropout: share of activations dropped in training.
        shortcuts: whether pre-activations pass by each convolution with a batch norm, as in `RealShortcut`. They are
            averaged over the window that such a convolution, or its pooling, takes away.
    """
    if tuple(shape[1:]) != (32, 32):
        raise ArgumentError("model", f"convnet8 for images of {shape[1]} x {shape[2]}", "32 x 32", "Take convnet4.")

    def block(inputs: int, outputs: int, kernel: int, padding: int, pool: bool = False, drop: bool = False) -> Any:
        """An activation and what reads it."""
        below = [activation(), *([nn.Dropout(dropout)] if drop else [])]
        convolution = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False)
        pooling = [nn.MaxPool2d(2)] if pool else []
        layers = [*below, convolution, nn.BatchNorm2d(outputs, eps=EPS), *pooling]
        if not shortcuts:
            return layers
        mean = nn.AvgPool2d(2) if pool else None if padding else nn.AvgPool2d(kernel, 1)
        return [RealShortcut(nn.Sequential(*layers), inputs, outputs, mean)]

    return nn.Sequential(
        nn.Conv2d(shape[0], 48, 5, padding=2),
        nn.MaxPool2d(2),
        *block(48, 64, 3, padding=1),
        *block(64, 64, 3, padding=1, pool=True),
        *block(64, 128, 3, padding=0),
        *block(128, 128, 3, padding=1),
        *block(128, 128, 3, padding=0),
        *block(128, 512, 4, padding=0, drop=True),
        activation(),
        nn.Flatten(),
        nn.Linear(512, classes),
    )
