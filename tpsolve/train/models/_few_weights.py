"""Binary and ternary weights of a recipe's network."""

from collections.abc import Iterable

from torch import nn

from tpsolve.errors import ArgumentError
from tpsolve.nn import binarize
from tpsolve.nn.deployment._binarize import LAYERS
from tpsolve.train._recipe import Recipe

REAL = ".parametrizations.weight.original"
"""How a state dict ends the names of the real weights behind binary ones."""


def check_layers(recipe: Recipe, network: nn.Module) -> None:
    """Raise ArgumentError if no layer stands between the first and the last one."""
    layers = len(_layers(network))
    if recipe.weights != "real" and layers < 3:
        mend = "The first and the last one stay real."
        raise ArgumentError("weights", f"{recipe.weights!r} for {layers} layers", "a network of at least 3", mend)


def make_weights_few(recipe: Recipe, network: nn.Module) -> None:
    """Make the weights of all layers but the first and the last binary or ternary, unless they are so already."""
    names = _layers(network)
    if not has_few_weights(network.state_dict()):
        binarize(network, recipe.weights, skip=(names[0], names[-1]))


def has_few_weights(state: Iterable[str]) -> bool:
    """Whether a state dict is that of a network with such weights."""
    return any(str(name).endswith(REAL) for name in state)


def _layers(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, LAYERS)]
