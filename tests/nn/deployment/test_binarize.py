"""Binary and ternary weights: values and gradients against formulas, and torch's own machinery around them."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError, NotFiniteError, UnknownNameError
from tpsolve.nn import HardThreshold, binarize, plain_weights, target_backward


def network() -> Any:
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 6, 3, bias=False)
    return nn.Sequential(
        convolution, nn.BatchNorm2d(6), HardThreshold(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 3)
    )


def batch() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(16, 2, 8, 8, generator=g), torch.randint(3, (16,), generator=g)


def values_of(w: list[float], kind: str) -> list[int]:
    if kind == "binary":
        return [1 if v >= 0 else -1 for v in w]
    limit = 0.7 * sum(map(abs, w)) / len(w)
    return [(1 if v > 0 else -1) if abs(v) > limit else 0 for v in w]


def eight_bits(size: float) -> float:
    mantissa, exponent = math.frexp(size)
    return round(mantissa * 256) / 256 * 2.0**exponent


@pytest.mark.parametrize("kind", ["binary", "ternary"])
@pytest.mark.parametrize("scale", ["mean", "learned", "none"])
def test_values_and_gradients_are_those_of_the_formulas(kind: str, scale: str):
    rows = [[0.5, -1.5, 0.0, 0.25], [-0.1, 0.2, 0.3, -1.0], [0.0, 0.0, 0.0, 0.0]]
    layer: Any = nn.Linear(4, 3, bias=False, dtype=torch.float64)
    layer.load_state_dict({"weight": torch.tensor(rows, dtype=torch.float64)})
    binarize(layer, kind, scale=scale)
    upper = torch.tensor([[1.0, -2.0, 3.0, 5.0], [0.5, 4.0, -1.0, 2.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    (layer.weight * upper).sum().backward()
    own: Any = layer.parametrizations["weight"]
    for k, (w, g) in enumerate(zip(rows, upper.tolist(), strict=True)):
        q = values_of(w, kind)
        kept = [abs(v) for v, one in zip(w, q, strict=True) if one]
        mean = sum(kept) / len(kept) if kept else 0.0
        used = 1.0 if scale == "none" else eight_bits(mean)
        assert layer.weight[k].tolist() == [used * one for one in q]
        of_scale = sum(a * b for a, b in zip(g, q, strict=True))
        for j, v in enumerate(w):
            expected = g[j] * used * (abs(v) <= 1)
            if scale == "mean" and q[j]:
                expected += of_scale * ((v > 0) - (v < 0)) / len(kept)
            assert own.original.grad[k, j].item() == pytest.approx(expected, abs=1e-14)
        if scale == "learned":
            assert own[0].size.grad[k].item() == pytest.approx(of_scale)


@pytest.mark.parametrize(("clip", "passed"), [(0.25, [1.0, 0.0, 0.0]), (math.inf, [1.0, 1.0, 1.0])])
def test_the_gradient_is_clipped_where_asked(clip: float, passed: list[float]):
    layer: Any = nn.Linear(3, 1, bias=False)
    layer.load_state_dict({"weight": torch.tensor([[0.25, -0.5, 9.0]])})
    binarize(layer, scale="none", clip=clip)
    layer.weight.sum().backward()
    original: Any = layer.parametrizations["weight"].original
    assert original.grad[0].tolist() == passed


@pytest.mark.parametrize("inputs", [7, 4608, 2**17])
def test_float32_adds_the_products_with_spins_exactly(inputs: int):
    torch.manual_seed(inputs)
    layer: Any = binarize(nn.Linear(inputs, 3, bias=False))
    spins = torch.randint(2, (4, inputs)) * 2.0 - 1
    with torch.no_grad():
        weight = layer.weight
        sums = layer(spins)
        size = weight.abs().amax(1)
        # Half of the terms is added first, the other half backwards.
        other = (weight * spins[0]).flip(1).cumsum(1)[:, -1]
    whole = (spins.double() @ weight.double().sign().T).double() * size.double()
    assert torch.equal(sums.double(), whole)
    assert torch.equal(other, sums[0])
    assert torch.equal(size.bfloat16().float(), size)


def test_states_go_from_one_binary_model_to_another_and_plain_weights_stay():
    x, _ = batch()
    one: Any = binarize(network(), scale="learned")
    other = binarize(network(), scale="learned")
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))
    twin = copy.deepcopy(one)
    assert torch.equal(plain_weights(twin)(x), one(x))
    before, parameters = one(x), {id(p) for p in one.parameters()}
    assert plain_weights(one) is one
    assert torch.equal(one(x), before)
    assert one.state_dict().keys() == network().state_dict().keys()
    assert {id(p) for p in one.parameters()} < parameters
    assert type(one[0]) is nn.Conv2d
    assert one[0].weight.abs().unique(dim=0).flatten(1).unique(dim=1).shape[1] == 1


def test_it_trains_and_the_searches_take_it():
    x, y = batch()
    model: Any = binarize(network(), skip=["5"])
    assert type(model[5]) is nn.Linear
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    optimizer.zero_grad()
    report = target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=Budget(steps=2))
    assert list(report) == ["2"]
    assert model[0].parametrizations["weight"].original.grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_compile_autocast_and_processes_in_parallel_change_nothing():
    x, y = batch()

    def gradients(model: Any, around: Any) -> list[Tensor]:
        cross_entropy(around(x), y).backward()
        return [parameter.grad for parameter in model.parameters()]

    plain = binarize(network(), "ternary")
    expected = gradients(plain, plain)
    compiled = binarize(network(), "ternary")
    assert all(
        map(torch.equal, gradients(compiled, torch.compile(compiled, fullgraph=True, backend="aot_eager")), expected)
    )
    narrow = binarize(network(), "ternary")
    with torch.autocast("cpu", torch.bfloat16):
        output = narrow(x)
    assert output.dtype == torch.bfloat16
    assert torch.allclose(output.float(), plain(x), atol=0.3)
    model = binarize(network(), "ternary")
    assert all(map(torch.equal, gradients(model, nn.parallel.DistributedDataParallel(model)), expected))


def test_what_makes_no_sense_is_refused_by_name():
    with pytest.raises(UnknownNameError, match=r"kind: got 'binnary'.*Did you mean 'binary'"):
        binarize(network(), "binnary")
    with pytest.raises(UnknownNameError, match="scale: got 'max'"):
        binarize(network(), scale="max")
    for clip in (0, -1.0, math.nan, True, "1"):
        with pytest.raises(ArgumentError, match="clip: got"):
            binarize(network(), clip=clip)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnknownNameError, match="skip: got '7'"):
        binarize(network(), skip=["7"])
    with pytest.raises(NotAcceptedError, match="no Linear and no convolution"):
        binarize(network(), skip=[""])
    with pytest.raises(NotAcceptedError, match="weights of 0 that are binary already"):
        binarize(binarize(network(), skip=["5"]))
    with pytest.raises(NotAcceptedError, match="no weights that are binary"):
        plain_weights(network())
    model = network()
    model[5].weight.data[0, 3] = math.nan
    with pytest.raises(NotFiniteError, match="weight of 5: got 1 NaN"):
        binarize(model)
    # Nothing has changed before an error.
    assert type(model[0]) is nn.Conv2d
    tied: Any = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    tied[1].weight = tied[0].weight
    with pytest.raises(NotAcceptedError, match=r"one weight at 0\.weight and 1\.weight"):
        binarize(tied)
    with pytest.raises(NotAcceptedError, match="a lazy layer at 0"):
        binarize(nn.Sequential(nn.LazyLinear(3)))
    other = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    binarize(other)
    with pytest.raises(NotAcceptedError, match="several parametrizations"):
        plain_weights(other)
