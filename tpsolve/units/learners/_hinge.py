"""Units with a hinge: the L2-regularised, L1-loss support vector machine."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve.errors import ArgumentError
from tpsolve.units._base import Meter
from tpsolve.units.learners._direct import is_direct
from tpsolve.units.learners._margin_loss import HINGE, MarginLoss, smooth_hinge
from tpsolve.units.learners._newton import Point, Problem, minimise, newton_direction
from tpsolve.units.learners._penalised import MIN_COST, Penalised

# Wide enough that samples curve the smoothing at zero weights, where every margin is 0.
_FIRST_WIDTH, _LAST_WIDTH, _NARROWER = 2.0, 1e-8, 0.3
# The minima must be exact for the next one to be told from them.
_STATIONARY = 1e-9


@dataclass(frozen=True)
class Hinge(Penalised):
    """Minimises l2/2 |w|^2 + mean max(0, 1 - t z), by Newton's method on ever narrower smoothings of the hinge.

    Each smoothing begins where the samples that curve the last one put its minimum. `gap` is the duality gap, relative
    to the objective or, where that is smaller, to a thousandth of what zero weights cost. It proves that no weights are
    better than those returned by more. float32 rounds these, so there a gap of up to 1e-4 counts as converged. l2 must
    be positive: without it the dual bound is vacuous. Source: Chapelle, "Training a support vector machine in the
    primal" (2007).
    """

    tolerance: float = 1e-6

    name: ClassVar[str] = "hinge"
    loss: ClassVar[MarginLoss] = HINGE
    needs_double: ClassVar[bool] = True
    certified: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.l2 == 0:
            raise ArgumentError("l2", 0, "a positive number for hinge", "Separability is the limit of no penalty.")

    def solve(self, problem: Problem, point: Point, meter: Meter) -> None:
        narrow(problem, point, meter, self.tolerance, _LAST_WIDTH)


def narrow(problem: Problem, point: Point, meter: Meter, tolerance: float, last_width: float) -> None:
    """Follow the minima of smoothed hinges until the duality gap is small, each unit until its own is."""
    left = torch.arange(len(point.bias), device=point.bias.device)
    own, inner, width = problem, point.part(torch.ones_like(point.converged)), _FIRST_WIDTH
    while True:
        loss = smooth_hinge(width)
        minimise(own, loss, inner, _STATIONARY, meter, direct=True)
        inner.gap = duality_gap(own, loss, inner)
        inner.converged = inner.gap <= tolerance
        point.write(left, inner)
        still_open = ~inner.converged
        if meter.stopped or width <= last_width or not bool(still_open.any()):
            return
        own, inner, left = own.part(still_open), inner.part(still_open), left[still_open]
        narrower = max(last_width, width * _NARROWER)
        _follow(own, inner, width, narrower)
        width = narrower


def _follow(problem: Problem, point: Point, width: float, narrower: float) -> None:
    """Move `point` to where the minimum of the narrower smoothing lies if the same samples curve it."""
    t = problem.targets
    shortfall = 1 - t * point.z
    curved = (shortfall > 0) & (shortfall < width)
    curvature = curved.to(t.dtype).mul_(problem.counts) / narrower
    if not is_direct(problem.basis, curvature):
        return
    slope = -t * problem.counts * torch.where(curved, shortfall / narrower, (shortfall >= width).to(t.dtype))
    gradient = torch.addmm(point.weight, problem.basis.inputs.T, slope, beta=problem.l2)
    v, vb = newton_direction(problem, curvature, gradient, slope.sum(dim=0) * problem.basis.bias)
    z = point.z + torch.addmm(vb, problem.basis.inputs, v)
    loss = smooth_hinge(narrower)
    better = problem.objective(loss, point.weight + v, z) < problem.objective(loss, point.weight, point.z)
    point.weight, point.z = torch.where(better, point.weight + v, point.weight), torch.where(better, z, point.z)
    point.bias = torch.where(better, point.bias + vb, point.bias)


def duality_gap(problem: Problem, loss: MarginLoss, point: Point) -> Tensor:
    """`(c,)`: of the hinge problem, by multipliers in [0, 1] read off the smoothed slope, relative.

    Any such multipliers whose pull on the bias cancels give a lower bound: the sum of counts * multipliers
    less |their pull on the weights|^2 / (2 l2).
    """
    t = problem.targets
    multipliers = -loss.slope(t * point.z) * problem.counts
    if problem.basis.bias:
        plus, minus = (multipliers * (t > 0)).sum(dim=0), (multipliers * (t < 0)).sum(dim=0)
        least = torch.minimum(plus, minus)
        factor = torch.where(t > 0, least / plus.clamp(min=1e-30), least / minus.clamp(min=1e-30))
        multipliers = multipliers * factor
    pull = problem.basis.inputs.T @ (t * multipliers)
    bound = multipliers.sum(dim=0, dtype=torch.float64) - pull.double().square().sum(dim=0) / (2 * problem.l2)
    value = problem.objective(HINGE, point.weight, point.z)
    gap = (value - bound.clamp(min=0)) / value.clamp(min=MIN_COST)
    return gap.nan_to_num(nan=math.inf).to(point.gap.dtype)
