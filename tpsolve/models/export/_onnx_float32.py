"""A model as an ONNX graph in float32, exact where inputs are whole.

Float32 holds whole numbers below 2^24 only. So a layer with larger sums gets several products, one for each digit of
its weights in base 2^k, each of sums that float32 holds. What is more than a digit is carried on; then the highest
digit has the sign of the sum. That holds in whatever order a tool adds.

Inputs that are not whole are rounded to float32, and so are their sums. Rows that this may take across a boundary are
not compared, and a training row among them refuses the export.
"""

from pathlib import Path

import numpy as np

from tpsolve.errors import ExportError
from tpsolve.models.export import _onnx
from tpsolve.models.export._plan import Plan

MAX_WORK, MAX_NUMBERS = 1_000_000_000, 10_000_000
"""Weights times rows of a comparison, and numbers in all rows: what takes a second or two."""
SUFFIXES = (".onnx",)
UNSURE = "float32"
_EXACT = 2.0**24


def compared(plan: Plan) -> np.ndarray:
    """The rows that float32 gives the right class, in whatever order sums are added: `(N,)` bool."""
    if plan.grid.whole:
        return np.ones(len(plan.rows), dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        sums, size = _onnx.first_sums(plan)
        count = plan.rows.shape[1] + 4
        largest = max(abs(v) for weight, bias in plan.whole[0] for v in (*weight, bias))
        rounding = size * (2 * count * 2.0**-24) + 2 * count * largest * 2.0**-126
        return ((size < 2.0**126) & (np.abs(sums) > rounding)).all(axis=1)


def write(plan: Plan) -> dict[str, bytes]:
    """The files by their suffixes.

    Raises:
        ExportError: whole inputs so large or so many that float32 holds no sums of them, or training rows so near to a
            boundary that float32 may round their sums across it.
        MissingLibraryError: the library onnx is not installed.
    """
    _onnx.check(plan, compared(plan), UNSURE)
    reach = np.abs(np.stack([plan.grid.low, plan.grid.high, plan.rows.min(axis=0), plan.rows.max(axis=0)])).max(axis=0)
    layers, bases = [], []
    for number, layer in enumerate(plan.whole):
        if number or plan.grid.whole:
            digits, base = _digits(*_onnx.layer_arrays(layer), reach)
        else:
            digits, base = [_onnx.layer_arrays(layer)], 1.0
        layers.append(digits)
        bases.append(base)
        reach = np.ones(len(layer))
    return _onnx.graph(plan, layers, bases, np.float32)


def run(plan: Plan, folder: Path) -> tuple[np.ndarray, str]:
    """The classes that onnxruntime, or else the reference of the library onnx, gives to the rows."""
    return _onnx.run(plan, folder, np.float32)


def _digits(
    weight: np.ndarray, bias: np.ndarray, reach: np.ndarray
) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    """`weight (n, units)` and `bias (units,)` as the fewest digits, the lowest first, and their base.

    Sums of each digit with inputs up to `reach (n,)`, and with what is carried to it, stay below 2^24.
    """
    # The first one makes a single digit; with more, digits of 25 bits are too long already.
    for power in (54, *range(25, 0, -1)):
        base = 2.0**power
        digits, w, b = [], weight, bias
        while w.any() or b.any() or not digits:
            low = [np.where(np.abs(v) < base / 2, v, v - base * np.round(v / base)) for v in (w, b)]
            digits.append((low[0], low[1]))
            w, b = (w - low[0]) / base, (b - low[1]) / base
        carry = _EXACT / base + 1 if len(digits) > 1 else 0.0
        if all((np.abs(w).T @ reach + np.abs(b) + carry < _EXACT).all() for w, b in digits):
            return digits, base
    got = f"whole inputs up to {reach.max():.3g} in {len(reach)} columns"
    mend = "Scale the table first, or leave float32 away."
    raise ExportError("model", got, "sums below 2^24, which float32 holds", mend)
