"""The closed-form rules: what a threshold passes back of the gradient that arrives at its output."""

from collections.abc import Callable

import torch
from torch import Tensor

from tpsolve.errors import ArgumentError, UnknownNameError

Slope = Callable[[Tensor, Tensor], Tensor]
"""A rule of the user's own: (z / width, targets in {-1, 0, +1}) -> slope of the layer loss in z, elementwise."""


def _ste(g: Tensor, u: Tensor) -> Tensor:
    return g


def _saturated(g: Tensor, u: Tensor) -> Tensor:
    # One fused pass; it keeps what lies strictly between its limits.
    limit = 1 + torch.finfo(u.dtype).eps
    return torch.ops.aten.hardtanh_backward(g, u, -limit, limit)


def _perceptron(g: Tensor, u: Tensor) -> Tensor:
    return g * (g.sign() * u > 0)


def _hinge(g: Tensor, u: Tensor) -> Tensor:
    return g * (g.sign() * u > -1)


def _soft_hinge(g: Tensor, u: Tensor) -> Tensor:
    # sech(u)^2 = 4 y (1 - y) with y = sigmoid(-2 |u|): no digits are lost for large u, as 1 - tanh(u)^2 loses them.
    y = u.abs().mul_(-2).sigmoid_()
    return torch.ops.aten.sigmoid_backward(g, y).mul_(4)


def _logistic(g: Tensor, u: Tensor) -> Tensor:
    return g * torch.sigmoid(g.sign() * u)


def _ramp(g: Tensor, u: Tensor) -> Tensor:
    return (1 - u.abs()).relu_().mul_(g)


RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ste": _ste,
    "saturated-ste": _saturated,
    "perceptron": _perceptron,
    "hinge": _hinge,
    "saturated-hinge": _saturated,
    "soft-hinge": _soft_hinge,
    "logistic": _logistic,
    "ramp": _ramp,
}
"""Name of a rule: (gradient g, z / width) -> |g| times the slope of its layer loss at the target sign(-g)."""


def check_rule(rule: object) -> None:
    """Raise unless `rule` names one of `RULES` or is a function of (z / width, targets)."""
    if isinstance(rule, str):
        if rule not in RULES:
            raise UnknownNameError("rule", rule, RULES)
    elif not callable(rule):
        raise ArgumentError("rule", repr(rule), "the name of a rule or a function of (z / width, targets)")


def pass_back(rule: str | Slope, g: Tensor, u: Tensor) -> Tensor:
    """|g| times the slope at u = z / width of the layer loss with target sign(-g); 0 where g is 0.

    `g` and `u` have one shape, which is that of the result.
    """
    if isinstance(rule, str):
        return RULES[rule](g, u)
    return torch.where(g == 0, 0.0, g.abs() * rule(u, -g.sign())).to(g.dtype)
