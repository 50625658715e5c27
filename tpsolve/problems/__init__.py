"""Floor 2: target problems, the judges of every search; where they come from and are kept."""

from tpsolve.problems.base import Problem, State
from tpsolve.problems.harvest import harvest
from tpsolve.problems.instances import GENERATORS, Instance, make_instance
from tpsolve.problems.layer import LayerProblem, load_problem

__all__ = [
    "GENERATORS",
    "Instance",
    "LayerProblem",
    "Problem",
    "State",
    "harvest",
    "load_problem",
    "make_instance",
]
