"""The solvers by name: tests, command line, comparison and docs read this table."""

import ast
import dataclasses

from tpsolve.errors import ArgumentError, UnknownNameError
from tpsolve.search.anneal import Anneal
from tpsolve.search.base import Solver
from tpsolve.search.column_search import ColumnSearch
from tpsolve.search.cp_sat import CpSat
from tpsolve.search.enumerate import Enumerate
from tpsolve.search.ftprop import Ftprop
from tpsolve.search.hill_climb import HillClimb
from tpsolve.search.keep import Keep
from tpsolve.search.milp import Milp
from tpsolve.search.random import Random
from tpsolve.search.sign_gradient import SignGradient
from tpsolve.search.surrogate import Surrogate
from tpsolve.search.tabu import Tabu

_KINDS: tuple[type[Solver], ...] = (
    Keep,
    Random,
    SignGradient,
    HillClimb,
    Tabu,
    Anneal,
    Enumerate,
    CpSat,
    Milp,
    ColumnSearch,
    Ftprop,
    Surrogate,
)

SOLVERS: dict[str, type[Solver]] = {kind.name: kind for kind in _KINDS}


def find_solver(solver: Solver | str) -> Solver:
    """`solver` itself, or the registered one that a text such as "hill-climb:restarts=8" names.

    Settings follow a colon, separated by commas; those not given have their defaults.

    Raises:
        UnknownNameError: no solver, or no setting of it, has this name; the message offers the nearest.
        ArgumentError: neither a solver nor a text, a setting without a value, or one that makes no sense.
    """
    if isinstance(solver, Solver):
        return solver
    if not isinstance(solver, str):
        raise ArgumentError("solver", repr(solver), "a solver such as HillClimb(), or a name such as 'hill-climb'")
    name, _, rest = solver.partition(":")
    if name not in SOLVERS:
        raise UnknownNameError("solver", name, SOLVERS)
    known = {field.name for field in dataclasses.fields(SOLVERS[name])}
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
    changed = [
        f"{field.name}={getattr(solver, field.name)}"
        for field in dataclasses.fields(solver)
        if getattr(solver, field.name) != field.default
    ]
    return solver.name + (":" + ",".join(changed) if changed else "")


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
