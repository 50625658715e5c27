"""Local searches that take turns, as long as there is time, and share the best network."""

import math
import threading
import time
from collections.abc import Callable
from functools import partial

import torch

from tpsolve._result import Budget
from tpsolve.errors import NotAcceptedError, TooLargeError
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search._cp_sat_run import POLL_SECONDS
from tpsolve.search._naming import find_solver
from tpsolve.search.network._relay import Relay, no_turn
from tpsolve.search.network._subset import from_subset
from tpsolve.search.network._turns import Turns
from tpsolve.search.network.circuits._search_state import SearchState

_FROM_BEST = "line-search:first=None"
_SURROGATE = "surrogate:restarts=100,width=0.3,rate=0.05,steps=300"
"""That a line search begins with: its rate falls in a second, and then it begins anew."""
_REFIT = "refit-search"
_FROM_NOTHING = (_REFIT, "column-search", "line-search")
_LONG_TURN, _TURN, _BRIEF = 0.2, 0.1, 0.05
"""Seconds of a turn: of a search from nothing that is late, of others, and of those that find least meanwhile."""
_FIRST_TURN = 0.3
"""Of the first networks."""
_SHARE = 1 / 3
"""Of the seconds: so long each local search from nothing works, as it would alone, whatever others find."""
_AHEAD = 1.04
"""So many times its share it should have had at the end: who goes before others may have to wait for a turn's end."""
_EARLY, _LATE = 0.1, 0.44
"""What it gets at least of the seconds at first, and of those in which it gets what is left of its share: bounds come
first, since many problems end by them."""
_MANY_FEATURES = 8
"""With more, a line search from a surrogate gradient's network finds fewer errors than a search of columns does."""
_LARGE, _A_POINT = 100_000, 8
"""Numbers in the inputs of a large problem, where each point counts as so many at least."""
_SUBSET = 50_000
"""Points of which columns are chosen again at once, from nothing: with more, some of them come first."""
_COLUMNS = 5 / 6
"""Of the first round of large problems of few features, the share of those columns."""


def let(
    report: Report,
    state: SearchState,
    name: str,
    generator: torch.Generator,
    budget: Budget,
    turn: Callable[[], float] | None = None,
    *,
    halted: Callable[[], bool] | None = None,
    patient: bool = True,
) -> None:
    """Let a solver search; what it finds and proves is kept.

    Args:
        turn: lets others work; see `Turns.taken`.
        halted: called now and then, True ends it; by default at the end of the whole search.
        patient: whether it goes on without a gain.
    """
    if not state.halted():
        relay = Relay(report, state, name, budget, turn or no_turn, halted or state.halted, patient=patient)
        assert isinstance(report.problem, NetworkProblem)
        find_solver(name).run(report.problem, budget, generator, relay)


