"""Tensors of two values in one bit an element, and tensors without elements, for backward passes that need no more."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import embedding, pad

Layout = tuple[torch.Size, tuple[int, ...], int]
"""Size, strides and offset of a tensor on its storage."""


@dataclass(frozen=True)
class Packed:
    """A storage of two values.

    Args:
        kept: `(ceil(n / 8),)` uint8, one bit an element.
        values: the two, on the same device, in the dtype of what is unpacked.
        count: n.
    """

    kept: Tensor
    values: Tensor
    count: int

    @classmethod
    def of(cls, elements: Tensor, low: int, values: Sequence[float] | Tensor) -> "Packed":
        """Where `elements (n,)` are `low`, 0 or -1, the first of the `values`; where they are 1, the second one."""
        count, device = len(elements), elements.device
        eights = (pad(elements, (0, -count % 8), value=low) if count % 8 else elements).view(-1, 8)
        # A product of matrices takes a third of the time of a conversion to bytes. All sums are exact, in any dtype.
        sums = eights @ torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=elements.dtype, device=device)
        kept = sums.to(torch.uint8) if low == 0 else ((sums.to(torch.int16) + 255) >> 1).to(torch.uint8)
        return cls(kept, torch.as_tensor(values, dtype=elements.dtype, device=device), count)

    def unpacked(self, layout: Layout) -> Tensor:
        """The tensor that lay so on the storage."""
        table = self.values[_bits().to(self.kept.device)]
        return embedding(self.kept.int(), table).view(-1)[: self.count].as_strided(*layout)


@cache
def _bits() -> Tensor:
    """Those of each byte, `(256, 8)`, the lowest first."""
    return torch.arange(256)[:, None] >> torch.arange(8) & 1


@dataclass
class Interval:
    """Pre-activations of which only one bit counts, or that and the sign.

    Args:
        sizes: stand for |z|: of two kinds. signed: whether signs count. signs: follow from the outputs, once there are
            some.
    """

    sizes: Packed
    signed: bool
    signs: Packed | None = None

    def unpacked(self, layout: Layout) -> Tensor:
        """Other pre-activations, of which the rule gives the same."""
        if not self.signed:
            return self.sizes.unpacked(layout)
        assert self.signs is not None
        return self.sizes.unpacked(layout) * self.signs.unpacked(layout)


@dataclass(frozen=True)
class ShapeOnly:
    """A tensor whose elements no backward pass reads."""

    dtype: torch.dtype
    device: torch.device

    def unpacked(self, layout: Layout) -> Tensor:
        """A tensor of that size and those strides, with any elements."""
        size, stride, _ = layout
        return torch.empty_strided(size, stride, dtype=self.dtype, device=self.device)
