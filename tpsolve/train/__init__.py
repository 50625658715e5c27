"""Training runs of hard-threshold networks: recipes, data, networks, checkpoints."""

from tpsolve.train._averaging import averaged_weights, estimate_batch_norm
from tpsolve.train._checkpoint import load_weights
from tpsolve.train._ftprop_mb import ftprop_mb
from tpsolve.train._recipe import RECIPES, Recipe, load_recipe
from tpsolve.train._run import Moment, train
from tpsolve.train.data._table_rows import TablePreprocessing
from tpsolve.train.models._build import build_model
from tpsolve.train.models._take_away import load_network

__all__ = [
    "RECIPES",
    "Moment",
    "Recipe",
    "TablePreprocessing",
    "averaged_weights",
    "build_model",
    "estimate_batch_norm",
    "ftprop_mb",
    "load_network",
    "load_recipe",
    "load_weights",
    "train",
]
