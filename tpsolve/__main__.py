"""The command `tpsolve`, also `python -m tpsolve`."""

import os
import signal
from types import FrameType


def main() -> None:
    """Load the command line, which takes a second that Ctrl-C may fall into, and run it."""
    previous = signal.signal(signal.SIGINT, _end)
    from tpsolve.cli import main as run

    signal.signal(signal.SIGINT, previous)
    run()


def _end(number: int, frame: FrameType | None) -> None:
    # No exception: libraries turn one that comes up while they load into errors of their own.
    os.write(2, b"tpsolve: interrupted.\n")
    os._exit(130)


if __name__ == "__main__":
    main()
