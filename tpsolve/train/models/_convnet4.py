"""The four-layer convolutional network of Friesen and Domingos (2018), section 4."""

from collections.abc import Sequence

from torch import nn

from tpsolve.errors import ArgumentError
from tpsolve.nn import RealShortcut
from tpsolve.train.models._activations import NewActivation


def convnet4(shape: Sequence[int], classes: int, activation: NewActivation, shortcuts: bool = False) -> nn.Sequential:
    """Two convolutions of 5 x 5 with 32 and 64 channels, each pooled before the activation; 1024 units; output.

    The paper gives the parameters for 10 classes of (3, 32, 32) images, 4,259,274; these layers have them.

    Args:
        shape: of one image, (channels, height, width), both sides multiples of 4.
        shortcuts: whether what the first convolution gives passes by the second one, as in `RealShortcut`.
    """
    channels, height, width = shape
    if height % 4 or width % 4:
        raise ArgumentError("model", f"convnet4 for images of {height} x {width}", "sides that are multiples of 4")
    first = nn.Conv2d(channels, 32, 5, padding=2)
    second: list[nn.Module] = [activation(), nn.Conv2d(32, 64, 5, padding=2), nn.MaxPool2d(2)]
    if shortcuts:
        second = [RealShortcut(nn.Sequential(*second), 32, 64, nn.AvgPool2d(2))]
    return nn.Sequential(
        first,
        nn.MaxPool2d(2),
        *second,
        activation(),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 1024),
        activation(),
        nn.Linear(1024, classes),
    )
