"""What comes in wrong, empty, lopsided or on the wrong device: typed errors, or answers that make sense."""

from typing import Any

import numpy as np
import pytest
import torch

from tpsolve import Budget
from tpsolve.errors import ArgumentError, BudgetError, DeviceError, NotFiniteError, ShapeError, TooLargeError
from tpsolve.units import (
    LEARNERS,
    Certificate,
    Hinge,
    Logistic,
    Separability,
    SquaredHinge,
    UnitClassifier,
    UnitFit,
    Units,
    circuits,
)
from tpsolve.units import _data as samples_module

NAMES = sorted(LEARNERS)


def example(rows=20, n=3, units=2, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(rows, n, generator=g, dtype=torch.float64)
    t = torch.where(x @ torch.randn(n, units, generator=g, dtype=torch.float64) > 0.1, 1.0, -1.0)
    return x.to(dtype), t.to(dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", ["targets", "weight", "start.weight", "start.bias"])
def test_tensors_on_another_device_are_named(name, wrong):
    x, t = example()
    given = {"targets": t, "weight": torch.ones_like(t)}
    start = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    if wrong in given:
        given[wrong] = given[wrong].to("meta")
    else:
        start[wrong.removeprefix("start.")] = start[wrong.removeprefix("start.")].to("meta")
    with pytest.raises(DeviceError, match=f"{wrong}: got a tensor on meta, expected cpu, where the inputs lie"):
        LEARNERS[name]().fit(x, given["targets"], given["weight"], start=Units(**start))


def test_inputs_without_numbers_are_refused():
    x, t = example()
    for call in (lambda: Logistic().fit(x.to("meta"), t), lambda: Separability().fit(x.to("meta"), t.to("meta"))):
        with pytest.raises(DeviceError, match="inputs"):
            call()
    with pytest.raises(DeviceError):
        Separability().fit(x, t).verify(x.to("meta"), t)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_named(name, bad):
    x, t = example()
    broken = x.clone()
    broken[7, 1] = bad
    with pytest.raises(NotFiniteError, match=r"inputs: .*\[7, 1\]"):
        LEARNERS[name]().fit(broken, t)
    weight = torch.ones_like(t)
    weight[3, 0] = bad
    with pytest.raises(NotFiniteError, match=r"weight: .*\[3, 0\]"):
        LEARNERS[name]().fit(x, t, weight)
    with pytest.raises(NotFiniteError, match=r"start\.weight"):
        LEARNERS[name]().fit(x, t, start=Units(torch.full((2, 3), bad), torch.zeros(2)))


@pytest.mark.parametrize("name", NAMES)
def test_more_than_memory_holds_is_refused_with_an_estimate(name, monkeypatch):
    x, t = example()
    monkeypatch.setattr(samples_module, "memory_of", lambda device: 1000)
    with pytest.raises(TooLargeError, match=r"20 samples, 3 features and 2 units: .*GB.*Fit fewer units"):
        LEARNERS[name]().fit(x, t)
    monkeypatch.setattr(samples_module, "memory_of", lambda device: None)
    LEARNERS[name]().fit(x, t)


def test_the_memory_of_this_machine_is_known():
    have = samples_module.memory_of(torch.device("cpu"))
    assert have is None or have > 10**8


@pytest.mark.parametrize("name", NAMES)
def test_arguments_of_a_fit_are_checked(name):
    x, t = example()
    learner = LEARNERS[name]()
    with pytest.raises(BudgetError, match="budget"):
        learner.fit(x, t, budget=5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BudgetError, match="A learner has no calls and no passes"):
        learner.fit(x, t, budget=Budget(passes=3))
    with pytest.raises(ArgumentError, match="start"):
        learner.fit(x, t, start=(torch.zeros(2, 3), torch.zeros(2)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="callback"):
        learner.fit(x, t, callback=3)  # pyright: ignore[reportArgumentType]
    for shape in ((0, 3), (20, 0)):
        with pytest.raises(ShapeError, match="inputs"):
            learner.fit(torch.zeros(shape), t)
    with pytest.raises(ShapeError, match="inputs"):
        learner.fit(torch.zeros(20), t)
    wrong: list[dict[str, Any]] = [{"bias": 1}, {"bias": "no"}, {"chunk": True}, {"chunk": 2.0}]
    for settings in wrong:
        with pytest.raises(ArgumentError):
            LEARNERS[name](**settings)


@pytest.mark.parametrize("name", NAMES)
def test_no_units_are_refused(name):
    with pytest.raises(ShapeError, match="at least one unit"):
        LEARNERS[name]().fit(torch.randn(5, 3), torch.zeros(5, 0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lopsided_columns_have_finite_answers(name, bias, dtype):
    x, t = example(dtype=dtype)
    t = torch.cat([t, torch.zeros_like(t), torch.ones_like(t[:, :1]), -torch.ones_like(t[:, :1])], dim=1)
    weight = torch.ones_like(t)
    # Unit 0 has weights of 0 alone, unit 1 a single sample that counts.
    weight[:, 0], weight[1:, 1] = 0, 0
    fit = LEARNERS[name](bias=bias).fit(x, t, weight)
    assert bool(torch.isfinite(fit.weight).all())
    assert bool(torch.isfinite(fit.bias).all())
    assert bool((fit.weight[[0, 2, 3]] == 0).all())
    if isinstance(fit, UnitFit):
        assert bool(torch.isfinite(fit.objective).all())
        assert fit.errors[2:4].tolist() == [0, 0]
        assert bool((fit.margin[2:4] == float("inf")).all())
        assert bool(fit.converged[[0, 1, 2, 3]].all())
        assert (x[0] @ fit.weight[1] + fit.bias[1]) * t[0, 1] > 0
    else:
        assert fit.status[:4].tolist() == [1] * 4


@pytest.mark.parametrize("name", NAMES)
def test_constant_samples(name):
    x, t = torch.zeros(6, 2), -torch.ones(6, 1)
    assert torch.equal(LEARNERS[name]().fit(x, t).predict(x).float(), t)
    clash = LEARNERS[name]().fit(torch.ones(4, 2), torch.tensor([[1.0], [1.0], [1.0], [-1.0]]))
    if isinstance(clash, Certificate):
        assert clash.status.tolist() == [-1]
        assert clash.circuit(0).tolist() == [0, 3]
    else:
        assert clash.errors.tolist() == [1]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"perceptron", "least-squares", "separability"}))
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_extreme_scales_do_not_break_a_fit(name, scale):
    x, t = example(rows=60)
    fit = LEARNERS[name](l2=1e-6 * scale**2).fit(x * scale, t)  # pyright: ignore[reportCallIssue]
    same = LEARNERS[name](l2=1e-6).fit(x, t)  # pyright: ignore[reportCallIssue]
    assert isinstance(fit, UnitFit)
    assert isinstance(same, UnitFit)
    assert bool(fit.converged.all())
    torch.testing.assert_close(fit.objective, same.objective, rtol=1e-3, atol=1e-9)


def test_whole_numbers_lists_and_arrays_are_read():
    rows, wanted = [[0, 0], [0, 1], [1, 0], [1, 1]], [[-1], [-1], [-1], [1]]
    forms: list[Any] = [rows, np.array(rows), np.array(rows, dtype=np.int8), torch.tensor(rows)]
    for form in forms:
        certificate = Separability().fit(form, wanted)  # pyright: ignore[reportArgumentType]
        assert certificate.verify(form, wanted).tolist() == [1]  # pyright: ignore[reportArgumentType]
    fit = SquaredHinge().fit(torch.tensor(rows) == 1, torch.tensor(wanted))
    assert fit.errors.tolist() == [0]


@pytest.mark.parametrize("bias", [True, False])
def test_duplicates_point_to_samples_that_were_given(bias):
    g = torch.Generator().manual_seed(1)
    x = torch.randint(0, 2, (200, 4), generator=g).double()
    t = torch.where(torch.rand(200, 30, generator=g) < 0.5, -1.0, 1.0).double()
    certificate = Separability(bias=bias).fit(x, t)
    assert torch.equal(certificate.verify(x, t), certificate.status)
    found = circuits(x, t[:, 0], 10, bias=bias)
    assert all(torch.equal(c.targets, t[c.samples, 0]) for c in found)
    assert len(found) == 10


def test_the_hinge_is_exact_to_its_tolerance():
    # Two points: w = 1 / 2 along x has margin 1 on both, and costs l2 / 8 alone.
    x, t = torch.tensor([[2.0, 0.0], [-2.0, 0.0]], dtype=torch.float64), torch.tensor([[1.0], [-1.0]]).double()
    fit = Hinge(l2=1e-3, tolerance=1e-9).fit(x, t)
    torch.testing.assert_close(fit.weight, torch.tensor([[0.5, 0.0]]).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(fit.objective, torch.tensor([1e-3 / 8]).double(), rtol=1e-6, atol=1e-12)


def test_the_estimator_refuses_what_makes_no_sense():
    x = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match="one class"):
        UnitClassifier().fit(x, np.zeros(20))
    wrong: list[dict[str, Any]] = [{"learner": "nonsense"}, {"learner": "separability"}, {"l2": -1.0}, {"bias": 2}]
    for settings in wrong:
        with pytest.raises(ArgumentError):
            UnitClassifier(**settings).fit(x, np.arange(20) % 2)
    floats = UnitClassifier("hinge").fit(x.astype(np.float32), np.arange(20) % 2)
    assert floats.coef_.dtype == np.float32
