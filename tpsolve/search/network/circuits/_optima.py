"""Networks with the fewest errors, one after the other, once a race has proved how many those are."""

from collections.abc import Iterable, Iterator
from itertools import permutations, product

import numpy as np
import torch
from torch import Tensor

from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search.network.circuits._formula import Clause
from tpsolve.search.network.circuits._search_state import Master, SearchState


class Optima:
    """Optimal targets that one master finds by itself after the race.

    Args:
        problem, report, state: of the search, whose bounds meet.
        master: that looks for them.
        steps: the maximum number of conflicts of the master, from its first; None: no limit.

    Attributes:
        best: optimal targets `(n_vars,)` that the race found.
        objective: theirs.
        formula: its variables are those of the clauses to `add`.
        exhausted: whether the last `next` has proved that there are no further ones.
    """

    def __init__(
        self, problem: NetworkProblem, report: Report, state: SearchState, master: Master, steps: int | None
    ) -> None:
        self.problem, self.formula = problem, state.formula
        self.best, self.objective = report.targets[0], report.objective[0]
        self.exhausted = False
        self._state, self._master, self._steps = state, master, steps

    def next(self) -> Tensor | None:
        """Optimal targets `(n_vars,)` that all clauses added so far allow; None: none, or out of budget."""
        model = self._next_model()
        return None if model is None else self._state.targets_of(model)

    def add(self, clauses: Iterable[Clause]) -> None:
        """Further clauses, from now on."""
        self._master.add(clauses)

    def interrupted(self) -> bool:
        """Whether time is up, or the callback has asked to stop."""
        return self._state.interrupted()

    def listed(self, max_count: int) -> tuple[Tensor, bool]:
        """Up to `max_count` optimal targets `(K, n_vars)`, distinct up to symmetry; whether these are all there are.

        One at least: that of the race, if the time is over before the master finds one.
        """
        found: list[Tensor] = []
        while len(found) < max_count:
            model = self._next_model()
            if model is None:
                break
            found.append(self._state.targets_of(model))
            self.add(self._all_images(model))
        return torch.stack(found or [self.best]), self.exhausted

    def _next_model(self) -> np.ndarray | None:
        """A model at the best cost whose first layer is separable."""
        while True:
            self._state.tell(self._master)
            left = None if self._steps is None else self._steps - self._master.conflicts
            answer = self._master.solve(self._state.upper, left, self.interrupted)
            self.exhausted = answer is False
            if not isinstance(answer, np.ndarray):
                return None
            if not self._state.separate(answer):
                return answer

    def _all_images(self, model: np.ndarray) -> Iterator[Clause]:
        """Not these hidden columns of the first layer, in any order, negated or not, with these names."""
        first = self.formula.hidden[0]
        values = model[first]
        names = [v if model[v] else -v for v in self.formula.outputs[self.formula.outputs > 0].tolist()]
        for order in permutations(range(first.shape[1])):
            for flips in product((False, True), repeat=first.shape[1]):
                literals = [
                    [v if bit ^ flips[k] else -v for v, bit in zip(first[:, j].tolist(), values[:, k], strict=True)]
                    for k, j in enumerate(order)
                ]
                yield [-literal for column in literals for literal in column] + [-name for name in names]
