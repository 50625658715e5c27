"""The tasks of a comparison in a few bytes each: every one is made when its turn comes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Self, overload

import numpy as np

from tpsolve._result import Budget
from tpsolve.compare._row_files import Key
from tpsolve.compare.running._instances import AnyInstance
from tpsolve.compare.running._tasks import Task
from tpsolve.search import Solver

Solve = tuple[Solver, str, int]
"""A solver, its text and a seed."""


class Plan(Sequence[Task]):
    """Tasks in the order of the instances.

    Args:
        instances: all that there are. solves: that there may be of each.
        budgets: by the number of samples of an instance.
        numbers: of the tasks, increasing: those of solve k of instance i is `i * len(solves) + k`.
        threads, max_memory: of each `Task`.
    """

    def __init__(
        self,
        instances: Sequence[AnyInstance],
        solves: Sequence[Solve],
        budgets: Mapping[int, Budget],
        numbers: np.ndarray,
        *,
        threads: int | None = None,
        max_memory: float | None = None,
    ) -> None:
        self.instances, self._solves, self._budgets, self._numbers = instances, solves, budgets, numbers
        self.threads, self.max_memory = threads, max_memory

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Task | Self:
        if isinstance(index, slice):
            return self._with(self._numbers[index])
        place, solve = divmod(int(self._numbers[index]), len(self._solves))
        instance, (solver, text, seed) = self.instances[place], self._solves[solve]
        return Task(instance, solver, text, seed, self._budgets[instance.samples], self.threads, self.max_memory)

    def __len__(self) -> int:
        return len(self._numbers)

    def take(self, which: np.ndarray) -> Self:
        """The tasks that these numbers, or these truth values, choose."""
        return self._with(self._numbers[which])

    def limited(self, *, threads: int | None = None, max_memory: float | None = None) -> Self:
        """The same tasks, with other settings where they are given."""
        found = self._with(self._numbers)
        found.threads = self.threads if threads is None else threads
        found.max_memory = self.max_memory if max_memory is None else max_memory
        return found

    def keys(self) -> Iterator[Key]:
        """Of the tasks, without making them."""
        name, last = "", -1
        for number in self._numbers:
            place, solve = divmod(int(number), len(self._solves))
            if place != last:
                name, last = self.instances[place].name, place
            yield name, *self._solves[solve][1:]

    @property
    def of_instances(self) -> np.ndarray:
        """The place of the instance of each task, `(tasks,)` int64, increasing."""
        return self._numbers // len(self._solves)

    def _with(self, numbers: np.ndarray) -> Self:
        kept = {"threads": self.threads, "max_memory": self.max_memory}
        return type(self)(self.instances, self._solves, self._budgets, numbers, **kept)


class Waiting:
    """The tasks of a plan that are yet to be begun, the first one first."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._begun = plan, 0

    def popleft(self) -> Task:
        """The next one."""
        self._begun += 1
        return self._plan[self._begun - 1]

    def __len__(self) -> int:
        return len(self._plan) - self._begun
