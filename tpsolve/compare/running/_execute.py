"""Tasks carried out here, by processes of this machine, or by any executor; whoever reads the outcomes writes them."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from types import TracebackType
from typing import Any, Protocol

from tpsolve.compare.running._start import METHOD, ONE_THREAD, load_ahead, one_thread
from tpsolve.errors import ArgumentError, WorkerError

POLL_SECONDS = 0.1
TRIES = 2
"""How often a task is begun whose process dies."""


class Work(Protocol):
    """A value that any process can carry out, once pickled."""

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        ...

    def carry_out(self, stop: Callable[[], bool]) -> Any:
        """What becomes of it; `stop` is asked many times a second, and True ends it."""
        ...

    def failed(self, reason: str) -> Any:
        """What becomes of it if it can't be carried out."""
        ...


class Queue(Protocol):
    """Tasks that wait, each some `Work`."""

    def popleft(self) -> Any:
        """The next one, which waits no longer."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...


class Places(Protocol):
    """Where tasks are carried out, one at a time in each place; a task is some `Work`."""

    count: int

    def submit(self, place: int, packed: bytes) -> "Future[Any]":
        """Begin a task, pickled, in a place that is free."""
        ...

    def renew(self, place: int) -> None:
        """Make a place anew whose process has died."""
        ...


class Workers:
    """Processes of this machine with one thread each; while entered, they can be given tasks.

    They end with this process, whatever ends it.

    Raises:
        WorkerError: a process can't be started.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._context = multiprocessing.get_context(METHOD)
        self._stopping = self._context.Event()
        self._executors: list[ProcessPoolExecutor] = []
        # Of the processes that live: the numbers of others may be given again.
        self._pids: list[Future[int]] = []

    def __enter__(self) -> "Workers":
        try:
            for _ in range(self.count):
                executor, pid = self._started()
                self._executors.append(executor)
                self._pids.append(pid)
            for pid in self._pids:
                _check_started(pid)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        try:
            if kind is not None and not issubclass(kind, Exception):
                self._kill()
            for executor in self._executors:
                executor.shutdown(cancel_futures=True)
        except BaseException:
            # A second Ctrl-C waits for no search.
            self._kill()
            raise

    def submit(self, place: int, packed: bytes) -> "Future[Any]":
        """Begin a task, pickled, in the process of a place."""
        try:
            return self._executors[place].submit(_work, packed)
        except BrokenExecutor:  # It died when it had nothing to do.
            self.renew(place)
            return self._executors[place].submit(_work, packed)

    def renew(self, place: int) -> None:
        """Start a process in place of one that has died."""
        self._executors[place].shutdown()
        self._executors[place], self._pids[place] = self._started()
        _check_started(self._pids[place])

    def _started(self) -> "tuple[ProcessPoolExecutor, Future[int]]":
        load_ahead()
        # A fork server knows the variables that there were when it started.
        known = (self._stopping, {**os.environ, **ONE_THREAD}, __file__)
        executor = ProcessPoolExecutor(1, self._context, initializer=_begin, initargs=known)
        with one_thread():
            return executor, executor.submit(os.getpid)

    def _kill(self) -> None:
        for pid in self._pids:
            if pid.done() and not pid.cancelled() and pid.exception() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid.result(), signal.SIGTERM)


class Anywhere:
    """Any executor, such as one of a cluster, which is given `count` tasks at a time.

    What dies there is its own business, but for one more try.

    Raises:
        WorkerError: the executor has broken.
    """

    def __init__(self, executor: Executor, count: int) -> None:
        self.executor, self.count = executor, count

    def submit(self, place: int, packed: bytes) -> "Future[Any]":
        """Begin a task, pickled, wherever the executor likes."""
        try:
            return self.executor.submit(carry_out_packed, packed)
        except BrokenExecutor as error:
            raise WorkerError(
                f"The executor takes no more tasks ({error}). Give another one; rows are kept."
            ) from error

    def renew(self, place: int) -> None:
        """Nothing: the next task says whether the executor still works."""


def here(tasks: Iterable[Any], stop: Callable[[], bool], begun: Callable[[Any], None]) -> Iterator[list[Any]]:
    """Carry out one task after the other in this process, until `stop` says True, which drops the one under way."""
    for task in tasks:
        begun(task)
        outcome = task.carry_out(stop)
        if stop():
            return
        yield [outcome]


def spread(
    waiting: Queue, places: Places, stop: Callable[[], bool], begun: Callable[[Any], None]
) -> Iterator[list[Any]]:
    """Carry out tasks in several places at once, until `stop` says True, which drops those under way.

    What ends while the one before is looked at comes together. A task whose process dies is begun once more, and has
    failed for that reason if its process dies again.

    Args:
        waiting: the tasks, each some `Work`; whoever looks at what became of them may add more.

    Raises:
        ArgumentError: a task can't be pickled.
    """
    again: deque[tuple[Any, int]] = deque()
    running: dict[Future[Any], tuple[int, Any, int]] = {}
    free = deque(range(places.count))

    def begin() -> None:
        while free and (again or waiting) and not stop():
            task, tries = again.popleft() if again else (waiting.popleft(), 1)
            begun(task)
            place = free.popleft()
            running[places.submit(place, _packed(task))] = (place, task, tries)

    while not stop():
        begin()
        if not running:
            return
        finished, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        if stop():
            return
        outcomes = []
        for future in finished:
            place, task, tries = running.pop(future)
            free.append(place)
            try:
                outcomes.append(future.result())
            except BrokenExecutor:
                places.renew(place)
                if tries < TRIES:
                    again.append((task, tries + 1))
                else:
                    reason = f"WorkerError: the process that carried it out died, {TRIES} times"
                    outcomes.append(task.failed(reason))
        if outcomes:
            broken = None
            # No place waits for what is done with the outcomes, and none is lost with a place.
            try:
                begin()
            except Exception as error:  # Raised again below.
                broken = error
            yield outcomes
            if broken is not None:
                raise broken


def carry_out_packed(packed: bytes) -> Any:
    """Carry out a pickled task, whose tensors come as bytes: torch would send them by shared memory."""
    return pickle.loads(packed).carry_out(lambda: False)


def _packed(task: Any) -> bytes:
    try:
        return pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        mend = "Functions and classes of a suite must stand in a module. One worker needs none of this."
        raise ArgumentError(
            "workers", f"{task.title}, which can't be pickled ({error})", "what can be", mend
        ) from error


def _check_started(pid: "Future[int]") -> None:
    try:
        pid.result()
    except BrokenExecutor as error:
        raise WorkerError(
            "A process could not be started. A script that starts processes needs `if __name__ == '__main__':` around "
            "what it does; what it printed above may tell more."
        ) from error


# --- in a worker ------------------------------------------------------------------------------------------------------

_stopping: Any = None


def _begin(stopping: Any, environment: dict[str, str], file: str) -> None:
    global _stopping
    if __file__ != file:
        raise WorkerError(f"A worker has loaded {__file__}, and not {file}. Leave one tpsolve on the path.")
    _stopping = stopping
    os.environ.clear()
    os.environ.update(environment)
    # Ctrl-C goes to all processes of a terminal; the parent says what follows from it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(packed: bytes) -> Any:
    return pickle.loads(packed).carry_out(_stopping.is_set)
