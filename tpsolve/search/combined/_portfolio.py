"""Portfolio: several solvers on the same problem, the best answer of all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch

from tpsolve._result import Budget
from tpsolve.errors import ArgumentError
from tpsolve.problems import Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search._naming import Composite, as_solver


@dataclass(frozen=True)
class Portfolio(Composite):
    """The best answer of several solvers, sample by sample: `portfolio(tabu, anneal, cp-sat)`.

    Each solver has an equal share of the budget that is left when its turn comes. So the next solvers get what it does
    not need. Steps are those of the parts.

    Args:
        members: the solvers, or their texts; at least one.
    """

    members: Sequence[Solver | str] = ("tabu", "anneal")

    name = "portfolio"
    arity: ClassVar[tuple[int, int]] = (1, 1000)
    example = "portfolio(tabu, anneal)"

    def __post_init__(self) -> None:
        if isinstance(self.members, str | Solver) or not self.members:
            raise ArgumentError("members", repr(self.members), "a list of solvers", "For example ['tabu', 'anneal'].")
        object.__setattr__(self, "members", tuple(as_solver("members", member) for member in self.members))

    @classmethod
    def of(cls, parts: Sequence[Any]) -> Self:
        return cls(tuple(parts))

    @property
    def parts(self) -> tuple[Any, ...]:
        return tuple(self.members)

    @property
    def solvers(self) -> tuple[Solver, ...]:
        return tuple(as_solver("members", member) for member in self.members)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        for left, solver in zip(range(len(self.members), 0, -1), self.solvers, strict=True):
            report.run(solver, generator, share=1 / left)
