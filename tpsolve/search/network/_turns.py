"""Turns: some of several threads work at a time, each for a while, then the next in line."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_POLL_SECONDS = 0.05


def _never() -> bool:
    return False


class Turns:
    """Lets `count` threads work at a time.

    Args:
        count: at most so many work at once.
        over: whether all is over, so that nobody need wait.

    Attributes:
        count: as given.
    """

    def __init__(self, count: int, over: Callable[[], bool]) -> None:
        self.count, self._free, self._over = count, count, over
        self._line: deque[Callable[[], bool]] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, seconds: Callable[[], float], late: Callable[[], bool] = _never) -> Iterator[Callable[[], float]]:
        """A turn of this thread; what it gives lets others in, once `seconds()` of the turn are over.

        It returns for how many seconds the thread had to wait.

        Args:
            late: whether the thread goes before those who are not late; asked while it waits, by any thread.
        """
        began = self._take(late)

        def let_others() -> float:
            nonlocal began
            left = time.perf_counter()
            if not self._line or left - began < seconds():
                return 0.0
            self._leave()
            began = self._take(late)
            return began - left

        try:
            yield let_others
        finally:
            self._leave()

    def _take(self, late: Callable[[], bool]) -> float:
        with self._changed:

            def me() -> bool:
                return late()

            self._line.append(me)
            while not self._over() and (self._free <= 0 or self._next() is not me):
                self._changed.wait(_POLL_SECONDS)
            self._line.remove(me)
            self._free -= 1
            self._changed.notify_all()
        return time.perf_counter()

    def _next(self) -> Callable[[], bool]:
        return next((one for one in self._line if one()), self._line[0])

    def _leave(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify_all()
