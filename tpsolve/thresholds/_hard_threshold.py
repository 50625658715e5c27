"""The hard threshold as a module, with the closed-form targets of the paper as its backward pass."""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from tpsolve._plain import plain_number
from tpsolve.errors import ArgumentError
from tpsolve.spins import sign
from tpsolve.thresholds._base import Threshold, check_input, check_scripted, passed_back, width_gradient
from tpsolve.thresholds._rules import Slope

FUSED = ("cuda",)
"""Devices on which a saturated rule is computed by kernels of Triton, where that is installed."""


class HardThreshold(Threshold):
    """h = sign(z), with the mini-batch rule of Friesen and Domingos (2018), section 3.3, as gradient.

    The target of each output is t = sign(-g), its importance |g|, where g is the gradient that arrives
    from above; 0 where g is 0. What `backward` passes on is |g| times the slope of a layer loss of
    (z / width, t). There is no search and no further pass. `target_backward` puts a search in place of sign(-g).

    Units that fire or don't, as those of spiking networks, have `low=0`: h = (1 + sign(z)) / 2. Its gradients are those
    of sign(z) with that line above it, so half of g stands for g in the rule.

    Args:
        rule: with u = z / width, what is passed on is
            "ste" g, the straight-through estimator;
            "saturated-ste" or "saturated-hinge", two names of one rule, g where |u| <= 1;
            "soft-hinge" g sech(u)^2;
            "ramp" g max(0, 1 - |u|), a triangle;
            "perceptron", "hinge" g where t u < 0 or t u < 1; "logistic" g sigmoid(-t u);
            or a function of (u, t) that returns the slope of the layer loss in u, elementwise.
        width: of the region around z = 0 in which units still learn; positive. A tensor has several, and broadcasts to
            a sample of z: `(channels, 1, 1)` for the channels of images, `(n,)` for n units.
        width_mode: "fixed"; "relative": in standard deviations of z over the call; or "learned": from
            `width` on, as the width of a smooth activation whose slope is the rule would learn; of several each by
            itself.
        importance: "gradient": |g|; "none": the same for every unit and sample, the mean of |g|; or a
            tensor that broadcasts to z, which multiplies that mean. So the loss times a constant
            gives every gradient times that constant, whichever it is.
        low: the output below the threshold, -1 or 0; above it is 1.

    A width that is not 1 is part of the state dict, and a learned one a parameter, a single one of shape `(1,)`. The
    other settings are none of it. `torch.jit.script` takes a threshold for inference and refuses gradients.

    A threshold can be pickled unless its rule is a lambda or a local function; for those take cloudpickle.

    Double backward raises: the rule is the slope of a layer loss, not the derivative of the output.

    Raises:
        UnknownNameError, ArgumentError: a setting makes no sense; NotFiniteError: NaN among the weights.
    """

    def __init__(self, rule: str | Slope = "soft-hinge", *, low: int = -1, **settings: Any) -> None:
        number = plain_number(low)
        if isinstance(number, bool) or number not in (-1, 0):
            raise ArgumentError("low", low, "-1 or 0", "low=0 for outputs in {0, 1}.")
        super().__init__(rule, **settings)
        self.low: int = int(number)

    def forward(self, z: Tensor) -> Tensor:
        """`z` of any shape to values in {low, 1} of the same shape and dtype; NaN stays NaN.

        Raises:
            ArgumentError: z holds whole numbers.
            ShapeError: importance weights don't broadcast to it.
        """
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]
            check_scripted(z)
            return _jump(z, self.low)
        else:  # noqa: RET505 - TorchScript compiles what stands after a return.
            check_input(z, self.unit_weight, self.log_width if self.width_mode == "learned" else self._width)
            if self.is_fused(z):
                return _fused(z, self._width, self.low)
            return _Sign.apply(z, *self.settings(), self.low)

    def is_fused(self, z: Tensor) -> bool:
        """Whether `z` goes through kernels, which keep one bit an element of it for backward; else the plain path.

        They know the saturated rules, with fixed widths that vary along one axis at most.
        """
        # A compiler fuses the plain path itself, with what stands beside it.
        if torch.compiler.is_compiling() or z.device.type not in FUSED or not _has_triton():
            return False
        if self.rule not in ("saturated-ste", "saturated-hinge") or self.importance != "gradient":
            return False
        one_axis = self._width is None or sum(size > 1 for size in self._width.shape) <= 1
        dtypes = (torch.float32, torch.bfloat16, torch.float16)
        plain = z.dtype in dtypes and not is_functorch_wrapped_tensor(z)
        return self.width_mode == "fixed" and one_axis and plain

    def activate(self, z: Tensor) -> Tensor:
        return _jump(z, self.low)

    def parts(self, each: bool = False) -> list[tuple[float, float, float]]:
        return [((1 - self.low) / 2, 1.0, 0.0)]

    def to_spins(self, h: Tensor) -> Tensor:
        return h if self.low else 2 * h - 1

    def from_spins(self, spins: Tensor) -> Tensor:
        return spins if self.low else (spins + 1) / 2

    def from_spins_linear(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return (weight, bias) if self.low else (weight / 2, bias + weight.sum(1) / 2)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return super().extra_repr() + ("" if self.low else ", low=0")


def _fused(z: Tensor, width: Tensor | None, low: int) -> Tensor:
    # TorchScript reads the caller, and knows no imports.
    from tpsolve.thresholds.fused._saturated import SaturatedSign

    return SaturatedSign.apply(z, width, low)


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _jump(z: Tensor, low: int) -> Tensor:
    """1 where z >= 0, `low` where z < 0, NaN where z is NaN."""
    return sign(z) if low else z.clamp(-1, 0).floor_().add_(1)


class _Sign(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        z: Tensor,
        width: Tensor | None,
        given: Tensor | None,
        rule: str | Slope,
        width_mode: str,
        importance: str,
        low: int,
    ) -> Tensor:
        return _jump(z, low)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, width, given, ctx.rule, ctx.width_mode, ctx.importance, ctx.low = inputs
        ctx.save_for_backward(z, width, given)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        z, width, given = ctx.saved_tensors
        g = gradients[0] if ctx.low else gradients[0] / 2
        slope = passed_back(g, z, width, given, ctx.rule, ctx.width_mode, ctx.importance)
        wide = width_gradient(slope, z, width) if ctx.needs_input_grad[1] else None
        return slope, wide, None, None, None, None, None
