"""The width of a threshold as state: saved and loaded, also with old state dicts; sharded; scripted."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tpsolve import Budget
from tpsolve.nn import HardThreshold, Staircase, Threshold, convert, diagnose, find_thresholds, target_backward


def network(threshold: Callable[[], nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), threshold(), nn.Linear(6, 3))


def widths(model: nn.Module) -> list[float]:
    return [threshold.width for threshold in find_thresholds(model).values()]


def weight_gradient(model: nn.Sequential) -> torch.Tensor:
    model.zero_grad()
    x = torch.linspace(-2, 2, 20).reshape(5, 4)
    cross_entropy(model(x), torch.tensor([0, 1, 2, 0, 1])).backward()
    gradient = model.get_parameter("0.weight").grad
    assert gradient is not None
    return gradient


@pytest.mark.parametrize("mode", ["fixed", "relative"])
@pytest.mark.parametrize("kind", [HardThreshold, lambda **settings: Staircase(4, **settings)])
@pytest.mark.parametrize("assign", [False, True])
def test_a_width_set_at_construction_is_loaded_into_a_default_module(kind: Any, mode: str, assign: bool):
    saved = network(lambda: kind(width=0.3, width_mode=mode))
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    loaded = network(lambda: kind(width_mode=mode))
    assert widths(loaded) == [1.0]
    loaded.load_state_dict(torch.load(file), assign=assign)
    assert widths(loaded) == [0.3]
    assert torch.equal(weight_gradient(loaded), weight_gradient(saved))


def test_a_width_of_1_is_loaded_too_and_a_state_without_widths_leaves_them():
    saved, own = network(HardThreshold), network(lambda: HardThreshold(width=0.3))
    own.load_state_dict(saved.state_dict())
    assert widths(own) == [1.0]
    relu = network(nn.ReLU)
    for state in (dict(saved.state_dict()), relu.state_dict()):
        own = network(lambda: HardThreshold(width=0.3))
        keys = list(state)
        own.load_state_dict(state)
        assert widths(own) == [0.3]
        assert list(state) == keys
    relu.load_state_dict(saved.state_dict())


def test_a_width_of_an_unlike_mode_is_refused():
    with pytest.raises(RuntimeError, match=r"_width"):
        network(lambda: HardThreshold(width_mode="learned")).load_state_dict(
            network(lambda: HardThreshold(width=0.3)).state_dict()
        )


def test_learned_widths_have_an_axis_and_old_ones_without_it_are_loaded():
    model = network(lambda: HardThreshold(width=0.3, width_mode="learned"))
    state = copy.copy(model.state_dict())
    assert state["1.log_width"].shape == (1,)
    state["1.log_width"] = state["1.log_width"][0]
    other = network(lambda: HardThreshold(width_mode="learned"))
    other.load_state_dict(state)
    assert widths(other) == pytest.approx([0.3])
    half = HardThreshold(width_mode="learned")(torch.ones(2, dtype=torch.bfloat16, requires_grad=True))
    assert half.dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_fully_shard_takes_learned_widths():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = convert(network(nn.ReLU), nn.ReLU, lambda: HardThreshold(width=0.3, width_mode="learned"))
    assert isinstance(model, nn.Sequential)
    expected = weight_gradient(model)
    wide = model.get_parameter("1.log_width").grad
    assert wide is not None
    sharded: Any = fully_shard(copy.deepcopy(model), mesh=init_device_mesh("cpu", (1,)))
    weight_gradient(sharded)
    assert torch.equal(sharded.get_parameter("0.weight").grad.full_tensor(), expected)
    assert torch.equal(sharded.get_parameter("1.log_width").grad.full_tensor(), wide)
    assert widths(sharded) == pytest.approx([0.3])
    x, y = torch.randn(2, 4), torch.tensor([0, 1])
    for solver in ("sign-gradient", "hill-climb"):
        for one in (model, sharded):
            one.zero_grad()
            target_backward(one, x, y, cross_entropy, solver=solver, budget=Budget(steps=3))
        for one, other in zip(model.parameters(), sharded.parameters(), strict=True):
            assert one.grad is not None
            assert torch.equal(one.grad, other.grad.full_tensor())
    assert type(sharded).__name__ == "FSDPSequential"
    assert list(diagnose(sharded, x, y, cross_entropy, flips=4)) == ["1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "threshold",
    [
        HardThreshold(),
        HardThreshold(width=0.3),
        HardThreshold(low=0),
        HardThreshold(width_mode="learned"),
        HardThreshold(lambda u, t: u),
        Staircase(4),
    ],
)
def test_a_scripted_network_gives_equal_outputs_and_refuses_gradients(threshold: Threshold):
    model, x = network(lambda: threshold), torch.linspace(-2, 2, 20).reshape(5, 4)
    scripted = torch.jit.script(model)
    with torch.no_grad():
        assert torch.equal(scripted(x), model(x))
    with pytest.raises(torch.jit.Error, match="scripted threshold has no gradient"):
        scripted(x)
