"""Every rule against the slope of its layer loss, in float64; the settings: widths and importance weights."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tpsolve.errors import ArgumentError, UnknownNameError
from tpsolve.losses import Loss, find_loss
from tpsolve.nn import RULES, HardThreshold, Staircase, Threshold, WidthSchedule

pytestmark = pytest.mark.rounding

F64 = torch.float64


def passed_back(module: nn.Module, z: Tensor, g: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(module(z), z, g)
    return gradient


def grid(reach: float = 4.0) -> Tensor:
    """Without points on a kink."""
    return torch.linspace(-reach, reach, 398, dtype=F64)


def noise(z: Tensor, seed: int = 3) -> Tensor:
    """Gradients of both signs, a few of them 0."""
    g = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=z.dtype)
    g[::7] = 0
    return g


def bump(u: Tensor, t: Tensor) -> Tensor:
    """A rule of the user's own: -t exp(-u^2)."""
    return -t * torch.exp(-u * u)


WINDOWS = {
    "ste": lambda u: 1.0,
    "saturated-ste": lambda u: float(abs(u) <= 1),
    "saturated-hinge": lambda u: float(abs(u) <= 1),
    "soft-hinge": lambda u: 1 / math.cosh(u) ** 2,
    "ramp": lambda u: max(0.0, 1 - abs(u)),
}
"""What the rules that don't ask for the target multiply g by, written out once more."""


@pytest.mark.parametrize("width", [1, 0.3, 2.5])
@pytest.mark.parametrize("rule", WINDOWS)
def test_symmetric_rules_multiply_the_gradient_by_a_window(rule: str, width: float):
    z = grid()
    g = noise(z)
    expected = torch.tensor([b * WINDOWS[rule](a / width) for a, b in zip(z.tolist(), g.tolist(), strict=True)])
    torch.testing.assert_close(passed_back(HardThreshold(rule, width=width), z, g).float(), expected.float())


@pytest.mark.parametrize("width", [1, 0.3, 2.5])
@pytest.mark.parametrize("rule", ["perceptron", "hinge", "saturated-hinge", "soft-hinge", "logistic"])
def test_rule_is_the_importance_times_the_slope_of_the_layer_loss(rule: str, width: float):
    z = grid()
    g = noise(z)
    loss = find_loss(rule)
    assert isinstance(loss, Loss)
    expected = g.abs() * loss.slope(z / width, -g.sign())
    torch.testing.assert_close(passed_back(HardThreshold(rule, width=width), z, g), expected, rtol=1e-12, atol=0)


def test_every_rule_is_checked_above():
    assert set(RULES) == set(WINDOWS) | {"perceptron", "hinge", "logistic"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_saturated_rule_includes_its_edges_and_nothing_beyond(dtype: torch.dtype):
    one = torch.ones(1, dtype=dtype)
    z = torch.cat([-torch.nextafter(one, 2 * one), -one, one, torch.nextafter(one, 2 * one)])
    assert passed_back(HardThreshold("saturated-ste"), z, torch.ones_like(z)).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("width", [1, 0.4])
def test_rule_of_the_user_gets_scaled_pre_activations_and_targets(width: float):
    z = grid()
    g = noise(z)
    found = passed_back(HardThreshold(bump, width=width), z, g)
    torch.testing.assert_close(found, g * torch.exp(-((z / width) ** 2)))
    assert not passed_back(HardThreshold(lambda u, t: torch.ones_like(u)), z, g)[g == 0].any(), "target 0, no gradient"


@pytest.mark.parametrize("rule", [*RULES, bump], ids=lambda rule: getattr(rule, "__name__", rule))
@pytest.mark.parametrize("settings", [{}, {"importance": "none"}, {"width_mode": "relative"}], ids=str)
@pytest.mark.parametrize("make", [HardThreshold, Staircase])
def test_gradients_scale_with_the_loss_and_are_zero_where_none_arrives(make: type, rule: Any, settings: dict[str, Any]):
    z = grid(2.0)
    g = noise(z)
    module = make(rule=rule, **settings)
    once = passed_back(module, z, g)
    assert once.any()
    assert torch.equal(passed_back(module, z, 1024 * g), 1024 * once)
    assert not once[g == 0].any()


@pytest.mark.parametrize("rule", ["soft-hinge", "hinge"])
def test_gradients_of_two_halves_add_up_to_those_of_the_batch(rule: str):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), HardThreshold(rule), nn.Linear(8, 3)).to(F64)
        x, y = torch.randn(10, 5, dtype=F64), torch.randint(3, (10,))

    def gradients(parts: list[slice]) -> list[Tensor]:
        model.zero_grad()
        for part in parts:
            nn.functional.cross_entropy(model(x[part]), y[part], reduction="sum").div(10).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    whole, halves = gradients([slice(0, 10)]), gradients([slice(0, 4), slice(4, 10)])
    for one, two in zip(whole, halves, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-15)


