"""Weights of samples as multiples of one number, as exact solvers count them."""

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np

MAX_TOTAL = 2**18
_PARTS = 1000


@dataclass(frozen=True)
class WholeWeights:
    """Weights about `unit * values`.

    Args:
        values: `(N,)` whole numbers of at least 0, as float64; None: all are 1.
        unit: what 1 stands for.
        slack: the sum of what the products differ from the weights by.
    """

    values: np.ndarray | None = None
    unit: float = 1.0
    slack: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether the values are the weights themselves."""
        return self.unit == 1 and self.slack == 0


def whole_weights(weight: np.ndarray | None) -> WholeWeights:
    """Whole numbers for the positive weights `(N,)`, with at most `MAX_TOTAL` in all.

    Weights whose ratios are simple fractions keep them, but for the rounding of floats; others are rounded. Those below
    half of what 1 stands for become 0 if their sum is below it too, and else 1.
    """
    if weight is None:
        return WholeWeights()
    if (weight == np.round(weight)).all() and weight.sum() <= MAX_TOTAL:
        return WholeWeights(weight)
    smallest = float(weight.min())
    distinct, place = np.unique(weight, return_inverse=True)
    ratios = [Fraction(v / smallest).limit_denominator(_PARTS) for v in distinct.tolist()]
    common = lcm(*(ratio.denominator for ratio in ratios))
    values = np.array([float(ratio * common) for ratio in ratios])[place]
    unit = smallest / common
    if values.sum() > MAX_TOTAL or np.abs(values * unit - weight).max() > 1e-12 * float(weight.max()):
        unit = float(weight.sum()) / MAX_TOTAL
        values = np.maximum(1.0, np.round(weight / unit))
        small = weight < unit / 2
        if float(weight[small].sum()) < unit / 2:
            # Raised to 1, they would count many times what they weigh.
            values[small] = 0.0
    return WholeWeights(values, unit, float(np.abs(values * unit - weight).sum()))
