"""Learned shifts, thresholds that harden step by step, and the loss of a teacher."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from tpsolve import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError, ShapeError
from tpsolve.nn import (
    ChannelShift,
    DistillationLoss,
    HardThreshold,
    ProgressiveHardening,
    RealShortcut,
    Staircase,
    target_backward,
)
from tpsolve.nn.passes._segments import OUTPUT

F64 = torch.float64


def network(**settings: Any) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Linear(4, 4), HardThreshold(**settings)]
    return nn.Sequential(*layers, nn.Linear(4, 3)).double()


def outputs(model: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Of the three activations."""
    found = []
    for layer in model:
        x = layer(x)
        found.append(x.detach())
    return found[1:6:2]


def test_thresholds_harden_from_the_input_on_and_end_as_they_were():
    model, x = network(), torch.randn(5, 4, dtype=F64)
    names, plain = list(model.state_dict()), outputs(network(), x)
    schedule, hard = ProgressiveHardening(model, 6), []
    for step in range(9):
        assert schedule.hard == min(3, math.ceil(3 * step / 6))
        hard.append([bool((h.abs() == 1).all()) for h in outputs(model, x)])
        schedule.step()
    assert hard[0] == [False] * 3
    assert hard[1] == hard[2] == [True, False, False]
    assert hard[3] == hard[4] == [True, True, False]
    assert hard[5] == hard[8] == [True] * 3
    assert all(map(torch.equal, outputs(model, x), plain))
    assert list(model.state_dict()) == names
    schedule.load_state_dict({"step": 1})
    assert [bool((h.abs() == 1).all()) for h in outputs(model, x)] == hard[1]


@pytest.mark.parametrize("low", [-1, 0])
@pytest.mark.parametrize(("rule", "smooth"), [("soft-hinge", torch.tanh), ("saturated-ste", lambda u: u.clamp(-1, 1))])
def test_the_smooth_one_has_the_rule_as_its_slope(rule: str, smooth: Any, low: int):
    width = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=F64)
    hard = HardThreshold(rule, low=low, width=width)
    model = nn.Sequential(copy.deepcopy(hard))
    ProgressiveHardening(model, 1)
    z = torch.randn(7, 4, dtype=F64, requires_grad=True)
    h, g = model(z), torch.randn(7, 4, dtype=F64)
    expected = smooth(z / width)
    torch.testing.assert_close(h, expected if low else (expected + 1) / 2)
    (found,) = torch.autograd.grad(h, z, g)
    # The rule leaves the width out of the slope.
    (passed,) = torch.autograd.grad(hard(z), z, g)
    torch.testing.assert_close(found * width, passed)


def test_searches_refuse_smooth_thresholds_and_take_a_copy_with_its_schedule_once_they_are_hard():
    model, x, y = network(), torch.randn(6, 4, dtype=F64), torch.arange(6) % 3
    schedule = ProgressiveHardening(model, 2)
    search: dict[str, Any] = {"solver": {-1: "hill-climb"}, "budget": Budget(steps=2)}
    with pytest.raises(NotAcceptedError, match="a hook"):
        target_backward(model, x, y, cross_entropy, **search)
    model, schedule = copy.deepcopy((model, schedule))
    for _ in range(2):
        schedule.step()
    target_backward(model, x, y, cross_entropy, **search)
    with pytest.raises(NotAcceptedError, match="no HardThreshold"):
        ProgressiveHardening(nn.Sequential(nn.Linear(2, 2), Staircase(3)), 2)


def test_a_shift_moves_the_jump_of_each_channel_and_learns_and_searches_see_it():
    torch.manual_seed(0)
    shift = ChannelShift(3)
    with torch.no_grad():
        shift.shift.copy_(torch.tensor([-0.5, 0.0, 0.5]))
    z = torch.tensor([-0.6, -0.4, 0.4, 0.6]).reshape(4, 1, 1).expand(4, 3, 2)
    h = nn.Sequential(shift, HardThreshold())(z)
    assert h[:, :, 0].T.tolist() == [[-1, -1, -1, 1], [-1, -1, 1, 1], [-1, 1, 1, 1]]
    h.sum().backward()
    assert shift.shift.grad is not None
    slope = (1 / torch.cosh(z + shift.shift.detach().reshape(3, 1))).square()
    torch.testing.assert_close(shift.shift.grad, slope.sum((0, 2)))
    layers = [nn.Conv2d(1, 3, 3), HardThreshold(), nn.Conv2d(3, 3, 1), shift, HardThreshold(), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(12, 2))
    x, y = torch.randn(4, 1, 4, 4), torch.arange(4) % 2
    report = target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=Budget(steps=2))
    segment, spins = report._pass.segment("1"), report["1"].targets
    found = dict(zip(segment.sinks, segment.block(spins, *segment.context), strict=True))
    torch.testing.assert_close(found["4"], model[3](model[2](spins)).detach())
    assert OUTPUT not in found


