"""A cube: the networks in which some literals hold, solved by a master of its own, and divided where it takes long."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search.network.circuits._climb import Climber
from tpsolve.search.network.circuits._formula import Clause, StoppedError
from tpsolve.search.network.circuits._sat_master import SatMaster
from tpsolve.search.network.circuits._search_state import SearchState
from tpsolve.search.network.cubes._split import Literals, halved, most_telling

MAX_TABLES = 5
"""Inputs up to which each truth table of the first unit above the first hidden layer is a cube: 119 tables."""
_MAX_CUTS = 20
_LOOKED_AT = 300
"""Literals that are tried before a cube is divided."""


@dataclass(frozen=True)
class Cube:
    """Networks of a problem in which all `literals` of its `NetworkFormula` hold.

    Args:
        problem: in one batch.
        literals: as in DIMACS; none: all networks.
        best: `(n_vars,)` targets of the best network so far, in whatever cube; only better ones are sought.
        circuits: `(C, p + 2)` int32, known ones: sample numbers from 1 times signs, filled up with 0.
        bound: errors that its networks make at least, proved before.
        seconds: after which it is given up, to be divided.
        engine: of python-sat.
        seed: of circuits.
        losses: how many processes it has cost.
        parts: into how many it is divided, at least.
    """

    problem: NetworkProblem
    literals: Literals
    best: Tensor
    circuits: Tensor
    bound: Fraction
    seconds: float
    engine: str
    seed: int = 0
    losses: int = 0
    parts: int = 2

    @property
    def title(self) -> str:
        """How many literals it has."""
        return f"a cube of {len(self.literals)} literals"

    def carry_out(self, stop: Callable[[], bool]) -> "CubeOutcome":
        """Look for a better network in the cube, or prove that there is none."""
        torch.set_num_threads(1)
        report = Report(self.problem, Budget(seconds=self.seconds), None)
        state = self._state(report)

        def ended() -> bool:
            return stop() or report.seconds > self.seconds

        conflicts, divide = 0, ()
        try:
            with self._master(state, stop) as master:
                state.open_master(lambda _: master, stop)
                Climber(self.problem, state).work(master, True, None, ended)
                conflicts = master.conflicts
                if not state.closed and not stop():
                    divide = self._divide(master, state, stop)
        except StoppedError:
            pass
        circuits = torch.cat([self.circuits, state.signed_circuits().to(torch.int32)])
        best = report.targets[0].clone()
        return CubeOutcome(self, state.closed, state.proved, best, circuits, divide, conflicts, report.seconds)

    def failed(self, reason: str) -> "CubeOutcome":
        """Nothing is known of it but what was."""
        return CubeOutcome(self, False, self.bound, self.best, self.circuits, (), 0, 0.0, reason)

    def halved(self, cubes: Sequence[Literals], count: int, stop: Callable[[], bool]) -> list[Literals]:
        """Literals of at least `count` cubes that hold together what `cubes` hold, unless `stop` says True before.

        All of them are cubes of this one.
        """
        state = self._state(Report(self.problem, Budget(seconds=self.seconds), None))
        generator = torch.Generator().manual_seed(self.seed)
        try:
            with self._master(state, stop) as master:
                free = torch.from_numpy(state.formula.hidden[0].reshape(-1))

                def drawn(number: int) -> list[int]:
                    return free[torch.randperm(len(free), generator=generator)[:number]].tolist()

                return halved(cubes, count, master, drawn, state.upper - 1, stop)
        except StoppedError:
            return list(cubes)

    def _state(self, report: Report) -> SearchState:
        state = SearchState(self.problem, report, torch.Generator().manual_seed(self.seed), 0, _MAX_CUTS)
        state.offer(self.best)
        state.prove(self.bound, "circuits")
        return state

    def _master(self, state: SearchState, stop: Callable[[], bool]) -> SatMaster:
        state.prepare(stop)
        clauses = chain(state.clauses(), self._known(state), ([literal] for literal in self.literals))
        return SatMaster(self.engine, state.formula.count, clauses, state.costs, state.upper, stop)

    def _known(self, state: SearchState) -> Iterator[Clause]:
        signed = self.circuits.numpy().astype(np.int64)
        return state.formula.circuits(np.maximum(abs(signed) - 1, 0), np.sign(signed))

    def _divide(self, master: SatMaster, state: SearchState, stop: Callable[[], bool]) -> tuple[Literals, ...]:
        """Literals of parts that hold together all that this cube holds, besides its own; none: it can't be divided."""
        own = set(map(abs, self.literals))
        free = torch.tensor([v for v in state.formula.hidden[0].reshape(-1).tolist() if v not in own])
        generator = torch.Generator().manual_seed(self.seed)

        def drawn(number: int) -> list[int]:
            return free[torch.randperm(len(free), generator=generator)[:number]].tolist()

        first = most_telling(master, drawn(_LOOKED_AT), (), state.upper - 1)
        if not first:
            return ()
        halves = ((first,), (-first,))
        return tuple(halved(halves, self.parts, master, drawn, state.upper - 1, stop))


@dataclass(frozen=True)
class CubeOutcome:
    """What became of a cube.

    Args:
        closed: no network in it is better than `best`.
        bound: errors that its networks make at least, if they are better than `best`.
        best: targets as those of a `Cube`.
        circuits: from which that follows.
        divide: literals of its parts, besides its own; none: it can't be divided.
        conflicts: of the engine.
        lost: why there is no outcome.
    """

    cube: Cube
    closed: bool
    bound: Fraction
    best: Tensor
    circuits: Tensor
    divide: tuple[Literals, ...]
    conflicts: int
    seconds: float
    lost: str = ""


def tables(inputs: int) -> list[tuple[int, ...]]:
    """Truth tables that rise in each input, and in which no input is stronger than an earlier one.

    Bit j of place b is input j. Each threshold function is one of them, once inputs are negated and put in order.
    """
    found: list[tuple[int, ...]] = [()]
    for b in range(2**inputs):
        # Both kinds of patterns have smaller numbers than this one.
        less = [b & ~(1 << j) for j in range(inputs) if b >> j & 1]
        stronger = [b ^ 3 << j for j in range(inputs - 1) if b >> j & 3 == 2]
        found = [
            (*table, bit)
            for table in found
            for bit in (0, 1)
            if all(bit >= table[a] for a in less) and all(bit <= table[a] for a in stronger)
        ]
    return found
