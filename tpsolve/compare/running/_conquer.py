"""One network problem solved by cubes, on several processes or on any executor."""

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack

import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget, Progress, Result
from tpsolve.compare.running._execute import Anywhere, Workers, spread
from tpsolve.compare.running._start import load_ahead
from tpsolve.problems import NetworkProblem
from tpsolve.search.network.cubes._conquest import FIRST_SECONDS, Conquest


def conquer(
    problem: NetworkProblem,
    *,
    seconds: float,
    workers: int = 2,
    executor: Executor | None = None,
    engine: str = "glucose4",
    generator: torch.Generator | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
    first_seconds: float = FIRST_SECONDS,
) -> Result:
    """The fewest training errors of one hard network, by cube and conquer: several processes, one proof.

    Each truth table of the unit above the first hidden layer is a cube. A cube that takes long is divided by a target.
    All cubes together hold all networks, so the least of their bounds is one of the problem. `make_proof` and
    `verify_proof` treat the result like one of `circuits`: the proof holds the circuits of all cubes, and the check
    does not know of cubes.

    Args:
        seconds: of the whole search.
        workers: cubes at a time, in processes of this machine, or on the executor.
        executor: carries out the cubes in place of processes of this machine.
        engine: of python-sat.
        generator: of the first network; None: one of seed 0.
        callback: called with each `Progress`; True stops the search, and what is proved by then counts.
        first_seconds: after which a cube is divided; its halves get twice as much.

    Raises:
        NotAcceptedError, TooLargeError, MissingLibraryError: the problem is none that `circuits` takes.
        WorkerError: a worker can't be started.

    Source: Heule, Kullmann, Wieringa and Biere, "Cube and conquer: guiding CDCL SAT solvers by lookaheads", 2012.
    """
    check_count("workers", workers, 1)
    for limit in (seconds, first_seconds):
        Budget(seconds=limit)
    if executor is None:
        load_ahead()
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    conquest = Conquest(problem, seconds, engine, generator, first_seconds)

    def stop() -> bool:
        moment = Progress(conquest.conflicts, conquest.seconds, float(conquest.objective), float(conquest.bound))
        asked = callback is not None and bool(callback(moment))
        return asked or conquest.seconds > seconds or conquest.closed

    with ExitStack() as held:
        places = Anywhere(executor, workers) if executor is not None else held.enter_context(Workers(workers))
        for outcomes in spread(conquest.waiting, places, stop, lambda cube: None):
            for outcome in outcomes:
                conquest.take(outcome)
    return conquest.result()
