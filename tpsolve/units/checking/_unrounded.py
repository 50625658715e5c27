"""Proofs about numbers that float64 rounds, checked for these numbers and not for the rounded ones."""

from collections.abc import Sequence
from fractions import Fraction
from math import lcm
from operator import mul

from flint import fmpz_mat
from torch import Tensor

from tpsolve.units.checking._certificate import Certificate


class ExactRows:
    """Rows of exact numbers, each feature times a whole number that makes it whole: that moves no hyperplane's sides.

    Args:
        rows: `(N, n)`.

    Attributes:
        whole: `(N, n + 1)` whole numbers, a 1 at the end of each row.
        scales: `(n,)`, what each feature was multiplied by.
    """

    whole: list[list[int]]
    scales: list[int]

    def __init__(self, rows: Sequence[Sequence[Fraction]]) -> None:
        self.scales = [lcm(*(v.denominator for v in column)) for column in zip(*rows, strict=True)]
        self.whole = [
            [*(v.numerator * (s // v.denominator) for v, s in zip(row, self.scales, strict=True)), 1] for row in rows
        ]

    def points(self) -> list[tuple[Fraction, ...]]:
        """The rows as they were given."""
        return [tuple(map(Fraction, row, self.scales)) for row in self.whole]

    def sums(self, weight: Sequence[Fraction], bias: Fraction) -> list[Fraction]:
        """Weight @ row + bias of each of the N rows."""
        exact = [*(w / s for w, s in zip(weight, self.scales, strict=True)), bias]
        below = lcm(*(v.denominator for v in exact))
        whole = [v.numerator * (below // v.denominator) for v in exact]
        return [Fraction(sum(map(mul, whole, row)), below) for row in self.whole]

    def multipliers(self, circuit: Sequence[int], signs: Sequence[int], *, has_bias: bool = True) -> list[Fraction]:
        """The lambda > 0 with sum 1 for which `sum lambda sign row = 0` over the rows of `circuit`, where they are the
        only ones up to scale; else none.
        """
        points = [self.whole[k] if has_bias else self.whole[k][:-1] for k in circuit]
        null, nullity = fmpz_mat([list(column) for column in zip(*points, strict=True)]).nullspace()
        products = [int(null[k, 0]) * sign for k, sign in enumerate(signs)]
        if nullity != 1 or not (min(products) > 0 or max(products) < 0):
            return []
        return [Fraction(product, sum(products)) for product in products]


def holds_unrounded(certificate: Certificate, rows: ExactRows, targets: Tensor) -> list[bool]:
    """For each unit with a claim, whether its proof holds for N exact `rows` and `targets (N, m)` in {-1, 0, +1}.

    An undecided unit claims nothing, which holds.
    """
    signs = targets.T.long().tolist()
    return [_holds(certificate, unit, rows, signs[unit]) for unit in range(len(signs))]


def _holds(certificate: Certificate, unit: int, rows: ExactRows, signs: list[int]) -> bool:
    status = int(certificate.status[unit])
    if status > 0:
        *weight, bias = exact_weights(certificate, unit)
        return all(sign * total > 0 for total, sign in zip(rows.sums(weight, bias), signs, strict=True) if sign)
    if status < 0:
        circuit = certificate.circuit(unit).tolist()
        return bool(rows.multipliers(circuit, [signs[k] for k in circuit], has_bias=certificate.has_bias))
    return True


def exact_weights(certificate: Certificate, unit: int) -> tuple[Fraction, ...]:
    """The weights of a separable unit, the bias last, as the exact numbers that they are."""
    given = (*certificate.weight[unit].tolist(), float(certificate.bias[unit]))
    return certificate.rationals.get(unit) or tuple(map(Fraction, given))
