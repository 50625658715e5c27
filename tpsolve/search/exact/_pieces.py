"""Piecewise-linear functions that lie certainly below a layer loss, for the exact solvers.

A loss of one unit is a function phi of its margin u = s z in [low, high]. It is described as the
minimum of some convex pieces, each the maximum of some lines: phi(u) >= min over pieces of max over
lines (slope u + intercept). A line common to all pieces, such as a chord below a concave part, holds
whichever piece is chosen, and is what gives a relaxation its strength. Every line is lowered by more
than the rounding of its computation. Where the loss is not piecewise linear, lines touch it at
chosen points, and `points` adds more.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tpsolve.losses import Loss

NARROW = 1e-6
"""Chords are drawn between margins at least so far apart, so that no slope explodes."""

Line = tuple[float, float]
"""(slope, intercept)."""


@dataclass(frozen=True)
class Piece:
    """On margins in [low, high] the loss is at least every one of `lines`; `strict`: low itself is outside."""

    lines: tuple[Line, ...]
    low: float = -math.inf
    high: float = math.inf
    strict: bool = False


def is_piecewise_linear(loss: Loss) -> bool:
    """Whether `pieces` describes the loss exactly, so that no points need adding."""
    return bool(loss.kinks) or loss.name == "zero-one"


def pieces(loss: Loss, low: float, high: float, positive: bool, points: Sequence[float]) -> list[Piece]:
    """Pieces of `loss` for margins in [low, high]; `positive`: the unit's target is +1.

    `points`: margins at which a smooth loss must be met exactly (up to rounding).
    """
    if loss.name == "zero-one":
        chord = _chord(low, 1.0, 0.0, 0.0, low, high)
        # z = 0 gives the output +1: right for a target of +1, wrong for -1.
        return [Piece((*chord, (0.0, 1.0))), Piece((*chord, (0.0, 0.0)), low=0.0, strict=not positive)]
    if loss.name == "saturated-hinge":
        # Right of the kink at -1 the loss is convex: the chord ends where it is 0, or where the range does.
        end = min(high, 1.0)
        chord = _chord(low, 2.0, end, 1.0 - end, low, high) if low < -1 < end else ()
        return [Piece((*chord, (0.0, 2.0))), Piece((*chord, (-1.0, 1.0), (0.0, 0.0)))]
    if loss.kinks:
        return [Piece((*((-factor, factor * offset) for offset, factor in loss.kinks), (0.0, 0.0)))]
    touch = sorted({min(max(point, low), high) for point in (*_FIRST_POINTS[loss.name](low, high), *points)})
    if loss.convex:
        return [Piece(tuple(_tangent(loss, point, low, high) for point in touch))]
    return _s_shaped(loss, low, high, touch)


def _spread(low: float, high: float) -> list[float]:
    return [low + (high - low) * k / 16 for k in range(17)]


_FIRST_POINTS: dict[str, Callable[[float, float], list[float]]] = {
    "squared": _spread,
    "logistic": lambda low, high: [low, *(k / 2 for k in range(-12, 13)), high],
    "soft-hinge": lambda low, high: [low, -2.0, -1.2, -0.6, 0.0, *(k / 3 for k in range(1, 10)), high],
}


def _at(loss: Loss, u: float) -> tuple[float, float]:
    """Value and slope at margin u."""
    z, s = torch.tensor(u, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    return loss.value(z, s).item(), loss.slope(z, s).item()


def _lowered(slope: float, intercept: float, low: float, high: float) -> Line:
    # 64 roundings of the largest number involved: ten times what computing the line takes.
    size = abs(intercept) + abs(slope) * max(abs(low), abs(high)) + 1
    return slope, intercept - 64 * 2.0**-53 * size


def _chord(a: float, value_a: float, b: float, value_b: float, low: float, high: float) -> tuple[Line, ...]:
    """The line through two points, in a tuple; empty if a is not well to the left of b."""
    if b - a < NARROW:
        return ()
    slope = (value_b - value_a) / (b - a)
    return (_lowered(slope, value_a - slope * a, low, high),)


def _tangent(loss: Loss, u: float, low: float, high: float) -> Line:
    value, slope = _at(loss, u)
    return _lowered(slope, value - slope * u, low, high)


def _s_shaped(loss: Loss, low: float, high: float, touch: list[float]) -> list[Piece]:
    """A loss that is concave for u <= 0 and convex beyond, as the soft hinge.

    The concave part is the minimum of its secants. A tangent of the convex part may be used beside
    them, where it also lies below the concave part: where it passes below the left end.
    """
    convex = [_tangent(loss, point, low, high) for point in touch if point >= 0]
    # So near to 0 the tangent at 0 exceeds the loss by |u|^3 / 3 at most: less than it is lowered by.
    if low > -NARROW:
        return [Piece((*convex, (0.0, 0.0)))]
    left = _at(loss, low)[0]
    everywhere = (*(line for line in convex if line[0] * low + line[1] <= left), (0.0, 0.0))
    ends, last = [low], min(0.0, high)
    if last - low < NARROW:
        # All in a range so narrow that the loss is constant there, but for that width.
        return [Piece((_lowered(0.0, _at(loss, last)[0], low, high),))]
    for point in touch:
        if ends[-1] + NARROW < point < last - NARROW:
            ends.append(point)
    ends.append(last)
    found = []
    for a, b in itertools.pairwise(ends):
        value_a, value_b = _at(loss, a)[0], _at(loss, b)[0]
        found.append(Piece((*_chord(a, value_a, b, value_b, low, high), *everywhere), high=b))
    if high > 0:
        # The tangent at 0 lies above the concave part, so this piece never undercuts it.
        found.append(Piece((*convex, (0.0, 0.0))))
    return found
