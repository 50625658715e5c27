"""Target problems, the judges of every search; where they come from and are kept."""

from tpsolve.problems._base import FlipProblem, Problem, State
from tpsolve.problems._load_problem import load_problem
from tpsolve.problems.block._block_problem import BlockProblem
from tpsolve.problems.harvesting._harvest import harvest
from tpsolve.problems.harvesting._harvest_blocks import harvest_blocks
from tpsolve.problems.instances import GENERATORS, TABLES, Instance, make_instance, make_table
from tpsolve.problems.layer._layer_problem import LayerProblem
from tpsolve.problems.layer._qubo import from_bqm, to_bqm
from tpsolve.problems.network._network_problem import NetworkProblem
from tpsolve.problems.program._declared_constraints import DeclaredConstraints
from tpsolve.problems.program._fold import Fold
from tpsolve.problems.program._program_calls import CallCounts, ProgramCalls
from tpsolve.problems.program._program_problem import ProgramProblem

__all__ = [
    "GENERATORS",
    "TABLES",
    "BlockProblem",
    "CallCounts",
    "DeclaredConstraints",
    "FlipProblem",
    "Fold",
    "Instance",
    "LayerProblem",
    "NetworkProblem",
    "Problem",
    "ProgramCalls",
    "ProgramProblem",
    "State",
    "from_bqm",
    "harvest",
    "harvest_blocks",
    "load_problem",
    "make_instance",
    "make_table",
    "to_bqm",
]
