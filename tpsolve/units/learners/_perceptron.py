"""Rosenblatt's rule for many units at once."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from tpsolve._check_arguments import check_count
from tpsolve.errors import UnknownNameError
from tpsolve.units._base import Task, UnitFit, UnitLearner
from tpsolve.units._data import measure, merge_duplicates


@dataclass(frozen=True)
class Perceptron(UnitLearner[UnitFit]):
    """Adds weight * t x of every sample that a unit gets wrong (t z <= 0), in shuffled batches.

    A unit has converged when it makes no error. If its targets are separable, that happens after finitely many steps
    (Novikoff 1962). If they are not, it never happens, which proves nothing. One step is one pass over the samples. The
    objective is the weighted number of errors. `gap` is that number divided by the total weight.

    Args:
        keep: "pocket": the best weights at the end of a pass (Gallant 1990); "averaged": the mean over all batches
            (Freund and Schapire 1999); "last": those of the last pass.
        batch: samples between two corrections.
        max_passes: the maximum number of passes, if the budget does not end the fit before.
    """

    keep: Literal["pocket", "averaged", "last"] = "pocket"
    batch: int = 32
    max_passes: int = 100

    name: ClassVar[str] = "perceptron"
    convex: ClassVar[bool] = False
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep not in ("pocket", "averaged", "last"):
            raise UnknownNameError("keep", str(self.keep), ("pocket", "averaged", "last"))
        for argument in ("batch", "max_passes"):
            check_count(argument, getattr(self, argument), 1)

    def learn(self, task: Task) -> UnitFit:
        given, meter = task.samples, task.meter
        samples = merge_duplicates(given)
        x, device = samples.inputs, samples.inputs.device
        # One scale for all leaves Rosenblatt's rule as it is, and keeps the bias in proportion.
        reach = float(x.abs().max()) or 1.0
        wide = torch.cat([x / reach, x.new_full((len(x), 1), float(self.bias))], dim=1)
        rows, units = samples.targets.shape
        state = x.new_zeros(wide.shape[1], units)
        if task.start is not None:
            state = torch.cat([task.start.weight.T * reach, task.start.bias[None]]).to(x.dtype)
        counts = samples.targets.abs() if samples.weight is None else samples.targets.abs() * samples.weight
        step = counts / counts.amax(dim=0).clamp(min=torch.finfo(x.dtype).tiny)
        total, mean, seen = step.sum(dim=0), torch.zeros_like(state), 0
        best, least = state.clone(), x.new_full((units,), math.inf)
        steps = torch.zeros(units, dtype=torch.int64, device=device)
        for passed in range(self.max_passes + 1):
            held = mean / seen if self.keep == "averaged" and seen else state
            wrong = (step * (samples.targets * (wide @ held) <= 0)).sum(dim=0)
            better = wrong < least if self.keep == "pocket" else (least > 0)
            best, least = torch.where(better, held, best), torch.where(better, wrong, least)
            unfinished = least > 0
            if not bool(unfinished.any()) or passed == self.max_passes or (passed and meter.step(least)):
                break
            steps += unfinished
            order = torch.randperm(rows, generator=task.generator, device=task.generator.device).to(device)
            for part in order.split(self.batch):
                t = samples.targets[part]
                mistakes = step[part] * t * (t * (wide[part] @ state) <= 0)
                state = torch.addmm(state, wide[part].T, mistakes * unfinished)
                mean, seen = mean + state, seen + 1
        raw, bias = best[:-1].T / reach, best[-1] * float(self.bias)
        errors, margin = measure(given, raw, bias)
        gap = least / torch.where(total > 0, total, 1.0)
        converged = (errors == 0) & ((margin > 0) | (total == 0))
        return UnitFit(raw, bias, errors, margin, least.double(), gap, converged, steps, meter.seconds)
