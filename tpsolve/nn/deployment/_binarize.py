"""Binary and ternary weights as parametrizations of torch: what is trained stays real, what is used has few values."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tpsolve._check_arguments import check_finite
from tpsolve._plain import is_real, plain_number
from tpsolve.errors import ArgumentError, NotAcceptedError, UnknownNameError
from tpsolve.spins import sign

KINDS = ("binary", "ternary")
SCALES = ("mean", "learned", "none")
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The classes of modules whose weights are made binary; subclasses count."""
BITS = 8
"""Of a scale's mantissa, as in bfloat16; fewer above 2^16 inputs, so that float32 adds products exactly."""
TERNARY_PART = 0.7
"""Of the mean |w|, below which a ternary weight is 0 (Li and Liu 2016, section 2.2)."""


class FewValues(nn.Module):
    """The parametrization `w -> scale * q(w)`, one scale for each output channel, with q in {-1, +1} or {-1, 0, +1}.

    See `binarize` for the settings.
    """

    def __init__(self, weight: Tensor, kind: str, scale: str, clip: float) -> None:
        super().__init__()
        self.kind, self.scale, self.clip = kind, scale, clip
        if scale == "learned":
            with torch.no_grad():
                self.size: nn.Parameter = nn.Parameter(_mean_size(weight.detach(), self._values(weight.detach())))

    def forward(self, weight: Tensor) -> Tensor:
        """`weight (channels, ...)` to the same shape and dtype; besides 0 a channel has one absolute value.

        NaN stays NaN.
        """
        values = self._values(weight.detach())
        # The difference is 0, and its derivative that of clamp.
        inside = weight.clamp(-self.clip, self.clip) if self.clip < math.inf else weight
        values = values + (inside - inside.detach())
        if self.scale == "none":
            return values
        size = self.size if self.scale == "learned" else _mean_size(weight, values.detach())
        return values * _rounded(size, weight[0].numel())

    def _values(self, weight: Tensor) -> Tensor:
        """The weights `(channels, ...)` without their scale."""
        if self.kind == "binary":
            return sign(weight)
        limit = TERNARY_PART * _over_channel(weight.abs()).mean(1)
        return weight.sign() * (weight.abs() > limit.reshape(-1, *[1] * (weight.dim() - 1)))

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        clip = "" if self.clip == 1 else f", clip={self.clip:g}"
        return f"{self.kind!r}, scale={self.scale!r}{clip}"


