"""tpsolve: target search for networks of hard-threshold units.

Source of the framing: Friesen and Domingos, "Deep Learning as a Mixed Convex-Combinatorial
Optimization Problem", ICLR 2018.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tpsolve._version import __version__

if TYPE_CHECKING:
    from tpsolve import errors, estimators, losses, models, nn, problems, search, spins, tables, units
    from tpsolve._register import register
    from tpsolve._result import Budget, Progress, Result, Status, TargetSet, load_result
    from tpsolve.models import Model, load_model
    from tpsolve.problems import BlockProblem, LayerProblem, NetworkProblem, ProgramProblem, load_problem
    from tpsolve.search import SOLVERS, solve

__all__ = [
    "SOLVERS",
    "BlockProblem",
    "Budget",
    "LayerProblem",
    "Model",
    "NetworkProblem",
    "ProgramProblem",
    "Progress",
    "Result",
    "Status",
    "TargetSet",
    "__version__",
    "errors",
    "estimators",
    "load_model",
    "load_problem",
    "load_result",
    "losses",
    "models",
    "nn",
    "problems",
    "register",
    "search",
    "solve",
    "spins",
    "tables",
    "units",
]


_MODULES = ("errors", "estimators", "losses", "models", "nn", "problems", "search", "spins", "tables", "units")
_HOMES = {
    "problems": ("BlockProblem", "LayerProblem", "NetworkProblem", "ProgramProblem", "load_problem"),
    "_result": ("Budget", "Progress", "Result", "Status", "TargetSet", "load_result"),
    "models": ("Model", "load_model"),
    "search": ("SOLVERS", "solve"),
    "_register": ("register",),
}
"""The modules of the names that are theirs."""


def __getattr__(name: str) -> Any:
    """Names are loaded when they are first asked for: torch takes a second."""
    if name in _MODULES:
        return importlib.import_module(f"tpsolve.{name}")
    for module, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(importlib.import_module(f"tpsolve.{module}"), name)
            return found
    raise AttributeError(f"module 'tpsolve' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
