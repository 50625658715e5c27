"""Losses as functions of the margin t z, with the curvature that a Newton step uses."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MarginLoss:
    """`value`, its derivative `slope`, and `curvature` >= 0: the second derivative, or what stands for it."""

    value: Function
    slope: Function
    curvature: Function


def _hinge_squared(margin: Tensor) -> Tensor:
    return (1 - margin).clamp_(min=0).square_()


SQUARED_HINGE = MarginLoss(
    _hinge_squared, lambda m: (m - 1).clamp_(max=0).mul_(2), lambda m: (m < 1).to(m.dtype).mul_(2)
)
SQUARED = MarginLoss(lambda m: (1 - m).square_(), lambda m: (m - 1).mul_(2), lambda m: torch.full_like(m, 2.0))


def _softplus_minus(margin: Tensor) -> Tensor:
    # Not softplus: torch's rounds log(1 + e^x) to x beyond 20.
    return torch.log1p(torch.exp(-margin.abs())).sub_(margin.clamp(max=0))


def _sigmoid_curvature(margin: Tensor) -> Tensor:
    s = torch.sigmoid(margin)
    return s * (1 - s)


LOGISTIC = MarginLoss(_softplus_minus, lambda m: -torch.sigmoid(-m), _sigmoid_curvature)


HINGE = MarginLoss(lambda m: (1 - m).clamp_(min=0), lambda m: -(m < 1).to(m.dtype), torch.zeros_like)
SATURATED_HINGE = MarginLoss(
    lambda m: (1 - m).clamp_(0, 2), lambda m: -((m < 1) & (m > -1)).to(m.dtype), torch.zeros_like
)


def smooth_hinge(width: float) -> MarginLoss:
    """max(0, 1 - m) with a parabola over [1 - width, 1]: at most width / 2 below it."""
    return MarginLoss(
        lambda m: _huber(1 - m, width),
        lambda m: -((1 - m) / width).clamp_(0, 1),
        lambda m: ((m < 1) & (m > 1 - width)).to(m.dtype).div_(width),
    )


def smooth_saturated_hinge(width: float) -> MarginLoss:
    """min(2, max(0, 1 - m)) with both kinks smoothed; the curvature is only that of the convex part.

    That of the concave part is <= 0: without it each step still goes down (a majoriser).
    """
    return MarginLoss(
        lambda m: _huber(1 - m, width) - _huber(-1 - m, width),
        lambda m: ((-1 - m) / width).clamp_(0, 1) - ((1 - m) / width).clamp_(0, 1),
        lambda m: ((m < 1) & (m > 1 - width)).to(m.dtype).div_(width),
    )


def _soft_slope(margin: Tensor) -> Tensor:
    return -4 * torch.sigmoid(2 * margin) * torch.sigmoid(-2 * margin)


# The curvature is the absolute second derivative: where that is negative a step still goes down.
SOFT_HINGE = MarginLoss(
    lambda m: 2 * torch.sigmoid(-2 * m), _soft_slope, lambda m: (2 * _soft_slope(m) * torch.tanh(m)).abs()
)


def _huber(shortfall: Tensor, width: float) -> Tensor:
    inner = shortfall.clamp(0, width)
    return inner.square() / (2 * width) + (shortfall - width).clamp(min=0)
