"""All that can solve a network problem side by side, until the bounds of the search meet."""

import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from itertools import pairwise

import torch

from tpsolve._result import Budget
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search._cp_sat_run import POLL_SECONDS
from tpsolve.search.network._turns import Turns
from tpsolve.search.network.circuits._climb import Climber
from tpsolve.search.network.circuits._formula import StoppedError
from tpsolve.search.network.circuits._parts import Parts
from tpsolve.search.network.circuits._search_state import SPRINT, Master, SearchState
from tpsolve.search.network.columns._neighbourhood import hyperplanes
from tpsolve.search.network.packing._packing import Packing
from tpsolve.search.network.seekers._process import SeekingProcess
from tpsolve.search.network.seekers._seekers import Seekers, is_large, let, local_searches
from tpsolve.search.network.sweep._pencils import count_turns

Maker = Callable[[Callable[[], bool]], Master]
"""Makes a master unless the function that it is given says stop."""
SPRINT_SECONDS = 0.03
"""So long, or `SPRINT` conflicts, the first master works by itself, before all others begin."""
_LOCAL_STEPS = 50
"""Of each local search at the start of a budget in steps, where no clock may be read."""
_APART_AFTER, _APART_LEFT = 0.5, 15.0
"""Seconds after which a process of its own looks for networks, if so many are left."""
_LONG = 1e9
_LONG_TURN, _SEEKING, _TURN = 0.5, 0.3, 0.1
"""Seconds that those work who prove, or look for networks, before others take their place; and if it brings little."""
_MEANWHILE = 0.4
"""Share of its turn that a prover takes while searches that take turns with it have not had their share."""
_GRACE = 0.05
"""Seconds that engines get to end, which may not hear of it before they restart."""
_SPARE, _SPARE_SHARE = 0.2, 0.1
"""Seconds, or share of the time, by which the search ends early where steps of its threads take long."""
_SMALL = 50_000
"""Clauses that are made at once; with more, local search comes first: the fewer errors, the fewer clauses."""
_TINY = 5_000
"""Clauses of problems that a master solves at once."""
_QUICK = 2**22
"""Turns of points in a sweep that takes less than a second: it comes before all others."""
_TURNS_A_SECOND = 4_000_000
_SWEEPING = 0.2
"""Share of the time that a sweep may take before local search begins."""
_FEW_PAIRS, _SOME_POINTS = 20_000, 40
"""Hyperplanes for each unit but one, in a scan that may end in a moment; masters are quick where points are fewer."""
_SCANNING, _SCANNING_SHARE = 0.5, 0.03
"""Seconds that it may take before others begin, and share of the time left."""
_CLAUSES_A_SECOND = 300_000
_BUILDING = 0.15
"""Share of the time left that the making of clauses may take."""


