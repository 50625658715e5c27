"""Layers whose weights are -1, 0 and +1 and whose inputs are two-valued, in whole numbers of 64 bits: a reference."""

from typing import Any

import torch
from torch import Tensor, nn

BITS = 64
_WORDS = 2**16
"""Of a step's results, so that they stay in the processor's cache."""


class Packed(nn.Module):
    """A linear layer or a convolution over one or two axes, by exclusive or and population count.

    For spins a sum is `used - 2 popcount((x ^ plus) & used)`, where `used` are the bits of weights that are not 0. For
    inputs in {0, 1} it is `popcount(x & plus) - popcount(x & minus)`.

    Args:
        layer: an `nn.Linear`, or an `nn.Conv1d` or `nn.Conv2d` with zero padding; its strides, groups and padding are
            taken.
        weight: `(units, inputs)` or `(channels, inputs, [height,] width)` in {-1, 0, +1}.
        scale: `(units,)`, by what the sums are multiplied; None: 1. The bias of the layer is added.
        low: of the inputs, -1 or 0.
    """

    plus: Tensor
    used: Tensor | None
    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: Any, weight: Tensor, scale: Tensor | None, low: int) -> None:
        super().__init__()
        self.low, self.dense = low, isinstance(layer, nn.Linear)
        # Axes of length 1 make every layer a convolution over images.
        self.missing: int = 4 - weight.dim()
        weight = weight.reshape(*weight.shape[:2], *[1] * self.missing, *weight.shape[2:])
        ones = (1,) * self.missing
        self.groups: int = 1 if self.dense else layer.groups
        self.stride: tuple[int, ...] = ones if self.dense else (*ones, *layer.stride)
        self.dilation: tuple[int, ...] = ones if self.dense else (*ones, *layer.dilation)
        # Of width and height, before and behind.
        padding = [] if self.dense else list(layer._reversed_padding_repeated_twice)
        self.padding: list[int] = [*padding, *[0] * 2 * self.missing]
        # `(channels, words, height, width)`
        self.register_buffer("plus", _packed(weight > 0))
        self.register_buffer("used", None if bool(weight.all()) else _packed(weight != 0))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())

    def forward(self, h: Tensor) -> Tensor:
        """`(..., inputs)`, or `(N, inputs, [H,] W)`, in {low, 1} to the sums, in the dtype of `h`."""
        if self.dense:
            x = h.reshape(-1, h.shape[-1], 1, 1)
        else:
            x = h.reshape(*h.shape[:2], *[1] * self.missing, *h.shape[2:])
        used = [None] * self.groups if self.used is None else self.used.chunk(self.groups)
        parts = zip(x.chunk(self.groups, 1), self.plus.chunk(self.groups), used, strict=True)
        sums = torch.cat([self._sums(part, plus, some) for part, plus, some in parts], 1).to(h.dtype)
        for own, combine in ((self.scale, torch.mul), (self.bias, torch.add)):
            if own is not None:
                sums = combine(sums, own[:, None, None])
        if self.dense:
            return sums.reshape(*h.shape[:-1], -1)
        return sums.squeeze(2) if self.missing else sums

    def _sums(self, h: Tensor, plus: Tensor, used: Tensor | None) -> Tensor:
        """Sums `(N, channels, H', W')` of one group's inputs `h (N, inputs, H, W)`; beyond the border they add 0."""
        left, right, top, bottom = self.padding
        sizes, steps = plus.shape[2:], (self.dilation, self.stride)
        high, wide = (
            (length + before + behind - dilation * (size - 1) - 1) // stride + 1
            for length, before, behind, size, dilation, stride in zip(
                h.shape[2:], (top, left), (bottom, right), sizes, *steps, strict=True
            )
        )
        x, inputs = _packed(h > 0)[:, None], h.shape[1]
        sums = torch.zeros(len(x), len(plus), high, wide, dtype=torch.int64, device=x.device)
        chunk = max(1, _WORDS // max(1, len(x) * plus.shape[1] * high * wide))
        for i in range(sizes[0]):
            rows, own_rows = _inside(i * self.dilation[0] - top, self.stride[0], x.shape[3], high)
            for j in range(sizes[1]):
                columns, own_columns = _inside(j * self.dilation[1] - left, self.stride[1], x.shape[4], wide)
                words = x[..., own_rows, own_columns]
                for start in range(0, len(plus), chunk):
                    part = slice(start, start + chunk)
                    signs = plus[part, :, i, j, None, None]
                    some = None if used is None else used[part, :, i, j, None, None]
                    sums[:, part, rows, columns] += self._products(words, signs, some, inputs)
        return sums

    def _products(self, words: Tensor, plus: Tensor, used: Tensor | None, inputs: int) -> Tensor:
        """Sums over the words (axis 2) of products of inputs and weights."""
        if self.low == 0:
            # Bits of x are 0 behind the last input.
            minus = ~plus if used is None else used & ~plus
            return _count(words & plus).sum(2) - _count(words & minus).sum(2)
        if used is None:
            return inputs - 2 * _count(words ^ plus).sum(2)
        return _count(used.clone()).sum(1) - 2 * _count((words ^ plus).bitwise_and_(used)).sum(2)


def _inside(offset: int, stride: int, length: int, count: int) -> tuple[slice, slice]:
    """Of `count` places `offset + stride k` those in [0, length): as numbers k, and as places."""
    first = max(0, -(offset // stride))
    last = min(count, (length - 1 - offset) // stride + 1)
    last = max(first, last)
    return slice(first, last), slice(offset + stride * first, max(0, offset + stride * (last - 1) + 1), stride)


def _packed(bits: Tensor) -> Tensor:
    """Bits `(N, channels, ...)` as words `(N, words, ...)` int64; bit k of word w is that of channel 64 w + k."""
    missing = -bits.shape[1] % BITS
    padded = torch.cat([bits, bits.new_zeros(len(bits), missing, *bits.shape[2:])], 1).long()
    words = padded.unflatten(1, (-1, BITS))
    places = torch.arange(BITS, device=bits.device).reshape(-1, *[1] * (bits.dim() - 2))
    return (words << places).sum(2)


def _count(x: Tensor) -> Tensor:
    """How many bits of each word are 1 (Warren, "Hacker's Delight", section 5-1); `x` is changed in place."""
    half = (x >> 1).bitwise_and_(0x5555555555555555)
    x -= half
    torch.bitwise_right_shift(x, 2, out=half).bitwise_and_(0x3333333333333333)
    x.bitwise_and_(0x3333333333333333).add_(half)
    x.add_(torch.bitwise_right_shift(x, 4, out=half)).bitwise_and_(0x0F0F0F0F0F0F0F0F)
    # Eight counts of up to 8; those of one word make 64 at most.
    for shift in (8, 16, 32):
        x.add_(torch.bitwise_right_shift(x, shift, out=half))
    return x.bitwise_and_(0x7F)
