"""Blocks that are one convolution, with or without frozen batch norms and a pooling, below layer losses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

PLAIN = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.Identity, nn.Flatten)

Head = tuple[float | Tensor, float | Tensor]
"""(stretch, shift): the layer losses see stretch z - shift of an output z; numbers, or one for each place `(M,)`."""


@dataclass(frozen=True)
class Chain:
    """A block that runs modules one after the other.

    Args:
        steps: the modules.
        gain, offset: they take gain t + offset, where t are the spins.
        heads: how what comes out is read, flattened, one after the other.
    """

    steps: Sequence[nn.Module]
    gain: float = 1.0
    offset: float = 0.0
    heads: Sequence[Head] = ((1.0, 0.0),)


@runtime_checkable
class Chained(Protocol):
    """A module that may know itself to be a chain."""

    def chain(self) -> Chain | None:
        """The chain that it is; None: it is none, or can't tell."""
        ...


@dataclass(frozen=True)
class Convolution:
    """z = conv(gain t + offset), then `tail(z)`, of which place by place some heads are read.

    Args:
        weight: `(C', C, k, k')`; bias `(C',)` or None.
        stride, padding: of the convolution, (rows, columns).
        pool: the pooling, whose windows don't overlap; None without one. window: its size, (1, 1) without one.
        norms: (scale, shift) `(C',)` before the pooling and after it.
        shape: of the spins of a sample, (C, rows, columns).
        chain: what was recognised.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    pool: nn.MaxPool2d | nn.AvgPool2d | None
    window: tuple[int, int]
    norms: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    shape: tuple[int, int, int]
    chain: Chain

    @classmethod
    def of(cls, block: nn.Module, shape: tuple[int, ...]) -> Self | None:
        """What `block` is for spins of this shape; None where it is anything else."""
        chain = _chain_of(block)
        if chain is None or len(shape) != 3 or not all(map(_is_plain, chain.steps)):
            return None
        steps = [step for step in chain.steps if not isinstance(step, nn.Identity)]
        if steps and isinstance(steps[-1], nn.Flatten):
            flat = steps.pop()
            if (flat.start_dim, flat.end_dim) != (1, -1):
                return None
        if not steps or not isinstance(conv := steps[0], nn.Conv2d) or isinstance(conv.padding, str):
            return None
        if conv.groups != 1 or conv.dilation != (1, 1) or conv.padding_mode != "zeros":
            return None
        one, zero = torch.ones_like(conv.weight[:, 0, 0, 0]), torch.zeros_like(conv.weight[:, 0, 0, 0])
        norms, pool, window = [(one, zero), (one, zero)], None, (1, 1)
        for step in steps[1:]:
            if isinstance(step, nn.BatchNorm2d):
                at = 0 if pool is None else 1
                scale, shift = _affine(step)
                norms[at] = norms[at][0] * scale, norms[at][1] * scale + shift
            elif isinstance(step, nn.MaxPool2d | nn.AvgPool2d) and pool is None and _side_by_side(step):
                pool, window = step, _pair(step.kernel_size)
            else:
                return None
        found = cls(
            conv.weight, conv.bias, (conv.stride[0], conv.stride[1]), (conv.padding[0], conv.padding[1]), pool, window,
            (norms[0], norms[1]), (shape[0], shape[1], shape[2]), chain,
        )  # fmt: skip
        return found if min(found.outputs) > 0 else None

    @property
    def outputs(self) -> tuple[int, int]:
        """Rows and columns of what comes out."""
        return self._size(0) // self.window[0], self._size(1) // self.window[1]

    @property
    def exact_curvature(self) -> bool:
        """Whether each pre-activation of the convolution reaches one output at most."""
        return not isinstance(self.pool, nn.AvgPool2d)

    def reach(self, axis: int) -> int:
        """How many outputs in a row, along an axis, one spin can reach at most."""
        k, r = self.weight.shape[2 + axis], self.window[axis]
        return min(self.outputs[axis], ((k - 1) // self.stride[axis] + r - 1) // r + 1)

    def apart(self, axis: int) -> int:
        """How far along an axis two spins must be from each other that no output reads both."""
        return self.weight.shape[2 + axis] - 1 + self.stride[axis] * self.window[axis]

    def pre(self, targets: Tensor) -> Tensor:
        """Z `(B, C', rows, columns)` of `targets (B, n)`, channels last in memory."""
        h = self.chain.gain * targets.reshape(-1, *self.shape) + self.chain.offset
        z = functional.conv2d(h, self.weight, self.bias, self.stride, self.padding)
        return z.contiguous(memory_format=torch.channels_last)

    def tail(self, z: Tensor) -> Tensor:
        """What comes out for z, or for a part of it that begins and ends with windows of the pooling."""
        (scale, shift), (more, last) = self.norms
        z = z * scale[:, None, None] + shift[:, None, None]
        return (z if self.pool is None else self.pool(z)) * more[:, None, None] + last[:, None, None]

    def back(self, slope: Tensor, weight: Tensor) -> Tensor:
        """Gradient in the input `(B, C, rows, columns)` of slopes at z, by `weight`, `(C', C, k, k')`."""
        size = (len(slope), *self.shape)
        return torch.ops.aten.convolution_backward(
            slope, slope.new_empty(size), weight, None, self.stride, self.padding, (1, 1), False, (0, 0), 1,
            (True, False, False),
        )[0]  # fmt: skip

    def _size(self, axis: int) -> int:
        k, p, s = self.weight.shape[2 + axis], self.padding[axis], self.stride[axis]
        return (self.shape[1 + axis] + 2 * p - k) // s + 1


def _chain_of(block: nn.Module) -> Chain | None:
    if isinstance(block, Chained):
        return block.chain()
    if type(block) is nn.Sequential:
        return None if _hooked(block) else Chain(list(block))
    return Chain([block])


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a frozen batch norm, `(C,)` each."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def _side_by_side(pool: nn.MaxPool2d | nn.AvgPool2d) -> bool:
    """Whether the windows neither overlap nor leave gaps, and nothing is padded."""
    if _pair(pool.kernel_size) != _pair(pool.stride) or _pair(pool.padding) != (0, 0) or pool.ceil_mode:
        return False
    if isinstance(pool, nn.AvgPool2d):
        return pool.divisor_override is None
    return _pair(pool.dilation) == (1, 1) and not pool.return_indices


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _is_plain(module: nn.Module) -> bool:
    """Whether a module does what its class of torch's does, without hooks, and with frozen statistics."""
    if type(module) not in PLAIN or "forward" in vars(module) or _hooked(module):
        return False
    return not (isinstance(module, nn.BatchNorm2d) and (module.training or module.running_mean is None))
