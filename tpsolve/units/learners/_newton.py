"""Newton's method with conjugate gradients for m units at once: two shared matrix products a Hessian product."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve.units._base import Meter
from tpsolve.units.learners._basis import Basis
from tpsolve.units.learners._direct import direction, is_direct
from tpsolve.units.learners._margin_loss import MarginLoss

_MAX_STEPS = 200
_MAX_PRODUCTS = 60
_MIN_CURVATURE = 1e-4


@dataclass
class Point:
    """Weights of c units in the basis, with what follows from them.

    Args:
        weight: `(d, c)`.
        bias: `(c,)`.
        z: `(N, c)`, pre-activations.
        gap: `(c,)`, the gradient's norm relative to `gradient_scale`.
        steps: `(c,)` int64.
        converged: `(c,)` bool.
    """

    weight: Tensor
    bias: Tensor
    z: Tensor
    gap: Tensor
    steps: Tensor
    converged: Tensor

    def part(self, units: Tensor) -> "Point":
        """A copy of only the units of `units (c,)` bool."""
        weight, z = self.weight[:, units], self.z[:, units]
        return Point(weight, self.bias[units], z, self.gap[units], self.steps[units], self.converged[units])

    def write(self, units: Tensor, other: "Point") -> None:
        """Set the units numbered `units (c,)` to those of `other`."""
        self.weight[:, units], self.bias[units], self.z[:, units] = other.weight, other.bias, other.z
        self.gap[units], self.steps[units], self.converged[units] = other.gap, other.steps, other.converged


@dataclass(frozen=True)
class Problem:
    """min l2/2 |w|^2 + sum_i counts_i loss(t_i z_i) for c units.

    Args:
        basis: the inputs.
        targets: `(N, c)` in {-1, 0, +1}.
        counts: `(N, c)`, 0 where the target is 0, each column of sum 1 (or 0); or a number for all.
        l2: the penalty.
    """

    basis: Basis
    targets: Tensor
    counts: Tensor | float
    l2: float

    def part(self, units: Tensor) -> "Problem":
        """Only the units of `units (c,)` bool."""
        counts = self.counts[:, units] if isinstance(self.counts, Tensor) else self.counts
        return Problem(self.basis, self.targets[:, units], counts, self.l2)

    def objective(self, loss: MarginLoss, weight: Tensor, z: Tensor) -> Tensor:
        """`(c,)` float64."""
        losses = loss.value(self.targets * z).mul_(self.counts)
        return losses.sum(dim=0, dtype=torch.float64) + self.l2 / 2 * weight.double().square().sum(dim=0)

    def gradient_scale(self, loss: MarginLoss) -> Tensor:
        """`(c,)`: the sum of the norms of all samples' gradients at zero weights; 1 where that is 0."""
        size = self.basis.inputs.square().sum(dim=1, keepdim=True) + float(self.basis.bias)
        slope = loss.slope(torch.zeros_like(self.targets[:1])).abs()[0, 0]
        scale = slope * (self.targets.abs() * size.sqrt()).mul_(self.counts).sum(dim=0)
        return torch.where(scale > 0, scale, 1.0)


def start_at(problem: Problem, weight: Tensor | None, bias: Tensor | None) -> Point:
    """The `Point` of these weights, by default zero."""
    x, units = problem.basis.inputs, problem.targets.shape[1]
    weight = x.new_zeros(x.shape[1], units) if weight is None else weight
    bias = x.new_zeros(units) if bias is None or not problem.basis.bias else bias
    fresh = torch.zeros(units, dtype=torch.int64, device=x.device)
    gap = torch.full_like(bias, torch.inf)
    return Point(weight, bias, torch.addmm(bias, x, weight), gap, fresh, fresh.bool())


def minimise(
    problem: Problem, loss: MarginLoss, point: Point, tolerance: float, meter: Meter, *, direct: bool = False
) -> None:
    """Move `point` until its gradient is small; units are dropped as they converge or stall.

    Args:
        direct: where few samples curve the loss, solve each Newton system by itself, to the last digit.
    """
    units = torch.arange(len(point.bias), device=point.bias.device)
    weight, bias, z = point.weight, point.bias, point.z
    scale = problem.gradient_scale(loss)
    value = problem.objective(loss, weight, z)
    x = problem.basis.inputs
    stalled = torch.zeros_like(bias, dtype=torch.bool)
    for step in range(_MAX_STEPS + 1):
        slope = problem.targets * loss.slope(problem.targets * z) * problem.counts
        gradient = torch.addmm(weight, x.T, slope, beta=problem.l2)
        gradient_bias = slope.sum(dim=0) * problem.basis.bias
        gap = _norm(gradient, gradient_bias) / scale
        done = gap <= tolerance
        ended = done | stalled | (step == _MAX_STEPS) | (step > 0 and meter.step(value))
        if bool(ended.any()):
            left = units[ended]
            point.weight[:, left], point.bias[left], point.z[:, left] = weight[:, ended], bias[ended], z[:, ended]
            point.gap[left], point.converged[left] = gap[ended], done[ended]
            point.steps[left] += step
            keep = ~ended
            if not bool(keep.any()):
                return
            problem = problem.part(keep)
            units, weight, bias, z = units[keep], weight[:, keep], bias[keep], z[:, keep]
            gradient, gradient_bias, gap = gradient[:, keep], gradient_bias[keep], gap[keep]
            scale, value = scale[keep], value[keep]
        curvature = loss.curvature(problem.targets * z) * problem.counts
        if direct and is_direct(problem.basis, curvature):
            v, vb = newton_direction(problem, curvature, gradient, gradient_bias)
        else:
            # Superlinear, but never more exact than convergence asks.
            accuracy = torch.maximum(gap.sqrt().clamp(max=0.3), 0.3 * tolerance / gap)
            v, vb = _conjugate_gradients(problem, curvature, gradient, gradient_bias, accuracy)
        weight, bias, z, value, moved = _search(problem, loss, (weight, bias, z, value), v, vb, gradient, gradient_bias)
        stalled = ~moved


