"""A learned shift for each channel."""

import torch
from torch import Tensor, nn

from tpsolve._check_arguments import check_count
from tpsolve.errors import ShapeError


class ChannelShift(nn.Module):
    """z + b, with a learned b for each channel; below a threshold, a learned place of its jump in each channel.

    So `nn.Sequential(ChannelShift(c), HardThreshold())` is the activation RSign of ReActNet (Liu, Shen, Savvides and
    Cheng (2020), "ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions").
    It matters where no layer with a bias of its own stands right below, as behind an addition of a shortcut.

    Args:
        channels: the length of axis 1.

    Attributes:
        shift: b, `(channels,)`, 0 at first.

    Raises:
        ArgumentError: no positive whole number.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_count("channels", channels, 1)
        self.channels: int = channels
        self.shift: nn.Parameter = nn.Parameter(torch.zeros(channels))

    def forward(self, z: Tensor) -> Tensor:
        """`z (B, channels, ...)` to the same shape and dtype.

        Raises:
            ShapeError: another number of channels.
        """
        if z.dim() < 2 or z.shape[1] != self.channels:
            raise ShapeError("input", f"shape {tuple(z.shape)}", f"(B, {self.channels}, ...)")
        return z + self.shift.reshape(-1, *[1] * (z.dim() - 2)).to(z.dtype)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return str(self.channels)
