"""The hard threshold of a folded network: a threshold for each channel, and no gradient."""

from typing import Any

import torch
from torch import Tensor, nn


class ChannelThreshold(nn.Module):
    """1 where z >= threshold, or where z <= threshold in the channels that are turned, and `low` elsewhere.

    Args:
        threshold: `(channels,)`; infinite where a channel is constant.
        turned: `(channels,)` bool.
        axis: of the channels in z.
        low: -1 or 0.
        whole: whether z and the thresholds are whole numbers.
    """

    threshold: Tensor
    turned: Tensor

    def __init__(self, threshold: Tensor, turned: Tensor, axis: int, low: int, whole: bool) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold)
        self.register_buffer("turned", turned)
        self.axis, self.low, self.whole = axis, low, whole
        self.turns: bool = bool(turned.any())

    def forward(self, z: Tensor) -> Tensor:
        """`z` of any shape with the channels on the axis, to values in {low, 1}; NaN stays NaN."""
        shape = [1] * z.dim()
        shape[self.axis] = -1
        threshold = self.threshold.reshape(shape)
        fires = z >= threshold
        if self.turns:
            fires = torch.where(self.turned.reshape(shape), z <= threshold, fires)
        return torch.where(z.isnan(), z, torch.where(fires, 1.0, float(self.low)).to(z.dtype))

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        parts: list[Any] = [f"{len(self.threshold)} {'whole' if self.whole else 'real'}"]
        parts += [f"axis={self.axis}"] if self.axis != 1 else []
        parts += [] if self.low else ["low=0"]
        return ", ".join(parts)
