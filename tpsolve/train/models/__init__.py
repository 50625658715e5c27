"""The networks of the recipes, each a function in a file of its own."""

from tpsolve.train.models.activations import ACTIVATIONS, Activation
from tpsolve.train.models.alexnet import alexnet
from tpsolve.train.models.convnet4 import convnet4
from tpsolve.train.models.convnet8 import convnet8
from tpsolve.train.models.mlp import mlp
from tpsolve.train.models.resnet import resnet18

__all__ = ["ACTIVATIONS", "Activation", "alexnet", "convnet4", "convnet8", "mlp", "resnet18"]
