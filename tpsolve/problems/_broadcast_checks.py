"""Checks of arguments that the kinds of problem share."""

from typing import Any

import torch
from torch import Tensor

from tpsolve._check_arguments import check_device, check_tensor, check_values
from tpsolve._plain import is_real
from tpsolve.errors import ArgumentError, ShapeError, ValueSetError


def check_broadcast(
    argument: str, value: Any, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    """`value` as a tensor of this shape, device and dtype; None stays None."""
    if value is None:
        return None
    tensor = check_tensor(argument, value, device, dtype)
    try:
        return tensor.broadcast_to(shape)
    except RuntimeError as error:
        raise ShapeError(argument, f"shape {tuple(tensor.shape)}", f"one that broadcasts to {shape}") from error


def check_weight(
    argument: str, value: Any, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    """As `check_broadcast`, of weights that are not negative."""
    weight = check_broadcast(argument, value, shape, device, dtype)
    if weight is not None and bool((weight < 0).any()):
        raise ValueSetError(argument, f"{weight.min().item():g}", "no negative weights")
    return weight


def check_stay(stay: Any, start: Tensor | None) -> float:
    """The stay penalty as a float of at least 0; it needs `start`."""
    if not is_real(stay) or not 0 <= stay < float("inf"):
        raise ArgumentError("stay", stay, "a finite number of at least 0")
    if stay and start is None:
        raise ArgumentError("start", None, "the activations to stay at", "Pass start=, or stay=0.")
    return float(stay)


def check_targets(targets: Tensor, tail: tuple[int, ...], device: torch.device) -> None:
    """Raise unless `targets` are spins of shape `(..., *tail)` on `device`."""
    if tuple(targets.shape[max(0, targets.dim() - len(tail)) :]) != tail:
        raise ShapeError("targets", f"shape {tuple(targets.shape)}", f"(..., {', '.join(map(str, tail))})")
    check_device("targets", targets, device)
    check_values("targets", targets, (-1, 1), given=targets)
