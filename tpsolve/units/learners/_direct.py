"""Newton directions by Cholesky's method, from the few samples of each unit that curve its loss."""

import torch
from torch import Tensor

from tpsolve.units._data import WORKING_ELEMENTS
from tpsolve.units.learners._basis import Basis

_MAX_FEATURES = 1024
_MAX_CURVED = 4
"""Curved samples per feature, beyond which conjugate gradients cost less."""


def is_direct(basis: Basis, curvature: Tensor) -> bool:
    """Whether `direction` costs less than conjugate gradients."""
    features = basis.inputs.shape[1]
    curved = int((curvature > 0).sum(dim=0).max()) if curvature.numel() else 0
    return features <= _MAX_FEATURES and curved <= _MAX_CURVED * (features + 1)


def direction(
    basis: Basis, curvature: Tensor, gradient: Tensor, gradient_bias: Tensor, l2: float, least: Tensor
) -> tuple[Tensor, Tensor]:
    """The weights `(d, c)` and biases `(c,)` that solve H step = -gradient.

    Args:
        curvature: `(N, c)` >= 0.
        least: `(c,)`, added to the curvature of the bias.
    """
    rows = (curvature > 0).T.nonzero()
    counts = (curvature > 0).sum(dim=0)
    width, features = max(1, int(counts.max())), basis.inputs.shape[1]
    place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows[:, 0]]
    samples = rows.new_zeros(len(counts), width)
    samples[rows[:, 0], place] = rows[:, 1]
    own = curvature.new_zeros(len(counts), width)
    own[rows[:, 0], place] = curvature.T[rows[:, 0], rows[:, 1]]
    step = torch.zeros_like(gradient), torch.zeros_like(gradient_bias)
    if not features + basis.bias:
        return step
    at_once = max(1, WORKING_ELEMENTS // (2 * (width + features) * (features + 1)))
    for units in torch.arange(len(counts), device=rows.device).split(at_once):
        points = basis.inputs[samples[units]]
        if basis.bias:
            points = torch.nn.functional.pad(points, (0, 1), value=1.0)
        hessian = (points * own[units][:, :, None]).mT @ points
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        diagonal[:, :features] += l2
        if basis.bias:
            diagonal[:, features] += least[units]
        diagonal += 1e-15 * diagonal.amax(dim=1, keepdim=True)
        slope = gradient[:, units].T
        if basis.bias:
            slope = torch.cat([slope, gradient_bias[units, None]], dim=1)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        found = -torch.cholesky_solve(slope[:, :, None], factor)[:, :, 0]
        good = (failed == 0)[:, None] & torch.isfinite(found).all(dim=1, keepdim=True)
        found = torch.where(good, found, -slope / diagonal)
        step[0][:, units] = found[:, :features].T
        if basis.bias:
            step[1][units] = found[:, features]
    return step
