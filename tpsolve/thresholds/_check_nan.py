"""A check that names the threshold at which NaN first appears."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from tpsolve._check_arguments import check_finite
from tpsolve.thresholds._base import first_input
from tpsolve.thresholds._convert import find_hard_units


@contextmanager
def check_nan(model: nn.Module) -> Iterator[None]:
    """While it lasts, raise where NaN or infinity reaches a threshold or a choice of `model`, forward or backward.

    A hard threshold passes NaN through, so a loss that is NaN does not say where it began. This check does. It reads
    every pre-activation and gradient. Use it to look for a fault, not for a whole training.

    Raises:
        NotFiniteError: with the name of the module; in the forward pass for its pre-activations, in the backward
            pass for the gradient at its output.
        NotAcceptedError: the model has no thresholds and no choices.
    """
    hooks = []
    for name, module in find_hard_units(model).items():
        hooks.append(module.register_forward_pre_hook(_forward(name), with_kwargs=True))
        hooks.append(module.register_forward_hook(_backward(name)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _forward(name: str) -> Callable[..., None]:
    def check(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        check_finite(f"pre-activations of {name}", first_input(arguments, keywords))

    return check


def _backward(name: str) -> Callable[..., None]:
    def watch(module: nn.Module, arguments: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: check_finite(f"gradient at {name}", gradient))

    return watch
