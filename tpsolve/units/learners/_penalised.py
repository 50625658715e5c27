"""What the penalised learners share: checks, chunks of units, and the measuring of the result."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve.errors import ArgumentError
from tpsolve.units._base import Meter, Task, UnitFit, UnitLearner, Units
from tpsolve.units._data import Samples, measure, merge_duplicates
from tpsolve.units.learners._basis import make_basis
from tpsolve.units.learners._margin_loss import MarginLoss
from tpsolve.units.learners._newton import Point, Problem, start_at

MIN_COST = 1e-3
"""Where the objective is smaller, certified gaps are relative to this part of what zero weights cost."""
ROUNDED_TOLERANCE = 1e-4
"""Certified gaps up to this have converged in float32 whatever the tolerance: rounded weights can have as much."""


@dataclass(frozen=True)
class Penalised(UnitLearner[UnitFit]):
    """Minimises l2/2 |w|^2 + the weighted mean of a loss over the samples with a target; the bias is free.

    One step is a Newton step of a chunk of units. Nothing is drawn.

    Args:
        l2: the penalty.
        tolerance: of `UnitFit.gap`, at which a unit has converged.

    Raises:
        ArgumentError: a penalty that is negative or not finite, or a tolerance that is not positive.
    """

    l2: float = 1e-4
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.l2, int | float) and 0 <= self.l2 < math.inf):
            raise ArgumentError("l2", self.l2, "a finite number >= 0")
        if not (isinstance(self.tolerance, int | float) and 0 < self.tolerance < math.inf):
            raise ArgumentError("tolerance", self.tolerance, "a positive number")

    loss: ClassVar[MarginLoss]
    """What it minimises the mean of."""
    needs_double: ClassVar[bool] = False
    """Whether float32 is too coarse for its tolerance; it then computes in float64 and returns float32."""
    certified: ClassVar[bool] = False
    """Whether `gap` bounds how much better other weights can be: then it is that of the weights as returned."""

    @abstractmethod
    def solve(self, problem: Problem, point: Point, meter: Meter) -> None:
        """Move `point` until its units have converged or the meter has stopped."""

    def learn(self, task: Task) -> UnitFit:
        given, meter = task.samples, task.meter
        wide = _in_double(given) if self.needs_double and given.inputs.dtype != torch.float64 else given
        samples = merge_duplicates(_cared_for(wide))
        basis = make_basis(samples.inputs, self.bias)
        l2, parts = self.l2 / basis.scale / basis.scale, []
        for units in samples.chunks(self.chunk):
            problem = Problem(basis, samples.targets[:, units], _counts(samples, units), l2)
            point = start_at(problem, *((None, None) if task.start is None else basis.from_raw(task.start, units)))
            if not meter.stopped:
                self.solve(problem, point, meter)
            found = problem.objective(self.loss, point.weight, point.z)
            parts.append((*basis.to_raw(point.weight, point.bias), point.gap, point.converged, point.steps, found))
        raw, bias, gap, converged, steps, found = (torch.cat(column) for column in zip(*parts, strict=True))
        raw, bias = raw.to(given.inputs.dtype), bias.to(given.inputs.dtype)
        errors, margin = measure(given, raw, bias)
        value = objective(wide, Units(raw.to(wide.inputs), bias.to(wide.inputs)), self.loss, self.l2)
        if self.certified:
            gap = (gap * found.clamp(min=MIN_COST) + value - found) / value.clamp(min=MIN_COST)
            converged = gap <= max(self.tolerance, 0.0 if given is wide else ROUNDED_TOLERANCE)
        return UnitFit(raw, bias, errors, margin, value, gap.to(given.inputs.dtype), converged, steps, meter.seconds)


def objective(samples: Samples, units: Units, loss: MarginLoss, l2: float) -> Tensor:
    """l2/2 |w|^2 + the weighted mean loss, `(m,)` float64, from unmerged samples and raw weights."""
    values = []
    for part in samples.chunks(None):
        t = samples.targets[:, part]
        z = torch.addmm(units.bias[part], samples.inputs, units.weight[part].T)
        counts = t.abs() if samples.weight is None else t.abs() * samples.weight[:, part]
        total = counts.sum(dim=0, dtype=torch.float64)
        cost = (loss.value(t * z) * counts).sum(dim=0, dtype=torch.float64) / torch.where(total > 0, total, 1.0)
        values.append(cost + l2 / 2 * units.weight[part].double().square().sum(dim=1))
    return torch.cat(values)


def _in_double(samples: Samples) -> Samples:
    weight = None if samples.weight is None else samples.weight.double()
    return Samples(samples.inputs.double(), samples.targets.double(), weight)


def _cared_for(samples: Samples) -> Samples:
    # A sample that counts for no unit must not move the centre either.
    rows = (samples.targets != 0).any(dim=1)
    if bool(rows.all()) or not bool(rows.any()):
        return samples
    weight = None if samples.weight is None else samples.weight[rows]
    return Samples(samples.inputs[rows], samples.targets[rows], weight)


def _counts(samples: Samples, units: slice) -> Tensor | float:
    counts = samples.targets[:, units].abs()
    if samples.weight is None and bool((counts == 1).all()):
        return 1 / len(counts)
    if samples.weight is not None:
        counts = counts * samples.weight[:, units]
    # First to at most 1: sums of huge or tiny weights would leave the range of the dtype.
    counts = counts / torch.where(counts.amax(dim=0) > 0, counts.amax(dim=0), 1.0)
    total = counts.sum(dim=0)
    return counts / torch.where(total > 0, total, 1.0)
