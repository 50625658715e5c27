"""A clausal model with a limit on its costs, solved by an incremental SAT solver of python-sat."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tpsolve.search.network.circuits._formula import Clause, totalizer

_CONFLICTS_AT_ONCE = 2000


class SatMaster:
    """Finds models of clauses with costs of at most a limit, or proves that there are none.

    Args:
        engine: a solver of python-sat.
        count: variables of the clauses.
        costs: what each literal adds if it is true.
        max_limit: the largest limit that will be asked for.
    """

    def __init__(
        self, engine: str, count: int, clauses: Iterable[Clause], costs: list[tuple[int, int]], max_limit: int
    ) -> None:
        from pysat.solvers import Solver

        self._solver: Any = Solver(name=engine, bootstrap_with=clauses)
        counting, self._reached, _ = totalizer(count, costs, max_limit)
        self.add(counting)

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

    def solve(self, limit: int, steps: int | None, stop: Callable[[], bool]) -> np.ndarray | bool | None:
        """A model with costs of at most `limit`, bool by variable; False: there is none; None: out of budget.

        Args:
            steps: conflicts; None: no limit.
            stop: asked now and then; True ends the search.
        """
        above = min((s for s in self._reached if s > limit), default=None)
        assumptions = [] if above is None else [-self._reached[above]]
        while not stop() and (steps is None or steps > 0):
            portion = _CONFLICTS_AT_ONCE if steps is None else min(_CONFLICTS_AT_ONCE, steps)
            self._solver.conf_budget(portion)
            answer = self._solver.solve_limited(assumptions=assumptions, expect_interrupt=True)
            if answer is not None:
                return np.array([False, *(v > 0 for v in self._solver.get_model())]) if answer else False
            steps = None if steps is None else steps - portion
        return None
