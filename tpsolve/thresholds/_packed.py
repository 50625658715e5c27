"""Tensors of few values in one or two bits an element, for backward passes that need no more of them."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import embedding, pad

Layout = tuple[torch.Size, tuple[int, ...], int]
"""Size, strides and offset of a tensor on its storage."""
_SPREAD = 0x0102040810204080
"""Times eight bytes of 0 or 1, this has all eight in its highest byte."""


@dataclass(frozen=True)
class Packed:
    """A storage of at most four values.

    Args:
        kept: uint8, one or two bits an element.
        values: two or four of them, on the same device, in the dtype of what is unpacked.
        count: elements.
    """

    kept: Tensor
    values: Tensor
    count: int

    def unpacked(self, layout: Layout) -> Tensor:
        """The tensor that lay so on the storage."""
        numbers = _numbers(len(self.values)).to(self.kept.device)
        table = self.values[numbers]
        return embedding(self.kept.int(), table).view(-1)[: self.count].as_strided(*layout)


def pack_bits(ones: Tensor, values: Tensor) -> Packed:
    """`ones (n,)` bool: where the second of two `values` stands."""
    bytes_ = pad(ones.view(torch.uint8), (0, -len(ones) % 8))
    return Packed(((bytes_.view(torch.int64) * _SPREAD) >> 56).to(torch.uint8), values, len(ones))


def pack_pairs(codes: Tensor, values: Tensor) -> Packed:
    """`codes (n,)` uint8: which of four `values`, 0 to 3."""
    x = pad(codes, (0, -len(codes) % 4)).view(torch.int32)
    return Packed((x | x >> 6 | x >> 12 | x >> 18).to(torch.uint8), values, len(codes))


@cache
def _numbers(values: int) -> Tensor:
    """Which value each element of a byte has: `(256, 8)` of two values, `(256, 4)` of four."""
    each = 8 if values == 2 else 4
    every = torch.cartesian_prod(*[torch.arange(values, dtype=torch.uint8)] * each)
    codes, dummy = every.flatten(), torch.zeros(values)
    packed = pack_bits(codes.bool(), dummy) if values == 2 else pack_pairs(codes, dummy)
    found = torch.empty(256, each, dtype=torch.int64)
    found[packed.kept.long()] = every.long()
    return found


@dataclass(frozen=True)
class ShapeOnly:
    """A tensor whose elements no backward pass reads."""

    dtype: torch.dtype
    device: torch.device

    def unpacked(self, layout: Layout) -> Tensor:
        """A tensor of that size and those strides, with any elements."""
        size, stride, _ = layout
        return torch.empty_strided(size, stride, dtype=self.dtype, device=self.device)
