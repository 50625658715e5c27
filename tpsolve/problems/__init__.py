"""Floor 2: target problems, the judges of every search; where they come from and are kept."""

from tpsolve.problems.base import FlipProblem, Problem, State
from tpsolve.problems.block import BlockProblem
from tpsolve.problems.harvest import harvest
from tpsolve.problems.harvest_blocks import harvest_blocks
from tpsolve.problems.instances import GENERATORS, TABLES, Instance, make_instance, make_table
from tpsolve.problems.layer import LayerProblem
from tpsolve.problems.load import load_problem
from tpsolve.problems.network import NetworkProblem
from tpsolve.problems.qubo import from_bqm, to_bqm

__all__ = [
    "GENERATORS",
    "TABLES",
    "BlockProblem",
    "FlipProblem",
    "Instance",
    "LayerProblem",
    "NetworkProblem",
    "Problem",
    "State",
    "from_bqm",
    "harvest",
    "harvest_blocks",
    "load_problem",
    "make_instance",
    "make_table",
    "to_bqm",
]
