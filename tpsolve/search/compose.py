"""What solvers made of other solvers share."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from tpsolve.errors import ArgumentError, NotAcceptedError
from tpsolve.problems import BlockProblem, LayerProblem, Problem
from tpsolve.search.base import Solver


@dataclass(frozen=True)
class Composite(Solver):
    """A solver made of others, which may be given as texts; each must accept the problem."""

    accepts = (LayerProblem, BlockProblem)
    stochastic = True
    compared = False
    arity: ClassVar[tuple[int, int]] = (2, 2)
    """The fewest parts and the most."""
    example: ClassVar[str]
    """How it is written."""

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str | Solver):
                object.__setattr__(self, field.name, as_solver(field.name, value))

    @classmethod
    def of(cls, parts: Sequence[Any]) -> Self:
        """The solver of these parts, in the order of `parts`."""
        return cls(*parts)

    @property
    def parts(self) -> tuple[Any, ...]:
        """Solvers and numbers, as they stand in the brackets of its text."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    @abstractmethod
    def solvers(self) -> tuple[Solver, ...]:
        """Those that it runs."""

    def check(self, problem: Problem) -> None:
        super().check(problem)
        for solver in self.solvers:
            solver.check(problem)


def with_parts(solver: Solver) -> Iterator[Solver]:
    """`solver`, then all that it is made of."""
    yield solver
    if isinstance(solver, Composite):
        for part in solver.solvers:
            yield from with_parts(part)


def check_proposals(text: str) -> None:
    """Raise unless `text` names a solver of layer problems, which a network's solver may ask for proposals.

    Raises:
        ArgumentError, UnknownNameError: no solver.
        NotAcceptedError: it takes other problems.
    """
    if LayerProblem not in as_solver("proposals", text).accepts:
        raise NotAcceptedError("proposals", text, "a solver that accepts a LayerProblem")


def as_solver(argument: str, value: object) -> Solver:
    """`value` itself, or the solver that a text names.

    Raises:
        ArgumentError, UnknownNameError: neither.
    """
    from tpsolve.search.registry import find_solver

    if not isinstance(value, str | Solver):
        raise ArgumentError(argument, repr(value), "a solver, or the text of one such as 'tabu:tenure=5'")
    return find_solver(value)