def _search(
    problem: Problem, loss: MarginLoss, at: tuple, v: Tensor, vb: Tensor, gradient: Tensor, gradient_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    weight, bias, z, value = at
    slope = ((v * gradient).sum(dim=0) + vb * gradient_bias).double()
    dz = torch.addmm(vb, problem.basis.inputs, v)
    length = torch.ones_like(bias)
    short = torch.ones_like(bias, dtype=torch.bool)
    new_weight, new_z, new_value = weight, z, value
    rounding = 4 * torch.finfo(z.dtype).eps * value.abs()
    for _ in range(40):
        new_weight, new_z = weight + length * v, torch.addcmul(z, dz, length)
        new_value = problem.objective(loss, new_weight, new_z)
        short = ~(new_value <= value + 1e-4 * length * slope + rounding)
        if not bool(short.any()):
            break
        length = torch.where(short, length / 2, length)
    moved = ~short
    # Where even the shortest step rises, rounding has the last word.
    weight, z = torch.where(moved, new_weight, weight), torch.where(moved, new_z, z)
    bias, value = torch.where(moved, bias + length * vb, bias), torch.where(moved, new_value, value)
    return weight, bias, z, value, moved


def newton_direction(
    problem: Problem, curvature: Tensor, gradient: Tensor, gradient_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """A Newton direction of each unit, solved directly."""
    return direction(problem.basis, curvature, gradient, gradient_bias, problem.l2, _missing(curvature))


def _missing(curvature: Tensor) -> Tensor:
    # Where no sample curves the loss, the bias would run away: the penalty does not hold it.
    return (_MIN_CURVATURE - curvature.sum(dim=0)).clamp(min=0)


def _conjugate_gradients(
    problem: Problem, curvature: Tensor, gradient: Tensor, gradient_bias: Tensor, accuracy: Tensor
) -> tuple[Tensor, Tensor]:
    """A Newton direction of each unit, to its relative `accuracy (c,)`."""
    x, has_bias = problem.basis.inputs, float(problem.basis.bias)
    floor = torch.finfo(x.dtype).eps * (curvature.sum(dim=0) + 1e-30)
    diagonal = x.square().T @ curvature + (problem.l2 + floor)
    missing = _missing(curvature)
    diagonal_bias = curvature.sum(dim=0) + missing
    v, vb = torch.zeros_like(gradient), torch.zeros_like(gradient_bias)
    r, rb = -gradient, -gradient_bias
    goal = accuracy * _norm(r, rb)
    s, sb = r / diagonal, rb / diagonal_bias
    p, pb = s, sb
    rho = (r * s).sum(dim=0) + rb * sb
    for _ in range(_MAX_PRODUCTS):
        bent = torch.addmm(pb, x, p).mul_(curvature)
        hp = torch.addmm(p, x.T, bent, beta=problem.l2)
        hpb = (bent.sum(dim=0) + missing * pb) * has_bias
        energy = (p * hp).sum(dim=0) + pb * hpb
        length = torch.where((energy > 0) & (rho > 0), rho / energy, 0.0)
        v, vb = torch.addcmul(v, p, length), vb + length * pb
        r, rb = torch.addcmul(r, hp, length, value=-1), rb - length * hpb
        if bool(((_norm(r, rb) <= goal) | (length == 0)).all()):
            break
        s, sb = r / diagonal, rb / diagonal_bias
        new = (r * s).sum(dim=0) + rb * sb
        ratio = torch.where(rho > 0, new / rho, 0.0)
        p, pb, rho = torch.addcmul(s, p, ratio), sb + ratio * pb, new
    downhill = ((v * gradient).sum(dim=0) + vb * gradient_bias) < 0
    return torch.where(downhill, v, -gradient / diagonal), torch.where(downhill, vb, -gradient_bias / diagonal_bias)


def _norm(weight: Tensor, bias: Tensor) -> Tensor:
    return (weight.square().sum(dim=0) + bias.square()).sqrt()