class Race:
    """Who works on the state of a search.

    Args:
        problem, report: of the search; a budget in steps counts the first master's conflicts.
        state: shared by all.
        generator: of the local searches.
        workers: so many work at a time.
        provers: solvers that run beside the masters.
        parts: what raises the bound by parts of the points; may be None.
        packing: what raises it by circuits that share costs; may be None.
        forced: whether the masters run whatever their clauses cost.

    Attributes:
        masters: those that were made, in this order; a further one may come before the first.
    """

    def __init__(
        self,
        problem: NetworkProblem,
        report: Report,
        state: SearchState,
        generator: torch.Generator,
        workers: int = 1,
        provers: list[str] | None = None,
        parts: Parts | None = None,
        packing: Packing | None = None,
        *,
        forced: bool = True,
    ) -> None:
        self._problem, self._report, self._state, self._generator = problem, report, state, generator
        self._provers, self._forced, self._workers = provers or [], forced, workers
        self._parts, self._packing = parts, packing
        # Python lets one thread work at a time; engines of masters do without it. So each kind has turns of its own.
        self._alone = workers == 1 or (not forced and not self._payable())
        self._turns = Turns(workers if self._alone else workers - 1, state.halted)
        self._master_turns = self._turns if self._alone else Turns(1, state.halted)
        self._cleared = threading.Event()
        self._climber = Climber(problem, state, lambda conflicts: setattr(report, "steps", conflicts))
        self.masters: list[Master] = []
        # Each master has one thread: an engine that two threads call ends the process.
        self._first: Master | None = None
        self._working: set[Future[None]] = set()

    def run(self, masters: list[tuple[Maker, bool]], local: float, steps: int | None) -> None:
        """Let all work until the bounds meet.

        The first master rises from below. A further one, if any, waits until `local` seconds of local search have found
        a network. True beside its maker: it rises too; else it comes down from there. Local search goes on, and so do
        the provers. With a budget in steps, local search and the first master follow one another.
        """
        make = [maker for maker, _ in masters]
        state, report = self._state, self._report
        if steps is not None:
            self._in_order(make, steps, local)
            return
        sweeps = count_turns(*self._problem.inputs.shape) if "sweep" in self._provers else math.inf
        if sweeps <= _QUICK and self._clauses() > _TINY:
            let(report, state, "sweep", self._generator, Budget(_LONG), halted=state.pulse)
            if state.halted():
                return
        if make and self._clauses() <= _SMALL:
            with suppress(StoppedError):
                first = self._made_first(make[0], state.late)
                self._climber.work(first, True, SPRINT, lambda: state.pulse() or report.seconds > SPRINT_SECONDS)
            if state.halted():
                return
            state.draw(SPRINT)
        scans = hyperplanes(self._problem) ** (self._problem.widths[0] - 1)
        if "dichotomies" in self._provers and scans <= _FEW_PAIRS and len(self._problem.inputs) >= _SOME_POINTS:
            # Often it ends before others would have begun. Read once: a moment later 0 may be left, which is no budget.
            seconds = min(_SCANNING, _SCANNING_SHARE * report.seconds_left)
            if seconds > 0:
                let(report, state, "dichotomies", self._generator, Budget(seconds), halted=state.pulse)
            if state.halted():
                return
        self._local = local
        if is_large(self._problem):
            state.spare = min(_SPARE_SHARE * report.seconds_left, _SPARE)
        # If a process of its own comes for them, they need not press here.
        apart = self._may_part(local) and report.seconds_left >= _APART_LEFT
        seekers = self._seekers = Seekers(report, state, self._generator, self._turns, local, pressing=not apart)
        if sweeps > _TURNS_A_SECOND * _SWEEPING * report.seconds_left:
            self._cleared.set()
        seeking = seekers.tasks(self._cleared)
        tasks = [*seeking[: 1 if self._forced else None], *(partial(self._prove, name) for name in self._provers)]
        tasks += [self._seek_apart] if apart else []
        engines = [partial(self._rise, made) for made in make[:1]]
        engines += [partial(self._follow, made, rising) for made, rising in masters[1:]]
        engines += [self._pack] if self._packing is not None else []
        engines += [self._divide] if self._parts is not None else []
        pool = ThreadPoolExecutor(len(tasks) + len(engines))
        futures, with_engines = ([pool.submit(task) for task in part] for part in (tasks, engines))
        try:
            # Callbacks and Ctrl-C belong to this thread.
            while not (state.pulse() or state.halted()):
                done, running = wait([*futures, *with_engines], POLL_SECONDS, FIRST_EXCEPTION)
                if not running or any(future.exception() for future in done):
                    break
        finally:
            state.end()
            wait(futures)
            self._working = wait(with_engines, _GRACE).not_done
            pool.shutdown(wait=False)
            state.spare = 0.0
            state.settle()
            state.seal()
        for future in {*futures, *with_engines} - self._working:
            future.result()

    def afterwards(self, action: Callable[[], None]) -> None:
        """Do something once no engine works any longer: now, or in the thread of the last one."""
        left, lock = len(self._working), threading.Lock()
        if not left:
            action()

        def ended(_: Future[None]) -> None:
            nonlocal left
            with lock:
                left -= 1
                last = not left
            if last:
                action()

        for future in self._working:
            future.add_done_callback(ended)

    def _in_order(self, make: list[Maker], steps: int, local: float) -> None:
        for name in local_searches(self._problem)[0] if local > 0 else ():
            let(self._report, self._state, name, self._generator, Budget(steps=_LOCAL_STEPS))
        with suppress(StoppedError):
            for made in make[:1] if not self._state.halted() else ():
                self._climber.work(self._made_first(made, self._state.late), True, steps, self._state.pulse)

    def _turn_of(self, name: str) -> float:
        """Seconds of a turn of what proves bounds: few if its last gain is long ago, or masters are too dear for
        bounds to meet; a sweep gains at the end only.
        """
        hopeful = self._state.gains(name) and not (self._alone and not self._forced and not self._payable())
        return self._span(_LONG_TURN if hopeful or name == "sweep" else _TURN)

    def _span(self, seconds: float) -> float:
        """Of a turn of those who prove: less where those who look for networks wait for the same turns."""
        return seconds * (_MEANWHILE if self._seekers.pressing and self._seekers.owing else 1.0)

    def _prove(self, name: str) -> None:
        """A short sweep comes before all but a master; a long one, or another solver, begins from a good network."""
        if self._cleared.is_set():
            self._seekers.wait_for(self._seekers.first_found)
        with self._turns.taken(partial(self._turn_of, name)) as turn:
            let(self._report, self._state, name, self._seekers.own_generator(2), Budget(_LONG), turn)
        self._cleared.set()

    def _may_part(self, local: float) -> bool:
        """Whether a process of its own may look for networks: its start takes seconds of a processor."""
        apart = not self._forced and self._workers > 1 and local > 0 and bool(sys.executable)
        return apart and self._problem.device.type == "cpu" and not getattr(sys, "frozen", False)

    def _seek_apart(self) -> None:
        """Let a process look for networks, and the threads no longer, once it is there."""
        report, state = self._report, self._state
        while not is_large(self._problem) and report.seconds < _APART_AFTER and not state.halted():
            time.sleep(POLL_SECONDS)
        if state.halted():
            return
        try:
            seed, parts = self._generator.initial_seed(), self._parts
            process = SeekingProcess(self._problem, report.seconds_left, seed, self._local, parts)
            code = process.work(state, self._seekers)
        except OSError as error:
            code = error
        if code is not None:
            report.note(torch.tensor(0), f"the process that searched beside ended ({code}); threads went on")

    def _divide(self) -> None:
        assert self._parts is not None
        away, finished = self._seekers.away, False
        self._seekers.wait_for(self._seekers.first_found)
        while not finished and not self._state.halted():
            if away.is_set():
                time.sleep(POLL_SECONDS)
                continue
            with suppress(StoppedError), self._master_turns.taken(partial(self._turn_of, "parts")) as turn:
                finished = self._parts.run(lambda turn=turn: self._ended(turn) or away.is_set())

    def _pack(self) -> None:
        assert self._packing is not None
        with self._master_turns.taken(partial(self._turn_of, "packing")) as turn:
            self._packing.run(partial(self._ended, turn))
        if not self._state.halted():
            # Masters that count errors need these circuits most.
            self._state.know(self._packing.evidence()[0])

    # --- masters ------------------------------------------------------------------------------------------------------

    def _rise(self, make: Maker) -> None:
        """The first master rises from below; made now, if that takes long, when it has become short enough."""
        if self._first is None and not self._affordable():
            return
        with suppress(StoppedError), self._master_turns.taken(lambda: self._span(_LONG_TURN)) as turn:
            first = self._made_first(make, self._state.halted)
            self._climber.work(first, True, None, partial(self._ended, turn))

    def _follow(self, make: Maker, rising: bool) -> None:
        """A further one rises too, or comes down from the best network."""
        self._seekers.wait_for(self._seekers.first_found)
        if not self._affordable():
            return
        # Who looks at all columns proves more, where there are few.
        seconds = _TURN if self._provers else _LONG_TURN if rising else _SEEKING
        with suppress(StoppedError), self._turns.taken(lambda: self._span(seconds)) as turn:
            self._climber.work(self._made(make, self._state.halted), rising, None, partial(self._ended, turn))

    def _ended(self, turn: Callable[[], float]) -> bool:
        turn()
        # By the clock too: the main thread can't say so while a check of a network holds the state.
        return self._state.halted()

    def _affordable(self) -> bool:
        """Wait until the clauses can be made in a small share of the time; False: the search ended before."""
        while not self._state.halted():
            if self._forced or self._payable():
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _payable(self) -> bool:
        return self._clauses() <= _CLAUSES_A_SECOND * _BUILDING * self._report.seconds_left

    def _clauses(self) -> float:
        """About how many clauses a master has."""
        sizes = sum(units * 2**inputs for inputs, units in pairwise(self._problem.layers))
        return len(self._problem.inputs) * (sizes + 8) + 2.0 * self._state.upper**2

    def master(self, make: Maker) -> Master:
        """The first master, made now if there is none yet; it waits until that has ended its work."""
        wait(self._working)
        self._state.unseal()
        return self._made_first(make, self._state.late)

    def _made_first(self, make: Maker, stop: Callable[[], bool]) -> Master:
        """The first master, made now if there is none yet."""
        if self._first is None:
            self._first = self._made(make, stop)
        return self._first

    def _made(self, make: Maker, stop: Callable[[], bool]) -> Master:
        self.masters.append(self._state.open_master(make, stop))
        return self.masters[-1]
