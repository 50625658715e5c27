"""tpsolve: target search for networks of hard-threshold units.

Source of the framing: Friesen and Domingos, "Deep Learning as a Mixed Convex-Combinatorial
Optimization Problem", ICLR 2018.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from tpsolve import errors, losses, problems, search, spins
from tpsolve.problems import BlockProblem, LayerProblem, NetworkProblem, load_problem
from tpsolve.result import Budget, Progress, Result, Status, load_result
from tpsolve.search import SOLVERS, solve
from tpsolve.version import __version__

if TYPE_CHECKING:
    from tpsolve import nn, units

__all__ = [
    "SOLVERS",
    "BlockProblem",
    "Budget",
    "LayerProblem",
    "NetworkProblem",
    "Progress",
    "Result",
    "Status",
    "__version__",
    "errors",
    "load_problem",
    "load_result",
    "losses",
    "nn",
    "problems",
    "search",
    "solve",
    "spins",
    "units",
]


def __getattr__(name: str) -> ModuleType:
    """Floors that most programs do without are loaded when they are first asked for."""
    if name in ("nn", "units"):
        return importlib.import_module(f"tpsolve.{name}")
    raise AttributeError(f"module 'tpsolve' has no attribute {name!r}")
