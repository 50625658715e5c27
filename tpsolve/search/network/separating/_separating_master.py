"""A clausal master that learns circuits while it searches, from columns that are assigned in part."""

from collections.abc import Callable, Iterable

import numpy as np

from tpsolve.search.network.circuits._formula import Clause, NetworkFormula, never
from tpsolve.search.network.circuits._sat_master import SatMaster
from tpsolve.search.network.separating._conflict_finder import ConflictFinder

_FRESH = 4
"""Signs that are assigned between two looks."""
_CONFLICTS_AT_ONCE = 200
"""Python's lock is held meanwhile."""
Circuit = tuple[list[int], list[int]]
"""Samples and signs."""


class SeparatingMaster(SatMaster):
    """As `SatMaster`, by CaDiCaL, which tells of each hidden target that it assigns (IPASIR-UP: Fazekas et al.,
    "IPASIR-UP: User Propagators for CDCL", SAT 2023).

    Where no hyperplane gives a unit of the first layer the signs that are assigned so far, a circuit of these points
    becomes two clauses at once. Without it the search would go on until a model is whole.

    Args:
        formula: of the problem, whose first hidden layer is looked at.
        clauses: of it, and circuits that are known.
        costs, max_limit, stop: as those of `SatMaster`.
        finder: of the circuits.
        keep: told of circuits that were found, before anything is concluded from them.
    """

    conflicts_at_once = _CONFLICTS_AT_ONCE

    def __init__(
        self,
        formula: NetworkFormula,
        clauses: Iterable[Clause],
        costs: list[tuple[int, int]],
        max_limit: int,
        finder: ConflictFinder,
        keep: Callable[["SeparatingMaster", list[Circuit]], None],
        stop: Callable[[], bool] = never,
    ) -> None:
        super().__init__("cadical195", formula.count, clauses, costs, max_limit, stop)
        self._keep, self._spent = keep, 0
        self._looker = _Looker(formula, finder)
        self._solver.connect_propagator(self._looker)
        for variable in formula.hidden[0].flatten().tolist():
            self._solver.observe(variable)

    def __exit__(self, *details: object) -> None:
        self._solver.disconnect_propagator()
        super().__exit__(*details)

    @property
    def conflicts(self) -> int:
        """Of all searches so far; asked while it solves, the engine would end the process."""
        return self._spent

    def solve(self, limit: int, steps: int | None, stop: Callable[[], bool]) -> np.ndarray | bool | None:
        self._looker.stop = stop
        return super().solve(limit, steps, stop)

    def _limited(self, assumptions: list[int]) -> bool | None:
        answer = super()._limited(assumptions)
        self._spent = super().conflicts
        if self._looker.error is not None:
            raise self._looker.error
        found, self._looker.found = self._looker.found, []
        if found:
            self._keep(self, found)
        return answer


class _Looker:
    """What the engine calls, by the names that python-sat gives.

    Attributes:
        found: circuits since somebody took them.
        stop: whether to look no longer, so that the engine ends soon.
        error: of a call; the engine does not pass it on.
    """

    def __init__(self, formula: NetworkFormula, finder: ConflictFinder) -> None:
        self._formula, self._finder = formula, finder
        shape = formula.hidden[0].shape
        self._first = int(formula.hidden[0][0, 0])
        # By sample and unit; 0: not assigned.
        self._signs = np.zeros(shape, dtype=np.int8)
        self._flat, self._units = self._signs.reshape(-1), shape[1]
        self._hyperplanes = np.zeros((shape[1], finder.size))
        self._assigned: list[int] = []
        self._levels: list[int] = []
        self._fresh = 0
        self._clauses: list[Clause] = []
        self.found: list[Circuit] = []
        self.stop: Callable[[], bool] = never
        self.error: Exception | None = None

    def on_assignment(self, literal: int, fixed: bool = False) -> None:
        place = abs(literal) - self._first
        self._flat[place] = 1 if literal > 0 else -1
        self._assigned.append(place)
        self._fresh += 1

    def on_new_level(self) -> None:
        self._levels.append(len(self._assigned))

    def on_backtrack(self, to: int) -> None:
        if to < len(self._levels):
            self._flat[self._assigned[self._levels[to] :]] = 0
            del self._assigned[self._levels[to] :], self._levels[to:]

    def propagate(self) -> list[int]:
        if self._fresh >= _FRESH:
            self._look()
        return []

    def check_model(self, model: list[int]) -> bool:
        literals = np.array(model)
        places = np.abs(literals) - self._first
        ours = (places >= 0) & (places < self._flat.size)
        signs = np.zeros_like(self._flat)
        signs[places[ours]] = np.sign(literals[ours])
        self._look(signs.reshape(self._signs.shape))
        return not self._clauses

    def decide(self) -> int:
        return 0

    def provide_reason(self, literal: int) -> list[int]:
        return []

    def add_clause(self) -> Clause:
        return self._clauses.pop() if self._clauses else []

    def _look(self, signs: np.ndarray | None = None) -> None:
        self._fresh = 0
        signs = self._signs if signs is None else signs
        try:
            if self.stop():
                return
            for unit in range(self._units):
                samples = signs[:, unit].nonzero()[0]
                if len(samples) > 1:
                    circuit = self._finder.find(samples, signs[samples, unit], self._hyperplanes[unit])
                    if len(circuit[0]):
                        named = circuit[0].tolist(), circuit[1].tolist()
                        self.found.append(named)
                        self._clauses += self._formula.circuit(*named)
        except Exception as error:  # The engine would print it and go on; `SeparatingMaster` raises it after the call.
            self.error = error
