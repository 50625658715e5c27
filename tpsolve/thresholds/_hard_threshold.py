"""The hard threshold as a module, with the closed-form targets of the paper as its backward pass."""

from typing import Any

import torch
from torch import Tensor

from tpsolve.spins import sign
from tpsolve.thresholds._base import Threshold, check_input, check_scripted, passed_back, width_gradient
from tpsolve.thresholds._rules import Slope


class HardThreshold(Threshold):
    """h = sign(z), with the mini-batch rule of Friesen and Domingos (2018), section 3.3, as gradient.

    The target of each output is t = sign(-g), its importance |g|, where g is the gradient that arrives
    from above; 0 where g is 0. What `backward` passes on is |g| times the slope of a layer loss of
    (z / width, t). There is no search and no further pass. `target_backward` puts a search in place of sign(-g).

    Args:
        rule: with u = z / width, what is passed on is
            "ste" g, the straight-through estimator;
            "saturated-ste" or "saturated-hinge", two names of one rule, g where |u| <= 1;
            "soft-hinge" g sech(u)^2;
            "ramp" g max(0, 1 - |u|), a triangle;
            "perceptron", "hinge" g where t u < 0 or t u < 1; "logistic" g sigmoid(-t u);
            or a function of (u, t) that returns the slope of the layer loss in u, elementwise.
        width: of the region around z = 0 in which units still learn; positive.
        width_mode: "fixed"; "relative": in standard deviations of z over the call; or "learned": from
            `width` on, as the width of a smooth activation whose slope is the rule would learn.
        importance: "gradient": |g|; "none": the same for every unit and sample, the mean of |g|; or a
            tensor that broadcasts to z, which multiplies that mean. So the loss times a constant
            gives every gradient times that constant, whichever it is.

    A width that is not 1 is part of the state dict, and a learned one a parameter of shape `(1,)`. The other settings
    are none of it. `torch.jit.script` takes a threshold for inference and refuses gradients.

    A threshold can be pickled unless its rule is a lambda or a local function; for those take cloudpickle.

    Double backward raises: the rule is the slope of a layer loss, not the derivative of the output.

    Raises:
        UnknownNameError, ArgumentError: a setting makes no sense; NotFiniteError: NaN among the weights.
    """

    def forward(self, z: Tensor) -> Tensor:
        """`z` of any shape to values in {-1, +1} of the same shape and dtype; NaN stays NaN.

        Raises:
            ArgumentError: z holds whole numbers.
            ShapeError: importance weights don't broadcast to it.
        """
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]
            check_scripted(z)
            return sign(z)
        else:  # noqa: RET505 - TorchScript compiles what stands after a return.
            check_input(z, self.unit_weight)
            return _Sign.apply(z, *self.settings())

    def activate(self, z: Tensor) -> Tensor:
        return sign(z)


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
    ) -> Tensor:
        return sign(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, width, given, ctx.rule, ctx.width_mode, ctx.importance = inputs
        ctx.save_for_backward(z, width, given)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        z, width, given = ctx.saved_tensors
        slope = passed_back(gradients[0], z, width, given, ctx.rule, ctx.width_mode, ctx.importance)
        wide = width_gradient(slope, z, width) if ctx.needs_input_grad[1] else None
        return slope, wide, None, None, None, None
