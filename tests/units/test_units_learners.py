from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, ShapeError, UnknownNameError, ValueSetError
from tpsolve.losses import LOSSES, Loss
from tpsolve.units import (
    LEARNERS,
    Certificate,
    Hinge,
    LeastSquares,
    Logistic,
    Perceptron,
    SaturatedHinge,
    Separability,
    SoftHinge,
    SquaredHinge,
    UnitClassifier,
    UnitFit,
    Units,
    find_learner,
)
from tpsolve.units.learners._margin_loss import HINGE, LOGISTIC, SATURATED_HINGE, SOFT_HINGE, SQUARED, smooth_hinge

pytestmark = pytest.mark.rounding

PENALISED = [Hinge, SquaredHinge, Logistic, LeastSquares, SaturatedHinge, SoftHinge]
CONVEX = [kind for kind in PENALISED if kind.convex]
WEIGHTED = [*PENALISED, Perceptron]


def example(rows=80, n=5, units=4, seed=0, flips=0.1, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, n, generator=g, dtype=torch.float64)
    t = torch.where(x @ torch.randn(n, units, generator=g, dtype=torch.float64) > 0.2, 1.0, -1.0)
    t = torch.where(torch.rand(t.shape, generator=g) < flips, -t, t)
    return x.to(dtype), t.to(dtype)


def costs(kind, x, t, weight, bias, l2, counts=None):
    counts = t.abs() if counts is None else counts * t.abs()
    margin = t * (x @ weight.T + bias)
    loss = {
        "hinge": (1 - margin).clamp(min=0),
        "squared-hinge": (1 - margin).clamp(min=0) ** 2,
        "logistic": torch.log1p(torch.exp(-margin)),
        "least-squares": (1 - margin) ** 2,
        "saturated-hinge": (1 - margin).clamp(0, 2),
        "soft-hinge": 1 + torch.tanh(-margin),
    }[kind.name]
    return l2 / 2 * weight.square().sum(1) + (loss * counts).sum(0) / counts.sum(0)


