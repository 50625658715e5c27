"""Dichotomies: exact search of small networks by a scan of all columns that each hidden unit can have."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.errors import TooLargeError
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search.network.columns._neighbourhood import Lines, Listed, search_columns
from tpsolve.search.network.columns._output_tables import output_tables
from tpsolve.search.network.columns._scan import Scan
from tpsolve.units.patterns._all_dichotomies import StoppedError, check_dichotomies, dichotomies

FEW_COLUMNS = 5_000
"""Up to so many, the local search compares all of them at each step."""


@dataclass(frozen=True)
class Dichotomies(Solver):
    """Exact targets by comparing all combinations of dichotomies, for points that have few of them.

    All separable columns of the points are listed, by the cells of their arrangement of hyperplanes. A few combinations
    are compared one by one. Otherwise the columns are hung in a tree of balls under the Hamming distance. Negating one
    hidden target changes the errors by at most one sample. So a combination of balls has at least the errors of their
    centres less their radii. What can't beat the incumbent is excluded at once. The rest is split, most promising
    first, until single columns are left. Their output unit is chosen from all threshold functions.

    The list is exact, so a finished scan proves the optimum over real weights. At any time the smallest bound of what
    is still open is proven. It takes two classes and one hidden layer of at most 5 units. One step is one batch of
    combinations. A local search, not counted, gives the first incumbent.

    Args:
        hint_steps: steps of the local search, 80 times as many where columns are many; 0 for none.
    """

    hint_steps: int = 5

    name = "dichotomies"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one batch of combinations of columns"
    exact = True
    stochastic = True

    def __post_init__(self) -> None:
        check_count("hint_steps", self.hint_steps, 0)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, NetworkProblem)
        if not output_tables(problem, self.name).complete:
            raise TooLargeError("problem", f"{problem.layers[0]} hidden units", f"at most 5 for {self.name}")
        check_dichotomies(problem.inputs)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        tables = output_tables(problem, self.name)
        try:
            patterns = dichotomies(problem.inputs, report.pulse)
        except StoppedError:
            return
        if self.hint_steps:
            few = len(patterns) <= FEW_COLUMNS
            hood = Listed(problem, tables, generator, patterns) if few else Lines(problem, tables, generator)
            search_columns(hood, report, restarts=32, steps=self.hint_steps * (1 if few else 80))
        if not report.stopped:
            Scan(problem, patterns, tables, report).run()
