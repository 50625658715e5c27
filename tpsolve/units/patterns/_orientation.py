"""Exact signs of determinants: on which side of the hyperplane through some rows do other rows lie?"""

import math
from itertools import combinations

import torch
from flint import fmpz_mat
from torch import Tensor

_ROUNDING = 2.0**-53
_WHOLE = 2.0**52
_UNDERFLOW = 2.0**-900


class Orientation:
    """Signs of det(row, rows[through]), computed in float64 where that certainly decides, else in integers.

    Args:
        rows: `(R, d)` float64, finite, taken as the exact numbers that they are.
    """

    def __init__(self, rows: Tensor) -> None:
        # Scaling a column by a power of two changes no sign.
        scale = torch.frexp(rows.abs().amax(dim=0)).exponent
        self.rows = torch.ldexp(rows, -scale)
        self._columns = self.rows.T.contiguous()
        self._size = self.rows.abs().sum(dim=1)
        ratios = [[v.as_integer_ratio() for v in row] for row in rows.tolist()]
        common = [max(below for _, below in column) for column in zip(*ratios, strict=True)]
        self._exact = [[above * (c // below) for (above, below), c in zip(row, common, strict=True)] for row in ratios]
        # A determinant is a whole multiple of 1 / units.
        bits = sum(math.log2(c) for c in common) + int(scale.sum())
        self._units = 2.0 ** min(bits, 900.0)

    def signs(self, through: Tensor, rows: Tensor) -> Tensor:
        """The sign in {-1, 0, +1} of each determinant, `(B, r)` int8.

        Args:
            through: `(B, d - 1)` int64.
            rows: `(r,)` int64, or `(B, r)` for other rows each time.
        """
        normal = _cofactors(self._columns[:, through.T])
        if rows.dim() == 1:
            value, size = normal.T @ self.rows[rows].T, self._size[rows][None]
        else:
            value, size = torch.einsum("db,brd->br", normal, self.rows[rows]), self._size[rows]
        # No determinant, nor the sum of the sizes of its terms, exceeds the product of the rows' 1-norms.
        most = self._size[through].prod(dim=1, keepdim=True) * size.amax(dim=1, keepdim=True)
        # Nested minors round a term less than (d + 1)^2 times; whole numbers below 2^53 not at all.
        bound = most * (2 * (len(self._columns) + 1) ** 2 * _ROUNDING) + _UNDERFLOW
        bound[most * self._units < _WHOLE] = -1.0
        signs = torch.sign(value).to(torch.int8)
        self._decide(signs, value.abs() <= bound, through, rows)
        return signs

    def independent(self, through: Tensor) -> Tensor:
        """`(B,)` bool: whether the rows `through (B, k)` are linearly independent."""
        ranks = [fmpz_mat([self._exact[i] for i in row]).rank() if row else 0 for row in through.tolist()]
        return torch.tensor(ranks, device=through.device) == through.shape[1]

    def _decide(self, signs: Tensor, unsure: Tensor, through: Tensor, rows: Tensor) -> None:
        batch, place = unsure.nonzero(as_tuple=True)
        other = rows[place] if rows.dim() == 1 else rows[batch, place]
        signs[batch, place] = 0
        # A row lies on every hyperplane through it.
        left = (through[batch] != other[:, None]).all(dim=1)
        batch, place, other = batch[left], place[left], other[left]
        normals: dict[tuple[int, ...], list[int]] = {}
        answers = []
        for own, row in zip(map(tuple, through[batch].tolist()), other.tolist(), strict=True):
            if own not in normals:
                normals[own] = _exact_normal([self._exact[i] for i in own])
            value = sum(a * b for a, b in zip(normals[own], self._exact[row], strict=True))
            answers.append((value > 0) - (value < 0))
        signs[batch, place] = torch.tensor(answers, dtype=torch.int8, device=signs.device)


def _cofactors(columns: Tensor) -> Tensor:
    """The signed minors `(d, B)` of B matrices of d - 1 rows and d columns, `(d, d - 1, B)`."""
    d, count, batch = columns.shape
    # Minors of the last k rows on each k columns, from those of k - 1.
    minors: dict[tuple[int, ...], Tensor] = {(): columns.new_ones(batch)}
    for row in range(count - 1, -1, -1):
        wider: dict[tuple[int, ...], Tensor] = {}
        for chosen in combinations(range(d), count - row):
            total = columns[chosen[0], row] * minors[chosen[1:]]
            for place in range(1, len(chosen)):
                rest = chosen[:place] + chosen[place + 1 :]
                total.addcmul_(columns[chosen[place], row], minors[rest], value=(-1) ** place)
            wider[chosen] = total
        minors = wider
    every = tuple(range(d))
    return torch.stack([minors[every[:j] + every[j + 1 :]] * (-1) ** j for j in every])


def _exact_normal(rows: list[list[int]]) -> list[int]:
    return [
        (-1) ** j * (int(fmpz_mat([row[:j] + row[j + 1 :] for row in rows]).det()) if rows else 1)
        for j in range(len(rows) + 1)
    ]
