"""The solvers by name: tests, command line, comparison and docs read this table."""

import ast
import dataclasses
import re

from tpsolve.errors import ArgumentError, UnknownNameError
from tpsolve.search.anneal import Anneal
from tpsolve.search.auto import Auto
from tpsolve.search.base import Solver
from tpsolve.search.beam import Beam
from tpsolve.search.big_m import BigM
from tpsolve.search.circuits import Circuits
from tpsolve.search.column_search import ColumnSearch
from tpsolve.search.compose import Composite
from tpsolve.search.cp_sat import CpSat
from tpsolve.search.cross_entropy import CrossEntropy
from tpsolve.search.curvature_flip import CurvatureFlip
from tpsolve.search.dichotomies import Dichotomies
from tpsolve.search.dimod_sampler import DimodSampler
from tpsolve.search.enumerate import Enumerate
from tpsolve.search.ftprop import Ftprop
from tpsolve.search.ftprop_mini_batch import FtpropMiniBatch
from tpsolve.search.guided_random import GuidedRandom
from tpsolve.search.hill_climb import HillClimb
from tpsolve.search.keep import Keep
from tpsolve.search.line_search import LineSearch
from tpsolve.search.milp import Milp
from tpsolve.search.minimum_disturbance import MinimumDisturbance
from tpsolve.search.polish import Polish
from tpsolve.search.portfolio import Portfolio
from tpsolve.search.random import Random
from tpsolve.search.restarts import Restarts
from tpsolve.search.sign_gradient import SignGradient
from tpsolve.search.surrogate import Surrogate
from tpsolve.search.tabu import Tabu
from tpsolve.search.warm_start import WarmStart
from tpsolve.search.weight_box import WeightBox

_KINDS: tuple[type[Solver], ...] = (
    Keep,
    Random,
    SignGradient,
    HillClimb,
    Tabu,
    Anneal,
    Beam,
    GuidedRandom,
    CrossEntropy,
    MinimumDisturbance,
    CurvatureFlip,
    Polish,
    Restarts,
    Portfolio,
    WarmStart,
    Auto,
    Enumerate,
    CpSat,
    Milp,
    ColumnSearch,
    LineSearch,
    Circuits,
    Ftprop,
    FtpropMiniBatch,
    Surrogate,
    Dichotomies,
    WeightBox,
    BigM,
    DimodSampler,
)

SOLVERS: dict[str, type[Solver]] = {kind.name: kind for kind in _KINDS}


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
