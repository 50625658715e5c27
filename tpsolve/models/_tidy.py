"""Weights that a person can read: small whole numbers that give every unit the same outputs on the training rows."""

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from tpsolve.models._layers import Layers, unit_outputs
from tpsolve.units.checking._unrounded import ExactRows

MAX_WEIGHT = 2**40
"""The largest whole weight that is tried: its products with whole inputs of a dozen bits are still exact in float64."""
MIN_MARGIN = 0.5
"""The part of its margin that a unit keeps at least."""


def tidy(layers: Layers, X: np.ndarray, exact: ExactRows | None = None) -> Layers:
    """`layers` with whole weights that are small, where they give every unit the same outputs at `X (N, n)`.

    A feature is measured in a power of ten near its spread, and the weights are rounded there: first to -1, 0 and 1,
    then finer. The first rounding that tells the rows apart as the unit does, by at least `MIN_MARGIN` times its
    margin, is taken. The threshold is the roundest number near the middle of the gap. A unit above the first layer gets
    a bias that makes all its sums odd, so that none is 0. A unit for which no rounding serves keeps its weights.

    Args:
        exact: the rows that `X` rounds, at which outputs are kept; None: `X` is exact.
    """
    found, below = [], np.unique(X, axis=0)
    rationals: dict[int, tuple[Fraction, ...]] = {}
    if exact is None and layers.rationals:
        exact = ExactRows([list(map(Fraction, row)) for row in X.tolist()])
    for number, (weight, bias) in enumerate(layers.weights):
        out = unit_outputs(below, weight, bias)
        if exact is not None and not number:
            below, out = X, layers.outputs(X, exact)[0]
        units = []
        for k, (row, b, wanted) in enumerate(zip(weight, bias, out.T, strict=True)):
            whole = _constant(row, wanted) if len(set(wanted.tolist())) == 1 else _rounded(below, row, wanted)
            if whole is not None and exact is not None and not number and not _gives(whole, exact, wanted):
                whole = None
            if whole is None and not number and k in layers.rationals:
                rationals[k] = layers.rationals[k]
            units.append((row, b) if whole is None else whole)
        rows = np.stack([row for row, _ in units])
        biases = np.array([b for _, b in units], dtype=np.float64)
        if number and bool((rows == rows.round()).all() and (biases == biases.round()).all()):
            biases += (biases + rows.sum(axis=1)) % 2 == 0
        if (number or exact is None) and not np.array_equal(unit_outputs(below, rows, biases), out):
            rows, biases = weight, bias
        found.append((rows + 0.0, biases + 0.0))
        below = np.unique(out, axis=0).astype(np.float64)
    return Layers(tuple(found), rationals)


def _gives(unit: tuple[np.ndarray, float], rows: ExactRows, wanted: np.ndarray) -> bool:
    """Whether a unit outputs `wanted (N,)` at exact rows."""
    sums = rows.sums([Fraction(w) for w in unit[0].tolist()], Fraction(unit[1]))
    return all((total >= 0) == (w > 0) for total, w in zip(sums, wanted.tolist(), strict=True))


def _constant(row: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, float]:
    """A unit that outputs the same at all rows does so everywhere."""
    return np.zeros_like(row), float(wanted[0])


def _rounded(X: np.ndarray, weight: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Whole weight `(n,)` and bias for which `X` gives `wanted (N,)` with room to spare; None: none found."""
    with np.errstate(over="ignore"):
        spread = np.ptp(X, axis=0)
    if not np.isfinite(spread).all():
        return None
    with np.errstate(divide="ignore"):
        power = np.where(spread > 0, np.round(np.log10(spread)), 0.0)
    # 10^-power is what a step of one in a scaled weight means for the weight itself.
    size = 10.0 ** (power - power.min())
    if size.max() > MAX_WEIGHT:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        effect = weight * size
        largest = np.abs(effect).max()
        before = _gap(X @ (weight / largest), wanted)[2] / np.linalg.norm(effect / largest)
    if not (0 < largest < math.inf and 0 < before < math.inf):
        return None
    sums_are_whole = bool((np.round(X) == X).all())
    for scale in _scales():
        steps = np.round(effect / largest * scale)
        # Whole for every feature: one of a large spread gets the smaller factor.
        whole = steps * (size.max() / size).round()
        if np.abs(whole).max() > MAX_WEIGHT:
            return None
        divisor = math.gcd(*(int(v) for v in whole)) or 1
        whole /= divisor
        low, high, gap = _gap(X @ whole, wanted)
        if gap > 0 and gap / np.linalg.norm(whole * size) >= MIN_MARGIN * before:
            return _with_threshold(whole, low, high, sums_are_whole)
    return None


def _gap(sums: np.ndarray, wanted: np.ndarray) -> tuple[float, float, float]:
    low, high = float(sums[wanted < 0].max()), float(sums[wanted > 0].min())
    return low, high, high - low


def _with_threshold(
    whole: np.ndarray, low: float, high: float, sums_are_whole: bool
) -> tuple[np.ndarray, float] | None:
    """The bias -t of the roundest t in the middle half of (low, high); all times a power of ten where t is no whole.

    Where sums are whole, all t between two of them are the same unit, and the larger one is taken.
    """
    first, last = low + (high - low) / 4, high - (high - low) / 4
    if sums_are_whole and math.ceil(first) > last:
        # The first whole number beyond the middle.
        return whole, -float(math.ceil(first))
    for exponent in range(18, -16, -1):
        step = 10.0**exponent
        t = math.ceil(first / step)
        if t * step <= last:
            # The multiple nearest to the middle.
            middle = round((first + last) / 2 / step)
            t = middle if first <= middle * step <= last else t
            factor = 10.0 ** max(0, -exponent)
            bias = -t * step if exponent >= 0 else -float(t)
            scaled = whole * factor
            if max(np.abs(scaled).max(), abs(bias)) > MAX_WEIGHT:
                return None
            divisor = math.gcd(int(bias), *(int(v) for v in scaled)) or 1
            return scaled / divisor, bias / divisor
    return None


def _scales() -> Iterator[float]:
    yield from map(float, range(1, 100))
    scale = 100.0
    while scale < MAX_WEIGHT:
        yield scale
        scale *= 1.5
