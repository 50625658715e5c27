"""Floor 2: target problems, the judges of every search."""

from tpsolve.problems.base import Problem, State
from tpsolve.problems.layer import LayerProblem, load_problem

__all__ = ["LayerProblem", "Problem", "State", "load_problem"]