class Seekers:
    """Local searches of one problem.

    Args:
        report, state: of the whole search.
        generator: its seed is that of the searches from nothing. So each does what it would do alone.
        turns: one of them works at a time.
        seconds: of the first round.
        pressing: whether the first round, and searches from nothing that have not had their share yet, go before all
            others that take these turns.

    Attributes:
        first_found: set once the first round is over.
        away: set while another process does their work.
        pressing: as given.
    """

    def __init__(
        self,
        report: Report,
        state: SearchState,
        generator: torch.Generator,
        turns: Turns,
        seconds: float,
        *,
        pressing: bool = True,
    ) -> None:
        assert isinstance(report.problem, NetworkProblem)
        self._problem, self._report, self._state, self._turns = report.problem, report, state, turns
        self._generator, self._seconds, self.pressing = generator, seconds, pressing
        self._again = local_searches(self._problem)[1] if seconds > 0 else []
        # These have not had their share yet. Where features or classes are many, units fitted anew find more than
        # columns do. Where classes are many, or columns have had the first round of many points, those that begin from
        # nothing are slow to come near the best.
        many = self._problem.inputs.shape[1] > _MANY_FEATURES or "column-search" not in self._again
        other = _REFIT if many and _REFIT in self._again else "column-search"
        slow = settles_columns(self._problem) or len(self._problem.classes) > 2
        owed = (_FROM_BEST,) if settles_columns(self._problem) else (_FROM_BEST if slow else "line-search", other)
        self._owed = {name for name in self._again if name in owed}
        self.first_found, self.away = threading.Event(), threading.Event()

    def tasks(self, may_begin: threading.Event) -> list[Callable[[], None]]:
        """What to do in a thread each; the first networks wait for `may_begin`."""
        seekers = [partial(self._seek, name, number) for number, name in enumerate(self._again)]
        return [partial(self._improve, may_begin), *seekers]

    @property
    def owing(self) -> bool:
        """Whether a search from nothing has not had its share yet, and works here."""
        return bool(self._owed) and not self.away.is_set()

    def wait_for(self, event: threading.Event) -> None:
        """Wait for the event or the end of the search."""
        while not event.wait(POLL_SECONDS) and not self._state.halted():
            pass

    def own_generator(self, number: int) -> torch.Generator:
        """For a thread of its own, since generators are not to be shared."""
        return torch.Generator().manual_seed((self._generator.initial_seed() + number) % 2**63)

    def _over(self) -> bool:
        return self.away.is_set() or self._state.halted()

    def _improve(self, may_begin: threading.Event) -> None:
        """The first networks."""
        seconds, large = self._seconds, is_large(self._problem)
        self.wait_for(may_begin)
        with self._turns.taken(lambda: _FIRST_TURN, lambda: self.pressing) as turn:
            settles = settles_columns(self._problem)
            if large and seconds > 0 and not (settles and len(self._problem.inputs) <= _SUBSET):
                self._begin(turn)
            names = local_searches(self._problem)[0] if seconds > 0 else []
            shares = (_COLUMNS, 1 - _COLUMNS) if settles else [1 / len(names)] * len(names)
            for name, share in zip(names, shares, strict=False):
                if not self._over():
                    budget = Budget(seconds * share)
                    # What it does alone, it does later.
                    generator = self.own_generator(20) if name == _REFIT else self._generator
                    self._let(name, generator, budget, turn, patient=large)
        if not (large and self.away.is_set()):
            self.first_found.set()

    def _seek(self, name: str, number: int) -> None:
        """A local search again and again; each of those from nothing has long turns until it has had its share."""
        self.wait_for(self.first_found)
        # What it would find alone, it finds here too.
        generator = self.own_generator(0 if name in _FROM_NOTHING else 10 + number)
        seconds = max(_SHARE * (self._report.seconds + self._report.seconds_left), 1.0)
        worked = 0.0

        def late() -> bool:
            return self.pressing and name in self._owed and worked < self._due()

        while not self._state.halted():
            if self.away.is_set():
                time.sleep(POLL_SECONDS)
                continue
            with self._turns.taken(lambda: self._length(name, late=late()), late) as turn:
                last, busy = time.perf_counter(), time.thread_time()

                def counted() -> float:
                    nonlocal worked, last, busy
                    lost, now, spent = turn(), time.perf_counter(), time.thread_time()
                    # Threads that work at a time wait for one another unseen.
                    worked += max(spent - busy, (now - last - lost) / self._turns.count)
                    last, busy = now, spent
                    if worked >= seconds:
                        self._owed.discard(name)
                    return lost

                self._let(name, generator, Budget(seconds), counted)

    def _due(self) -> float:
        """Seconds that a search from nothing should have worked for by now."""
        now, left = self._report.seconds, self._report.seconds_left
        early = _EARLY * now
        return early if math.isinf(left) else max(early, _SHARE * _AHEAD * (now + left) - _LATE * left)

    def _length(self, name: str, *, late: bool = False) -> float:
        """Seconds of a turn."""
        if name in self._owed and (late or not self.pressing):
            return _LONG_TURN
        return _TURN if name == _REFIT or not self._owed else _BRIEF

    def _begin(self, turn: Callable[[], float]) -> None:
        """Networks of more and more of many points."""
        points, features = self._problem.inputs.shape
        few = features <= _MANY_FEATURES and taken("column-search", self._problem)
        name = "column-search" if few else "line-search"
        number = max(_LARGE // (10 * features), 500)
        while number < points and not self._over():

            def stop() -> bool:
                turn()
                return self._over()

            targets = from_subset(self._problem, name, number, self._seconds / 4, self._generator, stop)
            if targets is not None and not self._state.halted():
                self._state.propose(targets)
            number *= 4

    def _let(
        self,
        name: str,
        generator: torch.Generator,
        budget: Budget,
        turn: Callable[[], float],
        *,
        patient: bool = True,
    ) -> None:
        let(self._report, self._state, name, generator, budget, turn, halted=self._over, patient=patient)


def local_searches(problem: NetworkProblem) -> tuple[list[str], list[str]]:
    """The solvers that look for a first network, and those that go on from the best one."""
    columns = ["column-search"] if taken("column-search", problem) else []
    refit = [_REFIT] if taken(_REFIT, problem) else []
    many = problem.inputs.shape[1] > _MANY_FEATURES
    again = [*refit, "line-search", *columns, _FROM_BEST, _SURROGATE]
    # Of more classes, a line search from the best network finds more in as short a time.
    first = refit if refit and len(problem.classes) == 2 else [_FROM_BEST]
    if is_large(problem):
        return (first if many or not columns else [*columns, _FROM_BEST]), again
    if many and refit:
        return first, again
    return [*columns, *(refit or (["line-search"] if many or not columns else [_FROM_BEST]))], again


def is_large(problem: NetworkProblem) -> bool:
    """Whether steps of a local search take long, so that it needs a large share of the time to get anywhere."""
    points, features = problem.inputs.shape
    return points * max(features, _A_POINT) > _LARGE


def settles_columns(problem: NetworkProblem) -> bool:
    """Whether a large problem of few features begins with columns chosen again from nothing, for most of the time.

    All searches come as near to the best there, but each of them takes long, so that none should wait for others.
    """
    return is_large(problem) and problem.inputs.shape[1] <= _MANY_FEATURES and taken("column-search", problem)


def taken(name: str, problem: NetworkProblem) -> bool:
    """Whether a solver takes this problem."""
    try:
        find_solver(name).check(problem)
    except (NotAcceptedError, TooLargeError):
        return False
    return True
