"""Floor 5: training runs of hard-threshold networks: recipes, data, networks, checkpoints."""

from tpsolve.train.averaging import averaged_weights, estimate_batch_norm
from tpsolve.train.checkpoint import load_weights
from tpsolve.train.ftprop_mb import ftprop_mb
from tpsolve.train.models.build import build_model
from tpsolve.train.recipe import RECIPES, Recipe, load_recipe
from tpsolve.train.run import Moment, train

__all__ = [
    "RECIPES",
    "Moment",
    "Recipe",
    "averaged_weights",
    "build_model",
    "estimate_batch_norm",
    "ftprop_mb",
    "load_recipe",
    "load_weights",
    "train",
]
