"""Signs of the dependency between k points in k - 1 equations, proved in floating point for many sets at once.

With an approximate inverse R of a square matrix A and alpha = |I - R A| < 1 in the norm of the largest row sum,
A is regular, and the solution of A y = -b differs from any guess g by at most d + alpha / (1 - alpha) max(d), where
d = |R| |A g + b| (Rump, "Verification methods: rigorous results using floating-point arithmetic", 2010, section 10).
"""

import numpy as np
import torch
from torch import Tensor

_UNIT = 2.0**-53
_UNDERFLOW = 2.0**-1021
# Covers the rounding of sums of up to 10^5 positive numbers.
_WIDER = 1 + 1e-10
_MAX_ALPHA = 1e-3
_ELEMENTS = 2**22


def dependency_signs(equations: np.ndarray) -> list[list[int] | None]:
    """For each of c sets of `equations (c, k - 1, k)` float64, the signs of the numbers y with equations @ y = 0.

    Signs mean a proof: y is unique up to scale, no entry is 0, and the last is positive. None means
    nothing: rounding could not decide, or there is no such y.
    """
    sets, size = len(equations), equations.shape[2]
    at_once = max(1, _ELEMENTS // size**2)
    signs: list[list[int] | None] = []
    for first in range(0, sets, at_once):
        scaled, exact = _balanced(equations[first : first + at_once])
        value, error = _enclose(torch.from_numpy(scaled))
        proved = torch.from_numpy(exact) & (value.abs() > error).all(dim=1)
        rows = torch.sign(value).long().tolist()
        signs += [[*row, 1] if good else None for row, good in zip(rows, proved.tolist(), strict=True)]
    return signs


def _balanced(equations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows, then columns times powers of two so that the largest entries are near 1, and whether that was exact."""
    scaled = equations
    for axis in (2, 1):
        _, exponent = np.frexp(np.abs(scaled).max(axis=axis, keepdims=True))
        scaled = np.ldexp(scaled, -exponent)
    # What is not tiny has lost no digit.
    exact = ((np.abs(scaled) > 2.0**-900) | (equations == 0)).all(axis=(1, 2))
    return scaled, exact


def _enclose(equations: Tensor) -> tuple[Tensor, Tensor]:
    """The solution `(c, k - 1)` with last entry 1, and how far it can be off; infinite where nothing is proved."""
    a, b = equations[:, :, :-1], equations[:, :, -1:]
    inverse, failed = torch.linalg.inv_ex(a)
    size = a.shape[1]
    # An inner product of n terms errs by at most n u / (1 - n u) times that of the absolute values
    # (Higham 2002, section 3.1); here with room to spare, and a term for underflow.
    relative, absolute = 4 * (size + 2) * _UNIT, 2 * (size + 2) * _UNDERFLOW
    off = (torch.eye(size, dtype=a.dtype) - inverse @ a).abs()
    off += relative * (inverse.abs() @ a.abs() + 1) + absolute
    alpha = off.sum(dim=2).amax(dim=1) * _WIDER
    value = -(inverse @ b)
    rest = (a @ value + b).abs() + relative * (a.abs() @ value.abs() + b.abs()) + absolute
    distance = (inverse.abs() @ rest)[:, :, 0] * _WIDER + absolute
    error = (distance + (alpha / (1 - alpha))[:, None] * distance.amax(dim=1, keepdim=True)) * _WIDER
    fine = (failed == 0) & (alpha < _MAX_ALPHA) & torch.isfinite(error).all(dim=1)
    return value[:, :, 0], torch.where(fine[:, None], error, torch.inf)
