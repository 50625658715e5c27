"""Coordinates in which samples are well scaled, and the way back to raw weights."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """Samples as vectors of the homogeneous problem, whitened.

    Each raw sample (x, 1), or x without bias, is mapped linearly and scaled by a positive factor,
    neither of which changes what is separable; so is the sum of squares of each coordinate, to N.

    Args:
        points: `(N, d)` float64.
        back: `(d, n + 1)` float64: `w @ back` are raw weights, the bias last.
    """

    points: Tensor
    back: Tensor


def make_frame(inputs: Tensor, bias: bool) -> Frame:
    """The frame of `inputs (N, n)`; d is their numerical rank.

    Rounding makes it a guide to separability, never a proof.
    """
    x = inputs.double()
    rows, features = x.shape
    # Powers of two scale without rounding.
    scale = torch.exp2(torch.frexp(x.abs().amax(dim=0)).exponent.double())
    back = torch.diag_embed(1 / scale)
    if bias:
        points = torch.cat([x / scale, x.new_ones(rows, 1, dtype=torch.float64)], dim=1)
        centre = points[:, :-1].mean(dim=0)
        points[:, :-1] -= centre
        back = torch.cat([back, -centre[:, None]], dim=1)
        back = torch.cat([back, torch.eye(features + 1, dtype=back.dtype, device=back.device)[-1:]])
    else:
        points = x / scale
        back = torch.cat([back, back.new_zeros(features, 1)], dim=1)
    points = points / points.abs().amax(dim=1, keepdim=True).clamp(min=2.0**-1000)
    values, vectors = _singular(points)
    keep = values > values.max() * max(points.shape) * 2.0**-52
    if not bool(keep.any()):
        return Frame(points[:, :1], back[:1])
    whiten = vectors[:, keep] * (rows**0.5 / values[keep])
    return Frame(points @ whiten, whiten.T @ back)


def _singular(points: Tensor) -> tuple[Tensor, Tensor]:
    # The Gram matrix is much cheaper, but it loses directions below 1e-8 of the largest.
    if points.shape[0] * points.shape[1] ** 2 <= 1e9:
        _, values, right = torch.linalg.svd(points, full_matrices=False)
        return values, right.T
    squares, vectors = torch.linalg.eigh(points.T @ points)
    squares = torch.where(squares > squares.max() * 1e-13, squares, 0.0)
    return squares.sqrt(), vectors
