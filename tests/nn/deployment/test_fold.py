"""Folded networks: thresholds against decimal arithmetic, ties, pooling, branches, and what is left."""

import copy
import itertools
import math
from decimal import Decimal, getcontext
from typing import Any

import pytest
import torch
from support.deployed import draw_norms, network
from torch import Tensor, nn

from tpsolve.errors import ArgumentError, ContradictionError, NotAcceptedError, NotFiniteError
from tpsolve.nn import HardThreshold, Staircase, binarize, fold
from tpsolve.nn.deployment import _fold_model

getcontext().prec = 80


def exact_output(norm: Any, channel: int, z: Decimal) -> bool:
    """Whether batch norm's value at z is at least 0, in decimals of 80 digits."""
    weight, bias, mean, var = (
        Decimal(part[channel].item()) for part in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    return weight * (z - mean) / (var + Decimal(norm.eps)).sqrt() + bias >= 0


@pytest.mark.parametrize("low", [-1, 0])
@pytest.mark.parametrize(("kind", "scale"), [("binary", "mean"), ("ternary", "learned")])
def test_whole_thresholds_are_those_of_decimal_arithmetic(kind: str, scale: str, low: int):
    torch.manual_seed(3)
    layers = [nn.Linear(5, 9), HardThreshold(low=low), nn.Linear(9, 6), nn.BatchNorm1d(6), HardThreshold(low=low)]
    model = draw_norms(nn.Sequential(*layers, nn.Linear(6, 2)))
    binarize(model, kind, scale=scale, skip=["0", "5"])
    if scale == "learned":
        with torch.no_grad():
            model[2].parametrizations["weight"][0].size[1:3].mul_(-1)
    x = torch.randn(50, 5)
    done = fold(model, x)
    assert torch.equal(done(x), model(x))
    told = done.thresholds["4"]
    assert (told.norm, told.whole, told.channels) == ("3", True, 6)
    assert told.constant >= 1
    layer, threshold = done.network.get_submodule("2"), done.network.get_submodule("4")
    assert set(layer.weight.flatten().tolist()) <= {-1.0, 0.0, 1.0}  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert layer.bias is None
    plain, bias = model[2].weight.detach(), model[2].bias
    for channel in range(6):
        size = Decimal(plain[channel].abs().max().item())
        reach = int(layer.weight[channel].abs().sum())  # pyright: ignore[reportIndexIssue]
        for s in range(-reach, reach + 1):
            # The folded weights may be those of -z.
            turn = 1 if torch.equal(layer.weight[channel] * plain[channel].abs().max(), plain[channel]) else -1  # pyright: ignore[reportIndexIssue]
            expected = exact_output(model[3], channel, turn * s * size + Decimal(bias[channel].item()))
            z = torch.zeros(1, 6)
            z[0, channel] = s
            assert threshold(z)[0, channel].item() == (1 if expected else low), (channel, s)


def test_ties_are_ties_and_the_network_agrees_on_every_input():
    # All numbers are powers of two or small whole ones, so that torch rounds nothing either.
    g = torch.Generator().manual_seed(0)
    model: Any = nn.Sequential(HardThreshold(), nn.Linear(7, 64), nn.BatchNorm1d(64, eps=0.25), HardThreshold())
    with torch.no_grad():
        model[1].weight.copy_(torch.randint(2, (64, 7), generator=g) - 0.5)
        model[1].bias.copy_(torch.randint(-2, 3, (64,), generator=g) / 2)
        norm = model[2]
        norm.running_mean.copy_(torch.randint(-2, 3, (64,), generator=g) / 2)
        norm.running_var.fill_(3.75)
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5, -0.25]).repeat(16))
        norm.bias.copy_(torch.randint(-2, 3, (64,), generator=g) * norm.weight.abs() / 4)
    x = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=7)))
    model.eval()
    assert (model[:3](x) == 0).sum() > 300
    done = fold(model, x)
    assert torch.equal(done(x), model(x))
    told = done.thresholds["3"]
    assert (told.whole, told.units, told.others, told.ties, done.others) == (True, 128 * 64, 0, 0, 0)
    assert told.negative == 32


def test_real_thresholds_are_the_first_number_of_the_dtype_that_fires():
    model = draw_norms(nn.Sequential(nn.Linear(4, 12), nn.BatchNorm1d(12), HardThreshold()))
    for dtype in (torch.float32, torch.float64):
        done = fold(model.to(dtype), torch.randn(5, 4, dtype=dtype))
        threshold: Any = done.network.get_submodule("2")
        weights: Any = done.network.get_submodule("0").weight
        assert not done.thresholds["2"].whole
        assert torch.isinf(threshold.threshold[0])
        for channel in range(1, 12):
            side = 1 if torch.equal(weights[channel], model[0].weight[channel]) else -1
            edge = threshold.threshold[channel]
            before = torch.nextafter(edge, torch.tensor(-math.inf, dtype=dtype))
            assert exact_output(model[1], channel, Decimal(side * edge.item()))
            assert not exact_output(model[1], channel, Decimal(side * before.item()))


