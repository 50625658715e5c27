"""Floor 3: solvers of target problems behind one interface, one file an algorithm."""

from tpsolve.search.anneal import Anneal
from tpsolve.search.base import Callback, Report, Solver
from tpsolve.search.column_search import ColumnSearch
from tpsolve.search.cp_sat import CpSat
from tpsolve.search.enumerate import Enumerate
from tpsolve.search.ftprop import Ftprop
from tpsolve.search.hill_climb import HillClimb
from tpsolve.search.keep import Keep
from tpsolve.search.local import LocalSolver
from tpsolve.search.milp import Milp
from tpsolve.search.random import Random
from tpsolve.search.registry import SOLVERS, find_solver, solver_text
from tpsolve.search.sign_gradient import SignGradient
from tpsolve.search.solve import solve
from tpsolve.search.surrogate import Surrogate
from tpsolve.search.tabu import Tabu

__all__ = [
    "SOLVERS",
    "Anneal",
    "Callback",
    "ColumnSearch",
    "CpSat",
    "Enumerate",
    "Ftprop",
    "HillClimb",
    "Keep",
    "LocalSolver",
    "Milp",
    "Random",
    "Report",
    "SignGradient",
    "Solver",
    "Surrogate",
    "Tabu",
    "find_solver",
    "solve",
    "solver_text",
]
