"""Solvers of target problems behind one interface, one file an algorithm.

This file is the registry: a new solver is its file and its line below. Command line, comparison, documentation and
contract tests read the table `SOLVERS` that is made of these lines. Solvers of users and of installed plug-ins join it.
"""

from tpsolve.search._base import Callback as Callback
from tpsolve.search._base import Report as Report
from tpsolve.search._base import Solver as Solver
from tpsolve.search._naming import SOLVERS as SOLVERS
from tpsolve.search._naming import find_solver as find_solver
from tpsolve.search._naming import solver_text as solver_text
from tpsolve.search._solve import solve as solve
from tpsolve.search.bridges._export import CpSampleModel as CpSampleModel
from tpsolve.search.bridges._export import read_targets as read_targets
from tpsolve.search.bridges._export import to_cp_model as to_cp_model
from tpsolve.search.bridges._export import to_mps as to_mps
from tpsolve.search.local._loop import LocalSolver as LocalSolver
from tpsolve.search.network.circuits._prove import make_proof as make_proof
from tpsolve.search.network.whole._size_frontier import FrontierPoint as FrontierPoint
from tpsolve.search.network.whole._size_frontier import size_frontier as size_frontier
from tpsolve.search.network.whole._smallest_network import SmallestNetwork as SmallestNetwork
from tpsolve.search.network.whole._smallest_network import smallest_network as smallest_network
from tpsolve.search.proofs._check_proof import verify_proof as verify_proof
from tpsolve.search.proofs._check_result import verify_result as verify_result
from tpsolve.search.proofs._proof import Proof as Proof
from tpsolve.search.proofs._proof import load_proof as load_proof

# The solvers, family by family, in the order in which they are listed.
# isort: off
# Closed-form rules and baselines.
from tpsolve.search.rules._keep import Keep as Keep
from tpsolve.search.rules._random_targets import Random as Random
from tpsolve.search.rules._sign_gradient import SignGradient as SignGradient
from tpsolve.search.rules._curvature_flip import CurvatureFlip as CurvatureFlip

# Local searches.
from tpsolve.search.local._hill_climb import HillClimb as HillClimb
from tpsolve.search.local._tabu import Tabu as Tabu
from tpsolve.search.local._anneal import Anneal as Anneal
from tpsolve.search.local._beam import Beam as Beam
from tpsolve.search.local._guided_random import GuidedRandom as GuidedRandom
from tpsolve.search.local._cross_entropy import CrossEntropy as CrossEntropy
from tpsolve.search.local._minimum_disturbance import MinimumDisturbance as MinimumDisturbance

# Made of other solvers.
from tpsolve.search.combined._polish import Polish as Polish
from tpsolve.search.combined._restarts import Restarts as Restarts
from tpsolve.search.combined._portfolio import Portfolio as Portfolio
from tpsolve.search.combined._warm_start import WarmStart as WarmStart
from tpsolve.search.combined._auto import Auto as Auto

# Exact solvers of layer problems.
from tpsolve.search.exact._enumerate import Enumerate as Enumerate
from tpsolve.search.exact._branch import Branch as Branch
from tpsolve.search.exact._cp_sat import CpSat as CpSat
from tpsolve.search.exact._milp import Milp as Milp

# Of network problems.
from tpsolve.search.network.columns._column_search import ColumnSearch as ColumnSearch
from tpsolve.search.network.moves._refit_search import RefitSearch as RefitSearch
from tpsolve.search.network.moves._line_search import LineSearch as LineSearch
from tpsolve.search.network.circuits._circuits import Circuits as Circuits
from tpsolve.search.network.sweep._sweep import Sweep as Sweep
from tpsolve.search.network._ftprop import Ftprop as Ftprop
from tpsolve.search.network._ftprop_mini_batch import FtpropMiniBatch as FtpropMiniBatch
from tpsolve.search.network._surrogate import Surrogate as Surrogate
from tpsolve.search.network.columns._dichotomies import Dichotomies as Dichotomies
from tpsolve.search.network.whole._integer_search import IntegerSearch as IntegerSearch
from tpsolve.search.network._weight_box import WeightBox as WeightBox
from tpsolve.search.network.whole._all_columns import AllColumns as AllColumns
from tpsolve.search.network._big_m import BigM as BigM

# Samplers of other libraries.
from tpsolve.search.bridges._dimod_sampler import DimodSampler as DimodSampler

# Of program problems.
from tpsolve.search.programs._k_best import KBest as KBest
from tpsolve.search.programs._weighted_draws import WeightedDraws as WeightedDraws
from tpsolve.search.programs._posterior_draw import PosteriorDraw as PosteriorDraw
from tpsolve.search.programs._marginal import Marginal as Marginal
from tpsolve.search.programs._forward_backward import ForwardBackward as ForwardBackward
from tpsolve.search.programs._declared import Declared as Declared
# isort: on

SOLVERS.register_all(vars())
