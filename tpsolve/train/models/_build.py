"""The network of a recipe."""

from collections.abc import Callable, Sequence

from torch import nn

from tpsolve.train._recipe import Recipe
from tpsolve.train.models._activations import Activation, NewActivation
from tpsolve.train.models._alexnet import alexnet
from tpsolve.train.models._convnet4 import convnet4
from tpsolve.train.models._convnet8 import convnet8
from tpsolve.train.models._few_weights import check_layers
from tpsolve.train.models._mlp import mlp
from tpsolve.train.models._resnet import resnet18

MODELS: dict[str, Callable[[Recipe, Sequence[int], int, NewActivation], nn.Module]] = {
    "mlp": lambda recipe, shape, classes, new: mlp(shape, classes, new, recipe.widths, recipe.batch_norm),
    "convnet4": lambda recipe, shape, classes, new: convnet4(shape, classes, new, recipe.shortcuts),
    "convnet8": lambda recipe, shape, classes, new: convnet8(shape, classes, new, recipe.dropout, recipe.shortcuts),
    "alexnet": lambda recipe, shape, classes, new: alexnet(shape, classes, new),
    "resnet18": lambda recipe, shape, classes, new: resnet18(shape, classes, new, recipe.stem, recipe.shortcuts),
}
"""Every network by its name in a recipe."""


def build_model(recipe: Recipe, shape: Sequence[int], classes: int) -> nn.Module:
    """The recipe's network for inputs of this shape, its weights drawn from torch's global generator.

    Weights are real ones, also where the recipe makes them binary later.

    Raises:
        ArgumentError: the network does not take inputs of this shape, has too few layers for binary weights, or an
            activation has no such rule.
    """
    new = Activation(recipe.activation, recipe.rule, recipe.levels, recipe.width, recipe.width_mode)
    network = MODELS[recipe.model](recipe, shape, classes, new)
    check_layers(recipe, network)
    return network
