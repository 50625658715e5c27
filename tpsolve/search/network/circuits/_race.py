"""Masters and local searches side by side, until the bounds of a search meet."""

import math
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import numpy as np
import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.errors import ContradictionError
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search._cp_sat_run import POLL_SECONDS
from tpsolve.search._naming import find_solver
from tpsolve.search.network.circuits._state import SPRINT, Master, SearchState
from tpsolve.spins import sign
from tpsolve.units import LeastSquares

MANY_FEATURES = 8
"""With more, a line search from a surrogate gradient's network finds fewer errors than a search of columns does."""
SPRINT_SECONDS = 0.03
"""So long, or `SPRINT` conflicts, the first master works by itself, before a second one and the local search begin."""
_LOCAL_STEPS = 50
"""Of each local search at the start of a budget in steps, where no clock may be read."""
_MIN_PATIENCE = 0.15
_PATIENCE = 2
"""Local search ends after so many seconds at least, and so many times those of its last gain."""


class Race:
    """Who works on the state of a search.

    Args:
        problem, report: of the search; a budget in steps counts the first master's conflicts.
        state: shared by all.
        generator: of the local searches.

    Attributes:
        masters: those that were made, the first one first.
    """

    def __init__(self, problem: NetworkProblem, report: Report, state: SearchState, generator: torch.Generator) -> None:
        self._problem, self._report, self._state, self._generator = problem, report, state, generator
        self.masters: list[Master] = []

    def run(self, make: list[Callable[[], Master]], local: float, steps: int | None) -> None:
        """Let masters work until the bounds meet.

        The first one rises from below. A second one, if any, comes down from the best network that `local`
        seconds of local search have found meanwhile. A single one waits for a short local search.
        """
        state, report = self._state, self._report
        first = self._made(make[0])
        if steps is not None:
            self._improve(local / 4, _LOCAL_STEPS)
            self._work(first, True, steps, state.pulse)
            return
        self._work(first, True, SPRINT, lambda: state.pulse() or report.seconds > SPRINT_SECONDS)
        if state.halted():
            return
        state.draw(SPRINT)
        if len(make) == 1:
            self._improve(local / 4, None)
            self._work(first, True, None, state.pulse)
            return

        def descend() -> None:
            self._improve(local, None)
            if not state.halted():
                self._work(self._made(make[1]), False, None, lambda: state.ended)

        tasks = [lambda: self._work(first, True, None, lambda: state.ended), descend]
        with ThreadPoolExecutor(len(tasks)) as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                # Callbacks and Ctrl-C belong to this thread.
                while not state.pulse():
                    done, running = wait(futures, POLL_SECONDS, FIRST_EXCEPTION)
                    if not running or any(future.exception() for future in done):
                        break
            finally:
                state.end()
        for future in futures:
            future.result()

    def _improve(self, seconds: float, steps: int | None) -> None:
        """Local search for so long, or with `steps` for so many: `local_searches`, which share the seconds equally."""
        names = local_searches(self._problem)
        for name in names:
            if (seconds > 0 or steps is not None) and not self._state.halted():
                budget = Budget(seconds / len(names)) if steps is None else Budget(steps=steps)
                relay = _Relay(self._problem, budget, self._state)
                find_solver(name).run(self._problem, budget, self._generator, relay)

    def _made(self, make: Callable[[], Master]) -> Master:
        self.masters.append(self._state.open_master(make))
        return self.masters[-1]

    def _work(self, master: Master, rising: bool, steps: int | None, ended: Callable[[], bool]) -> None:
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
            answer = master.solve(limit, left, lambda limit=limit: ended() or not state.lower <= limit < state.upper)
            if steps is not None:
                self._report.steps = master.conflicts
            if isinstance(answer, np.ndarray):
                self._examine(answer)
            elif answer is False:
                state.refute(limit)
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


def local_searches(problem: NetworkProblem) -> list[str]:
    """The solvers that look for a first network: column search where it applies, then line search of many features."""
    first = ["column-search"] if problem.layers[1:] == (1,) else []
    return [*first, "line-search"] if has_many_features(problem) else first


def has_many_features(problem: NetworkProblem) -> bool:
    """More than `MANY_FEATURES`."""
    return problem.inputs.shape[1] > MANY_FEATURES


class _Relay(Report):
    """The report that a local search beside other workers sees; it ends when a gain is long ago."""

    def __init__(self, problem: NetworkProblem, budget: Budget, state: SearchState) -> None:
        super().__init__(problem, budget, None)
        self._state = state
        self._gained = math.inf

    def offer(self, targets: Tensor, rows: Tensor | None = None, found_at: Tensor | None = None) -> None:
        before = self._state.upper
        self._state.offer(targets[0])
        if self._state.upper < before or math.isinf(self._gained):
            self._gained = self.seconds

    def pulse(self, objective: Tensor | None = None, bound: Tensor | None = None) -> bool:
        patience = max(_MIN_PATIENCE, _PATIENCE * self._gained)
        tired = self.budget.steps is None and self.seconds > min(patience, self.budget.seconds or math.inf)
        self.stopped = self.stopped or tired or self._state.halted()
        return self.stopped
