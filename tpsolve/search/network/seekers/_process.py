"""A process that looks for networks and divides the points, so that it need not wait for the lock that the threads of a
race share.

It is a new Python that reads the problem and better networks from its standard input, and writes what it finds and
proves to its standard output. It ends when its input does, so no search leaves one behind.
"""

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search._cp_sat_run import POLL_SECONDS
from tpsolve.search.network._turns import Turns
from tpsolve.search.network.circuits._formula import StoppedError
from tpsolve.search.network.circuits._parts import Parts
from tpsolve.search.network.circuits._search_state import SearchState
from tpsolve.search.network.seekers._seekers import Seekers

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from tpsolve.search.network.seekers._process import seek; seek()"
)


_TURN, _LONG_TURN = 0.1, 0.5
"""Seconds of a turn in which the points are divided: if that has gained nothing for long, and else."""


@dataclass(frozen=True)
class _Task:
    """What the process reads first.

    Args:
        ends_at: reading of `time.time`; no other clock is shared by processes.
        seed: of the searches.
        seconds: of the first round.
        threads: of torch.
        parts: their seed, and whether they are countable; None: the points are not divided.
    """

    problem: NetworkProblem
    ends_at: float
    seed: int
    seconds: float
    threads: int
    parts: tuple[int, bool] | None


class SeekingError(Exception):
    """What went wrong in the process."""


class SeekingProcess:
    """The process, from the side of the race.

    Args:
        problem: a flat one, on the CPU.
        seconds_left: of the search.
        seed, seconds: as those of `Seekers`.
        parts: whose work it does too; may be None.

    Raises:
        OSError: the system starts no process.
    """

    def __init__(
        self, problem: NetworkProblem, seconds_left: float, seed: int, seconds: float, parts: Parts | None = None
    ) -> None:
        paths = json.dumps([path for path in sys.path if isinstance(path, str)])
        command, pipe = [sys.executable, "-c", _PROGRAM, paths], subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self._out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._in: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Pipes hold little: threads fill and empty them, which end with the process.
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]
        for thread in self._threads:
            thread.start()
        self._parts = parts
        asked = None if parts is None else (parts.seed, parts.countable)
        self._out.put(_Task(problem, time.time() + seconds_left, seed, seconds, torch.get_num_threads(), asked))

    def work(self, state: SearchState, seekers: Seekers) -> int | None:
        """Pass networks to and fro until the search ends, and end the process.

        What the process does for them, `seekers` leave to it. It divides the points while they are away.

        Returns: its exit code if it ended by itself before the search did, else None.

        Raises:
            SeekingError: what failed in it.
        """
        known = state.best
        try:
            while not state.halted():
                try:
                    known = self._take(self._in.get(timeout=POLL_SECONDS), known, state, seekers)
                except queue.Empty:
                    if (code := self._process.poll()) is not None and not state.halted():
                        return code
                best = state.best
                if not torch.equal(best, known):
                    known = best
                    self._out.put(_packed(best))
            return None
        finally:
            seekers.away.clear()
            self._process.kill()
            self._process.wait()
            self._out.put(None)
            for thread in self._threads:
                thread.join()
            while not self._in.empty():
                self._take(self._in.get(), known, state, seekers)

    def _take(self, message: Any, known: Tensor, state: SearchState, seekers: Seekers) -> Tensor:
        """Do what a message says; the best network that both sides know."""
        if isinstance(message, bytes):
            known = _unpacked(message, known)
            state.propose(known)
        elif isinstance(message, list):
            assert self._parts is not None
            self._parts.take(message)
        elif message == "ready":
            seekers.away.set()
        elif message == "first found":
            seekers.first_found.set()
        else:
            raise SeekingError(message)
        return known

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(OSError), pipe:
            while (message := self._out.get()) is not None:
                _send(pipe, message)

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        with suppress(EOFError, OSError, pickle.UnpicklingError), pipe:
            while True:
                self._in.put(pickle.load(pipe))


def seek() -> None:
    """Look for networks, and divide the points: what the process does."""
    # Ctrl-C is for those who began the search.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    # What libraries print is no message.
    os.dup2(2, 1)
    task = pickle.load(sys.stdin.buffer)
    torch.set_num_threads(task.threads)
    report = Report(task.problem, Budget(seconds=max(task.ends_at - time.time(), 1e-3)), None)
    generator = torch.Generator().manual_seed(task.seed)
    state = SearchState(task.problem, report, generator, 0, 1)
    threading.Thread(target=_listen, args=(state,), daemon=True).start()
    turns = Turns(1, state.halted)
    seekers = Seekers(report, state, generator, turns, task.seconds)
    _send(out, "ready")
    known, told, begun = state.best, False, threading.Event()
    begun.set()
    tasks = seekers.tasks(begun)
    parts, evidence = None, []
    if task.parts is not None:
        seed, countable = task.parts
        parts = Parts(task.problem, state, countable, torch.Generator().manual_seed(seed), alone=True)
        tasks.append(partial(_divide, parts, state, turns))
    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
        while True:
            done, running = wait(futures, POLL_SECONDS, FIRST_EXCEPTION)
            if not torch.equal(best := state.best, known):
                known = best
                _send(out, _packed(best))
            if seekers.first_found.is_set() and not told:
                told = True
                _send(out, "first found")
            if parts is not None and parts.best is not evidence:
                evidence = parts.best
                _send(out, evidence)
            failures = [error for future in done if (error := future.exception())]
            if failures:
                _send(out, f"{type(failures[0]).__name__}: {failures[0]}")
            if failures or not running:
                os._exit(int(bool(failures)))


def _divide(parts: Parts, state: SearchState, turns: Turns) -> None:
    """Raise the bound of parts, in turns with those who look for networks."""
    with suppress(StoppedError), turns.taken(lambda: _LONG_TURN if state.gains("parts") else _TURN) as turn:

        def ended() -> bool:
            turn()
            return state.halted()

        parts.run(ended)


def _listen(state: SearchState) -> None:
    """Take the networks that others find; the end of the input is the end of the search."""
    try:
        while True:
            state.propose(_unpacked(pickle.load(sys.stdin.buffer), state.best))
    finally:
        os._exit(0)


def _send(pipe: IO[bytes], message: Any) -> None:
    pickle.dump(message, pipe)
    pipe.flush()


def _packed(targets: Tensor) -> bytes:
    return targets.to(torch.int8).numpy().tobytes()


def _unpacked(data: bytes, like: Tensor) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.int8).to(like.dtype).reshape(like.shape)
