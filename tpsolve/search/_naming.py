"""Solvers by name: the table that the registry fills, texts of solvers and settings, and solvers made of others."""

import ast
import dataclasses
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from tpsolve._registry import ClassRegistry
from tpsolve.errors import ArgumentError, NotAcceptedError, UnknownNameError
from tpsolve.problems import BlockProblem, LayerProblem, Problem, ProgramProblem
from tpsolve.search._base import Solver

SOLVERS: ClassRegistry[Solver] = ClassRegistry(
    "solver", "tpsolve.search:SOLVERS", "tpsolve.solvers", Solver, required=("accepts", "one_step")
)
"""Every registered solver by its name: tests, command line, comparison and docs read this table."""


@dataclass(frozen=True)
class Composite(Solver):
    """A solver made of others, which may be given as texts; each must accept the problem."""

    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, BlockProblem, ProgramProblem)
    stochastic = True
    compared = False
    counts_passes = True
    one_step = "one of a part: the steps of all parts are added up"
    arity: ClassVar[tuple[int, int]] = (2, 2)
    """The fewest parts and the most."""
    example: ClassVar[str]
    """How it is written."""

    def __post_init__(self) -> None:
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
    if not isinstance(value, str | Solver):
        raise ArgumentError(argument, repr(value), "a solver, or the text of one such as 'tabu:tenure=5'")
    return find_solver(value)


def find_solver(solver: Solver | str) -> Solver:
    """`solver` itself, or the registered one that a text such as "hill-climb:restarts=8" names.

    Settings follow a colon, separated by commas; those not given have their defaults. A solver made of
    others has them in brackets: "polish(sign-gradient, tabu:tenure=5)".

    Raises:
        UnknownNameError: no solver, or no setting of it, has this name; the message offers the nearest.
        ArgumentError: neither a solver nor a text, a setting without a value, or one that makes no sense.
    """
    if isinstance(solver, Solver):
        return solver
    if not isinstance(solver, str):
        raise ArgumentError("solver", repr(solver), "a solver such as HillClimb(), or a name such as 'hill-climb'")
    name, brackets, inside = solver.strip().partition("(")
    if brackets and ":" not in name:
        return _composite(name.strip(), solver, inside.rstrip())
    name, _, rest = solver.strip().partition(":")
    if name not in SOLVERS:
        raise UnknownNameError("solver", name, SOLVERS)
    known = {field.name for field in dataclasses.fields(SOLVERS[name])}
    if issubclass(SOLVERS[name], Composite) and rest:
        raise ArgumentError("solver", repr(solver), f"{name}(...), with its solvers in brackets")
    if rest and not known:
        raise ArgumentError("solver", repr(solver), f"{name} alone: it has no settings")
    settings = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise ArgumentError("solver", repr(item), "setting=value", f"For example {name}:{item}=1.")
        if key not in known:
            raise UnknownNameError(f"setting of {name}", key, known)
        settings[key] = _value(value)
    return SOLVERS[name](**settings)


def solver_text(solver: Solver) -> str:
    """The shortest text from which `find_solver` makes an equal solver."""
    if isinstance(solver, Composite):
        parts = [solver_text(part) if isinstance(part, Solver) else str(part) for part in solver.parts]
        return f"{solver.name}({', '.join(parts)})"
    changed = [
        f"{field.name}={getattr(solver, field.name)}"
        for field in dataclasses.fields(solver)
        if getattr(solver, field.name) != field.default
    ]
    return solver.name + (":" + ",".join(changed) if changed else "")


def _composite(name: str, text: str, inside: str) -> Solver:
    if name not in SOLVERS:
        raise UnknownNameError("solver", name, SOLVERS)
    kind = SOLVERS[name]
    if not issubclass(kind, Composite):
        raise ArgumentError("solver", repr(text), f"{name} without brackets", f"Settings follow a colon: {name}:...")
    if not inside.endswith(")"):
        raise ArgumentError("solver", repr(text), "a closing bracket at the end")
    parts = _split(inside[:-1], text)
    fewest, most = kind.arity
    if not fewest <= len(parts) <= most:
        expected = f"{fewest}" if fewest == most else f"at least {fewest}"
        raise ArgumentError("solver", repr(text), f"{expected} parts in the brackets", f"For example {kind.example}.")
    return kind.of([int(part) if part.isdigit() else find_solver(part) for part in parts])


def _split(inside: str, text: str) -> list[str]:
    """The parts between commas outside inner brackets; a bare setting=value belongs to the part before it."""
    parts, depth = [""], 0
    for sign in inside:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            raise ArgumentError("solver", repr(text), "as many opening as closing brackets")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    if depth:
        raise ArgumentError("solver", repr(text), "as many opening as closing brackets")
    joined: list[str] = []
    for part in map(str.strip, parts):
        if joined and re.match(r"\w+=", part):
            joined[-1] += f",{part}"
        else:
            joined.append(part)
    return joined


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
