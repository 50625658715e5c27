"""Whether a certificate of rounded inputs is one of the numbers that they round."""

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

from flint import fmpz_mat
from torch import Tensor

from tpsolve.units.checking._certificate import Certificate


def holds_unrounded(certificate: Certificate, rows: Sequence[Sequence[Fraction]], targets: Tensor) -> list[bool]:
    """For each unit with a claim, whether its proof holds for exact `rows (N, n)` and `targets (N, m)` in {-1, 0, 1}.

    An undecided unit claims nothing, which holds.
    """
    signs = targets.T.long().tolist()
    return [_holds(certificate, unit, rows, signs[unit]) for unit in range(len(signs))]


def _holds(certificate: Certificate, unit: int, rows: Sequence[Sequence[Fraction]], signs: list[int]) -> bool:
    status = int(certificate.status[unit])
    if status > 0:
        given = [*certificate.weight[unit].tolist(), float(certificate.bias[unit])]
        *weight, bias = certificate.rationals.get(unit) or map(Fraction, given)
        return all(
            sign * (sum(w * v for w, v in zip(weight, row, strict=True)) + bias) > 0
            for row, sign in zip(rows, signs, strict=True)
            if sign
        )
    if status < 0:
        circuit = certificate.circuit(unit).tolist()
        points = [[*rows[k], *([Fraction(1)] if certificate.has_bias else [])] for k in circuit]
        below = [lcm(*(v.denominator for v in column)) for column in zip(*points, strict=True)]
        whole = [[int(v * scale) for v, scale in zip(point, below, strict=True)] for point in points]
        null, nullity = fmpz_mat([list(column) for column in zip(*whole, strict=True)]).nullspace()
        products = [int(null[place, 0]) * signs[k] for place, k in enumerate(circuit)]
        return nullity == 1 and (min(products) > 0 or max(products) < 0)
    return True
