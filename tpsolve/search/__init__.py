"""Floor 3: solvers of target problems behind one interface, one file an algorithm."""

from tpsolve.search.anneal import Anneal
from tpsolve.search.auto import Auto
from tpsolve.search.base import Callback, Report, Solver
from tpsolve.search.beam import Beam
from tpsolve.search.big_m import BigM
from tpsolve.search.circuits import Circuits
from tpsolve.search.column_search import ColumnSearch
from tpsolve.search.cp_sat import CpSat
from tpsolve.search.cross_entropy import CrossEntropy
from tpsolve.search.curvature_flip import CurvatureFlip
from tpsolve.search.dichotomies import Dichotomies
from tpsolve.search.dimod_sampler import DimodSampler
from tpsolve.search.enumerate import Enumerate
from tpsolve.search.export import CpSampleModel, read_targets, to_cp_model, to_mps
from tpsolve.search.ftprop import Ftprop
from tpsolve.search.ftprop_mini_batch import FtpropMiniBatch
from tpsolve.search.guided_random import GuidedRandom
from tpsolve.search.hill_climb import HillClimb
from tpsolve.search.keep import Keep
from tpsolve.search.line_search import LineSearch
from tpsolve.search.local import LocalSolver
from tpsolve.search.milp import Milp
from tpsolve.search.minimum_disturbance import MinimumDisturbance
from tpsolve.search.polish import Polish
from tpsolve.search.portfolio import Portfolio
from tpsolve.search.random import Random
from tpsolve.search.registry import SOLVERS, find_solver, solver_text
from tpsolve.search.restarts import Restarts
from tpsolve.search.sign_gradient import SignGradient
from tpsolve.search.solve import solve
from tpsolve.search.surrogate import Surrogate
from tpsolve.search.tabu import Tabu
from tpsolve.search.warm_start import WarmStart
from tpsolve.search.weight_box import WeightBox

__all__ = [
    "SOLVERS",
    "Anneal",
    "Auto",
    "Beam",
    "BigM",
    "Callback",
    "Circuits",
    "ColumnSearch",
    "CpSampleModel",
    "CpSat",
    "CrossEntropy",
    "CurvatureFlip",
    "Dichotomies",
    "DimodSampler",
    "Enumerate",
    "Ftprop",
    "FtpropMiniBatch",
    "GuidedRandom",
    "HillClimb",
    "Keep",
    "LineSearch",
    "LocalSolver",
    "Milp",
    "MinimumDisturbance",
    "Polish",
    "Portfolio",
    "Random",
    "Report",
    "Restarts",
    "SignGradient",
    "Solver",
    "Surrogate",
    "Tabu",
    "WarmStart",
    "WeightBox",
    "find_solver",
    "read_targets",
    "solve",
    "solver_text",
    "to_cp_model",
    "to_mps",
]
