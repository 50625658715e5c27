"""Tensors of two values in one bit an element, and tensors without elements, for backward passes that need no more."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, pad

Layout = tuple[torch.Size, tuple[int, ...], int]
"""Size, strides and offset of a tensor on its storage."""
CHUNK = 1 << 17
"""Elements that a processor packs at a time, so that what lies between stays in its cache and no tensor is made of it:
new pages for one take longer than the work. A multiple of 8."""
BITS = torch.arange(256)[:, None] >> torch.arange(8) & 1
"""Those of each byte, `(256, 8)`, the lowest first."""
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
POWERS = {dtype: 2 ** torch.arange(8, dtype=dtype) for dtype in DTYPES}
"""What bits count in a byte."""
TABLES = {(*pair, dtype): torch.tensor(pair, dtype=dtype)[BITS] for pair in ((-1, 1), (0, 1)) for dtype in DTYPES}
"""For outputs of a threshold what each byte unpacks to, `(256, 8)`."""


@dataclass(frozen=True)
class Packed:
    """A storage of two values.

    Args:
        kept: `(ceil(n / 8),)` uint8, one bit an element.
        values: the two, on the same device, in the dtype of what is unpacked; or a key of `TABLES`.
        count: n.
    """

    kept: Tensor
    values: Tensor | tuple[int, int, torch.dtype]
    count: int

    @classmethod
    def of(cls, elements: Tensor, low: int) -> "Packed":
        """Outputs of a threshold, `elements (n,)`, each `low`, -1 or 0, or 1."""
        return cls.made(None, elements, low, (low, 1, elements.dtype))

    @classmethod
    def made(
        cls,
        make: Callable[[Tensor], Tensor] | None,
        elements: Tensor,
        low: int,
        values: Tensor | tuple[int, int, torch.dtype],
    ) -> "Packed":
        """The first of the values where elements are `low`, the second one where they are 1.

        They are what `make` gives for `elements (n,)`, elementwise and in their dtype; None: the elements themselves.
        """
        kept = torch.empty(-(-len(elements) // 8), dtype=torch.uint8, device=elements.device)
        powers = POWERS[elements.dtype].to(elements.device)
        eighth = CHUNK // 8 if elements.device.type == "cpu" else len(kept)
        for piece, place in zip(elements.split(8 * eighth), kept.split(eighth), strict=True):
            bits = piece if make is None else make(piece)
            eights = pad(bits, (0, -len(bits) % 8), value=low) if len(bits) % 8 else bits
            # A product of matrices takes a third of the time of a conversion to bytes. Sums are exact in any dtype.
            sums = eights.view(-1, 8) @ powers
            place.copy_(sums if low == 0 else sums.add_(255).mul_(0.5))
        return cls(kept, values, len(elements))

    def unpacked(self, layout: Layout) -> Tensor:
        """The tensor that lay so on the storage."""
        device = self.kept.device
        table = TABLES[self.values].to(device) if isinstance(self.values, tuple) else self.values[BITS.to(device)]
        return embedding(self.kept.int(), table).view(-1)[: self.count].as_strided(*layout)


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