def test_a_rounded_tie_is_counted_and_a_wrong_threshold_raises(monkeypatch: pytest.MonkeyPatch):
    model = draw_norms(
        nn.Sequential(HardThreshold(), nn.Linear(8, 64, bias=False), nn.BatchNorm1d(64), HardThreshold())
    )
    with torch.no_grad():
        model[1].weight.fill_(1)
        model[2].weight.uniform_(0.5, 2)
        model[2].bias.zero_()
        model[2].running_mean.copy_(torch.arange(64) % 4 * 2)
    x = torch.randn(200, 8)
    told = fold(model, x).thresholds["3"]
    # Batch norm in float32 gives some of the ties a value below 0.
    assert 0 < told.ties < 64
    assert 0 < told.others < 0.1 * told.units
    model[2].running_mean.add_(0.3)
    assert fold(model, x).thresholds["3"].ties == 0
    right = _fold_model.first
    monkeypatch.setattr(_fold_model, "first", lambda holds, low, high: right(holds, low, high) + 1)
    with pytest.raises(ContradictionError, match="the threshold 3 differs after folding by more than rounding"):
        fold(model, x)


ORDERS = {
    "norm, pool": [nn.BatchNorm2d(6), nn.MaxPool2d(3, 2, padding=1), HardThreshold()],
    "pool, norm": [nn.MaxPool2d(2), nn.BatchNorm2d(6), HardThreshold(low=0)],
    "norm, threshold, pool": [nn.BatchNorm2d(6), nn.Dropout(), HardThreshold(), nn.MaxPool2d(2)],
    "pool": [nn.MaxPool2d(2), HardThreshold()],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("binary", [True, False])
def test_pooling_may_stand_anywhere(order: str, binary: bool):
    torch.manual_seed(1)
    first = [nn.Conv2d(2, 5, 3, padding=1), HardThreshold()]
    middle = [nn.Conv2d(5, 6, 3, padding=1), *copy.deepcopy(ORDERS[order])]
    last = [nn.Conv2d(6, 4, 3, groups=2), nn.BatchNorm2d(4), HardThreshold(), nn.Flatten(), nn.LazyLinear(3)]
    x = torch.randn(8, 2, 12, 12)
    model = nn.Sequential(*first, *middle, *last)
    model(x)
    model = draw_norms(model)
    if binary:
        binarize(model, skip=["0", str(len(model) - 1)])
    done = fold(model, x)
    assert torch.equal(done(x), model(x))
    assert (len(done.thresholds), done.left, done.others) == (3, {}, 0)
    assert [one.whole for one in done.thresholds.values()] == [False, binary, binary]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in done.network.modules())
    if "norm" in order:
        assert list(done.thresholds.values())[1].negative > 0


@pytest.mark.parametrize("seed", range(12))
def test_drawn_networks_are_equal_and_have_no_batch_norm_below_a_threshold(seed: int):
    model, x = network(seed)
    done = fold(model, x)
    assert torch.equal(done(x), model(x))
    assert done.others == sum(one.others for one in done.thresholds.values()) == 0
    assert all("add" in why or "Staircase" in why for why in done.left.values())


class Branches(nn.Module):
    """One threshold called three times, a shortcut, and batch norms that stand before a threshold or don't."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))
        self.threshold = HardThreshold()
        self.stairs = Staircase(3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        z = nn.functional.max_pool2d(self.norms[0](self.one(x)), 2)
        h = self.threshold(z)
        z = self.norms[1](self.two(h))
        z += h
        # As before activation in residual networks: batch norm of a sum.
        h = self.threshold(self.norms[2](z))
        return {"spins": h, "stairs": self.stairs(z), "mean": self.threshold(z).mean((2, 3))}


def test_branches_are_folded_and_what_stays_is_named():
    torch.manual_seed(2)
    model, x = draw_norms(Branches()), torch.randn(6, 2, 8, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    done = fold(model, x)
    found, expected = done(x), model(x)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert {name: one.norm for name, one in done.thresholds.items()} == {
        "threshold#1": "norms.0",
        "threshold#2": "norms.2",
    }
    assert done.left["norms.1"] == "add at add reads it"
    assert done.left["stairs"] == "a Staircase, not a HardThreshold"
    assert "norms.1: left, add" in str(done)
    assert "outputs equal on 6 of 6 samples" in str(done)
    # The model is as it was, and the folded one has no gradients and stays in evaluation mode.
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in done.parameters())
    assert not done.train().training


def test_what_can_not_be_folded_stays():
    def left(*modules: nn.Module) -> dict[str, str]:
        model = draw_norms(nn.Sequential(*modules, HardThreshold()))
        x = torch.randn(3, 4, 6, 6)
        done = fold(model, x)
        assert torch.equal(done(x), model(x))
        return done.left

    reason = "max pooling above it, and negative scales that no layer below can take"
    assert left(nn.Tanh(), nn.BatchNorm2d(4), nn.MaxPool2d(2)) == {"1": reason}
    assert left(nn.Conv2d(4, 8, 1), nn.MaxPool2d(2), nn.BatchNorm2d(8), nn.MaxPool2d(2)) == {"2": reason}
    assert left(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.AvgPool2d(2)) == {"1": "AvgPool2d at 2 reads it"}
    batches = nn.BatchNorm2d(8, track_running_stats=False)
    assert left(nn.Conv2d(4, 8, 1), batches) == {"1": "it takes the statistics of each batch"}


class Masked(nn.Module):
    """torch's encoder, with a mask or without."""

    def __init__(self, masked: bool):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, HardThreshold(), batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.norm, self.act = nn.BatchNorm1d(3), HardThreshold()
        self.mask: Any = nn.Transformer.generate_square_subsequent_mask(3) if masked else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.encoder(x, mask=self.mask)))


