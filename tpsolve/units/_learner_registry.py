"""The learners by name; `tpsolve/units/__init__.py` fills the table."""

from typing import Any

from tpsolve._registry import ClassRegistry
from tpsolve.errors import UnknownNameError
from tpsolve.units._base import UnitLearner

LEARNERS: ClassRegistry[UnitLearner[Any]] = ClassRegistry(
    "learner", "tpsolve.units:LEARNERS", "tpsolve.learners", UnitLearner
)
"""Every registered learner by its name."""


def find_learner(name: str) -> type[UnitLearner[Any]]:
    """The learner of this name.

    Raises:
        UnknownNameError: there is none; the message offers the nearest names.
    """
    if name not in LEARNERS:
        raise UnknownNameError("learner", str(name), LEARNERS)
    return LEARNERS[name]
