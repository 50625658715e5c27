"""The piecewise-linear functions of the exact solvers: certainly below each loss, and exact where they must be."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
from support.zoo import UNIT_LOSSES, unit_loss

from tpsolve.losses import LOSSES, Loss
from tpsolve.search.exact._pieces import Piece, is_piecewise_linear, pieces

RANGES = [
    (-3.0, 2.0),
    (-1.0, 1.0),
    (-7.25, -1.5),
    (0.5, 4.0),
    (-0.3, 0.0),
    (0.0, 2.5),
    (-40.0, 60.0),
    # Units that read almost nothing, or nothing: a zero row has one margin.
    (-1e-7, 1e-7),
    (-1.3 - 1e-9, -1.3 + 1e-9),
    (-1.3, -1.3),
    (-0.7, -0.7),
    (0.0, 0.0),
    (0.4, 0.4),
]
TOUCHED = [-5.1, -1.3, -1.0, -0.7, -0.01, 0.0, 0.01, 0.4, 1.0, 1.9, 3.3]

each_loss = pytest.mark.parametrize("name", UNIT_LOSSES)
each_range = pytest.mark.parametrize(("low", "high"), RANGES, ids=str)
each_sign = pytest.mark.parametrize("positive", [True, False], ids=["plus", "minus"])


def find(name: str) -> Loss:
    loss = LOSSES[name]
    assert isinstance(loss, Loss)
    return loss


def phi(name: str, u: float, positive: bool) -> Fraction:
    """The loss at the margin u, exactly."""
    s = 1 if positive else -1
    return unit_loss(name, s * Fraction(u), s)


def allows(piece: Piece, u: float) -> bool:
    """Whether the margin u may choose this piece."""
    return (piece.low < u if piece.strict else piece.low <= u) and u <= piece.high


def value(parts: Sequence[Piece], u: float) -> Fraction:
    """The least of the pieces that allow u, each the greatest of its lines; exactly."""
    return min(greatest(part.lines, u) for part in parts if allows(part, u))


def greatest(lines: Sequence[tuple[float, float]], u: float) -> Fraction:
    """Of the lines at the margin u, exactly; those that lie far below by rounded sums are left out."""
    rough = [slope * u + intercept for slope, intercept in lines]
    least = max(rough) - 1e-9 * max(1 + abs(slope * u) + abs(intercept) for slope, intercept in lines)
    high = [line for line, value in zip(lines, rough, strict=True) if value >= least]
    return max(Fraction(slope) * Fraction(u) + Fraction(intercept) for slope, intercept in high)


def grid(low: float, high: float) -> list[float]:
    """Margins in [low, high]: a fine spread, the kinks of all losses, and the neighbours of both."""
    spread = [low + (high - low) * k / 100 for k in range(101)]
    special = [*TOUCHED, -1.0, 0.0, 1.0, low, high]
    near = [math.nextafter(u, side) for u in special for side in (-math.inf, math.inf)]
    return sorted({u for u in (*spread, *special, *near) if low <= u <= high})


@each_sign
@each_range
@each_loss
def test_pieces_lie_below_the_loss_everywhere(name: str, low: float, high: float, positive: bool):
    for points in ([], TOUCHED):
        parts = pieces(find(name), low, high, positive, points)
        for u in grid(low, high):
            excess = value(parts, u) - phi(name, u, positive)
            assert excess <= 0, f"{float(excess)} above at margin {u!r}"


@each_sign
@each_range
@each_loss
def test_pieces_meet_the_loss_where_they_touch_it(name: str, low: float, high: float, positive: bool):
    touched = [u for u in TOUCHED if low <= u <= high]
    parts = pieces(find(name), low, high, positive, touched)
    # No slope is steeper than 1 where a range may be too narrow for a chord: there a level line is as good.
    room = 1e-11 * (1 + max(abs(low), abs(high)) ** 2) + (high - low if high - low < 1e-6 else 0)
    for u in touched:
        depth = phi(name, u, positive) - value(parts, u)
        assert depth <= room, f"{float(depth)} below at margin {u!r}"


@each_sign
@each_range
@pytest.mark.parametrize("name", [name for name in UNIT_LOSSES if is_piecewise_linear(find(name))])
def test_pieces_of_a_piecewise_linear_loss_are_the_loss(name: str, low: float, high: float, positive: bool):
    parts = pieces(find(name), low, high, positive, [])
    for u in grid(low, high):
        assert phi(name, u, positive) - value(parts, u) <= 1e-11, f"at margin {u!r}"


def test_piecewise_linear_losses_are_these():
    linear = {name for name in UNIT_LOSSES if is_piecewise_linear(find(name))}
    assert linear == {"perceptron", "hinge", "saturated-hinge", "zero-one"}


@each_sign
@each_range
@each_loss
def test_one_piece_at_least_allows_each_margin(name: str, low: float, high: float, positive: bool):
    parts = pieces(find(name), low, high, positive, TOUCHED)
    assert all(any(allows(part, u) for part in parts) for u in grid(low, high))


@each_range
@pytest.mark.parametrize("name", ["perceptron", "hinge", "logistic", "squared"])
def test_a_convex_loss_is_one_piece(name: str, low: float, high: float):
    assert find(name).convex
    assert len(pieces(find(name), low, high, True, TOUCHED)) == 1


@each_sign
@each_range
@pytest.mark.parametrize("name", ["saturated-hinge", "soft-hinge", "zero-one"])
def test_lines_common_to_all_pieces_hold_whichever_is_chosen(name: str, low: float, high: float, positive: bool):
    # The models write them once, without a switch, so they must lie below the loss itself.
    parts = pieces(find(name), low, high, positive, TOUCHED)
    shared = set.intersection(*(set(part.lines) for part in parts))
    for u, (slope, intercept) in itertools.product(grid(low, high), shared):
        assert Fraction(slope) * Fraction(u) + Fraction(intercept) <= phi(name, u, positive)


@pytest.mark.parametrize("name", ["soft-hinge", "saturated-hinge", "zero-one"])
def test_a_loss_that_is_not_convex_shares_a_line_that_is_worth_having(name: str):
    # Without it a relaxation could put half of each switch on, and know nothing.
    parts = pieces(find(name), -3.0, 2.0, True, [])
    shared = set.intersection(*(set(part.lines) for part in parts))
    assert max(slope * -3.0 + intercept for slope, intercept in shared) > 0.9


@each_loss
def test_more_points_never_loosen_the_pieces(name: str):
    for positive in (True, False):
        few, many = (pieces(find(name), -3.0, 2.0, positive, points) for points in ([], TOUCHED))
        for u in grid(-3.0, 2.0):
            assert value(many, u) >= value(few, u) - Fraction(1, 10**11)