@pytest.mark.parametrize("name", sorted(LEARNERS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_every_learner_learns_separable_targets(name, dtype, bias):
    x, t = example(flips=0.0, dtype=dtype)
    if not bias:
        t = torch.where(x @ x[:4].T > 0, 1.0, -1.0).to(dtype)
    settings: dict[str, Any] = {"l2": 1e-5} if name in {kind.name for kind in PENALISED} else {}
    fit = LEARNERS[name](bias=bias, **settings).fit(x, t)
    assert isinstance(fit, UnitFit | Certificate)
    assert bool(fit.converged.all())
    assert fit.weight.shape == (4, 5)
    if name != "separability":
        assert fit.weight.dtype == dtype
    wrong = int((fit.predict(x.to(fit.weight.dtype)) != t.to(fit.weight.dtype)).sum())
    # Least squares is no classifier: it may give up a few samples for the distance of others.
    assert wrong <= (40 if name == "least-squares" else 0)
    assert bias or float(fit.bias.abs().sum()) == 0


@pytest.mark.parametrize("kind", PENALISED)
def test_the_objective_and_errors_are_those_of_the_raw_data(kind):
    x, t = example()
    t[::7, 1] = 0
    fit = kind(l2=1e-3).fit(x, t)
    torch.testing.assert_close(fit.objective, costs(kind, x, t, fit.weight, fit.bias, 1e-3))
    z = x @ fit.weight.T + fit.bias
    assert torch.equal(fit.errors, (((z >= 0) != (t > 0)) & (t != 0)).sum(0))
    torch.testing.assert_close(fit.margin, torch.where(t != 0, t * z, torch.inf).amin(0))


@given(st.sampled_from(CONVEX), st.booleans(), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_no_nearby_weights_are_better(kind, bias, seed):
    x, t = example(seed=seed)
    fit = kind(l2=1e-3, bias=bias, tolerance=1e-6).fit(x, t)
    assert bool(fit.converged.all())
    least = costs(kind, x, t, fit.weight, fit.bias, 1e-3)
    g = torch.Generator().manual_seed(seed)
    for size in (1e-3, 1e-2, 1e-1, 1.0):
        weight = fit.weight + size * torch.randn(fit.weight.shape, generator=g, dtype=x.dtype)
        other = fit.bias + bias * size * torch.randn(fit.bias.shape, generator=g, dtype=x.dtype)
        assert bool((costs(kind, x, t, weight, other, 1e-3) >= least * (1 - 2e-6)).all())


def test_the_objective_equals_that_of_scikit_learn():
    x, t = example(rows=200)
    peer = LogisticRegression(C=1 / (1e-3 * 200), tol=1e-10, max_iter=10000).fit(x.numpy(), t[:, 0].numpy())
    found = (torch.tensor(peer.coef_), torch.tensor(peer.intercept_))
    ours = Logistic(l2=1e-3, tolerance=1e-8).fit(x, t[:, :1])
    torch.testing.assert_close(costs(Logistic, x, t[:, :1], *found, 1e-3), ours.objective, rtol=1e-7, atol=0)
    for loss, kind, factor in (("squared_hinge", SquaredHinge, 1.0), ("hinge", Hinge, 1.0)):
        settings: dict[str, Any] = {"dual": True, "max_iter": 10**6}
        svm = LinearSVC(C=factor / (1e-3 * 200), loss=loss, fit_intercept=False, tol=1e-10, **settings)
        svm.fit(x.numpy(), t[:, 0].numpy())
        fit = kind(l2=1e-3, bias=False, tolerance=1e-6).fit(x, t[:, :1])
        value = costs(kind, x, t[:, :1], torch.tensor(svm.coef_), torch.zeros(1), 1e-3)
        torch.testing.assert_close(value, fit.objective, rtol=3e-6, atol=0)


def test_the_duality_gap_of_the_hinge_bounds_the_distance_to_the_optimum():
    x, t = example()
    best = Hinge(l2=1e-3, tolerance=1e-7).fit(x, t).objective
    for tolerance in (0.3, 0.03, 0.003):
        fit = Hinge(l2=1e-3, tolerance=tolerance).fit(x, t)
        assert bool((fit.gap <= tolerance).all())
        assert bool((fit.objective - best <= fit.gap * fit.objective + 1e-9).all())


@pytest.mark.parametrize(("offset", "converged"), [(0.0, True), (1e3, False), (1e5, False)])
def test_the_gap_of_the_hinge_is_that_of_the_rounded_weights(offset: float, converged: bool):
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) + offset
    t = torch.where(x[:, :1] > offset, 1.0, -1.0)
    fit, exact = Hinge().fit(x, t), Hinge(tolerance=1e-8).fit(x.double(), t.double())
    value = costs(Hinge, x.double(), t.double(), fit.weight.double(), fit.bias.double(), 1e-4)
    torch.testing.assert_close(fit.objective, value, rtol=1e-9, atol=0)
    assert value.item() - exact.objective.item() <= 1.000001 * fit.gap.item() * value.item()
    assert fit.converged.item() is converged
    assert (fit.gap.item() <= 1e-4) is converged


@pytest.mark.parametrize("kind", PENALISED)
def test_inputs_of_zeros_without_a_bias_give_zero_weights(kind):
    fit = kind(bias=False).fit(torch.zeros(2, 1), torch.ones(2, 1))
    assert fit.weight.item() == fit.bias.item() == 0
    torch.testing.assert_close(
        fit.objective, costs(kind, torch.zeros(1, 1), torch.ones(1, 1), fit.weight, 0, 0).double()
    )


@pytest.mark.parametrize("kind", WEIGHTED)
def test_whole_weights_count_as_repeated_samples(kind):
    x, t = example(rows=30)
    counts = torch.randint(0, 4, (30,), generator=torch.Generator().manual_seed(1))
    weighted = kind().fit(x, t, counts[:, None].expand(-1, 4).double())
    repeated = kind().fit(x.repeat_interleave(counts, 0), t.repeat_interleave(counts, 0))
    if kind is Perceptron:
        assert bool((weighted.objective <= 0.2 * counts.sum()).all())
        return
    torch.testing.assert_close(weighted.objective, repeated.objective, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", PENALISED)
def test_conflicting_duplicates_pull_both_ways(kind):
    x = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1], [0, 1]]).repeat(4, 1).double()
    t = torch.tensor([[1.0, 1], [-1, 1], [1, 0], [-1, -1], [-1, 1]]).repeat(4, 1).double()
    fit = kind(l2=1e-2).fit(x, t)
    torch.testing.assert_close(fit.objective, costs(kind, x, t, fit.weight, fit.bias, 1e-2))
    assert fit.errors.tolist() == [4, 4]


