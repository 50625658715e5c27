"""LayerProblem: its objective, bounds, gradient and rearrangements, against slow references; and its typed errors."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from support.zoo import ALL_LOSSES, SMOOTH_LOSSES, Judge, layer_problems, make_problem, optima
from torch import Tensor
from torch.nn import functional

from tpsolve import Budget, LayerProblem, solve
from tpsolve.errors import (
    ArgumentError,
    DeviceError,
    NotAcceptedError,
    NotFiniteError,
    ShapeError,
    TooLargeError,
    TpsolveError,
    UnknownNameError,
    ValueSetError,
)

pytestmark = pytest.mark.rounding

each_loss = pytest.mark.parametrize("loss", ALL_LOSSES)


def every_targets(problem: LayerProblem) -> Tensor:
    """All 2^n targets, the same for each sample: `(2^n, *batch, n)`."""
    n, batch = problem.n_vars, problem.batch_shape
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=n)), dtype=problem.dtype)
    return every.reshape(-1, *[1] * len(batch), n).expand(-1, *batch, n)


def some_targets(problem: LayerProblem, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, (*problem.batch_shape, problem.n_vars), generator=g)
    return 2 * bits.to(problem.dtype) - 1


# --- objective --------------------------------------------------------------------------------------------------------


@each_loss
@pytest.mark.slow
def test_objective_equals_the_slow_judge(loss: str):
    @given(layer_problems(loss))
    def check(problem: LayerProblem) -> None:
        judge, slack = Judge(problem), problem.rounding().flatten().tolist()
        for seed in range(3):
            targets = some_targets(problem, seed)
            found = problem.objective(targets)
            assert found.dtype == torch.float64
            assert found.shape == problem.batch_shape
            for value, true, most in zip(found.flatten().tolist(), judge.objectives(targets), slack, strict=True):
                assert abs(Fraction(value) - true) <= Fraction(most)
                assert most <= 1e-12 * (1 + 60 * 150**2), "rounding is a matter of the last digits"

    check()


def test_objective_by_hand():
    # z = (1 - 2 + 1, 3 + 1 - 1) = (0, 3): hinge 2 * (1 - 0) + 0.5 * (1 + 3); t1 leaves its activation at 0.75 * 2.
    problem = LayerProblem(
        [[1.0, 2.0], [3.0, -1.0]], [1, -1], [1.0, -1.0], "hinge", [2.0, 0.5], [-1, -1], 0.75, [2.0, 7.0]
    )
    assert problem.objective(torch.tensor([1.0, -1.0])).item() == 2 * 1 + 0.5 * 4 + 0.75 * 2


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
@each_loss
def test_objective_takes_leading_axes(loss: str, batch: tuple[int, ...]):
    problem = make_problem(1, n=3, m=4, loss=loss, batch=batch, weighted=True, stay=0.5)
    many = torch.stack([torch.stack([some_targets(problem, 3 * i + j) for j in range(3)]) for i in range(2)])
    found = problem.objective(many)
    assert found.shape == (2, 3, *batch)
    for i, j in itertools.product(range(2), range(3)):
        assert torch.allclose(found[i, j], problem.objective(many[i, j]), rtol=1e-14, atol=1e-14)


def test_objective_is_in_float64_though_the_problem_is_in_float32():
    # 0.1 is a number of Python; rounded to float32 it would be 0.10000000149.
    zero = torch.zeros(1, 2)
    leaves = LayerProblem(zero, [0], start=[1, 1], stay=0.1)
    assert leaves.objective(torch.tensor([1.0, -1.0])).item() == pytest.approx(0.1, rel=1e-15)
    third = torch.tensor([[1 / 3, 1e-9]], dtype=torch.float32)
    problem = LayerProblem(third, [1], loss="squared")
    true = (Fraction(third[0, 0].item()) + Fraction(third[0, 1].item()) - 1) ** 2
    assert problem.objective(torch.ones(2)).item() == pytest.approx(float(true), rel=1e-15)


def test_dont_cares_weigh_nothing():
    problem = make_problem(3, n=4, m=3, batch=(2,))
    cared = LayerProblem(problem.weight, [[1, 0, -1], [0, 0, 1]], problem.bias)
    first = LayerProblem(problem.weight[[0, 2]], [[1, -1]], problem.bias[[0, 2]])
    second = LayerProblem(problem.weight[2:], [[1]], problem.bias[2:])
    targets = some_targets(cared)
    alone = torch.cat([first.objective(targets[:1]), second.objective(targets[1:])])
    assert torch.allclose(cared.objective(targets), alone, rtol=1e-14)


@pytest.mark.parametrize("loss", ["hinge", "squared", "cross-entropy"])
def test_unit_weights_broadcast(loss: str):
    problem = make_problem(5, n=3, m=4, loss=loss, batch=(2, 3))
    shape = (2, 3) if loss == "cross-entropy" else (2, 3, 4)
    numbers = torch.arange(1.0, 1 + math.prod(shape[-1:]), dtype=torch.float64)
    for weights in (torch.tensor(2.0), numbers, numbers.expand(shape)):
        some, full = (
            LayerProblem(problem.weight, problem.targets, problem.bias, loss, c)
            for c in (weights, weights.expand(shape))
        )
        targets = some_targets(some)
        assert torch.equal(some.objective(targets), full.objective(targets))
    assert torch.allclose(
        LayerProblem(problem.weight, problem.targets, problem.bias, loss, 2.0).objective(some_targets(problem)),
        2 * problem.objective(some_targets(problem)),
    )


def test_lists_and_integers_are_taken_in_the_weight_s_dtype():
    problem = LayerProblem(torch.tensor([[1.0, 2.0]], dtype=torch.float64), [[1]], start=[[1, -1]], unit_weight=[3])
    for name in ("targets", "bias", "unit_weight", "start"):
        assert getattr(problem, name).dtype == torch.float64
    tenth = LayerProblem(torch.ones(1, 1).double(), [1], [0.1], "hinge", [0.1], [1], 1.0, [0.1])
    assert tenth.bias.tolist() == [0.1], "Python's numbers keep all their digits"
    assert tenth.unit_weight is not None
    assert tenth.stay_weight is not None
    assert tenth.unit_weight.tolist() == tenth.stay_weight.tolist() == [0.1]
    assert LayerProblem([[1, 2]], [1]).dtype == torch.get_default_dtype()
    assert LayerProblem(torch.ones(1, 2).half(), [1]).dtype == torch.float32


# --- flip deltas ------------------------------------------------------------------------------------------------------


@each_loss
@pytest.mark.slow
def test_flip_delta_is_the_difference_of_objectives(loss: str):
    @given(layer_problems(loss))
    def check(problem: LayerProblem) -> None:
        targets = some_targets(problem)
        delta = problem.flip_delta(targets)
        assert delta.dtype == problem.dtype
        assert delta.shape == targets.shape
        # A loss is a difference of pre-activations, so it is only as fine as these.
        reach = (problem.weight.abs().sum(1) + problem.bias.abs()).max().item()
        size = 1 + problem.objective(every_targets(problem)).max().item() + 3 * reach
        for j in range(problem.n_vars):
            flipped = targets.clone()
            flipped[..., j] *= -1
            true = problem.objective(flipped) - problem.objective(targets)
            near = 64 * torch.finfo(problem.dtype).eps * size
            assert torch.allclose(delta[..., j].double(), true, rtol=0, atol=near)

    check()


@pytest.mark.parametrize("call", ["objective", "flip_delta"])
def test_targets_that_do_not_fit_are_refused(call: str):
    problem = make_problem(1, n=3, m=2, batch=(2,))
    judge = getattr(problem, call)
    for shape in [(3,), (2, 2), (3, 3), (3, 2)]:
        with pytest.raises(ShapeError, match=r"targets: got shape \(.*\), expected \(\.\.\., 2, 3\)") as caught:
            judge(torch.ones(shape))
        assert str(shape) in str(caught.value)
    with pytest.raises(ValueSetError, match=r"targets: got 2 other values, such as 0, expected only -1, \+1"):
        judge(torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, 1.0]]))
    with pytest.raises(ValueSetError, match="such as nan"):
        judge(torch.full((2, 3), torch.nan))
    with pytest.raises(DeviceError, match=r"targets: got a tensor on meta, expected cpu.*\.to\(\)"):
        judge(torch.ones(2, 3, device="meta"))


@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_flip_delta_of_more_axes_is_right_or_refused(batch: tuple[int, ...]):
    problem = make_problem(1, n=3, m=2, batch=batch)
    targets = torch.stack([some_targets(problem, seed) for seed in range(3)])
    try:
        found = problem.flip_delta(targets)
    except ShapeError:
        return
    assert torch.allclose(found, torch.stack([problem.flip_delta(t) for t in targets]))


# --- bounds and gradients ---------------------------------------------------------------------------------------------


@each_loss
@pytest.mark.slow
def test_lower_bound_is_never_above_the_optimum(loss: str):
    @settings(max_examples=150)
    @given(layer_problems(loss, most_targets=4))
    def check(problem: LayerProblem) -> None:
        for bound, best in zip(problem.lower_bound().flatten().tolist(), Judge(problem).optima(), strict=True):
            assert bound >= 0
            assert Fraction(bound) <= best

    check()


@each_loss
def test_lower_bound_of_a_single_unit_is_its_optimum(loss: str):
    # Alone, a monotone unit gets its wish, t = s sign(V). The squared loss may lie between two sums, and
    # two classes have one difference between them.
    problem = make_problem(2, n=5, m=2 if loss == "cross-entropy" else 1, loss=loss)
    found, best = problem.lower_bound().item(), float(optima(problem)[0])
    if loss == "squared":
        assert found <= best
    else:
        assert found == pytest.approx(best, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("loss", SMOOTH_LOSSES)
def test_gradient_equals_autograd(loss: str):
    problem = make_problem(4, n=6, m=5, loss=loss, batch=(2, 3), weighted=True, stay=0.5)
    at = torch.randn(2, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for h in (at, problem.start):
        assert h is not None
        h = h.clone().requires_grad_()
        z, s, c = h @ problem.weight.T + problem.bias, problem.targets, problem.unit_weight
        assert c is not None
        if loss == "cross-entropy":
            paid = c * functional.cross_entropy(z.flatten(0, 1), s.flatten(), reduction="none").reshape(2, 3)
        else:
            value = {
                "soft-hinge": lambda z, s: 1 + torch.tanh(-z * s),
                "logistic": lambda z, s: functional.softplus(-z * s),
                "squared": lambda z, s: (z - s) ** 2,
            }[loss](z, s)
            paid = (c * value * (s != 0)).sum(-1)
        assert problem.start is not None
        assert problem.stay_weight is not None
        penalty = problem.stay * (problem.stay_weight * (1 - problem.start * h) / 2).sum(-1)
        (paid + penalty).sum().backward()
        assert h.grad is not None
        assert torch.allclose(problem.gradient(h.detach()), h.grad, rtol=1e-10, atol=1e-12)
        if h.detach().equal(problem.start):
            assert torch.equal(problem.gradient(), problem.gradient(problem.start))


@each_loss
def test_gradient_predicts_small_steps_away_from_kinks(loss: str):
    problem = make_problem(6, n=4, m=3, loss=loss, batch=(2,), weighted=True)
    at = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    g, step = problem.gradient(at), 1e-6
    for j in range(4):
        ahead, behind = at.clone(), at.clone()
        ahead[:, j] += step
        behind[:, j] -= step
        energy = problem.energy64
        slope = (energy.layer_loss(energy.pre(ahead)) - energy.layer_loss(energy.pre(behind))) / (2 * step)
        assert torch.allclose(g[:, j], slope, rtol=1e-6, atol=1e-6)


def test_gradient_without_start_asks_for_one():
    with pytest.raises(NotAcceptedError, match=r"no start.*Pass the activations as start="):
        make_problem(1, n=3, m=2, started=False).gradient()


# --- rearrangements ---------------------------------------------------------------------------------------------------


@each_loss
def test_flatten_select_and_repeat_keep_each_sample_s_objective(loss: str):
    problem = make_problem(7, n=4, m=3, loss=loss, batch=(2, 3), weighted=True, stay=0.5, whole=loss != "logistic")
    targets = some_targets(problem)
    value, rows = problem.objective(targets).flatten(), targets.reshape(6, 4)

    def close(a: Tensor, b: Tensor) -> bool:
        return torch.allclose(a, b, rtol=1e-13, atol=1e-13)

    flat = problem.flatten()
    assert flat.batch_shape == (6,)
    assert close(flat.objective(rows), value)

    for keep in (torch.tensor([4, 0, 0]), torch.tensor([True, False, False, True, True, False]), torch.tensor([2])):
        chosen = problem.select(keep)
        assert chosen.batch_shape == (len(value[keep]),)
        assert close(chosen.objective(rows[keep]), value[keep])
        assert close(chosen.lower_bound(), problem.lower_bound().flatten()[keep])
        assert close(chosen.flip_delta(rows[keep]), problem.flip_delta(targets).reshape(6, 4)[keep])

    thrice = problem.repeat(3)
    assert thrice.batch_shape == (18,)
    other = some_targets(thrice, 5)
    assert close(thrice.objective(other), torch.cat([flat.objective(other[i * 6 : i * 6 + 6]) for i in range(3)]))
    assert problem.batch_shape == (2, 3), "the problem itself is not changed"
    assert close(problem.objective(targets).flatten(), value)


def test_moving_keeps_everything():
    problem = make_problem(7, n=4, m=3, batch=(2,), weighted=True, stay=0.5)
    moved = problem.to("cpu")
    assert moved is not problem
    assert moved.fingerprint == problem.fingerprint
    away = problem.to("meta")
    assert away.device.type == "meta"
    for name in ("weight", "bias", "targets", "unit_weight", "start", "stay_weight"):
        assert getattr(away, name).device.type == "meta"
    assert problem.device.type == "cpu"


def test_fingerprint_changes_with_everything_that_defines_the_problem():
    given: dict[str, Any] = {
        "weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "targets": torch.tensor([[1.0, -1.0]]),
        "bias": torch.tensor([0.5, 0.0]),
        "loss": "hinge",
        "unit_weight": torch.tensor([[1.0, 2.0]]),
        "start": torch.tensor([[1.0, 1.0]]),
        "stay": 0.5,
        "stay_weight": torch.tensor([[1.0, 3.0]]),
    }
    other: dict[str, Any] = {
        "weight": torch.tensor([[1.0, 2.0], [3.0, 5.0]]),
        "targets": torch.tensor([[1.0, 0.0]]),
        "bias": torch.tensor([0.5, 1.0]),
        "loss": "squared",
        "unit_weight": torch.tensor([[1.0, 1.0]]),
        "start": torch.tensor([[1.0, -1.0]]),
        "stay": 0.25,
        "stay_weight": torch.tensor([[1.0, 1.0]]),
    }
    base = LayerProblem(**given).fingerprint
    copied: dict[str, Any] = {k: v.clone() if isinstance(v, Tensor) else v for k, v in given.items()}
    assert LayerProblem(**copied).fingerprint == base
    changes: list[dict[str, Any]] = [{**given, name: other[name]} for name in given]
    changed = {LayerProblem(**change).fingerprint for change in changes}
    changed.add(LayerProblem(**{**given, "weight": given["weight"].double()}).fingerprint)
    assert len(changed | {base}) == len(given) + 2


def test_a_problem_keeps_no_hold_of_gradients():
    problem = LayerProblem(torch.ones(2, 3, requires_grad=True), [1, -1])
    assert not problem.weight.requires_grad
    assert not problem.objective(torch.ones(3)).requires_grad


# --- bad input --------------------------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf


def layer(**changes: Any) -> Callable[[], LayerProblem]:
    good: dict[str, Any] = {"weight": torch.ones(3, 2), "targets": [[1, -1, 0]] * 4}
    return lambda: LayerProblem(**{**good, **changes})


def classes(**changes: Any) -> Callable[[], LayerProblem]:
    return layer(**{"targets": [0, 2, 1, 0], "loss": "cross-entropy", **changes})


BAD_INPUT: list[tuple[str, Callable[[], Any], type[TpsolveError], str]] = [
    ("weight-axes", layer(weight=torch.ones(3)), ShapeError, r"weight: got shape \(3,\), expected \(m, n\)"),
    ("weight-empty", layer(weight=torch.ones(0, 2)), ShapeError, r"weight: got shape \(0, 2\), expected \(m, n\)"),
    ("weight-no-targets", layer(weight=torch.ones(3, 0)), ShapeError, r"weight: got shape \(3, 0\)"),
    (
        "weight-text",
        layer(weight="abc"),
        ArgumentError,
        r"weight: got str, expected a tensor, array or list of numbers",
    ),
    ("weight-ragged", layer(weight=[[1.0], [1.0, 2.0]]), ArgumentError, r"weight: got list, expected a tensor"),
    ("weight-none", layer(weight=None), ArgumentError, r"weight: got NoneType, expected a tensor"),
    (
        "weight-complex",
        layer(weight=torch.ones(3, 2, dtype=torch.complex64)),
        ArgumentError,
        r"weight: got torch.complex64, expected real numbers",
    ),
    (
        "weight-nan-and-inf",
        layer(weight=torch.tensor([[1.0, INF], [NAN, 1.0], [-INF, 2.0]])),
        NotFiniteError,
        r"weight: got 1 NaN and 2 infinite values, the first at \[0, 1\], expected finite numbers.*Look where",
    ),
    ("bias-nan", layer(bias=[0.0, NAN, NAN]), NotFiniteError, r"bias: got 2 NaN and 0 infinite .*first at \[1\]"),
    (
        "targets-nan",
        layer(targets=[[1.0, NAN, 0.0]]),
        NotFiniteError,
        r"targets: got 1 NaN and 0 infinite values, the first at \[0, 1\]",
    ),
    ("unit-weight-inf", layer(unit_weight=[INF, 1.0, 1.0]), NotFiniteError, r"unit_weight: got 0 NaN and 1 infinite"),
    ("start-nan", layer(start=[NAN, 1.0]), NotFiniteError, r"start: got 1 NaN and 0 infinite"),
    (
        "stay-weight-inf",
        layer(start=[1, 1], stay=1.0, stay_weight=[1.0, INF]),
        NotFiniteError,
        r"stay_weight: got 0 NaN and 1 infinite",
    ),
    ("label-nan", classes(targets=[NAN, 0.0]), NotFiniteError, r"targets: got 1 NaN"),
    (
        "targets-units",
        layer(targets=[[1, -1]] * 4),
        ShapeError,
        r"targets: got shape \(4, 2\), expected \(\*batch, 3\): m = 3 units above",
    ),
    ("targets-scalar", layer(targets=1), ShapeError, r"targets: got shape \(\), expected \(\*batch, 3\)"),
    (
        "targets-empty",
        layer(targets=torch.ones(0, 3)),
        ShapeError,
        r"targets: got shape \(0, 3\), expected at least one",
    ),
    ("labels-empty", classes(targets=torch.ones(0)), ShapeError, r"targets: got shape \(0,\), expected at least one"),
    (
        "targets-half",
        layer(targets=[[1.0, 0.5, 2.0]]),
        ValueSetError,
        r"targets: got 2 other values, such as 0.5, expected only -1, 0, \+1\. Use 0 for don't care",
    ),
    ("label-too-large", classes(targets=[0, 3]), ValueSetError, r"targets: got 3, expected class labels from 0 to 2"),
    ("label-negative", classes(targets=[0, -1]), ValueSetError, r"targets: got -1, expected class labels from 0 to 2"),
    ("label-half", classes(targets=[0.5]), ValueSetError, r"targets: got 0.5, expected class labels from 0 to 2"),
    ("bias-shape", layer(bias=[0.0, 0.0]), ShapeError, r"bias: got shape \(2,\), expected \(3,\)"),
    (
        "unit-weight-shape",
        layer(unit_weight=torch.ones(2)),
        ShapeError,
        r"unit_weight: got shape \(2,\), expected one that broadcasts to \(4, 3\)",
    ),
    (
        "sample-weight-shape",
        classes(unit_weight=torch.ones(3)),
        ShapeError,
        r"unit_weight: got shape \(3,\), expected one that broadcasts to \(4,\)",
    ),
    ("unit-weight-negative", layer(unit_weight=-2.0), ValueSetError, r"unit_weight: got -2, expected no negative"),
    (
        "start-shape",
        layer(start=torch.ones(4, 3)),
        ShapeError,
        r"start: got shape \(4, 3\), expected one that broadcasts to \(4, 2\)",
    ),
    (
        "start-zero",
        layer(start=[0.0, 1.0]),
        ValueSetError,
        r"start: got \d other values, such as 0, expected only -1, \+1",
    ),
    ("stay-negative", layer(start=[1, 1], stay=-0.5), ArgumentError, r"stay: got -0.5, expected a finite number"),
    (
        "stay-nan",
        layer(start=[1, 1], stay=NAN),
        ArgumentError,
        r"stay: got nan, expected a finite number of at least 0",
    ),
    ("stay-inf", layer(start=[1, 1], stay=INF), ArgumentError, r"stay: got inf, expected a finite number"),
    ("stay-text", layer(start=[1, 1], stay="much"), ArgumentError, r"stay: got much, expected a finite number"),
    ("stay-bool", layer(start=[1, 1], stay=True), ArgumentError, r"stay: got True, expected a finite number"),
    ("stay-alone", layer(stay=0.5), ArgumentError, r"start: got None, expected the activations to stay at.*stay=0"),
    (
        "stay-weight-negative",
        layer(start=[1, 1], stay=0.5, stay_weight=[1.0, -3.0]),
        ValueSetError,
        r"stay_weight: got -3, expected no negative",
    ),
    (
        "stay-weight-shape",
        layer(start=[1, 1], stay=0.5, stay_weight=torch.ones(3)),
        ShapeError,
        r"stay_weight: got shape \(3,\), expected one that broadcasts to \(4, 2\)",
    ),
    (
        "loss-misspelt",
        layer(loss="hing"),
        UnknownNameError,
        r"loss: got 'hing', expected one of cross-entropy, hinge, .*zero-one\. Did you mean 'hinge'",
    ),
    ("loss-of-another-case", layer(loss="Logistic"), UnknownNameError, r"got 'Logistic'.*Did you mean 'logistic'"),
    ("loss-foreign", layer(loss="xyz"), UnknownNameError, r"loss: got 'xyz', expected one of [a-z, -]*\.$"),
    ("loss-none", layer(loss=None), UnknownNameError, r"loss: got 'None', expected one of"),
    (
        "device-of-start",
        layer(start=torch.ones(4, 2, device="meta")),
        DeviceError,
        r"start: got a tensor on meta, expected cpu, where the weight lies\. Move it with \.to\(\)",
    ),
    (
        "device-of-targets",
        layer(targets=torch.ones(4, 3, device="meta")),
        DeviceError,
        r"targets: got a tensor on meta",
    ),
    ("device-of-labels", classes(targets=torch.ones(4, device="meta")), DeviceError, r"targets: got a tensor on meta"),
    ("device-of-bias", layer(bias=torch.ones(3, device="meta")), DeviceError, r"bias: got a tensor on meta"),
]


@pytest.mark.parametrize(("call", "kind", "message"), [row[1:] for row in BAD_INPUT], ids=[row[0] for row in BAD_INPUT])
def test_bad_input_is_a_typed_error_that_says_what_came_and_what_was_expected(
    call: Callable[[], Any], kind: type[TpsolveError], message: str
):
    with pytest.raises(kind, match=message) as caught:
        call()
    assert type(caught.value) is kind
    assert isinstance(caught.value, ArgumentError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.argument in {"weight", "targets", "bias", "loss", "unit_weight", "start", "stay", "stay_weight"}
    assert str(caught.value).startswith(f"{caught.value.argument}: got ")


def test_numbers_too_large_for_their_dtype_or_for_sums_are_refused_with_the_cure():
    with pytest.raises(
        TooLargeError, match=r"weight: got numbers up to 1e\+39, .* torch.float32 holds. Pass a float64"
    ):
        LayerProblem([[1e39, 1.0]], [1])
    kept = LayerProblem(np.array([[1e39, 1.0]]), [1])
    assert kept.weight[0, 0] == 1e39
    for name in ("bias", "unit_weight", "pull"):
        with pytest.raises(TooLargeError, match=rf"{name}: got numbers up to 1e\+307, expected absolute values up to"):
            LayerProblem(np.ones((1, 2)), [1], **{name: np.array([1e307])})  # pyright: ignore[reportArgumentType]
    for solver in ("hill-climb", "cp-sat", "milp", "enumerate"):
        problem = LayerProblem(
            np.array([[2.0**300, -1.0], [1.0, 2.0**299]]), [1, -1], loss="squared", unit_weight=2.0**300
        )
        assert torch.isfinite(solve(problem, solver, budget=Budget(steps=20)).objective)
