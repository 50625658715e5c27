"""The hard threshold: its values, and the closed-form rules that it passes back as gradients."""

import math

import pytest
import torch
from torch import Tensor, nn

from tpsolve.errors import UnknownNameError
from tpsolve.losses import Loss, find_loss
from tpsolve.nn import HardThreshold

RULES = ("soft-hinge", "saturated-hinge")
each_rule = pytest.mark.parametrize("rule", RULES)


def passed_back(rule: str, z: Tensor, g: Tensor) -> Tensor:
    """The gradient at z when g arrives at the outputs."""
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(HardThreshold(rule)(z), z, g)
    return gradient


def gradients_like(z: Tensor) -> Tensor:
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(3), dtype=z.dtype)


@each_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_output_is_the_sign_and_zero_counts_as_plus(rule: str, dtype: torch.dtype):
    z = torch.tensor([[-math.inf, -3.0, -1e-30, -0.0], [0.0, 1e-30, 2.5, math.inf]], dtype=dtype)
    h = HardThreshold(rule)(z)
    assert h.tolist() == [[-1.0, -1.0, -1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    assert h.dtype == dtype


@each_rule
def test_nan_stays_nan_where_it_is_and_nowhere_else(rule: str):
    h = HardThreshold(rule)(torch.tensor([1.0, math.nan, -1.0]))
    assert torch.isnan(h).tolist() == [False, True, False]
    assert h[[0, 2]].tolist() == [1.0, -1.0]
    gradient = passed_back("soft-hinge", torch.tensor([0.5, math.nan]), torch.ones(2))
    assert torch.isnan(gradient).tolist() == [False, True], "a NaN shows in the gradient too"


@each_rule
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)], ids=str)
def test_output_and_gradient_have_the_shape_of_the_input(rule: str, shape: tuple[int, ...]):
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert HardThreshold(rule)(z).shape == shape
    assert passed_back(rule, z, torch.ones(shape)).shape == shape


def test_values_of_a_transposed_input_keep_their_places():
    z = torch.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])
    assert torch.equal(HardThreshold()(z.T), HardThreshold()(z).T)
    g = gradients_like(z)
    assert torch.equal(passed_back("soft-hinge", z.T, g.T), passed_back("soft-hinge", z, g).T)


@pytest.mark.parametrize("reach", [2, 20])
def test_soft_hinge_passes_g_times_sech_squared(reach: int):
    z = torch.linspace(-reach, reach, 401, dtype=torch.float64)
    g = gradients_like(z)
    expected = torch.tensor(
        [b / math.cosh(a) ** 2 for a, b in zip(z.tolist(), g.tolist(), strict=True)], dtype=torch.float64
    )
    # A relative error: far from 0 the rule is tiny, but it is not nothing, and losses.py keeps its digits there.
    torch.testing.assert_close(passed_back("soft-hinge", z, g), expected, rtol=1e-12, atol=0.0)


def test_saturated_hinge_passes_g_up_to_one_inclusive_and_nothing_beyond():
    above = math.nextafter(1.0, 2.0)
    z = torch.tensor([-5.0, -above, -1.0, -0.5, -0.0, 0.0, 0.999, 1.0, above, 5.0], dtype=torch.float64)
    g = gradients_like(z)
    passes = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 0, 0], dtype=torch.float64)
    assert torch.equal(passed_back("saturated-hinge", z, g), g * passes)


@each_rule
def test_rule_is_the_slope_of_the_weighted_layer_loss_at_the_closed_form_target(rule: str):
    # Friesen and Domingos (2018), section 3.3: target t = sign(-g), importance |g|, layer loss of (z, t).
    z = torch.linspace(-1.999, 1.999, 64, dtype=torch.float64)
    g = gradients_like(z)
    loss = find_loss(rule)
    assert isinstance(loss, Loss)
    layer_slope = g.abs() * loss.slope(z, (-g).sign())
    torch.testing.assert_close(passed_back(rule, z, g), layer_slope, rtol=1e-12, atol=0.0)


@each_rule
def test_gradient_that_is_zero_above_stays_zero(rule: str):
    z = torch.linspace(-3, 3, 13)
    assert not passed_back(rule, z, torch.zeros_like(z)).any()


@each_rule
@pytest.mark.parametrize("factor", [0.25, 1024.0, -2.0])
def test_multiplying_the_loss_multiplies_the_gradients(rule: str, factor: float):
    # Factors are powers of two, so every product is exact. Two thresholds in a row, as in a network.
    def weight_gradients(scale: float) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(4, 6), HardThreshold(rule), nn.Linear(6, 5), HardThreshold(rule), nn.Linear(5, 3)
        ).double()
        x = torch.randn(7, 4, dtype=torch.float64)
        (scale * model(x).logsumexp(1).sum()).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    with torch.random.fork_rng(devices=[]):
        single, multiplied = weight_gradients(1.0), weight_gradients(factor)
    assert len(single) == 6
    assert all(bool(g.any()) for g in single), "every weight and bias learns"
    for one, many in zip(single, multiplied, strict=True):
        assert torch.equal(factor * one, many)


def test_module_has_nothing_to_learn_and_shows_its_rule():
    module = HardThreshold("saturated-hinge")
    assert list(module.parameters()) == []
    assert module.state_dict() == {}
    assert repr(module) == "HardThreshold(rule='saturated-hinge')"
    assert HardThreshold().rule == "soft-hinge"


def test_unknown_rule_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"rule: got 'soft_hinge', .* Did you mean 'soft-hinge'"):
        HardThreshold("soft_hinge")
