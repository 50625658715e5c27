"""The hard threshold as a module, with the closed-form targets of the paper as its backward pass."""

from typing import Any

import torch
from torch import Tensor, nn

from tpsolve.errors import UnknownNameError
from tpsolve.spins import sign


def _soft_hinge(z: Tensor) -> Tensor:
    # sech(z)^2, without the cancellation of 1 - tanh(z)^2 for large z.
    return 4 * torch.sigmoid(2 * z) * torch.sigmoid(-2 * z)


def _saturated_hinge(z: Tensor) -> Tensor:
    return (z.abs() <= 1).to(z.dtype)


RULES = {"soft-hinge": _soft_hinge, "saturated-hinge": _saturated_hinge}
"""Name of a layer loss: by what the gradient g at the output is multiplied to give that at z."""


class HardThreshold(nn.Module):
    """h = sign(z), with the mini-batch rule of Friesen and Domingos (2018), section 3.3, as gradient.

    The target of each output is t = sign(-g), its importance |g|, where g is the gradient that
    arrives from above; the layer loss of (z, t) then has the slope g * sech(z)^2 for the soft hinge
    and g * 1[|z| <= 1] for the saturated hinge, which is what `backward` passes on. No search, no
    further passes.

    Args:
        rule: the layer loss, "soft-hinge" or "saturated-hinge".

    Raises:
        UnknownNameError: no rule has this name.
    """

    def __init__(self, rule: str = "soft-hinge"):
        super().__init__()
        if rule not in RULES:
            raise UnknownNameError("rule", rule, RULES)
        self.rule = rule

    def forward(self, z: Tensor) -> Tensor:
        """`z` of any shape to values in {-1, +1} of the same shape; NaN stays NaN."""
        return _Threshold.apply(z, self.rule)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"rule={self.rule!r}"


class _Threshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, rule: str) -> Tensor:
        ctx.save_for_backward(z)
        ctx.rule = rule
        return sign(z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (z,) = ctx.saved_tensors
        return gradient * RULES[ctx.rule](z), None
