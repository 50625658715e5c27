"""Squared hinge without a penalty, for many units at once: a separator, or the multipliers that forbid one.

The least sum of max(0, 1 - t w.x)^2 is 0 if and only if the targets are separable. If they are not,
its slacks at the optimum are multipliers: they are >= 0 and sum slack t x = 0. Newton's method with
the active samples ends in finitely many steps (Mangasarian, "A finite Newton method for
classification", 2002).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve.units.base import Meter

_MOST_STEPS = 60
_STATIONARY = 1e-12


@dataclass(frozen=True)
class HardMargin:
    """Where each of c units ended.

    Args:
        weight: `(c, d)` in the coordinates of the points.
        separated: `(c,)` bool, every margin is positive in floating point.
        slack: `(N, c)`, the multipliers at `weight`; 0 for separated units.
    """

    weight: Tensor
    separated: Tensor
    slack: Tensor


def fit_hard_margin(points: Tensor, targets: Tensor, counts: Tensor | None, meter: Meter) -> HardMargin:
    """Newton's method on c units from zero weights.

    Args:
        points: `(N, d)` float64.
        targets: `(N, c)` float64 in {-1, 0, +1}.
        counts: `(N, c)` > 0, what each squared slack counts; None: 1.
    """
    units = targets.shape[1]
    final = HardMargin(
        points.new_zeros(units, points.shape[1]),
        torch.zeros(units, dtype=torch.bool, device=points.device),
        torch.zeros_like(targets),
    )
    state = _State(points, targets, counts)
    for _ in range(_MOST_STEPS):
        separated, gradient = state.separated(), state.gradient()
        # Whitened points have size sqrt(d): the gradient's rounding grows with the sum of the slacks.
        size = state.slack.sum(dim=0) * points.shape[1] ** 0.5
        ended = separated | (torch.linalg.vector_norm(gradient, dim=1) <= _STATIONARY * size)
        stop = meter.step(state.value)
        ended |= stop
        if not bool(ended.all()):
            step = _newton_step(points, state.active(), gradient)
            ended |= ~state.search(step, gradient, ended)
        state.write(final, ended, separated)
        if bool(ended.all()):
            return final
        state.keep(~ended)
    state.write(final, torch.ones_like(state.value, dtype=torch.bool), state.separated())
    return final


class _State:
    """The units that have not ended: their weights, pre-activations and slacks."""

    def __init__(self, points: Tensor, targets: Tensor, counts: Tensor | None):
        self.points, self.targets, self.counts = points, targets, counts
        self.units = torch.arange(targets.shape[1], device=points.device)
        self.weight = points.new_zeros(len(self.units), points.shape[1])
        self.z = torch.zeros_like(targets)
        self.slack, self.value = self._evaluate(self.z)

    def _evaluate(self, z: Tensor) -> tuple[Tensor, Tensor]:
        # With |t| for 1, samples of target 0 have no slack.
        slack = torch.addcmul(self.targets.abs(), self.targets, z, value=-1).clamp_(min=0)
        if self.counts is None:
            return slack, slack.square().sum(dim=0)
        weighted = slack * self.counts
        return weighted, (slack * weighted).sum(dim=0)

    def separated(self) -> Tensor:
        # A margin that rounding alone could have made is none.
        least = 1e-12 * (1 + torch.linalg.vector_norm(self.weight, dim=1) * self.points.shape[1] ** 0.5)
        return ((self.targets * self.z > least) | (self.targets == 0)).all(dim=0)

    def active(self) -> Tensor:
        active = (self.slack > 0).to(self.slack.dtype)
        return active if self.counts is None else active * self.counts

    def gradient(self) -> Tensor:
        """Minus half the gradient, `(c, d)`."""
        return (self.targets * self.slack).T @ self.points

    def search(self, step: Tensor, gradient: Tensor, ended: Tensor) -> Tensor:
        """Move each unit along its step, halved until the value falls enough; `(c,)` bool: whether it moved."""
        slope = 2 * (step * gradient).sum(dim=1)
        dz = self.points @ step.T
        length = torch.where(ended, 0.0, torch.ones_like(slope))
        for _ in range(40):
            z = torch.addcmul(self.z, dz, length)
            slack, value = self._evaluate(z)
            good = value <= self.value - 1e-4 * length * slope
            if bool((good | ended).all()):
                break
            length = torch.where(good, length, length / 2)
        moved = value < self.value
        length = torch.where(moved, length, 0.0)
        self.weight += length[:, None] * step
        self.z = torch.where(moved, z, self.z)
        self.slack, self.value = torch.where(moved, slack, self.slack), torch.where(moved, value, self.value)
        return moved

    def write(self, final: HardMargin, ended: Tensor, separated: Tensor) -> None:
        units = self.units[ended]
        final.weight[units] = self.weight[ended]
        final.separated[units] = separated[ended]
        final.slack[:, units] = torch.where(separated[ended], 0.0, self.slack[:, ended])

    def keep(self, rows: Tensor) -> None:
        # Copying costs about as much as a few passes over z: wait until enough have ended.
        if int(rows.sum()) == len(rows):
            return
        self.units, self.weight, self.value = self.units[rows], self.weight[rows], self.value[rows]
        self.targets, self.z, self.slack = self.targets[:, rows], self.z[:, rows], self.slack[:, rows]
        self.counts = None if self.counts is None else self.counts[:, rows]


def _newton_step(points: Tensor, active: Tensor, gradient: Tensor) -> Tensor:
    hessian = batched_gram(points, active)
    # Enough to make a singular matrix solvable, too little to spoil the end on a regular one.
    ridge = 1e-13 * hessian.diagonal(dim1=1, dim2=2).sum(dim=1) + 1e-300
    hessian.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if bool(failed.any()):
        hessian.diagonal(dim1=1, dim2=2).add_(1e6 * ridge[:, None] * (failed > 0)[:, None])
        factor, failed = torch.linalg.cholesky_ex(hessian)
    step = torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
    return torch.where((failed > 0)[:, None] | ~torch.isfinite(step), gradient, step)


def batched_gram(points: Tensor, weight: Tensor) -> Tensor:
    """`(c, d, d)`: for each unit the sum over samples of `weight (N, c)` times x x^T."""
    size = points.shape[1]
    gram = points.new_empty(weight.shape[1], size, size)
    across = weight.T
    for j in range(size):
        # One product serves all units; symmetry halves the work.
        block = across @ (points[:, j : j + 1] * points[:, j:])
        gram[:, j, j:] = block
        gram[:, j:, j] = block
    return gram
