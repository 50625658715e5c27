"""Layers of threshold units, evaluated in exact arithmetic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import numpy as np

from tpsolve.units.checking._unrounded import ExactRows

_ROUNDING = 2.0**-52
_UNDERFLOW = 2.0**-1021
_CHUNK = 10_000
"""Rows that are looked at together: 60,000 images of 28 x 28 would need gigabytes."""


@dataclass(frozen=True)
class Layers:
    """A network of threshold units: a unit outputs +1 where weight @ x + bias >= 0, and -1 elsewhere.

    The sums are those of exact arithmetic: floats are the rational numbers that they are. So the answer does not depend
    on the order of a sum, on the machine, or on the number of rows.

    Args:
        weights: `(weight (units, n), bias (units,))` float64 of each layer, the lowest first.
        rationals: of units of the first layer for which float64 holds none, exact weights, the bias last. They take the
            place of those in `weights`, which are near to them. The first layer is a hidden one then.
    """

    weights: Sequence[tuple[np.ndarray, np.ndarray]]
    rationals: Mapping[int, tuple[Fraction, ...]] = field(default_factory=dict)

    def outputs(self, X: np.ndarray, exact: ExactRows | None = None) -> list[np.ndarray]:
        """What the units of each layer output at `X (N, n)` float64: int8 `(N, units)` in {-1, +1}.

        Args:
            exact: the rows that `X` rounds; the outputs are those at these. None: `X` is exact.
        """
        found, below = [], np.asarray(X, dtype=np.float64)
        for number, (weight, bias) in enumerate(self.weights):
            if number or (exact is None and not self.rationals):
                found.append(unit_outputs(below, weight, bias))
            else:
                found.append(self._first_outputs(below, exact))
            below = found[-1].astype(np.float64)
        return found

    def _first_outputs(self, X: np.ndarray, exact: ExactRows | None) -> np.ndarray:
        weight, bias = self.weights[0]
        out = unit_outputs(X, weight, bias)
        rows = exact
        for unit in range(len(bias)) if exact is not None else self.rationals:
            given = (*weight[unit].tolist(), float(bias[unit]))
            *own, last = self.rationals.get(unit) or tuple(map(Fraction, given))
            rows = rows or ExactRows([list(map(Fraction, row)) for row in X.tolist()])
            out[:, unit] = [1 if total >= 0 else -1 for total in rows.sums(own, last)]
        return out

    def sums(self, X: np.ndarray, exact: ExactRows | None = None) -> np.ndarray:
        """The sums of the last layer at `X (N, n)`: `(N, units)` float64; exact where weights and bias are whole."""
        hidden = len(self.weights) > 1
        below = self.outputs(X, exact)[-2].astype(np.float64) if hidden else np.asarray(X, dtype=np.float64)
        weight, bias = self.weights[-1]
        return below @ weight.T + bias

    def classes(self, X: np.ndarray, exact: Sequence[Sequence[Fraction]] | None = None) -> np.ndarray:
        """The number of the class at each row of `X (N, n)`: `(N,)` int64.

        One output unit: 1 where it outputs +1, else 0. Several: the unit with the largest sum, the first of equal ones.
        Where just one of them outputs +1, that is this one.

        Args:
            exact: N rows of n numbers that `X` rounds: the classes are those of these. None: `X` is exact.
        """
        if len(X) > _CHUNK:
            parts = [slice(start, start + _CHUNK) for start in range(0, len(X), _CHUNK)]
            return np.concatenate([self.classes(X[part], None if exact is None else exact[part]) for part in parts])
        rows = ExactRows(exact) if exact else None
        if len(self.weights[-1][1]) == 1:
            return (self.outputs(X, rows)[-1][:, 0] > 0).astype(np.int64)
        weight, bias = self.weights[-1]
        if bool((weight == np.round(weight)).all() and (bias == np.round(bias)).all()):
            return self.sums(X, rows).argmax(axis=1)
        below, place = np.unique(self.outputs(X, rows)[-2], axis=0, return_inverse=True)
        units = list(zip(weight.tolist(), bias.tolist(), strict=True))
        sums = [[exact_sum(row, w, b) for w, b in units] for row in below.tolist()]
        return np.array([row.index(max(row)) for row in sums], dtype=np.int64)[place.reshape(-1)]

    @property
    def is_whole(self) -> bool:
        """Whether all weights and biases are whole numbers."""
        arrays = [array for pair in self.weights for array in pair]
        return not self.rationals and all(bool((array == np.round(array)).all()) for array in arrays)

    def whole(self) -> list[list[tuple[list[int], int]]]:
        """Whole weights and bias of each unit of each layer that give the same outputs, as small as scaling makes them.

        Floats are fractions of a power of two, so every unit has some. Several output units are scaled together, since
        their sums are compared.
        """
        layers = self.exact()
        below = [[_whole([unit])[0] for unit in layer] for layer in layers[:-1]]
        last = _whole(layers[-1])
        return [[(unit[:-1], unit[-1]) for unit in layer] for layer in (*below, last)]

    def exact(self) -> list[list[list[float] | list[Fraction]]]:
        """Weights and bias of each unit of each layer, in a list: the exact numbers that are meant."""
        layers: list[list[list[float] | list[Fraction]]] = [
            [[*w, b] for w, b in zip(weight.tolist(), bias.tolist(), strict=True)] for weight, bias in self.weights
        ]
        for unit, given in self.rationals.items():
            layers[0][unit] = list(given)
        return layers


def unit_outputs(X: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Exact outputs of units `weight (units, n)`, `bias (units,)` at `X (N, n)`: int8 `(N, units)` in {-1, +1}.

    Decided in floating point where whole numbers make it exact, or where its error bound allows (Higham 2002, section
    3.1), else in fractions.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.abs(X).max(initial=0.0) * np.abs(weight).sum(axis=1) + np.abs(bias)
    if (largest < 2.0**53).all() and all(bool((part == np.round(part)).all()) for part in (weight, bias, X)):
        return np.where(X @ weight.T + bias >= 0, 1, -1).astype(np.int8)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = X @ weight.T + bias
        bound = (np.abs(X) @ np.abs(weight).T + np.abs(bias)) * (2 * (X.shape[1] + 2) * _ROUNDING)
        bound += 2 * (X.shape[1] + 2) * _UNDERFLOW
        out = np.where(sums >= 0, 1, -1).astype(np.int8)
        unsure = ~(np.abs(sums) > bound)
    for i, k in zip(*np.nonzero(unsure), strict=True):
        out[i, k] = 1 if exact_sum(X[i].tolist(), weight[k].tolist(), float(bias[k])) >= 0 else -1
    return out


def exact_sum(x: Sequence[float], weight: Sequence[float], bias: float) -> Fraction:
    """Weight @ x + bias."""
    # Floats are whole numbers over powers of two; adding those is ten times as fast as adding fractions.
    total, below = float(bias).as_integer_ratio()
    power = below.bit_length()
    for w, v in zip(weight, x, strict=True):
        if w and v:
            (a, c), (b, d) = float(w).as_integer_ratio(), float(v).as_integer_ratio()
            term, own = a * b, c.bit_length() + d.bit_length() - 1
            if own > power:
                total, power = total << (own - power), own
            total += term << (power - own)
    return Fraction(total, 1 << (power - 1))


def _whole(rows: Sequence[list[float] | list[Fraction]]) -> list[list[int]]:
    """The smallest whole numbers in the ratios of these."""
    exact = [[Fraction(v) for v in row] for row in rows]
    common = lcm(*(v.denominator for row in exact for v in row))
    scaled = [[int(v * common) for v in row] for row in exact]
    divisor = gcd(*(v for row in scaled for v in row)) or 1
    return [[v // divisor for v in row] for row in scaled]


def read_layers(
    weights: Sequence[tuple[Any, Any]], rationals: Mapping[int, tuple[Fraction, ...]] | None = None
) -> Layers:
    """`Layers` of tensors or arrays; zeros lose their signs."""
    pairs = tuple((np.asarray(w, np.float64) + 0.0, np.asarray(b, np.float64) + 0.0) for w, b in weights)
    return Layers(pairs, rationals or {})
