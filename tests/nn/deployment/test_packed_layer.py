"""Packed layers against the layers that they stand for, and packed networks against folded ones."""

import itertools
import random
import warnings
from typing import Any

import pytest
import torch
from support.deployed import network
from torch import nn

from tpsolve.errors import NotAcceptedError
from tpsolve.nn import HardThreshold, binarize, fold
from tpsolve.nn.deployment._packed_layer import Packed


@pytest.mark.parametrize("low", [-1, 0])
def test_convolutions_of_any_shape_have_the_same_sums(low: int):
    draw = random.Random(low)
    torch.manual_seed(0)
    seen = 0
    for _ in range(80):
        groups, size = draw.choice([1, 2]), (draw.randint(1, 3), draw.randint(1, 4))
        padding: Any = draw.choice([(draw.randint(0, 4), draw.randint(0, 3)), "valid", "same"])
        step = (1, 1) if padding == "same" else (draw.randint(1, 3), draw.randint(1, 3))
        spread = (draw.randint(1, 2), draw.randint(1, 2))
        channels = groups * draw.choice([1, 3, 63, 64, 70])
        layer = nn.Conv2d(channels, 3 * groups, size, step, padding, spread, groups, bias=draw.random() < 0.5)
        weight = torch.randint(-1, 2, layer.weight.shape).float()
        scale = torch.tensor([0.5, 2.0, 0.25]).repeat(groups)
        with torch.no_grad():
            layer.weight.copy_(weight * scale[:, None, None, None])
            if layer.bias is not None:
                # Of few digits, as torch may add it first.
                layer.bias.mul_(64).round_()
        h = torch.randint(2, (2, channels, draw.randint(1, 8), draw.randint(1, 8))) * (1.0 - low) + low
        if any(length + 8 < reach for length, reach in zip(h.shape[2:], size, strict=True)):
            continue
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = layer(h)
            except RuntimeError:  # The kernel is larger than the image.
                continue
        seen += 1
        assert torch.equal(Packed(layer, weight, scale, low)(h), expected), layer
    assert seen > 50


def test_linear_layers_have_the_same_sums_on_every_input():
    h = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6)))
    for weight in torch.tensor(list(itertools.product([-1.0, 0.0, 1.0], repeat=3))).split(9):
        layer = nn.Linear(6, 9, bias=False)
        full = torch.cat([weight, weight.flip(0)], 1)
        packed = Packed(layer, full, None, -1)
        assert torch.equal(packed(h), h @ full.T)
        assert torch.equal(packed(h.reshape(4, 16, 6)), (h @ full.T).reshape(4, 16, 9))


def test_convolutions_over_one_axis_are_packed_too():
    torch.manual_seed(0)
    layer = nn.Conv1d(70, 4, 3, stride=2, padding=2, dilation=2, groups=2)
    weight = torch.randint(-1, 2, layer.weight.shape).float()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.mul_(64).round_()  # pyright: ignore[reportOptionalMemberAccess]
        h = torch.randint(2, (3, 70, 11)) * 2.0 - 1
        assert torch.equal(Packed(layer, weight, None, -1)(h), layer(h))


@pytest.mark.slow
def test_packed_networks_are_equal_to_the_last_bit():
    layers = 0
    for seed in range(12):
        model, x = network(seed)
        done = fold(model, x)
        try:
            packed = done.pack()
        except NotAcceptedError:
            assert not any(one.whole for one in done.thresholds.values())
            continue
        layers += sum(isinstance(module, Packed) for module in packed.modules())
        assert torch.equal(packed(x), done(x)), seed
    assert layers > 12


def test_weights_take_a_bit_or_two_and_real_networks_are_refused():
    model = nn.Sequential(HardThreshold(), nn.Linear(640, 10), HardThreshold()).eval()
    x = torch.randn(3, 640)
    with pytest.raises(NotAcceptedError, match=r"no layer of few values.*tpsolve.nn.binarize makes them"):
        fold(model, x).pack()
    packed: Any = fold(binarize(model), x).pack().get_submodule("1")
    assert packed.plus.shape == (10, 10, 1, 1)
    assert packed.plus.dtype == torch.int64
