"""Trained networks to take away: rules in words, prediction by named columns, files, and export to other languages."""

from tpsolve.models._from_network import model_of_network as model_of_network
from tpsolve.models._model import Export as Export
from tpsolve.models._model import Model as Model
from tpsolve.models._model import load_model as load_model
from tpsolve.models._model import make_model as make_model
