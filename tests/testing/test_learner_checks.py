"""The checks pass a learner that keeps the contract, and each wrong learner fails the check that is meant for it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tpsolve.testing import LEARNER_CHECKS, check_learner
from tpsolve.units import Hinge, Perceptron, SquaredHinge, UnitFit, UnitLearner
from tpsolve.units._base import Task


@dataclass(frozen=True)
class Borrowed(UnitLearner[UnitFit]):
    """What `SquaredHinge` finds; the wrong learners below spoil it."""

    name = "borrowed"

    def learn(self, task: Task) -> UnitFit:
        return SquaredHinge(bias=self.bias).learn(task)


@dataclass(frozen=True)
class WidePrecision(Borrowed):
    """Float64 for float32."""

    def learn(self, task: Task) -> UnitFit:
        fit = super().learn(task)
        return dataclasses.replace(fit, weight=fit.weight.double())


@dataclass(frozen=True)
class NoErrors(Borrowed):
    """Claims no errors."""

    def learn(self, task: Task) -> UnitFit:
        fit = super().learn(task)
        return dataclasses.replace(fit, errors=torch.zeros_like(fit.errors))


@dataclass(frozen=True)
class AlwaysBiased(Borrowed):
    """Has a bias whatever the setting says."""

    def learn(self, task: Task) -> UnitFit:
        return SquaredHinge().learn(task)


@dataclass(frozen=True)
class Caring(Borrowed):
    """Takes a don't-care for a wish."""

    def learn(self, task: Task) -> UnitFit:
        targets = torch.where(task.samples.targets == 0, 1.0, task.samples.targets)
        return super().learn(dataclasses.replace(task, samples=dataclasses.replace(task.samples, targets=targets)))


@dataclass(frozen=True)
class Negated(Borrowed):
    """Errs on what is easiest."""

    def learn(self, task: Task) -> UnitFit:
        fit = super().learn(task)
        return dataclasses.replace(fit, bias=-fit.bias)


@dataclass(frozen=True)
class GlobalNoise(Borrowed):
    """Draws from torch's global generator."""

    def learn(self, task: Task) -> UnitFit:
        fit = super().learn(task)
        return dataclasses.replace(fit, weight=fit.weight + torch.rand(fit.weight.shape))


@dataclass(frozen=True)
class Vandal(Borrowed):
    """Writes to its inputs."""

    def learn(self, task: Task) -> UnitFit:
        task.samples.inputs[0] += 1
        return super().learn(task)


@dataclass(frozen=True)
class Overstepper(Borrowed):
    """Heeds no budget."""

    def learn(self, task: Task) -> UnitFit:
        fit = super().learn(task)
        return dataclasses.replace(fit, steps=fit.steps + 3)


@dataclass(frozen=True)
class Deaf(Borrowed):
    """Goes on although the callback asks it to stop."""

    def learn(self, task: Task) -> UnitFit:
        for _ in range(5):
            task.meter.step(0.0)
        return super().learn(task)


@dataclass(frozen=True)
class WorseFromAStart(Borrowed):
    """Ends higher where it has a start."""

    def learn(self, task: Task) -> UnitFit:
        fit = super().learn(task)
        return fit if task.start is None else dataclasses.replace(fit, objective=fit.objective + 1)


@dataclass(frozen=True)
class Annotated(Borrowed):
    """Its name became a setting."""

    name: str = "annotated"  # pyright: ignore[reportIncompatibleVariableOverride]


WRONG = {
    WidePrecision: "check_fit",
    NoErrors: "check_fit",
    AlwaysBiased: "check_bias",
    Caring: "check_dont_cares",
    Negated: "check_lopsided_units",
    GlobalNoise: "check_seeds",
    Vandal: "check_samples_are_left_alone",
    Overstepper: "check_budgets",
    Deaf: "check_callback",
    WorseFromAStart: "check_warm_start",
    Annotated: "check_learner_class",
}
CHECKS: dict[str, Any] = {check.__name__: check for check in LEARNER_CHECKS}


@pytest.mark.slow
@pytest.mark.parametrize("learner", [Borrowed(), Hinge(l2=1e-3), Perceptron(keep="averaged")], ids=lambda one: one.name)
def test_learner_that_keeps_the_contract_passes_every_check(learner: UnitLearner):
    check_learner(learner)


@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
def test_wrong_learner_fails_the_check_that_is_meant_for_it(kind: type[UnitLearner]):
    with pytest.raises(AssertionError):
        CHECKS[WRONG[kind]](kind())


def test_every_check_has_a_learner_that_fails_it():
    assert set(CHECKS) == set(WRONG.values())
