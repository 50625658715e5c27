"""Batch norm in evaluation mode as a line for each channel, and where a threshold above it jumps, exactly."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tpsolve.errors import NotAcceptedError


@dataclass(frozen=True, eq=False)
class ChannelNorm:
    """y = weight (z - mean) / sqrt(variance + eps) + bias of each channel; a threshold above it fires where y >= 0.

    Args:
        mean, variance, weight, bias: `(channels,)` float64, as batch norm has them.
    """

    mean: np.ndarray
    variance: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    eps: float = 0.0

    @classmethod
    def of(cls, argument: str, name: str, module: Any) -> "ChannelNorm":
        """That of a batch norm of torch at `name`.

        Raises:
            NotAcceptedError: it has kept no statistics; the error is about `argument`.
        """
        if module.running_mean is None or module.running_var is None:
            got = f"batch norm at {name} with those of each batch"
            raise NotAcceptedError(argument, got, "statistics that it has kept")
        mean, variance = numbers(module.running_mean), numbers(module.running_var)
        weight = np.ones_like(mean) if module.weight is None else numbers(module.weight)
        bias = np.zeros_like(mean) if module.bias is None else numbers(module.bias)
        return cls(mean, variance, weight, bias, module.eps)

    @classmethod
    def none(cls, channels: int) -> "ChannelNorm":
        """Y = z."""
        zeros, ones = np.zeros(channels), np.ones(channels)
        return cls(zeros, ones, ones, zeros)

    def line(self) -> tuple[np.ndarray, np.ndarray]:
        """What each channel is multiplied by, and what is then added; in float64."""
        scale = 1 / np.sqrt(self.variance + self.eps)
        return scale * self.weight, -self.mean * scale * self.weight + self.bias

    def fires(self, channel: int) -> Callable[[Fraction], bool]:
        """Whether y >= 0 at a value of z, in exact arithmetic: the square root is decided by squares."""
        mean, variance, weight, bias = (
            Fraction(float(part[channel])) for part in (self.mean, self.variance, self.weight, self.bias)
        )
        rest = bias * bias * (variance + Fraction(self.eps))

        def decide(z: Fraction) -> bool:
            rise = weight * (z - mean)
            if bias >= 0:
                return rise >= 0 or rise * rise <= rest
            return rise > 0 and rise * rise >= rest

        return decide


def first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first whole number in [low, high] for which `holds`, if it holds from there on; high + 1: none."""
    while low <= high:
        middle = (low + high) // 2
        low, high = (low, middle - 1) if holds(middle) else (middle + 1, high)
    return low


def numbers(tensor: Tensor) -> np.ndarray:
    """Its values in float64."""
    return tensor.detach().to("cpu", torch.float64).numpy()
