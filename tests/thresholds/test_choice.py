"""The choice: one-hot vectors of the largest logits, and the closed-form rule that it passes back."""

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, multi_margin_loss

from tpsolve.errors import ArgumentError, NotAcceptedError, NotFiniteError, ShapeError, UnknownNameError
from tpsolve.nn import Choice, HardThreshold, check_nan, compact, find_thresholds

LOSSES = ("softmax", "hinge")
each_loss = pytest.mark.parametrize("loss", LOSSES)
each_dtype = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def passed_back(z: Tensor, g: Tensor, loss: str = "softmax") -> Tensor:
    """The gradient at the logits z when g arrives at the outputs."""
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Choice(z.shape[-1], loss=loss)(z), z, g)
    return gradient


def by_hand(z: Tensor, g: Tensor, loss: str) -> Tensor:
    """The rule of one unit `(K,)`, from its words and with torch's own losses."""
    values = g.tolist()
    target = min(range(len(values)), key=lambda k: values[k])
    present = max(range(len(values)), key=lambda k: z[k].item())
    other = (
        present if present != target else min((k for k in range(len(values)) if k != target), key=values.__getitem__)
    )
    z = z.clone().requires_grad_()
    label = torch.tensor([target])
    if loss == "softmax":
        value = cross_entropy(z[None], label)
    else:
        rivals = torch.cat([z[:target], z[target + 1 :]])
        value = torch.relu(1 + rivals.max() - z[target])
    (slope,) = torch.autograd.grad(value, z)
    return (values[other] - values[target]) / 2 * slope


@each_dtype
def test_output_is_one_at_the_first_of_the_largest(dtype: torch.dtype):
    z = torch.tensor([[1.0, 3.0, 3.0], [-2.0, -1.0, -3.0], [0.0, 0.0, 0.0], [math.inf, 0.0, -math.inf]], dtype=dtype)
    h = Choice(3)(z)
    assert h.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert h.dtype == dtype


def test_nan_fills_its_own_unit_and_no_other():
    h = Choice(3)(torch.tensor([[1.0, math.nan, 2.0], [1.0, 0.0, 2.0]]))
    assert torch.isnan(h[0]).all()
    assert h[1].tolist() == [0, 0, 1]


@each_loss
@pytest.mark.parametrize("shape", [(4,), (0, 4), (3, 4), (2, 0, 4), (2, 3, 5, 4)], ids=str)
def test_output_and_gradient_have_the_shape_of_the_input(loss: str, shape: tuple[int, ...]):
    z = randn(*shape)
    h = Choice(4, loss=loss)(z)
    assert h.shape == shape
    assert torch.equal(h.sum(-1), torch.ones(shape[:-1], dtype=h.dtype))
    assert passed_back(z, randn(*shape, seed=1), loss).shape == shape


def test_values_of_a_transposed_input_keep_their_places():
    z, g = randn(3, 5), randn(3, 5, seed=1)
    assert torch.equal(Choice(3)(z.T), Choice(3)(z.T.contiguous()))
    assert torch.equal(passed_back(z.T, g.T), passed_back(z.T.contiguous(), g.T.contiguous()))


@each_loss
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_backward_is_importance_times_the_slope_of_the_layer_loss(loss: str, classes: int):
    z, g = randn(40, classes), randn(40, classes, seed=1)
    expected = torch.stack([by_hand(*one, loss) for one in zip(z, g, strict=True)])
    torch.testing.assert_close(passed_back(z, g, loss), expected, rtol=1e-12, atol=1e-14)


@each_loss
def test_a_step_against_the_gradient_raises_the_target(loss: str):
    z, g = randn(30, 5) / 4, randn(30, 5, seed=1)
    moved = z - 100 * passed_back(z, g, loss)
    assert torch.equal(moved.argmax(1), g.argmin(1))


@pytest.mark.parametrize(("loss", "rule"), [("softmax", "logistic"), ("hinge", "hinge")])
def test_two_classes_are_a_hard_threshold_of_the_difference_of_their_logits(loss: str, rule: str):
    z, g = 3 * randn(200, 2), randn(200, 2, seed=1)
    z[:5, 0] = z[:5, 1]
    z[5:10, 0] = z[5:10, 1] + torch.tensor([1.0, -1.0, 30.0, -30.0, 300.0])
    logits = z.clone().requires_grad_()
    h = HardThreshold(rule)(logits[:, 1] - logits[:, 0])
    read = torch.stack([(1 - h) / 2, (1 + h) / 2], 1)
    (expected,) = torch.autograd.grad(read, logits, g)
    torch.testing.assert_close(passed_back(z, g, loss), expected, rtol=1e-12, atol=0)
    differs = (Choice(2)(z) != read).any(1)
    assert torch.equal(differs, z[:, 0] == z[:, 1]), "a tie is the first class here, and +1 there"


