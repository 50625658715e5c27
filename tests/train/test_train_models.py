"""The networks: their parameters, counted, and what their units put out."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from tpsolve.errors import ArgumentError, UnknownNameError
from tpsolve.nn import HardThreshold, RealShortcut
from tpsolve.train import build_model, load_recipe
from tpsolve.train.models import Activation

IMAGENET = (3, 224, 224)
CIFAR = (3, 32, 32)


def alexnet_parameters() -> int:
    """By hand: convolutions (the second, fourth and fifth in two groups), linear layers, batch norm."""
    convolutions = 96 * 3 * 144 + 96 + 256 * 48 * 25 + 384 * 256 * 9 + 384 * 192 * 9 + 256 * 192 * 9
    linear = 256 * 36 * 4096 + 4096 * 4096 + 4096 * 1000 + 1000
    return convolutions + linear + 2 * (256 + 384 + 384 + 256 + 4096 + 4096)


@pytest.mark.parametrize(
    ("settings", "shape", "classes", "parameters"),
    [
        # Friesen and Domingos (2018) for the first two, torchvision's ResNet-18 for the fourth.
        ({"model": "convnet4"}, CIFAR, 10, 4_259_274),
        ({"model": "convnet8"}, CIFAR, 10, 1_492_554),
        ({"model": "alexnet"}, IMAGENET, 1000, alexnet_parameters()),
        ({"model": "resnet18", "stem": "imagenet"}, IMAGENET, 1000, 11_689_512),
        ({"model": "resnet18", "stem": "cifar"}, CIFAR, 10, 11_173_962),
        ({"model": "mlp", "widths": (32, 16), "batch_norm": False}, (1, 8, 8), 10, 65 * 32 + 33 * 16 + 17 * 10),
    ],
    ids=lambda value: value["model"] if isinstance(value, dict) else None,
)
def test_parameters(settings: dict, shape: tuple[int, ...], classes: int, parameters: int):
    with torch.device("meta"):
        model = build_model(load_recipe("digits-mlp", settings), shape, classes)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model(torch.zeros(2, *shape, device="meta")).shape == (2, classes)


@pytest.mark.parametrize("model", ["mlp", "convnet4", "convnet8", "resnet18"])
def test_all_hidden_units_put_out_signs(model: str):
    torch.manual_seed(0)
    network = build_model(load_recipe("digits-mlp", {"model": model, "stem": "cifar"}), CIFAR, 10)
    seen = []
    for module in network.modules():
        if isinstance(module, HardThreshold):
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    network(torch.randn(2, *CIFAR))
    assert len(seen) == {"mlp": 2, "convnet4": 3, "convnet8": 7, "resnet18": 17}[model]
    assert all(bool(((output == 1) | (output == -1)).all()) for output in seen)


@pytest.mark.parametrize(("model", "around"), [("convnet4", 1), ("convnet8", 6), ("resnet18", 16)])
def test_real_values_pass_by_convolutions(model: str, around: int):
    settings = {"model": model, "stem": "cifar", "shortcuts": True}
    torch.manual_seed(0)
    network = build_model(load_recipe("digits-mlp", settings), CIFAR, 10)
    shortcuts = [module for module in network.modules() if isinstance(module, RealShortcut)]
    assert len(shortcuts) == around
    for shortcut in shortcuts:
        (convolution,) = (module for module in shortcut.modules() if isinstance(module, nn.Conv2d))
        nn.init.zeros_(convolution.weight)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
    # What is left are the shortcuts: with the convolutions at 0 a pre-activation keeps its mean up to pooling.
    read: list[Any] = []
    last = shortcuts[-1]
    last.register_forward_hook(lambda _module, inputs, output: read.extend((*inputs, output)))
    network.eval()(torch.randn(2, *CIFAR))
    assert read[0].abs().max() > 0
    torch.testing.assert_close(read[1].mean((2, 3))[:, : last.inputs], read[0].mean((2, 3)))


@pytest.mark.parametrize("model", ["convnet4", "convnet8", "alexnet"])
def test_pooling_comes_before_the_activation(model: str):
    with torch.device("meta"):
        network = build_model(
            load_recipe("digits-mlp", {"model": model}), IMAGENET if model == "alexnet" else CIFAR, 10
        )
    assert isinstance(network, nn.Sequential)
    layers = list(network)
    for layer, following in pairwise(layers):
        if isinstance(layer, nn.MaxPool2d):
            assert isinstance(following, HardThreshold)


def test_activations():
    stairs = Activation("staircase", levels=4)()
    assert stairs(torch.tensor([-1.0, 0.1, 0.7, 2.0])).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert isinstance(Activation("relu")(), nn.ReLU)
    z = torch.tensor([-1.0, 0.25, 3.0])
    assert Activation("saturated-relu")()(z).tolist() == [0.0, 0.25, 1.0]
    with pytest.raises(UnknownNameError, match="relu"):
        Activation("rellu")
    with pytest.raises(UnknownNameError, match="soft-hinge"):
        Activation("sign", "soft-hing")


@pytest.mark.parametrize("model", ["convnet4", "convnet8", "alexnet"])
def test_images_of_another_size_are_refused(model: str):
    with pytest.raises(ArgumentError, match=model), torch.device("meta"):
        build_model(load_recipe("digits-mlp", {"model": model}), (3, 30, 30), 10)
