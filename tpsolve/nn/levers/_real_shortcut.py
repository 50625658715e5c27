"""A shortcut of real values around a part of a network that reads spins."""

from typing import Any

import torch
from torch import Tensor, nn

from tpsolve._check_arguments import check_count
from tpsolve.errors import ArgumentError, ShapeError


class RealShortcut(nn.Module):
    """body(z) + z, so that pre-activations pass by the threshold inside `body` as real numbers.

    `body` is often a threshold, a convolution and a batch norm, as in Bi-Real Net (Liu, Wu, Luo, Yang, Liu and Cheng
    (2018), "Bi-Real Net: Enhancing the Performance of 1-bit CNNs With Improved Representational Capability and Advanced
    Training Algorithm", section 3.2). The shortcut has no weights. Where the body gives more channels, those of z are
    repeated from the first one on, until there are enough. Where it gives smaller images, `pool` makes z as small.

    Args:
        body: reads `(B, inputs, ...)` and gives `(B, outputs, ...)`.
        inputs: channels of z.
        outputs: channels of the body's output, at least `inputs`; None: as many.
        pool: such as `nn.AvgPool2d(2)`, applied to z; None: none is needed.

    Raises:
        ArgumentError: no positive whole numbers, fewer outputs than inputs, or `body` or `pool` is no module.
    """

    def __init__(self, body: nn.Module, inputs: int, outputs: int | None = None, pool: nn.Module | None = None) -> None:
        super().__init__()
        for name, given in (("body", body), ("pool", nn.Identity() if pool is None else pool)):
            if not isinstance(given, nn.Module):
                raise ArgumentError(name, type(given).__name__, "a torch module")
        check_count("inputs", inputs, 1)
        outputs = inputs if outputs is None else outputs
        check_count("outputs", outputs, 1)
        if outputs < inputs:
            mend = "A convolution of 1 x 1 as the last layer of pool can make them fewer."
            raise ArgumentError("outputs", outputs, f"at least the {inputs} inputs", mend)
        self.body, self.pool = body, nn.Identity() if pool is None else pool
        self.inputs, self.outputs = inputs, outputs

    def forward(self, z: Tensor) -> Tensor:
        """`z (B, inputs, ...)` to `(B, outputs, ...)`.

        Raises:
            ShapeError: z has other channels, or what passes by has another shape than what the body gives.
        """
        # A proxy of torch.fx has no shape to look at.
        if isinstance(z, Tensor) and (z.dim() < 2 or z.shape[1] != self.inputs):
            raise ShapeError("z", f"shape {tuple(z.shape)}", f"(B, {self.inputs}, ...)")
        given: Any = self.body(z)
        passed: Any = self.pool(z)
        whole, rest = divmod(self.outputs, self.inputs)
        if whole > 1 or rest:
            passed = torch.cat([passed] * whole + ([passed[:, :rest]] if rest else []), 1)
        if isinstance(z, Tensor) and given.shape != passed.shape:
            mend = "Give a pool that makes z as small as the body's output."
            raise ShapeError("z", f"{tuple(passed.shape)} beside the body", f"its {tuple(given.shape)}", mend)
        return given + passed

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"inputs={self.inputs}, outputs={self.outputs}"