def test_a_teacher_is_followed_by_its_softened_classes():
    g = torch.Generator().manual_seed(0)
    z, teacher = torch.randn(2, 6, 4, generator=g, dtype=F64)
    y, loss = torch.arange(6) % 4, DistillationLoss(3.0, 0.7)
    soft = kl_div(log_softmax(z / 3, 1), softmax(teacher / 3, 1), reduction="batchmean")
    torch.testing.assert_close(loss(z, (y, teacher)), 0.3 * cross_entropy(z, y) + 0.7 * 9 * soft)
    assert DistillationLoss(2.0, 1.0)(teacher, (y, teacher)).item() == pytest.approx(0, abs=1e-12)
    model = network()
    x = torch.randn(6, 4, generator=g, dtype=F64)
    wanted = torch.randn(6, 3, generator=g, dtype=F64)
    report = target_backward(model, x, (y % 3, wanted), loss, solver="curvature-flip", budget=Budget(steps=2))
    problem, h = report.problem("5"), report._pass.recording.calls["5"].h
    assert problem.objective(h).sum().item() == pytest.approx(report.loss.item())
    assert report["5"].objective.sum() <= report.loss


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: ChannelShift(0), ArgumentError, "channels: got 0"),
        (lambda: ChannelShift(3)(torch.zeros(2, 4)), ShapeError, r"got shape \(2, 4\), expected \(B, 3, ...\)"),
        (lambda: DistillationLoss(0), ArgumentError, "temperature: got 0"),
        (lambda: DistillationLoss(share=1.5), ArgumentError, "share: got 1.5"),
        (
            lambda: DistillationLoss()(torch.zeros(2, 3), (torch.zeros(2).long(), torch.zeros(2, 4))),
            ShapeError,
            "of the teacher",
        ),
        (lambda: ProgressiveHardening(network(), 0), ArgumentError, "steps: got 0"),
        (lambda: RealShortcut(nn.Identity(), 4, 3), ArgumentError, "outputs: got 3, expected at least the 4 inputs"),
        (lambda: RealShortcut(print, 4), ArgumentError, "body: got builtin_function_or_method"),  # pyright: ignore[reportArgumentType]
        (lambda: RealShortcut(nn.Identity(), 4)(torch.zeros(2, 3)), ShapeError, r"expected \(B, 4, ...\)"),
        # Would be broadcast.
        (lambda: RealShortcut(nn.AdaptiveAvgPool2d(1), 2)(torch.zeros(3, 2, 4, 4)), ShapeError, "beside the body"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any, error: type[Exception], match: str):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.zeros(4, dtype=torch.long), "labels: got Tensor, expected a tuple"),
        ((torch.zeros(4, dtype=torch.long),), "labels: got tuple, expected a tuple"),
        ((torch.zeros(4), torch.zeros(4, 3)), "labels: got classes of torch.float32"),
    ],
)
def test_labels_without_classes_and_logits_are_refused(labels: Any, words: str):
    with pytest.raises(ArgumentError, match=words):
        DistillationLoss()(torch.zeros(4, 3), labels)


def test_a_model_hardens_by_one_schedule_at_a_time():
    model = network()
    first = ProgressiveHardening(model, 2)
    with pytest.raises(NotAcceptedError, match="another ProgressiveHardening"):
        ProgressiveHardening(model, 2)
    first.step()
    first.step()
    ProgressiveHardening(model, 2)


def test_a_real_shortcut_adds_what_the_body_reads_and_searches_hold_it():
    torch.manual_seed(0)
    body = nn.Sequential(HardThreshold("saturated-ste"), nn.Conv2d(2, 5, 3, padding=1), nn.MaxPool2d(2))
    shortcut = RealShortcut(body, 2, 5, nn.AvgPool2d(2)).double()
    z = torch.randn(6, 2, 4, 4, dtype=F64, requires_grad=True)
    mean = z.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    expected = body(z) + torch.stack([mean[:, channel % 2] for channel in range(5)], 1)
    torch.testing.assert_close(shortcut(z), expected)
    g = torch.randn_like(expected)
    torch.testing.assert_close(torch.autograd.grad(shortcut(z), z, g), torch.autograd.grad(expected, z, g))
    first, top = nn.Conv2d(1, 2, 1), nn.Sequential(HardThreshold(), nn.Flatten(), nn.Linear(20, 3))
    model, x = nn.Sequential(first, shortcut, top).double(), torch.randn(6, 1, 4, 4, dtype=F64)
    report = target_backward(model, x, torch.arange(6) % 3, cross_entropy, solver="hill-climb", budget=Budget(steps=2))
    segment, spins = report._pass.segment("1.body.0"), report["1.body.0"].targets
    found = dict(zip(segment.sinks, segment.block(spins, *segment.context), strict=True))
    z = first(x).detach()
    torch.testing.assert_close(found["2.0"], (body[2](body[1](spins)) + shortcut(z) - body(z)).detach())
