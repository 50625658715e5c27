"""Squared hinge without a penalty, for many units at once: a separator, or the multipliers that forbid one.

The minimum of the sum of max(0, 1 - t w.x)^2 is 0 if and only if the targets are separable. If they are not,
its slacks at the optimum are multipliers: they are >= 0 and sum slack t x = 0. Newton's method with
the active samples ends in finitely many steps (Mangasarian, "A finite Newton method for
classification", 2002).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve.units._base import Meter

_MAX_STEPS = 60
_SINGLE_STEPS = 10
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


def fit_hard_margin(
    points: Tensor, targets: Tensor, counts: Tensor | None, meter: Meter, start: Tensor | None = None
) -> HardMargin:
    """Newton's method on c units.

    Args:
        points: `(N, d)` float64, or `(c, N, d)`: each unit its own.
        targets: `(N, c)` float64 in {-1, 0, +1}.
        counts: `(N, c)` > 0, what each squared slack counts; None: 1.
        start: `(c, d)`, by default zero weights.
    """
    units, size = targets.shape[1], points.shape[-1]
    final = HardMargin(
        points.new_zeros(units, size),
        torch.zeros(units, dtype=torch.bool, device=points.device),
        torch.zeros_like(targets),
    )
    state = _State(points, targets, counts, start)
    single = True
    for step in range(_MAX_STEPS):
        separated, gradient = state.separated(), state.gradient()
        # Whitened points have size sqrt(d): the gradient's rounding grows with the sum of the slacks.
        rounding = state.slack.sum(dim=0) * size**0.5
        ended = separated | (torch.linalg.vector_norm(gradient, dim=1) <= _STATIONARY * rounding)
        ended |= meter.step(state.value)
        if bool(ended.any()):
            state.write(final, ended, separated)
            if bool(ended.all()):
                return final
            state.keep(~ended)
            gradient = gradient[~ended]
        moved = state.search(state.newton_step(gradient, single=single), gradient)
        was_single, single = single, single and step < _SINGLE_STEPS and bool(moved.all())
        if not was_single and not bool(moved.all()):
            # Rounding allows no further descent.
            state.write(final, ~moved, state.separated())
            if not bool(moved.any()):
                return final
            state.keep(moved)
    state.write(final, torch.ones_like(state.value, dtype=torch.bool), state.separated())
    return final


class _State:
    """The units that have not ended: their weights, pre-activations and slacks."""

    def __init__(self, points: Tensor, targets: Tensor, counts: Tensor | None, start: Tensor | None) -> None:
        self.points, self.targets, self.counts = points, targets, counts
        self.units = torch.arange(targets.shape[1], device=points.device)
        self.weight = points.new_zeros(len(self.units), points.shape[-1]) if start is None else start.clone()
        self.z = torch.zeros_like(targets) if start is None else self.forward(start)
        self.slack, self.value = self._evaluate(self.z)

    def forward(self, weight: Tensor) -> Tensor:
        """Pre-activations `(N, c)`."""
        if self.points.dim() == 2:
            return self.points @ weight.T
        return (self.points @ weight[:, :, None])[:, :, 0].T

    def gradient(self) -> Tensor:
        """Minus half the gradient, `(c, d)`."""
        pull = (self.targets * self.slack).T
        return pull @ self.points if self.points.dim() == 2 else (pull[:, None, :] @ self.points)[:, 0]

    def separated(self) -> Tensor:
        """`(c,)` bool; a margin that rounding could have made is none."""
        least = 1e-12 * (1 + torch.linalg.vector_norm(self.weight, dim=1) * self.points.shape[-1] ** 0.5)
        return ((self.targets * self.z > least) | (self.targets == 0)).all(dim=0)

    def newton_step(self, gradient: Tensor, *, single: bool) -> Tensor:
        """`(c, d)`; in single precision far from the end, where it is enough."""
        active = self.slack.sign() if self.counts is None else self.slack.sign() * self.counts
        if self.points.dim() == 3:
            points = self.points.float() if single else self.points
            hessian = (points * active.T[:, :, None].to(points.dtype)).mT @ points
        elif single:
            hessian = batched_gram(self.points.float(), active.float())
        else:
            hessian = batched_gram(self.points, active)
        # Enough to make a singular matrix solvable, too little to spoil the end on a regular one.
        ridge = (1e-6 if hessian.dtype == torch.float32 else 1e-13) * hessian.diagonal(dim1=1, dim2=2).mean(dim=1)
        hessian.diagonal(dim1=1, dim2=2).add_(ridge[:, None] + 1e-30)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if bool(failed.any()):
            hessian.diagonal(dim1=1, dim2=2).add_(1e4 * ridge[:, None])
            factor, failed = torch.linalg.cholesky_ex(hessian)
        step = torch.cholesky_solve(gradient[:, :, None].to(factor.dtype), factor)[:, :, 0].to(gradient.dtype)
        return torch.where((failed > 0)[:, None] | ~torch.isfinite(step), gradient, step)

    def search(self, step: Tensor, gradient: Tensor) -> Tensor:
        """Move each unit along its step, halved until the value falls enough; `(c,)` bool: whether it moved."""
        slope = 2 * (step * gradient).sum(dim=1)
        dz = self.forward(step)
        length = torch.ones_like(slope)
        z = self.z + dz
        slack, value = self._evaluate(z)
        for _ in range(40):
            short = value > self.value * (1 + 1e-12) - 1e-4 * length * slope
            if not bool(short.any()):
                break
            length[short] /= 2
            z[:, short] = torch.addcmul(self.z[:, short], dz[:, short], length[short])
            slack[:, short], value[short] = self._evaluate(z[:, short], short)
        # The last step changes the value by rounding alone, and still makes the gradient much smaller.
        taken = value <= self.value * (1 + 1e-12)
        moved = value < self.value
        self.weight[taken] += length[taken, None] * step[taken]
        if bool(taken.all()):
            self.z, self.slack, self.value = z, slack, value
        else:
            self.z, self.slack = torch.where(taken, z, self.z), torch.where(taken, slack, self.slack)
            self.value = torch.where(taken, value, self.value)
        return moved

    def write(self, final: HardMargin, ended: Tensor, separated: Tensor) -> None:
        """Copy the units that have ended to where they belong."""
        units = self.units[ended]
        final.weight[units] = self.weight[ended]
        final.separated[units] = separated[ended]
        final.slack[:, units] = torch.where(separated[ended], 0.0, self.slack[:, ended])

    def keep(self, rows: Tensor) -> None:
        """Go on with only the units of `rows (c,)` bool."""
        self.units, self.weight, self.value = self.units[rows], self.weight[rows], self.value[rows]
        self.targets, self.z, self.slack = self.targets[:, rows], self.z[:, rows], self.slack[:, rows]
        self.counts = None if self.counts is None else self.counts[:, rows]
        self.points = self.points if self.points.dim() == 2 else self.points[rows]

    def _evaluate(self, z: Tensor, units: Tensor | None = None) -> tuple[Tensor, Tensor]:
        targets = self.targets if units is None else self.targets[:, units]
        # With |t| for 1, samples of target 0 have no slack.
        slack = torch.addcmul(targets.abs(), targets, z, value=-1).clamp_(min=0)
        if self.counts is None:
            return slack, slack.square().sum(dim=0)
        weighted = slack * (self.counts if units is None else self.counts[:, units])
        return weighted, (slack * weighted).sum(dim=0)


def batched_gram(points: Tensor, weight: Tensor) -> Tensor:
    """`(c, d, d)`: for each unit the sum over samples of `weight (N, c)` times x x^T."""
    size = points.shape[1]
    gram = points.new_empty(weight.shape[1], size, size)
    across = weight.T
    if len(across) <= size:
        # For few units a product each, of their active samples alone, costs less.
        for k, own in enumerate(across):
            rows = own.nonzero()[:, 0]
            active = points[rows]
            torch.mm((active * own[rows, None]).T, active, out=gram[k])
        return gram
    for j in range(size):
        # One product serves all units; symmetry halves the work.
        block = across @ (points[:, j : j + 1] * points[:, j:])
        gram[:, j, j:] = block
        gram[:, j:, j] = block
    return gram
