"""What a solver that works for another search has for a report."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.search._base import Report
from tpsolve.search.network.circuits._search_state import SearchState

_MIN_PATIENCE = 0.15
_PATIENCE = 2
"""The first round of local search ends after so many seconds at least, and so many times those of its last gain."""


def no_turn() -> float:
    """For those who need not let others work."""
    return 0.0


class Relay(Report):
    """The report that a solver beside others sees; a first local search ends when a gain is long ago.

    Args:
        report: of the whole search, whose incumbent and bound it shows.
        state: gets what is found and proved.
        name: of the solver.
        budget: of the solver.
        turn: called now and then, lets others work meanwhile and says for how many seconds.
        halted: called now and then; True ends the search.
        patient: whether it goes on without a gain.
    """

    def __init__(
        self,
        report: Report,
        state: SearchState,
        name: str,
        budget: Budget,
        turn: Callable[[], float],
        halted: Callable[[], bool],
        *,
        patient: bool,
    ) -> None:
        super().__init__(report.problem, budget, None)
        self.targets, self.objective, self.bound = report.targets, report.objective, report.bound
        self._state, self._name, self._turn, self._halted, self._patient = state, name, turn, halted, patient
        self._gained = math.inf

    def offer(
        self,
        targets: Tensor,
        rows: Tensor | None = None,
        found_at: Tensor | None = None,
        weights: Sequence[tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        before = self._state.upper
        self._state.propose(targets[0])
        if self._state.upper < before or math.isinf(self._gained):
            self._gained = self.seconds

    @property
    def incumbent(self) -> Tensor:
        return self._state.best.expand(len(self.objective), -1)

    @property
    def may_judge(self) -> bool:
        return True

    def prove(self, bound: Tensor | float, rows: Tensor | None = None) -> None:
        proved = float(torch.as_tensor(bound, dtype=torch.float64).max())
        if math.isfinite(proved):
            self._state.prove(Fraction(proved), self._name)

    def pulse(self, objective: Tensor | None = None, bound: Tensor | None = None) -> bool:
        # Its clock stands still while it waits.
        self._started += self._turn()
        patience = math.inf if self._patient else max(_MIN_PATIENCE, _PATIENCE * self._gained)
        tired = self.budget.seconds is not None and self.seconds > min(patience, self.budget.seconds)
        self.stopped = self.stopped or tired or self._halted()
        return self.stopped
