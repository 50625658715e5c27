"""The networks of the recipes, each a function in a file of its own."""

from tpsolve.train.models._activations import ACTIVATIONS, Activation
from tpsolve.train.models._alexnet import alexnet
from tpsolve.train.models._convnet4 import convnet4
from tpsolve.train.models._convnet8 import convnet8
from tpsolve.train.models._mlp import mlp
from tpsolve.train.models._resnet import resnet18

__all__ = ["ACTIVATIONS", "Activation", "alexnet", "convnet4", "convnet8", "mlp", "resnet18"]
