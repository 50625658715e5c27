"""Running CP-SAT so that callbacks and Ctrl-C are heard meanwhile."""

import math
import threading
from collections.abc import Callable
from typing import Any

POLL_SECONDS = 0.05


def run_cp_sat(solver: Any, model: Any, pulse: Callable[[float], bool]) -> tuple[str, float]:
    """Solve in a thread of its own, so that callbacks and Ctrl-C are heard meanwhile.

    Returns the status's name, and the last bound that CP-SAT told of; -inf if it told of none.
    """
    outcome: list[Any] = []
    done = threading.Event()
    latest = [-math.inf]

    def work() -> None:
        try:
            outcome.append(solver.solve(model))
        except Exception as error:  # Raised again below, in the caller's thread.
            outcome.append(error)
        done.set()

    solver.best_bound_callback = lambda bound: latest.__setitem__(0, bound)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while not done.wait(POLL_SECONDS):
            if pulse(latest[0]):
                solver.stop_search()
    except BaseException:
        solver.stop_search()
        raise
    finally:
        thread.join()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return solver.status_name(outcome[0]), latest[0]
