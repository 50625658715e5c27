"""Layers of threshold units, evaluated in exact arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import numpy as np

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
    """

    weights: Sequence[tuple[np.ndarray, np.ndarray]]

    def outputs(self, X: np.ndarray) -> list[np.ndarray]:
        """What the units of each layer output at `X (N, n)` float64: int8 `(N, units)` in {-1, +1}."""
        found, below = [], np.asarray(X, dtype=np.float64)
        for weight, bias in self.weights:
            found.append(unit_outputs(below, weight, bias))
            below = found[-1].astype(np.float64)
        return found

    def sums(self, X: np.ndarray) -> np.ndarray:
        """The sums of the last layer at `X (N, n)`: `(N, units)` float64; exact where weights and bias are whole."""
        below = self.outputs(X)[-2].astype(np.float64) if len(self.weights) > 1 else np.asarray(X, dtype=np.float64)
        weight, bias = self.weights[-1]
        return below @ weight.T + bias

    def classes(self, X: np.ndarray) -> np.ndarray:
        """The number of the class at each row of `X (N, n)`: `(N,)` int64.

        One output unit: 1 where it outputs +1, else 0. Several: the unit with the largest sum, the first of equal ones.
        Where just one of them outputs +1, that is this one.
        """
        if len(X) > _CHUNK:
            return np.concatenate([self.classes(X[start : start + _CHUNK]) for start in range(0, len(X), _CHUNK)])
        if len(self.weights[-1][1]) == 1:
            return (self.outputs(X)[-1][:, 0] > 0).astype(np.int64)
        weight, bias = self.weights[-1]
        if bool((weight == np.round(weight)).all() and (bias == np.round(bias)).all()):
            return self.sums(X).argmax(axis=1)
        below, place = np.unique(self.outputs(X)[-2], axis=0, return_inverse=True)
        units = list(zip(weight.tolist(), bias.tolist(), strict=True))
        sums = [[exact_sum(row, w, b) for w, b in units] for row in below.tolist()]
        return np.array([row.index(max(row)) for row in sums], dtype=np.int64)[place.reshape(-1)]

    @property
    def is_whole(self) -> bool:
        """Whether all weights and biases are whole numbers."""
        return all(bool((array == np.round(array)).all()) for pair in self.weights for array in pair)

    def whole(self) -> list[list[tuple[list[int], int]]]:
        """Whole weights and bias of each unit of each layer that give the same outputs, as small as scaling makes them.

        Floats are fractions of a power of two, so every unit has some. Several output units are scaled together, since
        their sums are compared.
        """
        layers = [(weight.tolist(), bias.tolist()) for weight, bias in self.weights]
        below = [[_whole([[*w, b]])[0] for w, b in zip(*layer, strict=True)] for layer in layers[:-1]]
        last = _whole([[*w, b] for w, b in zip(*layers[-1], strict=True)])
        return [[(unit[:-1], unit[-1]) for unit in layer] for layer in (*below, last)]


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


def _whole(rows: list[list[float]]) -> list[list[int]]:
    """The smallest whole numbers in the ratios of these."""
    exact = [[Fraction(v) for v in row] for row in rows]
    common = lcm(*(v.denominator for row in exact for v in row))
    scaled = [[int(v * common) for v in row] for row in exact]
    divisor = gcd(*(v for row in scaled for v in row)) or 1
    return [[v // divisor for v in row] for row in scaled]


def read_layers(weights: Sequence[tuple[Any, Any]]) -> Layers:
    """`Layers` of tensors or arrays; zeros lose their signs."""
    return Layers(tuple((np.asarray(w, np.float64) + 0.0, np.asarray(b, np.float64) + 0.0) for w, b in weights))
