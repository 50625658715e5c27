"""Laws of the layer losses: slopes are derivatives, convexity is as declared, bounds over intervals are the least."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from support.zoo import UNIT_LOSSES, class_loss, unit_loss
from torch import Tensor

from tpsolve.errors import UnknownNameError
from tpsolve.losses import LOSSES, ClassLoss, Loss, find_loss

KINKS = {"perceptron": [0.0], "hinge": [1.0], "saturated-hinge": [-1.0, 1.0], "zero-one": [0.0]}
"""Margins at which a loss has no slope."""

each_loss = pytest.mark.parametrize("name", UNIT_LOSSES)
each_sign = pytest.mark.parametrize("s", [1.0, -1.0], ids=["plus", "minus"])


def find(name: str) -> Loss:
    loss = find_loss(name)
    assert isinstance(loss, Loss)
    return loss


def find_class_loss() -> ClassLoss:
    loss = find_loss("cross-entropy")
    assert isinstance(loss, ClassLoss)
    return loss


def spread(low: float, high: float, count: int = 401) -> Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)


def signs(z: Tensor, s: float) -> Tensor:
    return torch.full_like(z, s)


@each_sign
@each_loss
def test_value_is_the_textbook_formula(name: str, s: float):
    z = torch.cat([spread(-4, 4, 33), torch.tensor([-30.0, 30.0, 1e-8, -1e-8], dtype=torch.float64)])
    for at, value in zip(z.tolist(), find(name).value(z, signs(z, s)).tolist(), strict=True):
        assert value == pytest.approx(float(unit_loss(name, Fraction(at), int(s))), rel=1e-14, abs=1e-300)


@each_loss
def test_value_is_never_negative_and_finite_at_any_size(name: str):
    for dtype in (torch.float32, torch.float64):
        z = torch.tensor([-1e4, -90.0, -1.0, 0.0, 1.0, 90.0, 1e4], dtype=dtype)
        for s in (1.0, -1.0):
            value, slope = find(name).value(z, signs(z, s)), find(name).slope(z, signs(z, s))
            assert value.dtype == slope.dtype == dtype
            assert (value >= 0).all()
            assert torch.isfinite(value).all()
            assert torch.isfinite(slope).all()


@each_sign
@each_loss
def test_slope_is_the_derivative(name: str, s: float):
    z = spread(-3.3, 3.3)
    z = z[[all(abs(s * at - kink) > 1e-3 for kink in KINKS.get(name, [])) for at in z.tolist()]]
    assert len(z) > 390
    step = 1e-6
    loss, ones = find(name), signs(z, s)
    derivative = (loss.value(z + step, ones) - loss.value(z - step, ones)) / (2 * step)
    assert torch.allclose(loss.slope(z, ones), derivative, rtol=0, atol=1e-8)


@each_sign
@each_loss
def test_slope_at_a_kink_is_that_of_the_flatter_side(name: str, s: float):
    for kink in KINKS.get(name, []):
        z = torch.tensor([s * kink - 1e-3, s * kink, s * kink + 1e-3], dtype=torch.float64)
        before, at, after = find(name).slope(z, signs(z, s)).tolist()
        assert at == min(before, after, key=abs), f"margin {kink}"


@each_loss
def test_convexity_is_as_declared(name: str):
    z = spread(-4, 4)
    bends = []
    for s in (1.0, -1.0):
        value = find(name).value(z, signs(z, s))
        bends.append((value[2:] + value[:-2] - 2 * value[1:-1]).min().item())
    assert find(name).convex == (min(bends) >= -1e-12)
    assert find(name).convex == (name in ("perceptron", "hinge", "logistic", "squared"))


@each_loss
def test_monotony_in_the_margin_is_as_declared(name: str):
    u = spread(-4, 4)
    value = find(name).value(u, torch.ones_like(u))
    assert find(name).monotone == bool((value[1:] <= value[:-1] + 1e-12).all())


@each_loss
def test_kinks_are_the_loss_where_there_are_any(name: str):
    loss, u = find(name), spread(-4, 4)
    assert bool(loss.kinks) == (name in ("perceptron", "hinge", "saturated-hinge"))
    if loss.kinks:
        parts = sum((factor * (offset - u).clamp(min=0) for offset, factor in loss.kinks), torch.zeros_like(u))
        assert torch.allclose(loss.value(u, torch.ones_like(u)), parts, rtol=0, atol=1e-15)


@each_sign
@each_loss
def test_least_is_the_minimum_over_the_interval(name: str, s: float):
    ends = [-2.5, -1.0, -0.4, 0.0, 0.3, 1.0, 1.7]
    for low, high in itertools.combinations_with_replacement(ends, 2):
        z = spread(low, high, 2001)
        least = find(name).minimum(*(torch.tensor(v, dtype=torch.float64) for v in (low, high, s))).item()
        values = find(name).value(z, signs(z, s))
        assert least <= values.min().item() + 1e-15
        assert least == pytest.approx(values.min().item(), abs=1e-5)


def test_zero_is_a_wrong_answer_only_where_minus_was_wanted():
    z = torch.tensor([-1e-300, -0.0, 0.0, 1e-300], dtype=torch.float64)
    assert find("zero-one").value(z, signs(z, 1.0)).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert find("zero-one").value(z, signs(z, -1.0)).tolist() == [0.0, 1.0, 1.0, 1.0]


def test_soft_hinge_and_logistic_keep_their_digits_at_large_margins():
    z = torch.tensor([40.0], dtype=torch.float64)
    one = torch.ones_like(z)
    assert find("soft-hinge").value(z, one).item() == pytest.approx(2 * math.exp(-80), rel=1e-12)
    assert find("logistic").value(z, one).item() == pytest.approx(math.exp(-40), rel=1e-12)


# --- cross-entropy ----------------------------------------------------------------------------------------------------


def logits() -> Tensor:
    return torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3


def test_cross_entropy_is_the_textbook_formula():
    z, label = logits(), torch.arange(20) % 4
    for row, k, value in zip(z.tolist(), label.tolist(), find_class_loss().value(z, label).tolist(), strict=True):
        assert value == pytest.approx(float(class_loss([Fraction(v) for v in row], k)), rel=1e-13, abs=1e-14)


def test_cross_entropy_slope_is_the_derivative():
    z, label, step = logits(), torch.arange(20) % 4, 1e-6
    slope = find_class_loss().slope(z, label)
    for k in range(4):
        ahead, behind = z.clone(), z.clone()
        ahead[:, k] += step
        behind[:, k] -= step
        derivative = (find_class_loss().value(ahead, label) - find_class_loss().value(behind, label)) / (2 * step)
        assert torch.allclose(slope[:, k], derivative, rtol=0, atol=1e-8)
    assert torch.allclose(slope.sum(1), torch.zeros(20, dtype=torch.float64), atol=1e-15)


def test_cross_entropy_is_convex():
    first, second, label = logits(), logits().flip(0), torch.arange(20) % 4
    value = find_class_loss().value
    middle = value((first + second) / 2, label)
    assert find_class_loss().convex
    assert (middle <= (value(first, label) + value(second, label)) / 2 + 1e-12).all()


def test_cross_entropy_least_holds_where_it_is_met():
    z, label = logits(), torch.arange(20) % 4
    difference = z - z.gather(1, label[:, None])
    value = find_class_loss().value(z, label)
    least = find_class_loss().minimum(difference, label)
    assert torch.allclose(least, value, rtol=1e-12), "at the ends of the intervals it is the loss"
    higher = difference + torch.rand(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    moved = find_class_loss().value(higher.scatter(1, label[:, None], 0.0), label)
    assert (least <= moved + 1e-12).all()


# --- by name ----------------------------------------------------------------------------------------------------------


def test_losses_are_known_by_their_names():
    assert set(LOSSES) == {*UNIT_LOSSES, "cross-entropy"}
    for name, loss in LOSSES.items():
        assert loss.name == name
        assert find_loss(name) is loss


@pytest.mark.parametrize(
    ("misspelt", "nearest"), [("squared-loss", "squared"), ("hinge-", "hinge"), ("soft_hinge", "soft-hinge")]
)
def test_unknown_loss_offers_the_nearest(misspelt: str, nearest: str):
    with pytest.raises(UnknownNameError, match=rf"loss: got '{misspelt}', expected one of .*Did you mean.*'{nearest}'"):
        find_loss(misspelt)
