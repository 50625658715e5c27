"""Reading saved problems of any kind."""

from os import PathLike
from typing import Any

from tpsolve._storage._archive import read_kind
from tpsolve.errors import FileFormatError
from tpsolve.problems.layer import _layer_problem
from tpsolve.problems.network import _network_problem


def load_problem(path: str | PathLike[str]) -> Any:
    """The problem saved at `path`, on the CPU: a `LayerProblem` or a `NetworkProblem`, as it was saved.

    Raises:
        FileFormatError: no tpsolve problem, truncated, or of another version.
        ArgumentError: the file's contents make no sense together.
    """
    kind = read_kind(path)
    if kind == _layer_problem.KIND:
        return _layer_problem.read_layer_problem(path)
    if kind == _network_problem.KIND:
        return _network_problem.read_network_problem(path)
    raise FileFormatError(f"{path}: holds a {kind}, not a problem.")
