"""A `SampleModel` as the matrix of a mixed-integer linear program: what HiGHS and MPS files take."""

from dataclasses import dataclass

import numpy as np

from tpsolve.search.sample_model import Row, SampleModel

ROW_SCALE = 1024.0
"""HiGHS lets a row be violated by 1e-6: costs counted in thousandths make that 1e-9 of a cost."""
STRICT_STEP = 1e-4
"""The least excess over a strict bound that HiGHS can tell from its tolerance."""


@dataclass(frozen=True)
class LinearModel:
    """Minimise price . x over 0 <= x <= upper with low <= left x <= high; E is at least `energy(price . x)`.

    The columns are the bits of the targets (t = 2 x - 1), the costs in 1 / ROW_SCALE, and the switches;
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


def linear_model(model: SampleModel) -> LinearModel:
    """The program of this model."""
    n, costs = model.n, len(model.most)
    columns = n + costs + model.n_switches
    # Whole upper ends: presolve of HiGHS 1.12 fails on some that end in a hair, such as 7.000000000008.
    upper = np.concatenate([np.ones(n), np.ceil(ROW_SCALE * np.asarray(model.most)), np.ones(model.n_switches)])
    whole = np.concatenate([np.ones(n), np.zeros(costs), np.ones(model.n_switches)])
    price = np.zeros(columns)
    price[:n] = 2 * ROW_SCALE * model.spins
    price[[n + v for v in model.objective]] = 1.0

    left = np.zeros((len(model.rows) + len(model.choices), columns))
    low, high = np.full(len(left), -np.inf), np.full(len(left), np.inf)
    for i, row in enumerate(model.rows):
        low[i] = _fill(left[i], row, model)
    for i, group in enumerate(model.choices, start=len(model.rows)):
        left[i, [n + costs + w for w in group]] = 1.0
        low[i] = high[i] = 1.0
    constant = model.constant - model.factor * float(model.spins.sum())
    return LinearModel(price, upper, whole, left, low, high, model.factor / ROW_SCALE, constant)


def _fill(left: np.ndarray, row: Row, model: SampleModel) -> float:
    """Write `row` into its line of the matrix; its lower side."""
    n, costs = model.n, len(model.most)
    scale = ROW_SCALE / max(map(abs, row.cost.values())) if row.cost else 1.0
    left[:n] = 2 * scale * row.spins
    for v, factor in row.cost.items():
        left[n + v] = scale / ROW_SCALE * factor
    right = scale * (row.right + float(row.spins.sum()))
    if row.strict and (step := _granularity(row)) > STRICT_STEP:
        right += step
    if row.switch is not None:
        # Switched off, the row must hold for any bits and costs.
        least = float(np.minimum(left[:n], 0).sum())
        left[n + costs + row.switch] = -max(0.0, right - least)
        right -= max(0.0, right - least)
    return right


def _granularity(row: Row) -> float:
    """Half of the least positive value of spins . t - right, as far as a power of two tells; 0: unknown."""
    numbers = np.append(row.spins, row.right)
    for exponent in range(14):
        scaled = np.ldexp(numbers, exponent)
        if (scaled == np.rint(scaled)).all():
            return 2.0**-exponent / 2
    return 0.0
