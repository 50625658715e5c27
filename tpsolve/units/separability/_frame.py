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
    rows = len(x)
    # Powers of two scale without rounding.
    scale = torch.exp2(torch.frexp(x.abs().amax(dim=0)).exponent.double())
    centre = None
    if bias:
        points = torch.cat([x / scale, x.new_ones(rows, 1, dtype=torch.float64)], dim=1)
        centre = points[:, :-1].mean(dim=0)
        points[:, :-1] -= centre
    else:
        points = x / scale
    points = points / points.abs().amax(dim=1, keepdim=True).clamp(min=2.0**-1000)
    values, vectors = _singular(points)
    keep = values > values.max() * max(points.shape) * 2.0**-52
    if not bool(keep.any()):
        first = torch.zeros(1, points.shape[1], dtype=torch.float64, device=x.device)
        first[0, 0] = 1
        return Frame(points[:, :1], _raw(first, scale, centre))
    whiten = vectors[:, keep] * (rows**0.5 / values[keep])
    return Frame(points @ whiten, _raw(whiten.T, scale, centre))


def _raw(weights: Tensor, scale: Tensor, centre: Tensor | None) -> Tensor:
    """Raw weights and biases `(d, n + 1)` from those of scaled points, centred or without a last column of ones."""
    parts = weights[:, : len(scale)]
    last = weights.new_zeros(len(weights)) if centre is None else weights[:, -1] - parts @ centre
    return torch.cat([parts / scale, last[:, None]], dim=1)


def _singular(points: Tensor) -> tuple[Tensor, Tensor]:
    # A Gram matrix is much cheaper, but it loses directions below 1e-8 of the largest.
    rows, columns = points.shape
    if rows * columns * min(rows, columns) <= 1e9:
        _, values, right = torch.linalg.svd(points, full_matrices=False)
        return values, right.T
    wide = rows < columns
    squares, vectors = torch.linalg.eigh(points @ points.T if wide else points.T @ points)
    squares = torch.where(squares > squares.max() * 1e-13, squares, 0.0)
    if wide:
        # Of a direction that is lost, which nobody keeps, any vector will do.
        vectors = points.T @ vectors / squares.sqrt().clamp(min=torch.finfo(squares.dtype).tiny)
    return squares.sqrt(), vectors