@pytest.mark.parametrize("masked", [True, False])
def test_thresholds_inside_a_stock_encoder_are_folded(masked: bool):
    torch.manual_seed(0)
    model, x = Masked(masked), torch.randn(2, 3, 8)
    done = fold(nn.DataParallel(draw_norms(model)), x)
    assert done.left == {}
    assert set(done.thresholds) == {"act", "encoder.layers.0.activation"}
    assert done.thresholds["act"].norm == "norm"
    assert torch.equal(done(x), model(x))


class Deciding(nn.Module):
    """Its way depends on its input, and torch.fx takes it for a module of torch's own."""

    __module__ = "torch.nn.modules.deciding"

    def __init__(self):
        super().__init__()
        self.inner = HardThreshold()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) if x.sum() > 0 else -self.inner(x)


def test_thresholds_inside_what_can_not_be_traced_are_named():
    torch.manual_seed(0)
    model = draw_norms(nn.Sequential(Deciding(), nn.Linear(4, 5), nn.BatchNorm1d(5), HardThreshold()))
    x = torch.randn(6, 4)
    done = fold(model, x)
    assert done.left == {"0.inner": "inside a Deciding that torch.fx does not look into"}
    assert set(done.thresholds) == {"3"}
    assert torch.equal(done(x), model(x))


@pytest.mark.slow
def test_what_makes_no_sense_is_refused():
    x = torch.randn(3, 4)
    with pytest.raises(NotAcceptedError, match="no HardThreshold"):
        fold(nn.Linear(4, 2), x)
    model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2), HardThreshold())
    with pytest.raises(NotAcceptedError, match=r"torch.fx can't run \(RuntimeError: mat1 and mat2"):
        fold(model, torch.randn(3, 5))
    with pytest.raises(NotFiniteError, match="inputs: got 12 NaN"):
        fold(model, x * math.nan)
    with pytest.raises(ArgumentError, match="inputs: got Tensor without samples"):
        fold(model, x[:0])
    with pytest.raises(ArgumentError, match=r"parameters of torch\.bfloat16"):
        fold(copy.deepcopy(model).bfloat16(), x)
    model[1].running_var[1] = math.nan  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
    with pytest.raises(NotFiniteError, match=r"1\.running_var: got 1 NaN"):
        fold(model, x)


class Named(nn.Module):
    """Reads two images by name, and uses one layer for both of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Linear(6, 8), HardThreshold(), nn.Linear(8, 8)
        self.norm, self.top = nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.tied = nn.Linear(8, 3)
        self.tied.weight = self.top.weight

    def forward(self, left: Tensor, right: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        one, other = self.act(self.first(left)), self.act(self.first(right))
        h = self.act(self.norm(self.second(one)))
        return {"top": scale * self.top(h), "tied": self.tied(other)}


def test_inputs_by_name_and_weights_that_two_layers_share_are_folded_alike():
    torch.manual_seed(4)
    model = binarize(draw_norms(Named()), skip=["top", "tied"]).eval()
    left, right = torch.randn(2, 30, 6)
    expected = model(left, right)
    done = fold(model, {"right": right, "left": left})
    assert done.others == 0
    assert "act#3" in done.thresholds
    for found in (done(left=left, right=right), done(left, right), done.pack()(right=right, left=left)):
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(ArgumentError, match="inputs: got dict without samples"):
        fold(model, {})
    with pytest.raises(ArgumentError, match="a mapping of right, expected one of left, right"):
        done.export("net.onnx", {"right": right})


def test_norms_of_single_samples_are_left_and_named():
    norms = [nn.LayerNorm(5), nn.RMSNorm(5), nn.GroupNorm(1, 5)]
    layers = [layer for norm in norms for layer in (nn.Linear(5, 5), norm, HardThreshold())]
    done = fold(nn.Sequential(*layers, nn.Linear(5, 5), HardThreshold()).eval(), torch.randn(6, 5))
    assert list(done.left) == ["1", "4", "7"]
    assert set(done.left.values()) == {"it takes the statistics of each sample, so no threshold has its place"}
    assert (list(done.thresholds), done.others) == (["10"], 0)
