"""ColumnSearch: choose the outputs of one hidden unit again, the best there are, many networks at once."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search.network.columns._neighbourhood import improve_columns
from tpsolve.search.network.columns._output_tables import output_tables


@dataclass(frozen=True)
class ColumnSearch(Solver):
    """Local search of small networks: one hidden unit's column of targets after the other is chosen again.

    Given the other columns, the best column is the one whose codes a threshold function of the hidden units tells apart
    with the fewest errors. Where the points have few dichotomies, one product of matrices compares them all. Otherwise
    the columns on lines through the unit's weights are compared, and half of the networks begin with one unit fitted to
    the labels. Networks that stop improving have some units drawn anew. It proves nothing beyond the problem's own
    bound.

    It takes two classes and one hidden layer of at most 10 units. With more than 5 the output unit is one of 4,096
    drawn threshold functions. Every column offered is separable, in exact arithmetic.

    One step chooses one unit of every restart again. After Nabergall (2018) and, for the choice of internal
    representations, Grossman, Meir and Domany (1988).

    Args:
        restarts: networks searched side by side.
    """

    restarts: int = 32

    name = "column-search"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one unit of every restart, chosen again"
    stochastic = True

    def __post_init__(self) -> None:
        check_count("restarts", self.restarts, 1)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, NetworkProblem)
        output_tables(problem, self.name)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        improve_columns(problem, report, generator, restarts=self.restarts)
