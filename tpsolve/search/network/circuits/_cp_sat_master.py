"""A clausal model with a limit on its costs, solved by CP-SAT, which starts anew each time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tpsolve.search._cp_sat_run import run_cp_sat
from tpsolve.search.network.circuits._formula import MAX_COUNTED, Clause, never, totalizer, while_time


class CpSatMaster:
    """Finds models of clauses with costs of at most a limit, or proves that there are none.

    Args:
        count: variables of the clauses.
        costs: what each literal adds if it is true.
        max_limit: the largest limit that will be asked for.
        workers: threads.
        stop: asked now and then while clauses are made; True ends it with a `StoppedError`.
    """

    engine = "cp-sat"

    def __init__(
        self,
        count: int,
        clauses: Iterable[Clause],
        costs: list[tuple[int, int]],
        max_limit: int,
        workers: int,
        stop: Callable[[], bool] = never,
    ) -> None:
        from ortools.sat.python import cp_model

        self._model, self._workers, self.conflicts = cp_model.CpModel(), workers, 0
        # Few errors counted by clauses take a tenth of the conflicts that a linear constraint takes to be refuted.
        counting, self._reached, count = (
            totalizer(count, costs, max_limit, stop) if max_limit <= MAX_COUNTED else ([], {}, count)
        )
        self._true: list[Any] = [None, *(self._model.new_bool_var("") for _ in range(count))]
        self._false: list[Any] = [None, *(v.negated() for v in self._true[1:])]
        self._cost = None
        if max_limit > MAX_COUNTED:
            self._cost = self._model.new_int_var(0, sum(cost for _, cost in costs), "")
            self._model.add(sum(cost * self._literal(literal) for literal, cost in costs) <= self._cost)
        self.add(while_time(clauses, stop))
        self.add(while_time(counting, stop))

    def __enter__(self) -> "CpSatMaster":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, clauses: Iterable[Clause]) -> None:
        """Further clauses, from now on."""
        for clause in clauses:
            self._model.add_bool_or([self._literal(literal) for literal in clause])

    def divide(self, parts: Iterable[tuple[list[tuple[int, int]], int]]) -> None:
        """The costs, in disjoint parts, and what each part costs at least."""
        for costs, bound in parts:
            self._model.add(sum(cost * self._literal(literal) for literal, cost in costs) >= bound)

    def solve(self, limit: int, steps: int | None, stop: Callable[[], bool]) -> np.ndarray | bool | None:
        """A model with costs of at most `limit`, bool by variable; False: there is none; None: out of budget.

        Args:
            steps: conflicts; with a limit only one worker searches.
            stop: asked now and then; True ends the search.
        """
        from ortools.sat.python import cp_model

        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1 if steps is not None else self._workers
        # Clauses are simple already. Presolving them took most of the time, and each solve did it anew.
        solver.parameters.cp_model_presolve = False
        solver.parameters.cp_model_probing_level = 0
        solver.parameters.inprocessing_minimization_dtime = 0
        # By default 0.8; slower decay takes up to half the conflicts here.
        solver.parameters.variable_activity_decay = 0.99
        solver.parameters.symmetry_level = 0
        solver.parameters.linearization_level = 0
        solver.parameters.catch_sigint_signal = False
        if steps is not None:
            solver.parameters.max_number_of_conflicts = steps
        with self._limited(limit):
            answer, _ = run_cp_sat(solver, self._model, lambda _: stop())
        self.conflicts += solver.num_conflicts
        if answer in ("OPTIMAL", "FEASIBLE"):
            return np.array([False, *(solver.boolean_value(v) for v in self._true[1:])])
        if answer == "INFEASIBLE":
            return False
        if answer == "UNKNOWN":
            return None
        raise AssertionError(f"CP-SAT ended with {answer}")

    @contextmanager
    def _limited(self, limit: int) -> Iterator[None]:
        """Costs are at most `limit` meanwhile."""
        above = min((s for s in self._reached if s > limit), default=None)
        if self._cost is not None:
            variable, value = self._cost, [0, limit]
        elif above is not None:
            literal = self._reached[above]
            variable, value = self._true[abs(literal)], [int(literal < 0)] * 2
        else:
            yield
            return
        domain = self._model.proto.variables[variable.index].domain
        before = list(domain)
        domain[0], domain[1] = value
        try:
            yield
        finally:
            domain[0], domain[1] = before

    def _literal(self, literal: int) -> Any:
        return self._true[literal] if literal > 0 else self._false[-literal]
