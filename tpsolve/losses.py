"""Layer losses: what it costs a unit to have pre-activation z when its target is s.

Friesen and Domingos (2018), sections 3 and 4: perceptron, hinge, saturated hinge and soft hinge;
beside them logistic, squared, zero-one, and cross-entropy of a whole layer against a class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch.nn import functional

from tpsolve.errors import UnknownNameError


def _flat(z: Tensor, s: Tensor) -> Tensor:
    return torch.zeros_like(z)


@dataclass(frozen=True)
class Loss:
    """A loss of one unit, a function of its pre-activation z and its target s in {-1, +1}.

    Args:
        name: as given to `LayerProblem(loss=...)`. A loss of `LOSSES` is pickled and copied as its name.
        value: loss of (z, s), elementwise, never negative.
        slope: its derivative in z; at a kink, that of the flatter side.
        convex: in z, for either target.
        kinks: for piecewise-linear losses, the ((offset, factor), ...) with
            loss = sum of factor * max(0, offset - s z).
        monotone: whether the loss never grows with the margin s z.
        curve: its second derivative in z, by default 0, as that of piecewise-linear losses is.
        value_: as `value`, written over z, without a gradient; None: there is no such form.
    """

    name: str
    value: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    convex: bool
    kinks: tuple[tuple[float, float], ...] = ()
    monotone: bool = True
    curve: Callable[[Tensor, Tensor], Tensor] = _flat
    value_: Callable[[Tensor, Tensor], Tensor] | None = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return _by_name(self) or super().__reduce_ex__(protocol)

    def minimum(self, low: Tensor, high: Tensor, s: Tensor) -> Tensor:
        """The smallest loss over z in [low, high]."""
        best = torch.where(s > 0, high, low) if self.monotone else s.clamp(low, high)
        return self.value(best, s)


@dataclass(frozen=True)
class ClassLoss:
    """A loss of a whole layer of pre-activations `z (..., m)` against a class label `(...,)`.

    A loss of `LOSSES` is pickled and copied as its name.
    """

    name: str
    value: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    convex: bool = True

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return _by_name(self) or super().__reduce_ex__(protocol)

    def minimum(self, low: Tensor, label: Tensor) -> Tensor:
        """A lower bound where every difference z - z[label] is at least `low (..., m)`."""
        is_label = functional.one_hot(label, low.shape[-1]).bool()
        return torch.logsumexp(low.masked_fill(is_label, 0.0), dim=-1)


def _kinked_value(kinks: tuple[tuple[float, float], ...]) -> Callable[[Tensor, Tensor], Tensor]:
    def value(z: Tensor, s: Tensor) -> Tensor:
        margin = s * z
        return sum((factor * (offset - margin).clamp(min=0) for offset, factor in kinks), torch.zeros_like(margin))

    return value


def _kinked_slope(kinks: tuple[tuple[float, float], ...]) -> Callable[[Tensor, Tensor], Tensor]:
    def slope(z: Tensor, s: Tensor) -> Tensor:
        margin = s * z
        # On the kink itself the flatter side: left of it the slope is steeper by the factor.
        active = sum(
            (factor * (margin < offset if factor > 0 else margin <= offset) for offset, factor in kinks),
            torch.zeros_like(margin),
        )
        return -s * active

    return slope


def _kinked(name: str, *kinks: tuple[float, float]) -> Loss:
    # Convex when no kink bends downward.
    convex = all(factor > 0 for _, factor in kinks)
    return Loss(name, _kinked_value(kinks), _kinked_slope(kinks), convex, kinks)


def _zero_one(z: Tensor, s: Tensor) -> Tensor:
    return ((z >= 0) != (s > 0)).to(z.dtype)


def _cross_entropy(z: Tensor, label: Tensor) -> Tensor:
    return torch.logsumexp(z, dim=-1) - z.gather(-1, label[..., None])[..., 0]


def _cross_entropy_slope(z: Tensor, label: Tensor) -> Tensor:
    return z.softmax(dim=-1) - functional.one_hot(label, z.shape[-1])


_LOSSES = (
    _kinked("perceptron", (0.0, 1.0)),
    _kinked("hinge", (1.0, 1.0)),
    _kinked("saturated-hinge", (1.0, 1.0), (-1.0, -1.0)),
    # 1 - tanh(sz) loses all its digits for a large margin; 2 sigmoid(-2sz) is the same number, exactly.
    Loss(
        "soft-hinge",
        lambda z, s: 2 * torch.sigmoid(-2 * s * z),
        lambda z, s: -4 * s * torch.sigmoid(2 * z) * torch.sigmoid(-2 * z),
        convex=False,
        curve=lambda z, s: 8 * s * torch.sigmoid(2 * z) * torch.sigmoid(-2 * z) * torch.tanh(z),
        value_=lambda z, s: z.mul_(-2 * s).sigmoid_().mul_(2),
    ),
    # Not softplus: torch's rounds log(1 + e^x) to x beyond 20.
    Loss(
        "logistic",
        lambda z, s: torch.logaddexp(torch.zeros_like(z), -s * z),
        lambda z, s: -s * torch.sigmoid(-s * z),
        convex=True,
        curve=lambda z, s: torch.sigmoid(z) * torch.sigmoid(-z),
    ),
    Loss(
        "squared",
        lambda z, s: (z - s) ** 2,
        lambda z, s: 2 * (z - s),
        convex=True,
        monotone=False,
        curve=lambda z, s: torch.full_like(z, 2.0),
    ),
    Loss("zero-one", _zero_one, lambda z, s: torch.zeros_like(z), convex=False),
)

LOSSES: dict[str, Loss | ClassLoss] = {loss.name: loss for loss in _LOSSES}
LOSSES["cross-entropy"] = ClassLoss("cross-entropy", _cross_entropy, _cross_entropy_slope)


def find_loss(name: str) -> Loss | ClassLoss:
    """The loss of this name.

    Raises:
        UnknownNameError: there is none; the message offers the nearest names.
    """
    if name not in LOSSES:
        raise UnknownNameError("loss", str(name), LOSSES)
    return LOSSES[name]


def _by_name(loss: Loss | ClassLoss) -> Any:
    """How to find `loss` again in another process, whose functions can't be pickled; None if it is not in `LOSSES`."""
    return (find_loss, (loss.name,)) if LOSSES.get(loss.name) is loss else None
