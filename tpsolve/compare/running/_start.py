"""How worker processes start: from one that has loaded what they need, where the system can fork processes safely."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""A fork of this process may hang, since libraries have started threads in it. A fork server is a process without
threads that loads what all tasks need once. Elsewhere each process loads it for itself."""
LOADED = [
    f"tpsolve.{name}" for name in ("compare.running._execute", "compare.running._tasks", "search.network.cubes._cube")
]
"""What all tasks need; what only some solvers need is loaded by them."""
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
"""What libraries read when they are loaded."""


def load_ahead() -> None:
    """Begin to load what workers need, beside this process, where they can share it; elsewhere nothing is done."""
    if METHOD == "forkserver":
        from multiprocessing import forkserver

        forkserver.set_forkserver_preload(LOADED)
        # The server itself looks for modules in its own places, and would say much at Ctrl-C while it loads them.
        places = os.pathsep.join(path or os.getcwd() for path in sys.path)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            # What lies in the folder of this moment, such as another tpsolve, would come first.
            with _variables({**ONE_THREAD, "PYTHONPATH": places, "PYTHONSAFEPATH": "1"}):
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def one_thread() -> contextlib.AbstractContextManager[None]:
    """Processes that are started inside have one thread."""
    return _variables(ONE_THREAD)


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
