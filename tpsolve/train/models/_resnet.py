"""ResNet-18, for large images and for those of CIFAR."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from tpsolve.errors import UnknownNameError
from tpsolve.nn import RealShortcut
from tpsolve.train.models._activations import NewActivation

CHANNELS = (64, 128, 256, 512)


class Block(nn.Module):
    """Two convolutions of 3 x 3 beside a shortcut; the activation follows their sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: NewActivation) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            activation(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.activation = activation()

    def forward(self, inputs: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        return self.activation(self.branch(inputs) + self.shortcut(inputs))


def resnet18(
    shape: Sequence[int],
    classes: int,
    activation: NewActivation,
    stem: Literal["imagenet", "cifar"],
    shortcuts: bool = False,
) -> nn.Sequential:
    """Eight residual blocks between a stem and a linear layer.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. For 1000 classes with
    the stem "imagenet" 11,689,512 parameters; for 10 with "cifar" 11,173,962.

    Args:
        shape: of one image, (channels, height, width).
        stem: "imagenet": 7 x 7 with stride 2, pooled; "cifar": 3 x 3 with stride 1.
        shortcuts: whether real values pass by each of the 16 convolutions of 3 x 3, as in `RealShortcut` and Bi-Real
            Net; these shortcuts have no weights, and what the last one gives is averaged as it is.
    """
    if stem not in ("imagenet", "cifar"):
        raise UnknownNameError("stem", str(stem), ("imagenet", "cifar"))
    size, stride, padding = (7, 2, 3) if stem == "imagenet" else (3, 1, 1)
    first = nn.Conv2d(shape[0], CHANNELS[0], size, stride=stride, padding=padding, bias=False)
    layers: list[nn.Module] = [first, nn.BatchNorm2d(CHANNELS[0])]
    layers += [nn.MaxPool2d(3, 2, padding=1)] if stem == "imagenet" else []
    layers += [] if shortcuts else [activation()]
    inputs = CHANNELS[0]
    for outputs in CHANNELS:
        if shortcuts:
            layers += [_passed_by(inputs, outputs, activation)]
            layers += [_passed_by(outputs, outputs, activation) for _ in range(3)]
            inputs = outputs
            continue
        layers += [Block(inputs, outputs, 1 if inputs == outputs else 2, activation)]
        layers += [Block(outputs, outputs, 1, activation)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def _passed_by(inputs: int, outputs: int, activation: NewActivation) -> RealShortcut:
    """A convolution that reads an activation, and halves the images where there are more outputs."""
    stride = 1 if inputs == outputs else 2
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    body = nn.Sequential(activation(), convolution, nn.BatchNorm2d(outputs))
    return RealShortcut(body, inputs, outputs, None if stride == 1 else nn.AvgPool2d(2, ceil_mode=True))
