"""The zoo itself: what was found by reasoning is what brute force finds, so that either may be trusted."""

import math
from fractions import Fraction

import pytest
import torch
from support.zoo import ALL_LOSSES, Instance, Judge, as_fractions, class_loss, optima, unit_loss, zoo


@pytest.mark.parametrize("instance", zoo(), ids=str)
def test_optimum_by_reasoning_is_that_of_brute_force(instance: Instance):
    assert len(instance.optimum) == instance.problem.n_samples
    for reasoned, found in zip(instance.optimum, optima(instance.problem), strict=True):
        assert math.isclose(reasoned, found, rel_tol=1e-14, abs_tol=1e-15)


def test_zoo_holds_every_kind_of_problem():
    problems = [instance.problem for instance in zoo()]
    assert {p.loss for p in problems} == set(ALL_LOSSES)
    assert {p.dtype for p in problems} == {torch.float32, torch.float64}
    assert {(), (3,), (2, 2)} <= {p.batch_shape for p in problems}
    assert {1, 2, 3} <= {p.n_vars for p in problems}
    assert {1, 2, 3} <= {p.n_units for p in problems}
    assert any(p.stay for p in problems)
    assert any(p.stay_weight is not None for p in problems)
    assert any(p.unit_weight is not None and p.loss == "cross-entropy" for p in problems)
    assert any((p.targets == 0).all() and p.loss != "cross-entropy" for p in problems)
    assert len({instance.name for instance in zoo()}) == len(problems)


@pytest.mark.parametrize(
    ("loss", "z", "s", "expected"),
    [
        ("perceptron", -1.5, 1, 1.5),
        ("perceptron", -1.5, -1, 0.0),
        ("hinge", 0.25, 1, 0.75),
        ("hinge", 0.25, -1, 1.25),
        ("saturated-hinge", -9.0, 1, 2.0),
        ("saturated-hinge", 0.5, 1, 0.5),
        ("soft-hinge", 0.7, 1, 1 - math.tanh(0.7)),
        ("soft-hinge", 0.7, -1, 1 + math.tanh(0.7)),
        ("logistic", -2.0, 1, math.log1p(math.exp(2.0))),
        ("squared", 3.0, -1, 16.0),
        ("zero-one", 0.0, 1, 0.0),
        ("zero-one", 0.0, -1, 1.0),
        ("zero-one", -0.1, 1, 1.0),
    ],
)
def test_judge_knows_the_losses(loss: str, z: float, s: int, expected: float):
    assert math.isclose(unit_loss(loss, Fraction(z), s), expected, rel_tol=1e-15)


def test_judge_knows_the_cross_entropy():
    z = [0.5, -1.0, 2.0]
    expected = -torch.log_softmax(torch.tensor(z, dtype=torch.float64), 0)[1].item()
    assert math.isclose(class_loss([Fraction(v) for v in z], 1), expected, rel_tol=1e-15)


def test_judge_adds_up_by_hand():
    # Third sample of the zoo's "unit-weights-and-dont-cares" aside: (+, -) at t = (1, -1) has z = (0, 0): 3 + 1.
    instance = next(i for i in zoo() if i.name == "unit-weights-and-dont-cares")
    targets = torch.tensor([[1.0, -1.0], [1.0, 1.0], [1.0, 1.0]])
    assert Judge(instance.problem).objectives(targets) == [4, 3, 0]
    assert as_fractions(torch.tensor([0.1], dtype=torch.float32)) == [Fraction(0.10000000149011612)]
