"""When the gap between an objective and a lower bound is closed, and the measure of which objectives are multiples."""

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@overload
def is_closed(objective: "Tensor", bound: "Tensor", tolerance: "Tensor") -> "Tensor": ...
@overload
def is_closed(objective: np.ndarray, bound: np.ndarray, tolerance: np.ndarray) -> np.ndarray: ...
def is_closed(objective: Any, bound: Any, tolerance: Any) -> Any:
    """Where `objective - bound` is at most `tolerance`, all of one shape; False where one of the two is infinite.

    Tensors, or arrays: reports are drawn without torch, which takes 200 MiB.
    """
    with np.errstate(invalid="ignore"):
        near = objective - bound <= tolerance
    return (abs(objective) < math.inf) & (abs(bound) < math.inf) & near


def closing_tolerance(rounding: "Tensor", least_difference: "Tensor") -> "Tensor":
    """A gap of at most this is none.

    Objective and bound are each off by at most `rounding`. Two objectives that differ by less than `least_difference`
    (0: not known) are equal, so that a smaller gap leaves no room for a better one. Neither knows how large objectives
    can be: one huge weight opens no gap of others.
    """
    slack = 2 * rounding
    below = (least_difference - slack).nextafter(slack.new_full(slack.shape, -math.inf))
    return slack.maximum(below)


def common_measure(values: np.ndarray) -> Fraction:
    """The largest number of which all `values` (float64, finite) are whole multiples, exactly; 0 if all are 0."""
    mantissa, exponent = np.frexp(values[values != 0])
    if not len(mantissa):
        return Fraction(0)
    whole = np.abs(np.ldexp(mantissa, 53)).astype(np.int64)
    # A float is an odd number times a power of two, and odd numbers share no power of two.
    power = whole & -whole
    lowest = int((exponent - 53 + np.log2(power).astype(np.int64)).min())
    odd = int(np.gcd.reduce(whole // power))
    return Fraction(odd) * Fraction(2) ** lowest
