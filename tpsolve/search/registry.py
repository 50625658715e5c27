"""The solvers by name: tests, command line, comparison and docs read this table."""

from tpsolve.search.base import Solver
from tpsolve.search.cp_sat import CpSat
from tpsolve.search.enumerate import Enumerate
from tpsolve.search.hill_climb import HillClimb
from tpsolve.search.keep import Keep
from tpsolve.search.milp import Milp
from tpsolve.search.random import Random
from tpsolve.search.sign_gradient import SignGradient

SOLVERS: dict[str, type[Solver]] = {
    solver.name: solver for solver in (Keep, Random, SignGradient, HillClimb, Enumerate, CpSat, Milp)
}
