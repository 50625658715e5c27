"""Spins: values in {-1, +1}, and their conversions."""

from collections.abc import Sequence

import torch
from torch import Tensor


def sign(z: Tensor) -> Tensor:
    """The hard threshold: +1 where z >= 0, -1 where z < 0, NaN where z is NaN. Same shape and dtype."""
    # floor of z in [-1, 0] is -1 or 0, and NaN passes through; a fifth of the time of torch.where.
    return z.clamp(-1, 0).floor_().mul_(2).add_(1)


def to_bits(spins: Tensor) -> Tensor:
    """{-1, +1} to {0, 1}, as bool."""
    return spins > 0


def from_bits(bits: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """{0, 1} to {-1, +1}."""
    return bits.to(dtype) * 2 - 1


def random_spins(
    shape: Sequence[int],
    generator: torch.Generator,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Independent uniform spins of this shape, drawn on the generator's own device.

    Equal seeds give equal spins whatever `device` they are moved to.
    """
    bits = torch.randint(0, 2, tuple(shape), generator=generator, device=generator.device)
    return from_bits(bits.to(device), dtype)
