"""ResNet-18, for large images and for those of CIFAR."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from tpsolve.errors import UnknownNameError
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
    shape: Sequence[int], classes: int, activation: NewActivation, stem: Literal["imagenet", "cifar"]
) -> nn.Sequential:
    """Eight residual blocks between a stem and a linear layer.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. For 1000 classes with
    the stem "imagenet" 11,689,512 parameters; for 10 with "cifar" 11,173,962.

    Args:
        shape: of one image, (channels, height, width).
        stem: "imagenet": 7 x 7 with stride 2, pooled; "cifar": 3 x 3 with stride 1.
    """
    if stem not in ("imagenet", "cifar"):
        raise UnknownNameError("stem", str(stem), ("imagenet", "cifar"))
    size, stride, padding = (7, 2, 3) if stem == "imagenet" else (3, 1, 1)
    first = nn.Conv2d(shape[0], CHANNELS[0], size, stride=stride, padding=padding, bias=False)
    layers: list[nn.Module] = [first, nn.BatchNorm2d(CHANNELS[0])]
    layers += [nn.MaxPool2d(3, 2, padding=1)] if stem == "imagenet" else []
    layers += [activation()]
    inputs = CHANNELS[0]
    for outputs in CHANNELS:
        layers += [Block(inputs, outputs, 1 if inputs == outputs else 2, activation)]
        layers += [Block(outputs, outputs, 1, activation)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
