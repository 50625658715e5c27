"""What all thresholds share: the settings of the rule that stands in for their gradient, and its backward pass."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tpsolve._check_arguments import check_finite
from tpsolve._plain import is_real, plain_number
from tpsolve.errors import ArgumentError, ShapeError, UnknownNameError
from tpsolve.thresholds._hard_unit import HardUnit, refuse_second_derivative
from tpsolve.thresholds._rules import Slope, check_rule, pass_back

WIDTH_MODES = ("fixed", "learned", "relative")
IMPORTANCES = ("gradient", "none")


class Threshold(HardUnit):
    """A module with a closed-form rule in place of a gradient; see `HardThreshold` for the settings."""

    unit_weight: Tensor | None
    # torch.jit.script compiles properties, unless they stand here.
    __jit_unused_properties__: ClassVar[list[str]] = ["width", "widths"]
    # Since 2 a state dict has a width that is not 1; before, it had none.
    _version = 2

    def __init__(
        self,
        rule: str | Slope = "soft-hinge",
        *,
        width: float | Tensor = 1.0,
        width_mode: str = "fixed",
        importance: str | Tensor = "gradient",
    ) -> None:
        super().__init__()
        check_rule(rule)
        if width_mode not in WIDTH_MODES:
            raise UnknownNameError("width_mode", str(width_mode), WIDTH_MODES)
        if not isinstance(importance, Tensor) and importance not in IMPORTANCES:
            raise UnknownNameError("importance", str(importance), IMPORTANCES)
        self.rule = rule
        self.width_mode = width_mode
        # A tensor, so that a compiled model need not be compiled anew at each step of a schedule.
        # None for 1, which costs no division and leaves state dicts as those of the activation that stood here.
        self.register_buffer("_width", None)
        if width_mode == "learned":
            # At least one axis: FSDP2 shards parameters along their first.
            wide = check_widths(width).log()
            self.log_width: nn.Parameter = nn.Parameter(wide.float().reshape(wide.shape or (1,)))
        elif (wide := check_widths(width)).dim():
            self._width = wide
        else:
            self.width = wide.item()
        given = isinstance(importance, Tensor)
        if given:
            check_finite("importance", importance)
        self.importance = "given" if given else importance
        self.register_buffer("unit_weight", importance if given else None, persistent=False)

    @property
    def width(self) -> float:
        """The width now, the mean of several; set it to change all of them, between steps of a training."""
        return self.widths.mean().item()

    @property
    def widths(self) -> Tensor:
        """All widths, `(1,)` for a learned one; a copy."""
        if self.width_mode == "learned":
            return self.log_width.detach().exp()
        return torch.ones(()) if self._width is None else self._width.clone()

    @width.setter
    def width(self, value: float) -> None:
        value = check_width(value)
        if self.width_mode == "learned":
            with torch.no_grad():
                self.log_width.fill_(math.log(value))
        elif self._width is not None:
            self._width.fill_(value)
        elif value != 1:
            # As wide as float32: float64 would promote nothing, since it has no dimension.
            self._width = torch.tensor(float(value), dtype=torch.float64)

    def parts(self, each: bool = False) -> list[tuple[float, float, float]]:
        """(gain, stretch, shift) of every hard threshold of stretch * z - shift that this one is made of.

        What is passed back is the sum over them of gain times the rule. `each`: those whose targets a
        search sets one by one, though one threshold may stand for all in the closed form.
        """
        return [(1.0, 1.0, 0.0)]

    def from_spins_linear(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """V and b of V h + b, with h `(n,)`, as a linear map of its flattened spins."""
        return weight, bias

    def settings(self) -> tuple[Any, ...]:
        """What the autograd functions take after z: tensors or None, then what is no tensor."""
        # Without an axis, so that a width in float32 doesn't widen narrower pre-activations.
        width = self._width
        if self.width_mode == "learned":
            width = self.log_width.exp()
            width = width.squeeze(0) if width.shape == (1,) else width
        return (width, self.unit_weight, self.rule, self.width_mode, self.importance)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        """Take the width along: one that is saved, or 1 where the saved module had it.

        A state dict without widths at all (of an earlier version, of another activation, or without metadata)
        leaves the width as it is.
        """
        own, learned = f"{prefix}_width", f"{prefix}log_width"
        saved = state_dict.get(own)
        if self.width_mode == "learned":
            if learned in state_dict and state_dict[learned].dim() == 0:
                state_dict[learned] = state_dict[learned][None]
        elif saved is not None:
            # Several widths of another number are a mismatch, which torch reports.
            if self._width is None or min(self._width.dim(), saved.dim()) == 0:
                self._width = torch.ones(saved.shape, dtype=torch.float64, device=saved.device)
        elif self._width is not None:
            if local_metadata.get("version", 1) >= 2:
                self._width.fill_(1)
            state_dict[own] = self._width
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
            del state_dict[own]
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def extra_repr(self) -> str:
        """What `print(model)` shows: the rule, and what differs from the defaults."""
        rule = self.rule if isinstance(self.rule, str) else getattr(self.rule, "__name__", self.rule)
        parts = [f"rule={rule!r}"]
        wide = self.log_width if self.width_mode == "learned" else self._width
        if wide is not None and wide.numel() > 1:
            parts.append(f"widths={tuple(wide.shape)}")
        elif self.width != 1:
            parts.append(f"width={self.width:.4g}")
        if self.width_mode != "fixed":
            parts.append(f"width_mode={self.width_mode!r}")
        if self.importance != "gradient":
            parts.append(f"importance={self.importance!r}")
        return ", ".join(parts)


def check_scripted(z: Tensor) -> None:
    """Raise where TorchScript, which knows no rule, would pass back a gradient of 0."""
    if z.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("a scripted threshold has no gradient: train the module itself, script it for inference")


def check_width(width: object) -> float:
    """`width` itself; raise ArgumentError unless it is a positive, finite number."""
    number = plain_number(width)
    if not is_real(number) or not 0 < number < math.inf:
        raise ArgumentError("width", width, "a positive, finite number")
    return float(number)


def check_widths(width: object) -> Tensor:
    """`width` itself as `()` or as several, float64; raise ArgumentError unless all are positive, finite numbers."""
    if not isinstance(width, Tensor) or width.dim() == 0:
        # On the CPU whatever the default, since a model may be made on the device "meta".
        return torch.tensor(check_width(width), dtype=torch.float64, device="cpu")
    wide = width.detach().to(torch.float64).clone()
    bad = ~((wide > 0) & wide.isfinite())
    if width.numel() == 0 or bool(bad.any()):
        got = f"{wide[bad][0].item():g} in a tensor {tuple(wide.shape)}" if width.numel() else "an empty tensor"
        raise ArgumentError("width", got, "positive, finite numbers")
    return wide


def check_input(z: Tensor, given: Tensor | None, width: Tensor | None = None) -> None:
    """Raise ArgumentError unless `z` holds real numbers, and ShapeError unless what is given broadcasts to it.

    The weights `given` to z, and a `width` to one sample of it.
    """
    if not z.is_floating_point():
        raise ArgumentError("input", z.dtype, "floating-point pre-activations", "Convert it with .float().")
    if given is not None and not _broadcasts(given, z.shape):
        raise ShapeError("importance", f"shape {tuple(given.shape)}", f"one that broadcasts to {tuple(z.shape)}")
    if width is not None and width.numel() > 1 and not _broadcasts(width, z.shape[1:]):
        wanted = f"one that broadcasts to a sample, {tuple(z.shape[1:])}"
        mend = f"Channels before k further axes take (channels, {', '.join(['1'] * max(1, z.dim() - 2))})."
        raise ShapeError("width", f"shape {tuple(width.shape)}", wanted, mend)


def _broadcasts(given: Tensor, shape: torch.Size) -> bool:
    fits = all(own in (1, size) for own, size in zip(given.shape[::-1], shape[::-1], strict=False))
    return given.dim() <= len(shape) and fits


def first_input(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """What a module of one input is called with, by place or by name."""
    return arguments[0] if arguments else next(iter(keywords.values()))


def passed_back(g: Tensor, z: Tensor, width: Tensor | None, given: Tensor | None, *settings: Any) -> Tensor:
    """The gradient at z `(...)` from `g` at the output `(...)`, by a rule.

    `width, given, *settings`: as `Threshold.settings` returns them. Its own derivative is refused.
    """
    g = _laid_out_as(z, g)
    # Without a graph of the backward pass nobody can ask, and the rule alone costs less.
    run = Surrogate.apply if torch.is_grad_enabled() else Surrogate.forward
    return run(g, z, width, given, *settings)


def _laid_out_as(z: Tensor, g: Tensor) -> Tensor:
    """`g` in the order of z's elements in memory.

    What is passed back has the order of g. Above a flattened image that is not the order of a convolution in
    channels-last, whose own backward pass, and that of a pooling, would then reorder more elements.
    """
    if g.dim() < 3 or g.stride() == z.stride() or 0 in g.stride():
        return g
    order = sorted(range(z.dim()), key=z.stride, reverse=True)
    return g.permute(order).contiguous().permute(sorted(range(z.dim()), key=order.__getitem__))


class Surrogate(torch.autograd.Function):
    """`passed_back`, with a second derivative that says why there is none."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        g: Tensor,
        z: Tensor,
        width: Tensor | None,
        given: Tensor | None,
        rule: str | Slope,
        width_mode: str,
        importance: str,
    ) -> Tensor:
        """As `passed_back`."""
        width = find_width(z, width, width_mode)
        return pass_back(rule, weighed(g, given, importance).expand_as(z), z if width is None else z / width)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise refuse_second_derivative("a hard threshold")


def weighed(g: Tensor, given: Tensor | None, importance: str) -> Tensor:
    """The gradient at the output with its size replaced by the importance weight; its sign asks for -target."""
    if importance == "gradient":
        return g
    # Every unit counts alike, and the whole still grows with the loss.
    g = g.sign() * g.abs().mean()
    return g if given is None else g * given


def find_width(z: Tensor, width: Tensor | None, mode: str) -> Tensor | None:
    """What a rule divides z by, None for 1; a relative width is in standard deviations of z over this call."""
    if width is not None and width.dim():
        width = width.to(z.dtype)
    if mode != "relative":
        return width
    spread = z.std(correction=0).clamp(min=torch.finfo(z.dtype).tiny)
    return spread if width is None else width * spread


def width_gradient(slope: Tensor, z: Tensor, width: Tensor) -> Tensor:
    """The gradient at `width` if z's is `slope`, as of a smooth activation of z / width whose slope is the rule."""
    each = slope * (z / width)
    return -(each.sum_to_size(width.shape) if width.dim() else each.sum()).to(width.dtype) / width