def test_importance_none_counts_every_unit_alike_and_given_weights_multiply():
    z, weights = grid(1.0).reshape(2, 199), torch.linspace(0, 2, 199, dtype=F64)
    g = noise(z.flatten()).reshape(2, 199)
    plain = passed_back(HardThreshold("saturated-ste", importance="none"), z, g)
    torch.testing.assert_close(plain, g.sign() * g.abs().mean())
    given = passed_back(HardThreshold("saturated-ste", importance=weights), z, g)
    torch.testing.assert_close(given, weights * plain)


def test_relative_width_is_in_standard_deviations():
    z = grid() * 3 + 1
    g = noise(z)
    relative = passed_back(HardThreshold("soft-hinge", width=0.5, width_mode="relative"), z, g)
    torch.testing.assert_close(relative, g / torch.cosh(z / (0.5 * z.std(correction=0))) ** 2)
    constant = passed_back(HardThreshold("soft-hinge", width_mode="relative"), torch.ones(4), torch.ones(4))
    assert constant.tolist() == [0.0] * 4, "units that never change are as saturated as can be"


def smooth(module: Threshold, z: Tensor, width: Tensor) -> Tensor:
    """The smooth activation whose slope in z / width the soft hinge is."""
    if isinstance(module, HardThreshold):
        return torch.tanh(z / width)
    assert isinstance(module, Staircase)
    if module.steps == "merged":
        return torch.tanh((2 * z - 1) / width) / 2
    k = module.levels - 1
    parts = [torch.tanh((2 * (k - 1) * z - 2 * i) / width) / (2 * k) for i in range(k)]
    return torch.stack(parts).sum(0)


@pytest.mark.parametrize("make", [HardThreshold, Staircase, lambda **s: Staircase(5, steps="each", **s)])
def test_learned_width_gets_the_gradient_of_the_smooth_activation(make: Any):
    z = grid(2.0)
    g = noise(z)
    module = make(rule="soft-hinge", width=0.7, width_mode="learned").to(F64)
    module(z.clone().requires_grad_()).backward(g)
    log_width = torch.tensor(math.log(0.7), dtype=F64, requires_grad=True)
    smooth(module, z, log_width.exp()).backward(g)
    assert log_width.grad is not None
    torch.testing.assert_close(module.log_width.grad, log_width.grad[None], rtol=1e-6, atol=1e-9)
    assert [name for name, _ in module.named_parameters()] == ["log_width"]


@pytest.mark.parametrize("levels", [3, 4, 6])
def test_staircase_values_and_how_many(levels: int):
    k = levels - 1
    z = torch.cat([grid(1.5), torch.tensor([i / (k - 1) for i in range(k)], dtype=F64)])
    h = Staircase(levels)(z)
    assert h.tolist() == [sum(a > i / (k - 1) for i in range(k)) / k for a in z.tolist()]
    assert len(h.unique()) == levels
    assert Staircase(levels)(torch.tensor([math.nan, math.inf, -math.inf])).tolist()[1:] == [1.0, 0.0]
    assert math.isnan(Staircase(levels)(torch.tensor([math.nan])).item())


