"""Outputs in {0, 1}: values, gradients, targets by search against brute force, and models to take away."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve import Budget
from tpsolve.errors import ArgumentError
from tpsolve.models import model_of_network
from tpsolve.nn import RULES, HardThreshold, compact, diagnose, target_backward

F64 = torch.float64


class Line(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return (1 + h) / 2


def pair(**settings: Any) -> tuple[nn.Module, nn.Module]:
    """A threshold of low 0, and one of -1 with the line above it."""
    return HardThreshold(low=0, **settings), nn.Sequential(HardThreshold(**settings), Line())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("settings", [{}, {"importance": "none"}, {"width_mode": "relative", "width": 0.7}])
def test_values_and_gradients_are_those_of_a_line_above_the_sign(rule: str, settings: dict[str, Any]):
    z = torch.tensor([-2.0, -0.5, -1e-30, -0.0, 0.0, 0.5, 2.0, torch.nan], dtype=F64)
    found = []
    for module in pair(rule=rule, **settings):
        at = z[:-1].clone().requires_grad_()
        module(at).backward(torch.linspace(-1, 1, 7, dtype=F64))
        found.append((module(z), at.grad))
    assert found[0][0][:-1].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_a_learned_width_gets_the_same_gradient():
    one, other = pair(width=0.7, width_mode="learned")
    z = torch.linspace(-2, 2, 9)
    for module in (one, other):
        module(z.clone().requires_grad_()).square().sum().backward()
    widths = [next(module.parameters()).grad for module in (one, other)]
    assert widths[0] is not None
    torch.testing.assert_close(widths[0], widths[1])


def networks() -> tuple[nn.Sequential, nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    low = nn.Sequential(
        nn.Linear(4, 5), HardThreshold(low=0), nn.Linear(5, 5), nn.BatchNorm1d(5), HardThreshold("hinge", low=0),
        nn.Linear(5, 3),
    ).double()  # fmt: skip
    line = copy.deepcopy(low)
    line[1], line[4] = (nn.Sequential(HardThreshold(rule), Line()) for rule in ("soft-hinge", "hinge"))
    return low, line, torch.randn(6, 4, dtype=F64), torch.arange(6) % 3


@pytest.mark.parametrize("importance", ["gradient", "flip-delta"])
@pytest.mark.parametrize("solver", ["sign-gradient", "enumerate"])
def test_searches_find_the_targets_and_gradients_of_a_line_above_the_sign(solver: str, importance: str):
    low, line, x, y = networks()
    reports = [
        target_backward(model, x, y, cross_entropy, solver=solver, importance=importance, budget=Budget(steps=100))
        for model in (low, line)
    ]
    for name, other in (("1", "1.0"), ("4", "4.0")):
        assert torch.equal(reports[0][name].targets.flatten(1), reports[1][other].targets.flatten(1))
        torch.testing.assert_close(reports[0][name].objective, reports[1][other].objective)
    for one, other in zip(low.parameters(), line.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    problem, losses = reports[0].problem("4"), []
    for spins in itertools.product([-1.0, 1.0], repeat=5):
        targets = torch.tensor(spins, dtype=F64).expand(6, 5)
        losses.append(cross_entropy(low[5]((targets + 1) / 2), y, reduction="none") / 6)
        torch.testing.assert_close(problem.objective(targets), losses[-1])
    if solver == "enumerate":
        torch.testing.assert_close(reports[0]["4"].objective, torch.stack(losses).min(0).values)


def test_diagnoses_are_those_of_a_line_above_the_sign():
    low, line, x, y = networks()
    one, other = (list(diagnose(model, x, y, cross_entropy, flips=500).values()) for model in (low, line))
    for first, second in zip(one, other, strict=True):
        assert vars(first) == pytest.approx(vars(second), nan_ok=True)


def test_compact_keeps_gradients():
    low, _, x, y = networks()
    cross_entropy(low(x), y).backward()
    expected = [p.grad for p in low.parameters()]
    low.zero_grad()
    with compact(low):
        cross_entropy(low(x), y).backward()
    for one, p in zip(expected, low.parameters(), strict=True):
        assert one is not None
        assert p.grad is not None
        assert torch.equal(one, p.grad)


def test_a_model_to_take_away_gives_the_classes_of_the_network():
    low, _, x, _ = networks()
    model = model_of_network(low.eval(), x.numpy(), classes=["a", "b", "c"])
    expected = np.array(["a", "b", "c"])[low(x).argmax(1).numpy()]
    assert np.array_equal(model.predict(x.numpy()), expected)


def test_what_low_may_be():
    assert repr(HardThreshold(low=0)) == "HardThreshold(rule='soft-hinge', low=0)"
    for wrong in (1, 0.5, "0", None, False):
        with pytest.raises(ArgumentError, match="low: got"):
            HardThreshold(low=wrong)  # pyright: ignore[reportArgumentType]
