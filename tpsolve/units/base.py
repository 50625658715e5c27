"""What a unit learner is, what it returns, and the meter through which it spends its budget."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve.errors import ArgumentError
from tpsolve.result import Budget, Progress
from tpsolve.spins import check_device, check_shape, check_tensor, sign

Callback = Callable[[Progress], bool | None]
"""Called with each `Progress`; True ends the fit, which then returns what it has."""


@dataclass(frozen=True)
class Units:
    """m linear threshold units that read the same n inputs.

    Args:
        weight: `(m, n)`.
        bias: `(m,)`; zeros for units without one.
    """

    weight: Tensor
    bias: Tensor

    def decision(self, inputs: Tensor) -> Tensor:
        """Pre-activations z, `(N, m)`, of `inputs (N, n)`."""
        return inputs.to(self.weight.dtype) @ self.weight.T + self.bias

    def predict(self, inputs: Tensor) -> Tensor:
        """Outputs in {-1, +1}, `(N, m)`: +1 where z >= 0."""
        return sign(self.decision(inputs))


@dataclass(frozen=True)
class UnitFit(Units):
    """Learned weights and what was measured of them, on the samples that were given.

    Args:
        errors: `(m,)` int64, samples whose output differs from their target.
        margin: `(m,)`, the smallest t z over the samples with a target; +inf where there are none.
        objective: `(m,)`, what the learner minimises (see its docstring).
        gap: `(m,)`, the figure by which convergence was judged, relative to the problem.
        converged: `(m,)` bool, whether `gap` reached the learner's tolerance.
        steps: `(m,)` int64, steps that each unit took.
        seconds: wall-clock time of the fit.
    """

    errors: Tensor
    margin: Tensor
    objective: Tensor
    gap: Tensor
    converged: Tensor
    steps: Tensor
    seconds: float


@dataclass(frozen=True)
class UnitLearner(ABC):
    """Settings of a learner; all its state lives inside the call.

    Args:
        bias: whether the units have a bias, which is never penalised.
        chunk: units fitted at once; None: as many as keep the working memory near 1 GB.
    """

    bias: bool = True
    chunk: int | None = None

    name: ClassVar[str] = ""
    """Its name in `LEARNERS` and on the command line."""
    convex: ClassVar[bool] = True
    """Whether what it minimises is convex, so that a small gap means a global optimum."""
    stochastic: ClassVar[bool] = False
    """Whether its result depends on the generator."""

    def __post_init__(self):
        if self.chunk is not None and not (isinstance(self.chunk, int) and self.chunk > 0):
            raise ArgumentError("chunk", self.chunk, "a positive whole number of units, or None")

    @abstractmethod
    def fit(
        self,
        inputs: Tensor,
        targets: Tensor,
        weight: Tensor | None = None,
        *,
        start: Units | None = None,
        budget: Budget | None = None,
        callback: Callback | None = None,
        generator: torch.Generator | None = None,
    ) -> Units:
        """Fit m units at once, on the device and in the dtype of `inputs`.

        Args:
            inputs: `(N, n)` finite.
            targets: `(N, m)` in {-1, 0, +1}; 0: the unit does not care for this sample.
            weight: `(N, m)` >= 0, by default 1: how much the sample counts for the unit.
            start: units to start from, a warm start.
            budget: by default none: until converged.
            callback: sees the mean objective of the units as the fit goes on.
            generator: for learners that draw; by default seeded with 0.

        Raises:
            ArgumentError: one of its kinds, for what can't be fitted (see `tpsolve.errors`).
        """


class Meter:
    """Counts steps and seconds of one fit against its budget, and calls back."""

    def __init__(self, budget: Budget | None, callback: Callback | None):
        self._budget, self._callback = budget, callback
        self._started = time.perf_counter()
        self.steps = 0
        self.stopped = False

    @property
    def seconds(self) -> float:
        """Since the fit began."""
        return time.perf_counter() - self._started

    @property
    def seconds_left(self) -> float | None:
        """Until the budget ends; None if it has no limit in seconds."""
        if self._budget is None or self._budget.seconds is None:
            return None
        return max(0.0, self._budget.seconds - self.seconds)

    def step(self, objective: Tensor | float, bound: Tensor | float = -math.inf) -> bool:
        """Count a step; True: end now, since the budget is spent or the callback asked."""
        self.steps += 1
        if self._callback is not None:
            mean, low = (float(torch.as_tensor(v, dtype=torch.float64).mean()) for v in (objective, bound))
            self.stopped |= bool(self._callback(Progress(self.steps, self.seconds, mean, low)))
        if self._budget is not None and self._budget.steps is not None and self.steps >= self._budget.steps:
            self.stopped = True
        if self.seconds_left == 0:
            self.stopped = True
        return self.stopped


def check_start(start: Units | None, units: int, inputs: Tensor) -> Units | None:
    """`start` in the dtype of `inputs`, or raise if its shape or device does not fit."""
    if start is None:
        return None
    weight, bias = check_tensor("start.weight", start.weight), check_tensor("start.bias", start.bias)
    check_shape("start.weight", weight, (units, inputs.shape[1]), "(units, features)")
    check_shape("start.bias", bias, (units,), "(units,)")
    check_device("start.weight", weight, inputs.device)
    return Units(weight.to(inputs.dtype), bias.to(inputs.dtype))
