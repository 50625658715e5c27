"""What a unit learner is, what it is given and returns, and the meter through which it spends its budget."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count, check_device, check_shape, check_tensor
from tpsolve._plain import Settings
from tpsolve._result import Budget, Progress
from tpsolve.errors import ArgumentError, BudgetError
from tpsolve.spins import sign
from tpsolve.units._data import Samples, check_samples

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


class Meter:
    """Counts steps and seconds of one fit against its budget, and calls back."""

    steps: int
    stopped: bool

    def __init__(self, budget: Budget | None, callback: Callback | None) -> None:
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


@dataclass(frozen=True)
class Task:
    """What a learner is given, checked.

    Args:
        samples: as given, unmerged.
        start: on the device of the samples; None: no warm start.
        meter: running.
        generator: for learners that draw.
    """

    samples: Samples
    start: Units | None
    meter: Meter
    generator: torch.Generator


Fit = TypeVar("Fit", bound=Units, covariant=True)


@dataclass(frozen=True)
class UnitLearner(Settings, ABC, Generic[Fit]):
    """Settings of a learner. All its state lives inside the call.

    Args:
        bias: whether the units have a bias, which is never penalised.
        chunk: units fitted at once; None: as many as keep the working memory near 1 GB.
    """

    bias: bool = True
    chunk: int | None = None

    name: ClassVar[str]
    """Its name in `LEARNERS` and on the command line."""
    convex: ClassVar[bool] = True
    """Whether what it minimises is convex, so that a small gap means a global optimum."""
    stochastic: ClassVar[bool] = False
    """Whether its result depends on the generator."""

    def __post_init__(self) -> None:
        if not isinstance(self.bias, bool):
            raise ArgumentError("bias", self.bias, "True or False")
        if self.chunk is not None:
            check_count("chunk", self.chunk, 1)

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
    ) -> Fit:
        """Fit m units at once, on the device and in the dtype of `inputs`.

        Args:
            inputs: `(N, n)` finite.
            targets: `(N, m)` in {-1, 0, +1}; 0: the unit does not care for this sample.
            weight: `(N, m)` >= 0, by default 1: how much the sample counts for the unit; 0 is as a target of 0.
            start: units to start from, a warm start.
            budget: by default none: until converged.
            callback: sees the mean objective of the units as the fit goes on.
            generator: for learners that draw; by default seeded with 0. Equal seeds give equal weights on one device.

        Raises:
            ArgumentError: one of its kinds, for what can't be fitted (see `tpsolve.errors`).
        """
        samples = check_samples(inputs, targets, weight)
        begun = None if start is None else _check_start(start, samples)
        if budget is not None and not isinstance(budget, Budget):
            raise BudgetError("budget", budget, "a Budget", "For example Budget(seconds=10).")
        if budget is not None and budget.seconds is None and budget.steps is None:
            raise BudgetError("budget", budget, "seconds or steps", "A learner has no calls and no passes.")
        if callback is not None and not callable(callback):
            raise ArgumentError("callback", callback, "a function of a Progress")
        meter = Meter(budget, callback)
        return self.learn(Task(samples, begun, meter, generator or torch.Generator().manual_seed(0)))

    @abstractmethod
    def learn(self, task: Task) -> Fit:
        """What `fit` returns; the learner's own part."""


def _check_start(start: Units, samples: Samples) -> Units:
    if not isinstance(start, Units):
        raise ArgumentError("start", type(start).__name__, "Units, such as an earlier fit")
    units, features = samples.targets.shape[1], samples.inputs.shape[1]
    for argument, tensor in (("start.weight", start.weight), ("start.bias", start.bias)):
        check_device(argument, tensor, samples.inputs.device, "where the inputs lie")
    weight, bias = check_tensor("start.weight", start.weight), check_tensor("start.bias", start.bias)
    check_shape("start.weight", weight, (units, features), "(units, features)")
    check_shape("start.bias", bias, (units,), "(units,)")
    return Units(weight, bias)
