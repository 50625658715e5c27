"""Bounds from parts: the optima of disjoint parts of the points sum up to a bound for all points."""

import math
import threading
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search._naming import find_solver
from tpsolve.search.network._relay import Relay, no_turn
from tpsolve.search.network.circuits._climb import Climber
from tpsolve.search.network.circuits._search_state import Evidence, SearchState
from tpsolve.search.network.separating._conflict_finder import ConflictFinder
from tpsolve.search.network.separating._separating_master import SeparatingMaster
from tpsolve.search.network.sweep._pencils import count_turns

_POINTS = 6
"""Points of the first parts, for each feature and each unit of the first hidden layer."""
_SLICE = 0.2
"""Seconds that a part gets in the first round; twice as much in the next."""
_PATIENCE = 1.0
"""Seconds a part in a round, after which larger ones are begun beside those that are still open."""
_LARGER = 1.5
"""How many times as many points the next parts have."""
_TURNS_A_SECOND = 4_000_000
"""Of points, in a sweep."""
_DRAWN = 3_000
_MANY_FEATURES = 8


class Part:
    """Some of the points of a problem, with a bound of their own.

    Args:
        problem: the whole.
        order: `(M,)` int64, its points in a random order.
        first, last: the part has the points from place `first` to `last` - 1.
        inner: evidence of disjoint parts of this one; its bound is theirs at first.
        generator: of circuits.
    """

    def __init__(
        self,
        problem: NetworkProblem,
        order: Tensor,
        first: int,
        last: int,
        inner: list[Evidence],
        generator: torch.Generator,
    ) -> None:
        self.first, self.last, self.points = first, last, order[first:last]
        counts = problem.counts[self.points].cpu()
        row, label = counts.nonzero(as_tuple=True)
        samples = problem.inputs[self.points].cpu()[row]
        # With fewer classes there may be fewer outputs, which can name what the others could.
        self._problem = NetworkProblem(samples, label, problem.widths, counts[row, label]).flatten()
        self._report = Report(self._problem, Budget(seconds=1e9), None)
        drawn = 0 if samples.shape[1] > _MANY_FEATURES else _DRAWN
        self._generator = generator
        self._state = SearchState(self._problem, self._report, generator, drawn, 20)
        self._state.prove(sum((bound for _, bound, *_ in inner), Fraction(0)), "parts")
        self._state.divide([self._own(evidence) for evidence in inner])
        self._master: SeparatingMaster | None = None

    @property
    def bound(self) -> Fraction:
        """Errors that every network makes on these points at least."""
        return self._state.proved

    @property
    def closed(self) -> bool:
        """Whether the bound is the optimum."""
        return self._state.closed

    @property
    def proved_by(self) -> str:
        """What proved the bound: "parts" where it was given; see `SearchState`."""
        return self._state.proved_by

    def improve(self, countable: bool, ended: Callable[[], bool], seconds: float) -> None:
        """Raise the bound for about so many seconds or to the optimum, by a sweep or, if `countable`, a master.

        Raises:
            StoppedError: `ended` while clauses were made.
        """
        turns = count_turns(*self._problem.inputs.shape) if self._problem.widths[0] == 1 else math.inf
        if turns <= _TURNS_A_SECOND * 2 * seconds:
            relay = Relay(self._report, self._state, "sweep", Budget(seconds=1e9), no_turn, ended, patient=True)
            find_solver("sweep").run(self._problem, relay.budget, self._generator, relay)
        elif countable:
            until = self._report.seconds + seconds
            if self._master is None:
                self._master = self._opened(ended)
            climber = Climber(self._problem, self._state)
            climber.work(self._master, True, None, lambda: ended() or self._report.seconds > until)

    def _own(self, evidence: Evidence) -> Evidence:
        """In the numbers of this part what is said in those of the whole."""
        points, bound, by, circuits = evidence
        own = torch.zeros(int(self.points.max()) + 2, dtype=torch.int64)
        own[self.points.cpu() + 1] = torch.arange(1, len(self.points) + 1)
        named = own[circuits.long().abs()] * circuits.long().sign()
        return (own[points.long() + 1] - 1).to(torch.int32), bound, by, named.to(torch.int32)

    def _opened(self, ended: Callable[[], bool]) -> SeparatingMaster:
        state = self._state
        state.prepare(ended)
        finder = ConflictFinder(self._problem.inputs.numpy(), None)
        clauses, costs, upper = state.clauses(), state.costs, state.upper
        master = SeparatingMaster(state.formula, clauses, costs, upper, finder, state.keep, ended)
        state.open_master(lambda _: master, ended)
        return master

    def evidence(self) -> Evidence:
        """Of its bound."""
        points = self.points.cpu()
        number = torch.cat([torch.zeros(1, dtype=torch.int64), points + 1])
        circuits = self._state.signed_circuits().long()
        named = (number[circuits.abs()] * circuits.sign()).to(torch.int32)
        return points.to(torch.int32), self.bound, self.proved_by, named

    def close(self) -> None:
        """Free the master."""
        if self._master is not None:
            self._master.__exit__()
            self._master = None


