"""The staircase: a quantized ReLU made of several hard thresholds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.errors import UnknownNameError
from tpsolve.thresholds._base import Threshold, check_input, check_scripted, passed_back, width_gradient
from tpsolve.thresholds._rules import Slope

STEPS = ("merged", "each")


class Staircase(Threshold):
    """h = clamp(ceil(z (k - 1)), 0, k) / k: k = levels - 1 thresholds at i / (k - 1), i = 0 .. k - 1.

    The backward pass is a rule of `HardThreshold`, in one of two ways. Merged, as Friesen and Domingos
    (2018) have it: one threshold in the middle stands for all, u = (2z - 1) / width, so that the saturated
    rules pass g where 0 <= z <= 1 and the soft hinge g sech(2z - 1)^2. Each: the sum over the thresholds,
    as if each were a `HardThreshold` of 2(k - 1)z - 2i with weight 1 / 2k in h; at width 1 the regions of
    the saturated rules then lie side by side. Targets that `target_backward` has searched take the second way.

    Args:
        levels: values that h can take, at least 3: 0, 1 / k, .., 1.
        steps: "merged" or "each".
        rule, width, width_mode, importance: as in `HardThreshold`, of u above.

    Raises:
        UnknownNameError, ArgumentError: a setting makes no sense.
    """

    def __init__(
        self, levels: int = 4, rule: str | Slope = "soft-hinge", *, steps: str = "merged", **settings: Any
    ) -> None:
        check_count("levels", levels, 3)
        if steps not in STEPS:
            raise UnknownNameError("steps", str(steps), STEPS)
        super().__init__(rule, **settings)
        self.levels: int = levels
        self.steps: str = steps

    def forward(self, z: Tensor) -> Tensor:
        """`z` of any shape to values in {0, 1/k, .., 1} of the same shape and dtype; NaN stays NaN.

        Raises:
            ArgumentError: z holds whole numbers.
            ShapeError: importance weights don't broadcast to it.
        """
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]
            check_scripted(z)
            return _stairs(z, self.levels - 1)
        else:  # noqa: RET505 - TorchScript compiles what stands after a return.
            check_input(z, self.unit_weight, self.log_width if self.width_mode == "learned" else self._width)
            return _Stairs.apply(z, *self.settings(), self.levels - 1, self.parts())

    def activate(self, z: Tensor) -> Tensor:
        return _stairs(z, self.levels - 1)

    def parts(self, each: bool = False) -> list[tuple[float, float, float]]:
        k = self.levels - 1
        if self.steps == "merged" and not each:
            return [(1.0, 2.0, 1.0)]
        return [((k - 1) / k, 2.0 * (k - 1), 2.0 * i) for i in range(k)]

    def to_spins(self, h: Tensor) -> Tensor:
        """`(B, k, ...)`: +1 for the thresholds below z, which are the first hk, then -1."""
        k = self.levels - 1
        place = torch.arange(k, device=h.device).reshape(k, *[1] * (h.dim() - 1))
        return torch.where(place < (h * k).round()[:, None], 1.0, -1.0).to(h.dtype)

    def from_spins(self, spins: Tensor) -> Tensor:
        """The share of the k spins that are +1, in whatever order."""
        k = spins.shape[1]
        return (spins.sum(1) + k) / (2 * k)

    def from_spins_linear(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        k = self.levels - 1
        return (weight / (2 * k)).repeat(1, k), bias + weight.sum(1) / 2

    def pass_back(self, z: Tensor, gradients: Tensor) -> tuple[Tensor, ...]:
        """The gradients at `z (B, ...)` and at a learned width, from `gradients (k, B, ...)`, one a threshold."""
        width, given, *settings = self.settings()
        learned = self.width_mode == "learned"
        slope, wide = _sum_over(self.parts(each=True), gradients.unbind(), z, width, given, settings, learned)
        return (slope,) if wide is None else (slope, wide)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        steps = f"steps={self.steps!r}, " if self.steps != "merged" else ""
        return f"levels={self.levels}, {steps}{super().extra_repr()}"


class _Stairs(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        z: Tensor,
        width: Tensor | None,
        given: Tensor | None,
        rule: str | Slope,
        width_mode: str,
        importance: str,
        k: int,
        parts: list[tuple[float, float, float]],
    ) -> Tensor:
        return _stairs(z, k)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, width, given, ctx.rule, ctx.width_mode, ctx.importance, _, ctx.parts = inputs
        ctx.save_for_backward(z, width, given)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        z, width, given = ctx.saved_tensors
        settings, same = (ctx.rule, ctx.width_mode, ctx.importance), gradients * len(ctx.parts)
        slopes = _sum_over(ctx.parts, same, z, width, given, settings, ctx.needs_input_grad[1])
        return *slopes, None, None, None, None, None, None


def _sum_over(
    parts: list[tuple[float, float, float]],
    gradients: Sequence[Tensor],
    z: Tensor,
    width: Tensor | None,
    given: Tensor | None,
    settings: Sequence[Any],
    wants_width: bool,
) -> tuple[Tensor, Tensor | None]:
    """What the parts pass back to z and to the width, each from its own gradient at the output."""
    total, wide = None, None
    for (gain, stretch, shift), gradient in zip(parts, gradients, strict=True):
        part = z * stretch - shift
        g = gradient if gain == 1 else gradient * gain
        slope = passed_back(g, part, width, given, *settings)
        total = slope if total is None else total + slope
        if wants_width:
            assert width is not None
            change = width_gradient(slope, part, width) / stretch
            wide = change if wide is None else wide + change
    assert total is not None
    return total, wide


def is_own(node: Any) -> bool:
    """Whether this node of autograd is that of a staircase, or there is none."""
    return node is None or type(node).__name__ == f"{_Stairs.__name__}Backward"


def _stairs(z: Tensor, k: int) -> Tensor:
    return (z * (k - 1)).ceil_().clamp(0, k).div_(k)
