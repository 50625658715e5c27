"""Limits of a check of strangers' files: seconds of wall-clock time, and memory."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from tpsolve._storage._memory_limit import is_full, memory_limit
from tpsolve.cli._terminal import notes
from tpsolve.errors import ArgumentError


class _OverError(BaseException):
    """The seconds are over; no library takes it for an error of its own."""


@contextmanager
def limited(seconds: float, memory: float) -> Iterator[None]:
    """Run what is inside for at most `seconds` and a tenth more, with at most `memory` GiB more than there is now.

    So what keeps to `seconds` by itself can still say what it found. Systems without alarms (Windows) know no limit of
    the time, and all but Linux none of the memory.

    Raises:
        ArgumentError: a limit that is not positive and finite.
        typer.Exit: status 1, after a line that says which limit was reached.
    """
    for option, value in (("--seconds", seconds), ("--memory", memory)):
        if not 0 < value < math.inf:
            raise ArgumentError(option, value, "a positive, finite number")
    try:
        with _alarm(1.1 * seconds + 1), memory_limit(memory):
            yield
    except _OverError:
        _end(f"no answer within {seconds:g} s. Give it more --seconds.")
    except (MemoryError, RuntimeError, ImportError) as error:
        if not is_full(error):
            raise
        _end(f"it takes more than {memory:g} GiB. Give it more --memory.")


def _end(why: str) -> None:
    notes.print(f"Not checked: {why}", highlight=False)
    raise typer.Exit(1)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: object) -> None:
        raise _OverError

    previous = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