class Parts:
    """Disjoint parts of the points of a problem, small at first, then larger ones.

    The parts are runs of a random order of the points, so that each is like the whole. All of one size are worked on in
    turn. The bound is that of the best choice of parts of any sizes that are disjoint.

    Args:
        problem: the whole.
        state: of its search.
        countable: whether python-sat is there, and the weights have a common measure; else only sweeps are left.
        generator: of the parts.
        alone: whether the state has no masters, which would be told of the parts.

    Attributes:
        best: evidence of disjoint parts, of the best bound so far.
        countable: as given.
        seed: the generator's.
    """

    def __init__(
        self,
        problem: NetworkProblem,
        state: SearchState,
        countable: bool,
        generator: torch.Generator,
        *,
        alone: bool = False,
    ) -> None:
        self._problem, self._state, self._generator, self._alone = problem, state, generator, alone
        self.countable, self.seed = countable, generator.initial_seed()
        self.best: list[Evidence] = []
        self._lock = threading.Lock()
        used = problem.counts.sum(1).cpu().nonzero()[:, 0]
        self._order = used[torch.randperm(len(used), generator=generator)]
        self._parts: list[Part] = []

    def take(self, evidence: list[Evidence]) -> None:
        """Raise the bound to the sum of those of disjoint parts, if that is more."""
        bound = _total(evidence)
        # The thread that divides the points and the one that hears of the process may come at once.
        with self._lock:
            if bound <= _total(self.best):
                return
            self.best = evidence
        if not self._alone:
            self._state.divide(evidence)
        self._state.prove(bound, "parts")

    def run(self, ended: Callable[[], bool]) -> bool:
        """Raise the bound until the largest parts are closed, or `ended`; whether they are.

        Raises:
            StoppedError: `ended` while clauses were made.
        """
        points = len(self._order)
        count = points / (_POINTS * (self._problem.inputs.shape[1] + self._problem.widths[0]))
        waiting: list[tuple[list[Part], float]] = []
        best = Fraction(0)
        try:
            while not ended():
                if not waiting or waiting[-1][1] > _PATIENCE:
                    if count > 0:
                        count = max(2, math.ceil(count))
                        waiting.append((self._divided(count, ended), _SLICE))
                        count = count / _LARGER if count > 2 else 0
                    elif not waiting:
                        return True
                for level, seconds in waiting:
                    for part in level:
                        if ended():
                            return False
                        part.improve(self.countable, ended, seconds)
                        bound, disjoint = self._packed(0, points)
                        if bound > best:
                            best = bound
                            self.take([one.evidence() for one in disjoint])
                waiting = [
                    (still, 2 * seconds)
                    for level, seconds in waiting
                    if (still := [part for part in level if not part.closed])
                ]
            return False
        finally:
            for part in self._parts:
                part.close()

    def _divided(self, count: int, ended: Callable[[], bool]) -> list[Part]:
        cuts = [round(k * len(self._order) / count) for k in range(count + 1)]
        level = []
        for first, last in pairwise(cuts):
            if ended():
                break
            inner = [part.evidence() for part in self._packed(first, last)[1]]
            level.append(Part(self._problem, self._order, first, last, inner, self._generator))
        self._parts += level
        return level

    def _packed(self, first: int, last: int) -> tuple[Fraction, list[Part]]:
        """The largest sum of bounds of disjoint parts between two places of the order, and these parts."""
        proved = [p for p in self._parts if p.first >= first and p.last <= last and p.proved_by != "parts"]
        best: list[tuple[Fraction, int, list[Part]]] = [(Fraction(0), first, [])]
        for part in sorted(proved, key=lambda one: one.last):
            before = next(one for one in reversed(best) if one[1] <= part.first)
            if before[0] + part.bound > best[-1][0]:
                best.append((before[0] + part.bound, part.last, [*before[2], part]))
        return best[-1][0], best[-1][2]


def _total(evidence: list[Evidence]) -> Fraction:
    return sum((bound for _, bound, *_ in evidence), Fraction(0))