def test_merged_staircase_passes_what_the_paper_says():
    z = grid(2.0)
    g = noise(z)
    torch.testing.assert_close(passed_back(Staircase(4, "soft-hinge"), z, g), g / torch.cosh(2 * z - 1) ** 2)
    inside = ((z >= 0) & (z <= 1)).to(F64)
    assert torch.equal(passed_back(Staircase(6, "saturated-hinge"), z, g), g * inside)


@pytest.mark.parametrize("rule", RULES)
def test_staircase_of_each_step_is_the_sum_of_hard_thresholds(rule: str):
    class Sum(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            k, one = 4, HardThreshold(rule, width=0.8)
            # Off by a hair, since the staircase's thresholds belong to the step below.
            return torch.stack([(one(2 * (k - 1) * z - 2 * i) + 1) / (2 * k) for i in range(k)]).sum(0)

    z = grid(2.0)
    g = noise(z)
    each = Staircase(5, rule, steps="each", width=0.8)
    torch.testing.assert_close(each(z), Sum()(z))
    torch.testing.assert_close(passed_back(each, z, g), passed_back(Sum(), z, g))


@pytest.mark.parametrize(
    ("shape", "middle"), [("linear", 0.625), ("geometric", 0.5), ("cosine", 0.625)], ids=lambda v: str(v)
)
def test_schedule_moves_the_width_of_every_threshold(shape: str, middle: float):
    model = nn.Sequential(nn.Linear(2, 2), HardThreshold(), HardThreshold(width=3, width_mode="learned"), Staircase())
    schedule = WidthSchedule(model, 1.0, 0.25, steps=4, shape=shape)
    seen = []
    for _ in range(6):
        seen.append([m.width for m in model if isinstance(m, Threshold)])
        schedule.step()
    assert [row[0] for row in seen] == pytest.approx([seen[0][0], seen[1][0], middle, seen[3][0], 0.25, 0.25])
    assert seen[0] == pytest.approx([1.0] * 3)
    assert all(row == pytest.approx([row[0]] * 3) for row in seen)
    other = WidthSchedule(model, 1.0, 0.25, steps=4, shape=shape)
    schedule.load_state_dict({"step": 2})
    other.load_state_dict(schedule.state_dict())
    assert other.width == pytest.approx(middle)
    z = torch.tensor([0.4], dtype=F64)
    expected = 1 / torch.cosh(z / middle) ** 2
    torch.testing.assert_close(passed_back(model[1], z, torch.ones_like(z)), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: HardThreshold("soft_hinge"), UnknownNameError, "Did you mean 'soft-hinge'"),
        (lambda: HardThreshold(3), ArgumentError, "rule: got 3, expected the name of a rule or a function"),  # pyright: ignore[reportArgumentType]
        (lambda: HardThreshold(width=0), ArgumentError, "width: got 0, expected a positive"),
        (lambda: HardThreshold(width=math.nan), ArgumentError, "width: got nan"),
        (lambda: HardThreshold(width_mode="learn"), UnknownNameError, "Did you mean 'learned'"),
        (lambda: HardThreshold(importance="gradients"), UnknownNameError, "Did you mean 'gradient'"),
        (lambda: Staircase(2), ArgumentError, "levels: got 2, expected a whole number of at least 3"),
        (lambda: Staircase(steps="merge"), UnknownNameError, "Did you mean 'merged'"),
        (lambda: HardThreshold()(torch.tensor([1, -2])), ArgumentError, r"input: got torch.int64, .* \.float\(\)"),
        (lambda: Staircase()(torch.tensor([1, -2])), ArgumentError, "input: got torch.int64"),
        (lambda: WidthSchedule(HardThreshold(), 1, 0.5, 3, "line"), UnknownNameError, "Did you mean 'linear'"),
        (lambda: WidthSchedule(HardThreshold(), 1, -1, 3), ArgumentError, "width: got -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        make()
