"""A `SampleModel` as the matrix of a mixed-integer linear program: what HiGHS and MPS files take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tpsolve.search.exact._sample_model import Exclusion, Row, SampleModel

MAX_SCALE = 1024.0
"""HiGHS lets a row be violated by 1e-6: costs counted in thousandths make that 1e-9 of a cost."""
MAX_COST = 2.0**14
"""Costs and sums of spins are counted in larger units where they could exceed this: HiGHS's tolerances and its own
rounding are absolute, and would be worth whole costs."""
MAX_PRICE = 2.0**24
"""Upper end of the objective, in its own unit: so large that HiGHS's tolerance of prices is worth next to nothing."""
MIN_FACTOR = 1e-9
"""HiGHS takes smaller factors for 0."""
STRICT_STEP = 1e-4
"""The smallest excess over a strict bound that HiGHS can tell from its tolerance."""


@dataclass(frozen=True)
class LinearModel:
    """Minimise price . x over 0 <= x <= upper with low <= left x <= high; E is at least `energy(price . x)`.

    The columns are the bits of the targets (t = 2 x - 1), the costs, each in a unit of its own, and the switches;
    `whole` is 1 where a column must be whole.
    """

    price: np.ndarray
    upper: np.ndarray
    whole: np.ndarray
    left: np.ndarray
    low: np.ndarray
    high: np.ndarray
    factor: float
    constant: float

    def energy(self, value: float) -> float:
        """What a value of `price . x` is in units of E."""
        return self.factor * value + self.constant


def linear_model(model: SampleModel, excluded: Sequence[Exclusion] = ()) -> LinearModel:
    """The program of this model, without what is `excluded`."""
    n, costs = model.n, len(model.upper)
    columns = n + costs + model.n_switches
    scales = np.array([_scale(upper, MAX_COST, MAX_SCALE) for upper in model.upper])
    total = sum(model.upper[v] for v in model.objective) + 2 * float(np.abs(model.spins).sum())
    unit = _scale(total, MAX_PRICE, MAX_PRICE)
    # Whole upper ends: presolve of HiGHS 1.12 fails on some that end in a hair, such as 7.000000000008.
    upper = np.concatenate([np.ones(n), np.ceil(scales * np.asarray(model.upper)), np.ones(model.n_switches)])
    whole = np.concatenate([np.ones(n), np.zeros(costs), np.ones(model.n_switches)])
    price = np.zeros(columns)
    price[:n] = 2 * unit * model.spins
    for v in model.objective:
        price[n + v] = unit / scales[v]

    left = np.zeros((len(model.rows) + len(model.choices) + len(excluded), columns))
    low, high = np.full(len(left), -np.inf), np.full(len(left), np.inf)
    for i, row in enumerate(model.rows):
        low[i] = _fill(left[i], row, scales, upper)
    for i, group in enumerate(model.choices, start=len(model.rows)):
        left[i, [n + costs + w for w in group]] = 1.0
        low[i] = high[i] = 1.0
    for i, one in enumerate(excluded, start=len(model.rows) + len(model.choices)):
        plus = one.targets[one.flips] > 0
        left[i, one.flips] = np.where(plus, -1.0, 1.0)
        left[i, [n + costs + w for w in one.switches]] = -1.0
        low[i] = 1.0 - int(plus.sum()) - len(one.switches)
    constant = model.constant - model.factor * float(model.spins.sum())
    return LinearModel(price, upper, whole, left, low, high, model.factor / unit, constant)


def _scale(size: float, limit: float, largest: float) -> float:
    """The largest power of two up to `largest` that keeps `size` within `limit`, which is one too."""
    return min(largest, limit / 2.0 ** math.frexp(max(size, 2.0**-1000))[1])


def _fill(left: np.ndarray, row: Row, scales: np.ndarray, upper: np.ndarray) -> float:
    """Write `row` into its line of the matrix; its lower side."""
    n, costs = len(row.spins), len(scales)
    factors = {v: factor / scales[v] for v, factor in row.cost.items()}
    largest = max(map(abs, factors.values()), default=0.0)
    scale = 1 / largest if factors else _scale(float(np.abs(row.spins).sum()), MAX_COST, 1.0)
    left[:n] = 2 * scale * row.spins
    for v, factor in factors.items():
        left[n + v] = scale * factor
    right = scale * (row.right + float(row.spins.sum()))
    if row.rounded or row.cost:
        # The two sides were rounded in a few operations each.
        right -= 2.0**-49 * (abs(scale * row.right) + float(np.abs(left[:n]).sum()))
    if row.strict and (step := scale * _granularity(row)) > STRICT_STEP:
        right += step
    small = np.abs(left) <= MIN_FACTOR
    right -= float((np.maximum(left, 0) * upper)[small].sum())
    left[small] = 0.0
    if row.switch is not None:
        # Switched off, the row must hold for any bits and costs.
        least = float(np.minimum(left[:n], 0).sum())
        left[n + costs + row.switch] = -max(0.0, right - least)
        right -= max(0.0, right - least)
    return right


def _granularity(row: Row) -> float:
    """Half of the smallest positive value of spins . t - right, as far as a power of two tells; 0: unknown."""
    numbers = np.append(row.spins, row.right)
    for exponent in range(14):
        scaled = np.ldexp(numbers, exponent)
        if (scaled == np.rint(scaled)).all():
            return 2.0**-exponent / 2
    return 0.0