@pytest.mark.parametrize("kind", CONVEX)
def test_units_do_not_depend_on_their_neighbours_or_the_chunk(kind):
    x, t = example()
    t[::5, 2] = 0
    together, alone = kind().fit(x, t), kind(chunk=1).fit(x, t)
    torch.testing.assert_close(together.objective, alone.objective, rtol=3e-6, atol=1e-9)


@pytest.mark.parametrize("kind", PENALISED)
def test_columns_of_dont_cares_and_of_one_class(kind):
    x, _ = example()
    t = torch.zeros(80, 3, dtype=torch.float64)
    t[:, 1], t[:, 2] = 1, -1
    fit = kind().fit(x, t)
    assert bool(fit.converged.all())
    assert fit.errors.tolist() == [0, 0, 0]
    assert float(fit.weight[0].abs().max()) == 0
    assert float(fit.margin[0]) == float("inf")


@pytest.mark.parametrize("kind", [SquaredHinge, Logistic, LeastSquares])
def test_a_warm_start_at_the_answer_takes_no_step(kind):
    x, t = example()
    first = kind().fit(x, t)
    again = kind(tolerance=2e-5).fit(x, t, start=first)
    assert again.steps.tolist() == [0] * 4


@pytest.mark.parametrize("kind", WEIGHTED)
def test_a_budget_ends_the_fit_unconverged(kind):
    x, t = example(rows=400, flips=0.2)
    seen = []
    fit = kind().fit(x, t, budget=Budget(steps=1), callback=seen.append)
    assert len(seen) <= 1
    if kind is not LeastSquares:
        assert not bool(fit.converged.any())
    stopped = kind().fit(x, t, callback=lambda _: True)
    assert int(stopped.steps.max()) <= 1


