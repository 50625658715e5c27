"""The command `tpsolve`, also `python -m tpsolve`."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType


def main() -> None:
    """Load the command line and run it."""
    with loading():
        from tpsolve.cli import main as run

    run(loading)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """For imports that take long: Ctrl-C ends the process at once."""
    previous = signal.signal(signal.SIGINT, _end)
    yield
    signal.signal(signal.SIGINT, previous)


def _end(number: int, frame: FrameType | None) -> None:
    # No exception: libraries turn one that comes up while they load into errors of their own.
    os.write(2, b"tpsolve: interrupted.\n")
    os._exit(130)


if __name__ == "__main__":
    main()
