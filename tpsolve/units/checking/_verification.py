"""Proofs about separability, checked only from raw data; nothing here is shared with a solver.

Weights and the signs of multipliers are checked in floating point with a rigorous error bound, and in
integers where that can't decide: floats are dyadic rationals, so scaling by a power of two makes them
integers without rounding. That a dependency exists is an equality, which rounding can't prove: where
counting the equations does not show it, integers must.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from flint import fmpz_mat, nmod_mat
from torch import Tensor

from tpsolve.units.checking._enclosure import dependency_signs

_PRIME = 2**61 - 1
_ROUNDING = 2.0**-52
_UNDERFLOW = 2.0**-1021
_ELEMENTS = 2**22


def separates(inputs: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`(m,)` bool: whether unit k gives every sample with a target a positive margin, exactly.

    Args:
        inputs: `(N, n)` float64.
        targets: `(N, m)` in {-1, 0, +1}.
        weight, bias: `(m, n)` and `(m,)` float64, taken as the exact numbers that they are.
    """
    finite = torch.isfinite(weight).all(dim=1) & torch.isfinite(bias)
    proven = torch.zeros(len(bias), dtype=torch.bool, device=inputs.device)
    size = max(1, _ELEMENTS // len(inputs))
    for first in range(0, len(bias), size):
        part = slice(first, first + size)
        w, b, t = weight[part], bias[part], targets[:, part]
        margin = t * torch.addmm(b, inputs, w.T)
        # An inner product of n + 1 terms in any order errs by at most (n + 1) u times that of the
        # absolute values, u = 2^-53 (Higham 2002, section 3.1); four times that covers the rounding
        # of the bound itself, and the last term what underflows or is flushed to zero.
        bound = torch.addmm(b.abs(), inputs.abs(), w.abs().T) * (2 * (inputs.shape[1] + 2) * _ROUNDING)
        bound += 2 * (inputs.shape[1] + 2) * _UNDERFLOW
        cares = t != 0
        refuted = (cares & (margin < -bound)).any(dim=0)
        unsure = cares & ~(margin > bound)
        proven[part] = finite[part] & ~refuted & ~unsure.any(dim=0)
        for k in (finite[part] & ~refuted & unsure.any(dim=0)).nonzero()[:, 0].tolist():
            rows = unsure[:, k]
            exact = [Fraction(v) for v in [*w[k].tolist(), float(b[k])]]
            proven[first + k] = separates_exactly(inputs[rows], t[rows, k], exact)
    return proven


def separates_exactly(inputs: Tensor, targets: Tensor, weights: Sequence[Fraction]) -> bool:
    """Whether every sample with a target has a positive margin under rational `weights (n + 1,)`, bias last."""
    rows = targets != 0
    if not bool(rows.any()):
        return True
    points = _with_one(inputs[rows].cpu().numpy())
    common = np.lcm.reduce(np.array([w.denominator for w in weights], dtype=object))
    vector = fmpz_mat([[int(w * common)] for w in weights])
    values = (fmpz_mat(to_integers(points, together=True)) * vector).entries()
    return all(v * s > 0 for v, s in zip(values, targets[rows].long().tolist(), strict=True))


class CircuitChecker:
    """Checks which sets of samples are circuits; what is learned of a set serves every unit.

    Args:
        inputs: `(N, n)` float64.
        has_bias: whether the points are (x, 1) or x.
    """

    def __init__(self, inputs: Tensor, has_bias: bool) -> None:
        points = inputs.cpu().numpy()
        self._points = _with_one(points) if has_bias else points
        self._signs: dict[tuple[int, ...], list[int] | None] = {}

    def learn(self, supports: Iterable[Sequence[int]]) -> None:
        """Decide many sets at once in floating point, where its error bound allows; the rest stay for later."""
        by_size: dict[int, list[tuple[int, ...]]] = {}
        for support in {tuple(s) for s in supports} - self._signs.keys():
            if len(support) > 1 and self._in_range(support):
                by_size.setdefault(len(support), []).append(support)
        for size, sets in by_size.items():
            equations = self._points[np.array(sets)].transpose(0, 2, 1)
            # With k - 1 equations, all others being 0 = 0, some dependency exists; regularity makes it the only one.
            used = (equations != 0).any(axis=2)
            square = used.sum(axis=1) == size - 1
            if square.any():
                signs = dependency_signs(equations[square][used[square]].reshape(-1, size - 1, size))
                chosen = [s for s, is_square in zip(sets, square, strict=True) if is_square]
                self._signs |= {s: row for s, row in zip(chosen, signs, strict=True) if row is not None}

    def is_circuit(self, support: Sequence[int], signs: Sequence[int]) -> bool:
        """Whether `sum lambda_i s_i (x_i, 1) = 0` over these samples has one solution up to scale, and it is > 0.

        Then no weights give all of them a positive margin, and any proper subset has such weights.
        """
        if not support or len(set(support)) != len(support) or 0 in signs or not self._in_range(support):
            return False
        key = tuple(support)
        if key not in self._signs:
            dependency = self.dependency(support)
            self._signs[key] = None if dependency is None else [1 if v > 0 else -1 for v in dependency]
        found = self._signs[key]
        if found is None:
            return False
        return len({v * s > 0 for v, s in zip(found, signs, strict=True)}) == 1

    def dependency(self, support: Sequence[int]) -> list[Any] | None:
        """The whole numbers mu with `sum mu_i (x_i, 1) = 0`, if they are unique up to scale and none is 0."""
        return _dependency(to_integers(self._points[list(support)].T, together=False))

    def _in_range(self, support: Sequence[int]) -> bool:
        return min(support) >= 0 and max(support) < len(self._points)


def to_integers(values: np.ndarray, *, together: bool) -> list[list[int]]:
    """`values (r, c)` float64 times a power of two that makes them whole, exactly.

    Args:
        together: one power for all, else one for each row.
    """
    fraction, exponent = np.frexp(values)
    whole = (fraction * 2.0**53).astype(np.int64)
    low = whole & -whole
    zeros = np.where(whole == 0, 0, np.frexp(low.astype(np.float64))[1] - 1)
    whole = whole >> zeros
    power = np.where(whole == 0, np.iinfo(np.int64).max // 4, exponent.astype(np.int64) - 53 + zeros)
    least = power.min() if together else power.min(axis=1, keepdims=True)
    shift = np.where(whole == 0, 0, power - least)
    bits = np.where(whole == 0, 0, 53 - zeros + shift)
    if bits.max(initial=0) < 63:
        return (whole << shift).tolist()
    return [
        [int(v) << int(s) for v, s in zip(numbers, shifts, strict=True)]
        for numbers, shifts in zip(whole.tolist(), shift.tolist(), strict=True)
    ]


def _with_one(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def _dependency(rows: list[list[int]]) -> list[Any] | None:
    # The columns of `rows (d, k)` form a circuit if and only if their rank is k - 1 and no entry of
    # the null vector is 0. A rank modulo a prime never exceeds the true one, so "k" is final, and
    # "k - 1" leaves k - 1 rows that fix the null vector, which must then pass the other rows too.
    columns = len(rows[0])
    rows = [row for row in rows if any(row)]
    if columns == 1:
        return None if rows else [1]
    if len(rows) < columns - 1:
        return None
    across = nmod_mat(columns, len(rows), [row[k] % _PRIME for k in range(columns) for row in rows], _PRIME)
    reduced, rank = across.rref()
    if rank == columns:
        return None
    if rank < columns - 1:
        return _slow_dependency(rows)
    chosen = [rows[k] for k in _pivots(reduced, rank, len(rows))]
    try:
        solution: Any = fmpz_mat([row[:-1] for row in chosen]).solve(fmpz_mat([[-row[-1]] for row in chosen]))
    except ZeroDivisionError:
        # Some dependency leaves out the last column: none, or not the only one.
        return None
    numerator, denominator = solution.numer_denom()
    vector = [*numerator.entries(), denominator]
    if any(v == 0 for v in vector):
        return None
    remainders = (fmpz_mat(rows) * fmpz_mat([[v] for v in vector])).entries()
    return None if any(r != 0 for r in remainders) else vector


def _slow_dependency(rows: list[list[int]]) -> list[Any] | None:
    null, nullity = fmpz_mat(rows).nullspace()
    if nullity != 1:
        return None
    vector = [null[k, 0] for k in range(len(rows[0]))]
    return None if any(v == 0 for v in vector) else vector


def _pivots(reduced: Any, rank: int, columns: int) -> list[int]:
    pivots, column = [], 0
    for row in range(rank):
        while int(reduced[row, column]) == 0:
            column += 1
        pivots.append(column)
        column += 1
    return pivots