def binarize(
    model: nn.Module,
    kind: str = "binary",
    *,
    scale: str = "mean",
    clip: float = 1.0,
    skip: Iterable[str] = (),
) -> nn.Module:
    """`model` with binary or ternary weights in its linear layers and convolutions; changed in place.

    Each weight becomes a parametrization of torch. The real weights stay the parameters that an optimizer trains, as
    `parametrizations.weight.original`. What the layer uses is `scale * q`, with one scale for each output channel.

    - "binary": q = sign(w), with sign(0) = +1 (Rastegari et al. 2016, "XNOR-Net", section 3.1).
    - "ternary": q = sign(w) where |w| > 0.7 times the channel's mean |w|, and 0 elsewhere (Li and Liu 2016, "Ternary
      Weight Networks", section 2.2).

    The gradient of q is the clipped straight-through estimator: it passes where |w| <= clip, and is 0 elsewhere. The
    derivative of the scale is exact. A scale is rounded to 8 bits, and the derivative of the rounding is taken as 1. So
    bfloat16 holds it, and float32 adds up to 2^16 products of spins and weights exactly, in any order. For layers of
    more inputs it has fewer bits.

    Biases, batch norms and transposed convolutions stay as they are. So do the joint projections of attention. First
    and last layers are often left real: name them in `skip`. `plain_weights` ends it.

    A state dict has the real weights and the learned scales. It loads into a model that was made binary in the same
    way, not into a plain one. Pickle refuses parametrized modules, as torch says; copies work.

    Args:
        scale: "mean": the mean |w| over the weights that are not made 0, which is the best one in the squared error;
            "learned": a parameter for each channel, which starts there; "none": 1.
        clip: of the gradient; `math.inf` passes all of it.
        skip: names of modules that stay as they are, with all that is in them.

    Raises:
        UnknownNameError: `kind` or `scale` is unknown, or `model` has no module that `skip` names.
        ArgumentError: `clip` is not positive; NotFiniteError: weights are not finite.
        NotAcceptedError: no layer is left, one is binary already, or a weight is shared.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind", str(kind), KINDS)
    if scale not in SCALES:
        raise UnknownNameError("scale", str(scale), SCALES)
    number = plain_number(clip)
    if not is_real(number) or not number > 0:
        raise ArgumentError("clip", clip, "a positive number", "math.inf passes every gradient.")
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    modules = dict(model.named_modules())
    for name in skip:
        if name not in modules:
            raise UnknownNameError("skip", str(name), modules)
    left = {id(part) for name in skip for part in modules[name].modules()}
    layers = {name: one for name, one in modules.items() if isinstance(one, LAYERS) and id(one) not in left}
    if not layers:
        raise NotAcceptedError("model", "no Linear and no convolution", "at least one whose weights become binary")
    _check_weights(model, layers)
    for layer in layers.values():
        made = FewValues(layer.weight, kind, scale, float(number)).train(layer.training)
        parametrize.register_parametrization(layer, "weight", made)
    return model


def plain_weights(model: nn.Module) -> nn.Module:
    """`model` without the parametrizations of `binarize`; its weights are what these gave. Changed in place.

    The parameters stay the same objects, so that an optimizer goes on with them, now as with any real weights.

    Raises:
        NotAcceptedError: the model has none, or a weight has another parametrization besides.
    """
    layers = {name: module for name, module in model.named_modules() if _is_binary(module)}
    if not layers:
        raise NotAcceptedError("model", "no weights that are binary", "a model from tpsolve.nn.binarize")
    for name, layer in layers.items():
        if len(layer.parametrizations["weight"]) > 1:  # pyright: ignore[reportArgumentType, reportIndexIssue]
            expected = "those of binarize alone"
            raise NotAcceptedError("model", f"several parametrizations of the weight of {name}", expected)
    for layer in layers.values():
        remove(layer, "weight")
    return model


def remove(module: nn.Module, name: str) -> None:
    """Remove the parametrizations of one tensor, which keeps the value that they gave."""
    # Copies of a module share the class that torch has made for it, and torch takes the tensor's property from it.
    kind = type(module)
    kept = {key: value for key, value in vars(kind).items() if key not in ("__dict__", "__weakref__")}
    own: Any = type(kind.__name__, kind.__bases__, kept)
    module.__class__ = own
    parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _check_weights(model: nn.Module, layers: Mapping[str, Any]) -> None:
    """Raise for weights that are no numbers yet, not finite, shared, or binary already."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(f"{name}.{own}".lstrip("."))
    for name, layer in layers.items():
        if _is_binary(layer):
            mend = "Call plain_weights first, or name it in skip."
            raise NotAcceptedError("model", f"weights of {name} that are binary already", "real ones", mend)
        if nn.parameter.is_lazy(layer.weight):
            mend = "Run a batch through the model first."
            raise NotAcceptedError("model", f"a lazy layer at {name}", "layers whose weights are there", mend)
        shared = owners.get(id(layer.weight), [])
        if len(shared) > 1:
            mend = "Name the modules that share it in skip, or give each a weight of its own."
            raise NotAcceptedError(
                "model", f"one weight at {' and '.join(shared)}", "a weight of each layer's own", mend
            )
        check_finite(f"weight of {name or 'the model'}", layer.weight.detach())


def _is_binary(module: nn.Module) -> bool:
    return parametrize.is_parametrized(module, "weight") and any(
        isinstance(one, FewValues)
        for one in module.parametrizations["weight"]  # pyright: ignore[reportArgumentType, reportIndexIssue, reportGeneralTypeIssues]
    )


def _over_channel(weight: Tensor) -> Tensor:
    """`(channels, ...)` to `(channels, weights)`."""
    return weight.reshape(len(weight), -1)


def _mean_size(weight: Tensor, values: Tensor) -> Tensor:
    """The mean |w| of each channel where `values` are not 0, `(channels, 1, ...)`; 0 where all are."""
    kept = _over_channel(values) != 0
    total = (_over_channel(weight.abs()) * kept).sum(1)
    return (total / kept.sum(1).clamp(min=1)).reshape(-1, *[1] * (weight.dim() - 1))


def _rounded(size: Tensor, count: int) -> Tensor:
    """Scales with so few bits that float32 adds `count` of them exactly; the gradient is that of `size`."""
    bits = max(1, min(BITS, 24 - (count - 1).bit_length()))
    mantissa, exponent = torch.frexp(size.detach())
    found = torch.ldexp((mantissa * 2**bits).round(), exponent - bits).to(size.dtype)
    return found + (size - size.detach())
