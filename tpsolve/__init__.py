"""tpsolve: target search for networks of hard-threshold units.

Source of the framing: Friesen and Domingos, "Deep Learning as a Mixed Convex-Combinatorial
Optimization Problem", ICLR 2018.
"""

from tpsolve import errors, losses, problems, search, spins, units
from tpsolve.problems import LayerProblem, load_problem
from tpsolve.result import Budget, Progress, Result, Status, load_result
from tpsolve.search import SOLVERS, solve
from tpsolve.version import __version__

__all__ = [
    "SOLVERS",
    "Budget",
    "LayerProblem",
    "Progress",
    "Result",
    "Status",
    "__version__",
    "errors",
    "load_problem",
    "load_result",
    "losses",
    "problems",
    "search",
    "solve",
    "spins",
    "units",
]