def test_the_hinge_is_that_of_torch_where_one_rival_is_near():
    z = torch.tensor([[2.0, 1.5, -9.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(multi_margin_loss(z, torch.tensor([0])) * 3, z)
    assert torch.equal(passed_back(z.detach(), torch.tensor([[-2.0, 0.0, 5.0]]).double(), "hinge"), slope)


@each_loss
def test_where_all_classes_are_worth_the_same_nothing_is_passed_back(loss: str):
    z = randn(6, 4)
    assert not passed_back(z, torch.full_like(z, 0.7), loss).any()


@each_loss
@each_dtype
def test_the_gradient_grows_with_the_loss_and_stays_finite(loss: str, dtype: torch.dtype):
    z, g = 10 * randn(50, 6, dtype=dtype), randn(50, 6, seed=1, dtype=dtype)
    once = passed_back(z, g, loss)
    assert once.dtype == dtype
    assert torch.isfinite(once).all()
    assert torch.equal(passed_back(z, 8 * g, loss), 8 * once)


def test_the_softmax_keeps_its_digits_far_from_the_border():
    z, g = torch.tensor([[50.0, 0.0, 0.0]], dtype=torch.float64), torch.tensor([[-2.0, 0.0, 0.0]]).double()
    assert passed_back(z, g)[0, 0].item() == pytest.approx(-2 * math.exp(-50), rel=1e-12)


def test_a_logit_of_minus_infinity_gets_no_gradient_where_it_is_no_target():
    z, g = torch.tensor([[1.0, -math.inf, 0.0]]), torch.tensor([[1.0, 0.5, -1.0]])
    found = passed_back(z, g)
    assert torch.isfinite(found).all()
    assert found[0, 1] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_check_nan_names_the_choice_in_both_directions(bad: float):
    model = nn.Sequential(nn.Identity(), Choice(3))
    z = torch.zeros(2, 3, requires_grad=True)
    with check_nan(model):
        h = model(z)
        with pytest.raises(NotFiniteError, match="gradient at 1"):
            h.backward(torch.full_like(h, bad))
        with pytest.raises(NotFiniteError, match="pre-activations of 1"):
            model(torch.tensor([[0.0, bad, 1.0]]))


@each_loss
def test_autocast_and_vmap_change_nothing(loss: str):
    choice, z, g = Choice(4, loss=loss), randn(5, 4, dtype=torch.float32), randn(5, 4, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(passed_back(z, g, loss), passed_back(z, g, loss))
        assert choice(z).dtype == torch.float32
        assert choice(z.bfloat16()).dtype == torch.bfloat16
    each = torch.func.vmap(torch.func.grad(lambda one, weight: (choice(one) * weight).sum()))
    assert torch.equal(each(z, g), passed_back(z, g, loss))


def test_compact_gives_equal_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), Choice(4), nn.Linear(4, 2))
    x, found = randn(6, 5, dtype=torch.float32), []
    for wrap in (False, True):
        model.zero_grad()
        if wrap:
            with compact(model) as saver:
                loss = model(x).square().sum()
                assert len(saver.outputs) == 1, "the choice's output is known"
        else:
            loss = model(x).square().sum()
        loss.backward()
        found.append([value.grad.clone() for value in model.parameters() if value.grad is not None])
    assert len(found[0]) == 4
    assert all(map(torch.equal, *found))


def test_a_second_derivative_is_refused_by_name():
    z = randn(3, 4).requires_grad_()
    (slope,) = torch.autograd.grad((Choice(4)(z) * randn(3, 4, seed=1)).sum(), z, create_graph=True)
    with pytest.raises(NotAcceptedError, match="a choice: got a second derivative"):
        slope.sum().backward()


def test_it_is_no_threshold_and_has_no_state():
    choice = Choice(10, loss="hinge")
    assert repr(choice) == "Choice(classes=10, loss='hinge')"
    assert repr(Choice(3)) == "Choice(classes=3)"
    assert not choice.state_dict()
    with pytest.raises(NotAcceptedError, match="no HardThreshold or Staircase"):
        find_thresholds(nn.Sequential(choice))
    for again in (copy.deepcopy(choice), pickle.loads(pickle.dumps(choice))):
        assert repr(again) == repr(choice)
        z, g = randn(3, 10), randn(3, 10, seed=1)
        assert torch.equal(again(z), choice(z))
        assert torch.equal(passed_back(z, g, again.loss), passed_back(z, g, "hinge"))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Choice(1), ArgumentError, "classes"),
        (lambda: Choice(2.0), ArgumentError, "classes"),  # pyright: ignore[reportArgumentType]
        (lambda: Choice(3, loss="logistic"), UnknownNameError, "softmax"),
        (lambda: Choice(3)(torch.zeros(2, 4)), ShapeError, r"input: got shape \(2, 4\), expected \(\.\.\., 3\)"),
        (lambda: Choice(3)(torch.tensor(1.0)), ShapeError, r"shape \(\)"),
        (lambda: Choice(3)(torch.zeros(2, 3, dtype=torch.int64)), ArgumentError, "floating-point logits"),
        (lambda: Choice(3)([1.0, 2.0, 3.0]), ArgumentError, "input: got list"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_what_makes_no_sense_is_named(make: object, error: type[Exception], words: str):
    assert callable(make)
    with pytest.raises(error, match=words):
        make()
