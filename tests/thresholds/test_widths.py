"""Several widths: each channel has its own, given, relative or learned."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve import Budget
from tpsolve.errors import ArgumentError, ShapeError
from tpsolve.nn import RULES, HardThreshold, Staircase, compact, target_backward

F64 = torch.float64
WIDE = torch.tensor([0.3, 1.0, 2.5], dtype=F64)


def batch(*shape: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    z, above = torch.randn(2, 4, 3, *shape, generator=g, dtype=F64)
    return z, above


def passed(module: nn.Module, z: Tensor, g: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    module(z).backward(g)
    assert z.grad is not None
    return z.grad


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", [HardThreshold, lambda **given: Staircase(4, steps="each", **given)])
def test_each_channel_gets_what_a_threshold_of_its_width_passes_back(rule: str, kind: Any):
    z, g = batch(2, 5)
    found = passed(kind(rule=rule, width=WIDE[:, None, None]), z, g)
    learned = passed(kind(rule=rule, width=WIDE[:, None, None], width_mode="learned").double(), z, g)
    for channel, width in enumerate(WIDE.tolist()):
        alone = passed(kind(rule=rule, width=width), z[:, channel], g[:, channel])
        torch.testing.assert_close(found[:, channel], alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(learned[:, channel], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [HardThreshold, lambda **given: Staircase(3, **given)])
def test_a_learned_width_has_the_gradient_of_a_width_alone_in_its_channel(kind: Any):
    z, g = batch()
    several = kind(width=WIDE, width_mode="learned").double()
    passed(several, z, g)
    for channel, width in enumerate(WIDE.tolist()):
        alone = kind(width=width, width_mode="learned").double()
        passed(alone, z[:, [channel]], g[:, [channel]])
        torch.testing.assert_close(several.log_width.grad[channel], alone.log_width.grad[0], rtol=1e-6, atol=1e-9)


def test_relative_widths_are_shares_of_one_spread():
    z, g = batch()
    found = passed(HardThreshold("ramp", width=WIDE, width_mode="relative"), z, g)
    expected = g * (1 - (z / (WIDE * z.std(correction=0))).abs()).clamp(min=0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("mode", ["fixed", "learned"])
def test_the_layer_loss_of_a_search_has_the_widths_in_it(linear: bool, mode: str):
    torch.manual_seed(0)
    above = nn.Identity() if linear else nn.Tanh()
    high = HardThreshold("hinge", width=WIDE, width_mode=mode)
    model = nn.Sequential(
        nn.Linear(3, 5), HardThreshold("hinge"), nn.Linear(5, 3), above, high, nn.Linear(3, 3)
    ).double()
    x, y = torch.randn(6, 3, dtype=F64), torch.arange(6) % 3
    report = target_backward(model, x, y, cross_entropy, solver={"1": "enumerate"}, budget=Budget(steps=100))
    g = report._pass.gradients["4"]
    problem, before = report.problem("1"), report._pass.recording.calls["1"].h
    for spins in (report["1"].targets.to(F64), before):
        z = above(model[2](spins)) / high.widths
        expected = (high.widths * g.abs() * (1 + z * g.sign()).clamp(min=0)).sum(1)
        torch.testing.assert_close(problem.objective(spins), expected.detach(), rtol=1e-6, atol=1e-9)


def test_compact_keeps_gradients_and_a_state_dict_carries_widths():
    torch.manual_seed(0)

    def network(**given: Any) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), HardThreshold("saturated-ste", **given), nn.Flatten(), nn.Linear(12, 2)
        )

    model, x = network(width=WIDE[:, None, None]), torch.randn(5, 1, 4, 4)
    model(x).square().sum().backward()
    expected = [p.grad for p in model.parameters()]
    model.zero_grad()
    with compact(model):
        model(x).square().sum().backward()
    for one, p in zip(expected, model.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad, rtol=0, atol=0)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    for other in (network(), network(width=0.7)):
        file.seek(0)
        other.load_state_dict(torch.load(file))
        own: Any = other[1]
        assert torch.equal(own.widths.flatten(), WIDE)
        assert "widths=(3, 1, 1)" in repr(other)
        own.width = 2
        assert torch.equal(own.widths, torch.full((3, 1, 1), 2.0, dtype=F64))


@pytest.mark.parametrize(
    ("width", "error", "match"),
    [
        (torch.tensor([1.0, 0.0]), ArgumentError, r"width: got 0 in a tensor \(2,\)"),
        (torch.tensor([1.0, torch.nan]), ArgumentError, "width: got nan"),
        (torch.ones(0), ArgumentError, "an empty tensor"),
        (torch.ones(2), ShapeError, r"width: got shape \(2,\).*\(3, 2, 5\).*\(channels, 1, 1\)"),
        (torch.ones(4, 3, 2, 5), ShapeError, "width: got shape"),
    ],
)
def test_widths_that_fit_nothing_are_refused(width: Tensor, error: type[Exception], match: str):
    z, _ = batch(2, 5)
    with pytest.raises(error, match=match):
        HardThreshold(width=width)(z)


def test_narrow_pre_activations_stay_narrow():
    z = torch.randn(4, 3, dtype=torch.bfloat16, requires_grad=True)
    HardThreshold(width=WIDE)(z).sum().backward()
    assert z.grad is not None
    assert z.grad.dtype == torch.bfloat16


def test_widths_of_another_number_of_channels_are_not_loaded():
    saved = HardThreshold(width=torch.ones(3, 1, 1)).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        HardThreshold(width=torch.ones(4, 1, 1)).load_state_dict(saved)
    plain = HardThreshold()
    plain.load_state_dict(saved)
    assert plain.widths.shape == (3, 1, 1)