def test_least_squares_without_a_penalty_has_the_least_norm():
    x = torch.randn(10, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.where(x[:, :2] > 0, 1.0, -1.0).double()
    fit = LeastSquares(l2=0.0, bias=False, tolerance=1e-12).fit(x, t)
    torch.testing.assert_close(fit.weight, (torch.linalg.pinv(x) @ t).T)


@pytest.mark.parametrize("kind", [SaturatedHinge, SoftHinge])
def test_losses_that_are_not_convex_shrug_off_an_outlier(kind):
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    t = torch.where(x > 0, 1.0, -1.0).double()
    x, t = torch.cat([x, torch.full((4, 1), 3.0).double()]), torch.cat([t, -torch.ones(4, 1).double()])
    convex, robust = Hinge(l2=1e-3).fit(x, t), kind(l2=1e-3).fit(x, t)
    assert int(robust.errors) == 4
    assert int(convex.errors) > 4
    assert not kind.convex


def test_margin_losses_are_the_public_losses():
    z = torch.linspace(-4, 4, 101, dtype=torch.float64)
    for loss, name in (
        (HINGE, "hinge"), (LOGISTIC, "logistic"), (SQUARED, "squared"),
        (SATURATED_HINGE, "saturated-hinge"), (SOFT_HINGE, "soft-hinge"),
    ):  # fmt: skip
        public = LOSSES[name]
        assert isinstance(public, Loss)
        for s in (-1.0, 1.0):
            target = torch.full_like(z, s)
            torch.testing.assert_close(loss.value(s * z), public.value(z, target))
            torch.testing.assert_close(loss.slope(s * z), s * public.slope(z, target))
    for width in (1.0, 0.1):
        below = HINGE.value(z) - smooth_hinge(width).value(z)
        assert float(below.min()) >= -1e-12
        assert float(below.max()) <= width / 2 + 1e-12


def test_the_perceptron_ends_on_separable_targets_and_keeps_its_best():
    x, t = example(rows=60, flips=0.0)
    wide = (Separability().fit(x, t).decision(x).abs() > 0.5).all(dim=1)
    x, t = x[wide], t[wide]
    for keep in ("pocket", "averaged", "last"):
        fit = Perceptron(keep=keep, max_passes=2000).fit(x, t)
        assert bool(fit.converged.all())
        assert fit.errors.tolist() == [0] * 4
    noisy = example(rows=300, flips=0.2)
    few, many = (Perceptron(max_passes=passes).fit(*noisy) for passes in (3, 60))
    assert bool((many.objective <= few.objective).all())
    assert not bool(many.converged.any())
    seeded = [Perceptron(max_passes=5).fit(*noisy, generator=torch.Generator().manual_seed(7)).weight for _ in range(2)]
    assert torch.equal(*seeded)


def test_the_averaged_and_the_last_perceptron_are_those_of_the_rule():
    x, t = example(rows=120, flips=0.3)
    points = torch.cat([x / x.abs().max(), torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    state, all_states = torch.zeros(points.shape[1], t.shape[1], dtype=x.dtype), []
    for _ in range(7):
        state = state + points.T @ (t * (t * (points @ state) <= 0))
        all_states.append(state)
    # One batch a pass, so that the order does not matter.
    for learner, expected in (
        (Perceptron(keep="last", max_passes=7, batch=len(x)), state),
        (Perceptron(keep="averaged", max_passes=7, batch=len(x)), torch.stack(all_states).mean(0)),
    ):
        fit = learner.fit(x, t)
        assert not bool(fit.converged.any())
        torch.testing.assert_close(fit.weight.T, expected[:-1] / x.abs().max())
        torch.testing.assert_close(fit.bias, expected[-1])


def test_more_features_than_samples():
    x = torch.randn(20, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.where(torch.rand(20, 6, generator=torch.Generator().manual_seed(1)) < 0.5, -1.0, 1.0).double()
    for kind in (SquaredHinge, Logistic, Hinge):
        fit = kind().fit(x, t)
        assert bool(fit.converged.all())
        assert fit.errors.tolist() == [0] * 6
    certificate = Separability().fit(x, t)
    assert certificate.verify(x, t).tolist() == [1] * 6


def test_bad_settings_and_starts_are_refused():
    x, t = example()
    for call in (lambda: Hinge(l2=0.0), lambda: SquaredHinge(l2=-1.0), lambda: Logistic(tolerance=0.0)):
        with pytest.raises(ArgumentError):
            call()
    with pytest.raises(ArgumentError):
        SquaredHinge(chunk=0)
    with pytest.raises(UnknownNameError, match="logistic"):
        find_learner("logistik")
    with pytest.raises(ShapeError):
        SquaredHinge().fit(x, t, start=Units(torch.zeros(2, 5), torch.zeros(2)))
    with pytest.raises(ValueSetError):
        SquaredHinge().fit(x, t, -torch.ones_like(t))
    with pytest.raises(ShapeError):
        SquaredHinge().fit(x, t, torch.ones(80))


# scikit-learn ignores this warning in its own checks where a fit is short.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "hinge" else pytest.mark.nightly)
        for name in sorted(set(LEARNERS) - {"separability"})
    ],
)
@pytest.mark.slow
def test_scikit_learn_accepts_the_estimator(name):
    for row in check_estimator(UnitClassifier(name), on_fail=None, on_skip=None):
        assert row["status"] in ("passed", "skipped"), (row["check_name"], row["exception"])


def test_one_versus_rest_tells_three_classes_apart():
    g = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 3.0], [3.0, -2.0], [-3.0, -2.0]])
    y = torch.arange(150) % 3
    x = (centres[y] + torch.randn(150, 2, generator=g)).numpy()
    labels = [("a", "b", "c")[k] for k in y.tolist()]
    found = UnitClassifier("logistic").fit(x, labels)
    assert found.coef_.shape == (3, 2)
    assert found.score(x, labels) > 0.95
