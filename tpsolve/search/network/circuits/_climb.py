"""A master at work on the state of a search: from below, until no network costs less than the best one."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from tpsolve.errors import ContradictionError
from tpsolve.problems import NetworkProblem
from tpsolve.search.network.circuits._search_state import Master, SearchState
from tpsolve.spins import sign
from tpsolve.units import LeastSquares


class Climber:
    """Lets masters raise the bound of a search, or lower the cost of its best network.

    Args:
        problem: of the search.
        state: gets what is found and refuted.
        spent: told how many conflicts a master has spent, where they are limited.
    """

    def __init__(self, problem: NetworkProblem, state: SearchState, spent: Callable[[int], None] | None = None) -> None:
        self._problem, self._state, self._spent = problem, state, spent

    def work(self, master: Master, rising: bool, steps: int | None, ended: Callable[[], bool]) -> None:
        """Let the master refute limits from below, or find networks below the best, until `ended`.

        Args:
            steps: conflicts of the master, all in all; None: no limit.
        """
        state = self._state
        rise, best = 0, state.upper
        while not state.closed and not ended():
            state.draw(master.conflicts)
            lower, upper = state.bounds
            rise, best = rise if upper == best else 0, upper
            # Each limit that is refuted doubles the next rise: the last refutation is the dearest.
            limit = min(lower + rise, best - 1) if rising else best - 1
            state.tell(master)
            left = None if steps is None else steps - master.conflicts

            def stale(limit: int = limit) -> bool:
                return ended() or not state.lower <= limit < state.upper or state.has_news(master)

            answer = master.solve(limit, left, stale)
            if steps is not None and self._spent is not None:
                self._spent(master.conflicts)
            if isinstance(answer, np.ndarray):
                self._examine(answer)
            elif answer is False:
                state.refute(limit, master.engine)
                rise = 2 * rise + 1
            elif steps is not None and master.conflicts >= steps:
                return

    def _examine(self, model: np.ndarray) -> None:
        """Cut off what is not separable of a model, or keep its targets."""
        state = self._state
        if not state.separate(model):
            state.offer(state.targets_of(model))
            if state.upper > state.cost_of(model):
                raise ContradictionError("circuits: targets without a conflict are no network's")
        elif self._problem.layers[1:] != (1,):
            # Local search took care of the others.
            state.offer(self._projected(state.targets_of(model)))

    def _projected(self, targets: Tensor) -> Tensor:
        """Targets of a network whose units are fitted, layer by layer, to `targets (n_vars,)`."""
        h, columns = self._problem.inputs, []
        for target in self._problem.columns(targets):
            fit = LeastSquares().fit(h, target)
            h = sign(h @ fit.weight.T.double() + fit.bias.double())
            columns.append(h)
        return self._problem.pack(*columns)
