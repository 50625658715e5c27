"""Inputs in the directions of their principal components: there one diagonal serves all units.

An l2 penalty does not change under rotation, and in these directions the Hessians of all units are
near diagonal, so that conjugate gradients need few products.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve.units._base import Units

_MAX_ROTATED = 2048


@dataclass(frozen=True)
class Basis:
    """Inputs as the learners see them.

    Args:
        inputs: `(N, d)`, centred if there is a bias, scaled to at most 1, and rotated unless both N and n are large.
        centre: `(n,)`; zeros without bias.
        rotation: `(n, d)` with orthonormal columns, or None.
        scale: a power of two, by which the inputs were divided.
        bias: whether the units have one.
    """

    inputs: Tensor
    centre: Tensor
    rotation: Tensor | None
    bias: bool
    scale: float

    def to_raw(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weights `(d, m)` and bias `(m,)` in this basis as raw ones, `(m, n)` and `(m,)`."""
        raw = (weight.T if self.rotation is None else weight.T @ self.rotation.T) / self.scale
        return raw.contiguous(), bias - raw @ self.centre

    def from_raw(self, start: Units, units: slice) -> tuple[Tensor, Tensor]:
        """The other way for some units; what lies outside the span of the inputs is dropped."""
        weight, bias = start.weight[units].to(self.inputs.dtype), start.bias[units].to(self.inputs.dtype)
        own = weight if self.rotation is None else weight @ self.rotation
        return own.T * self.scale, bias + weight @ self.centre


def make_basis(inputs: Tensor, bias: bool) -> Basis:
    """The basis of `inputs (N, n)`; directions in which they don't vary are left out."""
    centre = inputs.mean(dim=0) if bias else torch.zeros_like(inputs[0])
    x = inputs - centre
    # What is very small or large would meet the least curvature and the rounding of sums.
    scale = 2.0 ** min(1023, int(torch.frexp(x.abs().max()).exponent))
    x = x / scale
    rows, features = x.shape
    if min(rows, features) > _MAX_ROTATED:
        return Basis(x, centre, None, bias, scale)
    wide = x.double()
    if features <= rows:
        squares, vectors = torch.linalg.eigh(wide.T @ wide)
        keep = squares > squares[-1] * 1e-14
        rotation = vectors[:, keep]
    else:
        squares, vectors = torch.linalg.eigh(wide @ wide.T)
        keep = squares > squares[-1] * 1e-12
        rotation = wide.T @ (vectors[:, keep] / squares[keep].sqrt())
        rotation = torch.linalg.qr(rotation)[0]
    rotation = rotation.to(inputs.dtype)
    return Basis(x @ rotation, centre, rotation, bias, scale)
