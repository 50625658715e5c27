"""The hard threshold with the saturated rule in two kernels of Triton, as operators of `torch.library`.

Forward, z is read once, and the output is written with one bit an element: whether |z / width| <= 1. Backward reads the
gradient and these bits. Imported where `HardThreshold.is_fused` says so, and nowhere else: it needs triton.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from tpsolve.thresholds._hard_unit import refuse_second_derivative

BLOCK = 128
"""Bytes of bits that one program writes, for 8 elements each."""


@triton.jit
def _threshold_kernel(
    z, width, h, inside, count, inner, channels, low, EDGE: tl.constexpr, LONG: tl.constexpr, BLOCK: tl.constexpr
):
    first = tl.program_id(0).to(tl.int64) if LONG else tl.program_id(0)
    byte = first * BLOCK + tl.arange(0, BLOCK)
    place = byte[:, None] * 8 + tl.arange(0, 8)[None, :]
    here = place < count
    u = tl.load(z + place, mask=here, other=0).to(tl.float32)
    tl.store(h + place, tl.where(u < 0, low, tl.where(u >= 0, 1.0, u)), mask=here)
    if channels > 0:
        w = tl.load(width + place // inner % channels, mask=here, other=1).to(tl.float32)
        # As IEEE 754 rounds it: a plain division is an approximation.
        u = tl.div_rn(u, w)
    # NaN is no larger, and passes its gradient as torch's operator has it on a GPU.
    bit = tl.where((tl.abs(u) > EDGE) | (place >= count), 0, 1)
    # Eight at a time into a byte, by halves: tl.sum can't be interpreted where triton was imported to compile.
    bits = tl.reshape(bit << tl.arange(0, 8)[None, :], (BLOCK, 2, 2, 2))
    for _ in tl.static_range(3):
        one, other = tl.split(bits)
        bits = one + other
    tl.store(inside + byte, bits.to(tl.uint8), mask=byte * 8 < count)


@triton.jit
def _masked_kernel(g, inside, out, count, LONG: tl.constexpr, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) if LONG else tl.program_id(0)
    byte = first * BLOCK + tl.arange(0, BLOCK)
    place = byte[:, None] * 8 + tl.arange(0, 8)[None, :]
    here = place < count
    bits = tl.load(inside + byte, mask=byte * 8 < count, other=0).to(tl.int32)
    passes = ((bits[:, None] >> tl.arange(0, 8)[None, :]) & 1) != 0
    # All are loaded, since whole vectors are.
    tl.store(out + place, tl.where(passes, tl.load(g + place, mask=here, other=0), 0.0), mask=here)


@torch.library.custom_op("tpsolve::saturated_threshold", mutates_args=())
def saturated_threshold(z: Tensor, width: Tensor | None, low: int) -> tuple[Tensor, Tensor]:
    """The output of the threshold, and which elements of z lie within the width.

    Args:
        z: `(...)` float32, bfloat16 or float16. width: None for 1, or positive; it broadcasts to z, and varies along
            one axis at most. It is rounded to z's dtype. low: the output below the threshold.

    Returns:
        h as z, of the same order in memory and dense; and `(ceil(n / 8),)` uint8, one bit an element of h's memory,
        the lowest first.
    """
    h, inside = _outputs(z)
    if not z.numel():
        return h, inside
    if h.stride() != z.stride():
        z = h.copy_(z)
    inner = channels = 1
    if width is None:
        channels = 0
    elif width.numel() > 1:
        axis = next(axis for axis in range(-width.dim(), 0) if width.shape[axis] > 1)
        inner, channels = h.stride(axis), h.shape[axis]
    # z / width is rounded to z's dtype in the plain rule. Halfway to the number next to 1, it is rounded to 1.
    edge = 1.0 if z.dtype == torch.float32 else 1 + torch.finfo(z.dtype).eps / 2
    wide = None if width is None else width.to(z.dtype).contiguous()
    with torch.cuda.device_of(z):
        launch: Any = _threshold_kernel
        launch[_grid(z)](z, wide, h, inside, z.numel(), inner, channels, low, edge, _is_long(z), BLOCK)
    return h, inside


@saturated_threshold.register_fake
def _outputs(z: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(z), z.new_empty((z.numel() + 7) // 8, dtype=torch.uint8)


@torch.library.custom_op("tpsolve::saturated_gradient", mutates_args=())
def saturated_gradient(g: Tensor, inside: Tensor, stride: Sequence[int]) -> Tensor:
    """`g (...)` where its bit is set, else 0; in the order in memory that `stride` and the bits have."""
    out = _laid_out(g, inside, stride)
    if not g.numel():
        return out
    if g.stride() != out.stride():
        g = out.copy_(g)
    with torch.cuda.device_of(g):
        launch: Any = _masked_kernel
        launch[_grid(g)](g, inside, out, g.numel(), _is_long(g), BLOCK)
    return out


@saturated_gradient.register_fake
def _laid_out(g: Tensor, inside: Tensor, stride: Sequence[int]) -> Tensor:
    return g.new_empty_strided(g.shape, stride)


def _grid(tensor: Tensor) -> tuple[int]:
    return (triton.cdiv(tensor.numel(), 8 * BLOCK),)


def _is_long(tensor: Tensor) -> bool:
    """Whether places in it need more than 32 bits."""
    return tensor.numel() > 2**31 - 8 * BLOCK


class SaturatedSign(torch.autograd.Function):
    """h for `z (...)`, with the gradient of the saturated rule; both as in the plain path, to the last bit."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, width: Tensor | None, low: int) -> Tensor:
        """As `saturated_threshold`."""
        h, inside = saturated_threshold(z, width, low)
        ctx.save_for_backward(inside)
        ctx.low, ctx.stride = low, h.stride()
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        g = gradients[0] if ctx.low else gradients[0] / 2
        run = _Gradient.apply if torch.is_grad_enabled() else saturated_gradient
        return run(g, *ctx.saved_tensors, ctx.stride), None, None


class _Gradient(torch.autograd.Function):
    """`saturated_gradient`, with a second derivative that says why there is none."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, inside: Tensor, stride: Sequence[int]) -> Tensor:
        return saturated_gradient(g, inside, stride)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise refuse_second_derivative("a hard threshold")
