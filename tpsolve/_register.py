"""`register`: one way to make a solver or a learner of one's own known by its name."""

from typing import Any, TypeVar

from tpsolve._registry import ClassRegistry
from tpsolve.errors import ArgumentError
from tpsolve.search import SOLVERS
from tpsolve.units import LEARNERS

Kind = TypeVar("Kind", bound=type)

REGISTRIES: tuple[ClassRegistry[Any], ...] = (SOLVERS, LEARNERS)


def register(kind: Kind) -> Kind:
    """Make a class of solvers or learners known by its `name` in this process; may stand above it as a decorator.

    A class derived from `tpsolve.search.Solver` joins `SOLVERS`; one derived from `tpsolve.units.UnitLearner` joins
    `tpsolve.units.LEARNERS`. A class that is defined once more under the same name takes the place of the earlier one.
    For every process, let an installed package name it among its entry points.

    Raises:
        ArgumentError: neither a solver nor a learner, an abstract class, an attribute is missing, or its name is taken.
    """
    for registry in REGISTRIES:
        if isinstance(kind, type) and issubclass(kind, registry.base):
            return registry.register(kind)
    raise ArgumentError("kind", repr(kind), "a class derived from Solver or UnitLearner")
