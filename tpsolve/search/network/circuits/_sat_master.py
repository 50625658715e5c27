"""A clausal model with a limit on its costs, solved by an incremental SAT solver of python-sat."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tpsolve.search.network.circuits._formula import Clause, added_up, never, totalizer, while_time

_SECONDS_AT_ONCE = 0.1
"""Some engines look at their budget of conflicts at restarts only, which may be long in coming."""


class SatMaster:
    """Finds models of clauses with costs of at most a limit, or proves that there are none.

    Args:
        engine: a solver of python-sat.
        count: variables of the clauses.
        costs: what each literal adds if it is true.
        max_limit: the largest limit that will be asked for.
        stop: asked now and then while clauses are made; True ends it with a `StoppedError`.
    """

    conflicts_at_once = 2000

    def __init__(
        self,
        engine: str,
        count: int,
        clauses: Iterable[Clause],
        costs: list[tuple[int, int]],
        max_limit: int,
        stop: Callable[[], bool] = never,
    ) -> None:
        from pysat.solvers import Solver

        self.engine = engine
        counting, self._reached, self._count = totalizer(count, costs, max_limit, stop)
        self._max_limit = max_limit
        self._solver: Any = Solver(name=engine)
        # CaDiCaL can't be interrupted; it heeds its budget of conflicts.
        self._timed = not engine.startswith("cadical")
        self.add(while_time(clauses, stop))
        self.add(while_time(counting, stop))

    def __enter__(self) -> "SatMaster":
        return self

    def __exit__(self, *_: object) -> None:
        self._solver.delete()

    @property
    def conflicts(self) -> int:
        """Of all searches so far."""
        return self._solver.accum_stats()["conflicts"]

    def add(self, clauses: Iterable[Clause]) -> None:
        """Further clauses, from now on."""
        for clause in clauses:
            self._solver.add_clause(clause)

    def divide(self, parts: Iterable[tuple[list[tuple[int, int]], int]]) -> None:
        """The costs, in disjoint parts, and what each part costs at least: a further counter knows these bounds."""
        clauses, nodes = [], []
        for costs, bound in parts:
            counting, reached, self._count = totalizer(self._count, costs, self._max_limit)
            clauses += counting
            nodes.append(reached)
            if bound > 0:
                clauses.append([reached[min((s for s in reached if s >= bound), default=max(reached))]])
        counting, reached, self._count = added_up(self._count, nodes, self._max_limit)
        self.add([*clauses, *counting, *([-reached[s], self._reached[s]] for s in reached)])

    def implied(self, literals: Sequence[int], limit: int) -> int | None:
        """How many literals follow at once if all these hold and costs are at most `limit`; None: that can't be."""
        possible, found = self._solver.propagate(assumptions=[*literals, *self._at_most(limit)])
        return len(found) if possible else None

    def solve(self, limit: int, steps: int | None, stop: Callable[[], bool]) -> np.ndarray | bool | None:
        """A model with costs of at most `limit`, bool by variable; False: there is none; None: out of budget.

        Args:
            steps: conflicts; None: no limit.
            stop: asked now and then; True ends the search.
        """
        assumptions = self._at_most(limit)
        while not stop() and (steps is None or steps > 0):
            portion = self.conflicts_at_once if steps is None else min(self.conflicts_at_once, steps)
            self._solver.conf_budget(portion)
            answer = self._solve_a_while(assumptions) if steps is None and self._timed else self._limited(assumptions)
            if answer is not None:
                return np.array([False, *(v > 0 for v in self._solver.get_model())]) if answer else False
            steps = None if steps is None else steps - portion
        return None

    def _at_most(self, limit: int) -> list[int]:
        """Literals that say so of the costs."""
        above = min((s for s in self._reached if s > limit), default=None)
        return [] if above is None else [-self._reached[above]]

    def _limited(self, assumptions: list[int]) -> bool | None:
        return self._solver.solve_limited(assumptions=assumptions, expect_interrupt=True)

    def _solve_a_while(self, assumptions: list[int]) -> bool | None:
        timer = threading.Timer(_SECONDS_AT_ONCE, self._solver.interrupt)
        timer.start()
        try:
            return self._limited(assumptions)
        finally:
            timer.cancel()
            timer.join()
            self._solver.clear_interrupt()
