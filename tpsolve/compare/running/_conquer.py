"""One network problem solved by cubes, on several processes or on any executor."""

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace

import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget, Progress, Result, Status
from tpsolve.compare.running._execute import Anywhere, Workers, spread
from tpsolve.compare.running._start import load_ahead
from tpsolve.problems import NetworkProblem
from tpsolve.search import find_solver, solve
from tpsolve.search.network.cubes._conquest import FIRST_SECONDS, Conquest

ALONE_SHARE, MAX_ALONE = 0.1, 30.0
"""Of all seconds, and at most so many, for one process before others are started: small tables need no more."""
CUBES_EACH = 4
"""For each worker, before the first is dealt out."""


def parts_of(workers: int) -> int:
    """Into how many parts a cube is divided that takes long: at the end many wait for the parts of few."""
    return max(2, min(8, workers // 8))


def conquer(
    problem: NetworkProblem,
    *,
    seconds: float,
    workers: int = 2,
    executor: Executor | None = None,
    engine: str = "auto",
    generator: torch.Generator | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
    first_seconds: float = FIRST_SECONDS,
    alone_seconds: float | None = None,
) -> Result:
    """The fewest training errors of one hard network, by cube and conquer: several processes, one proof.

    First `circuits` alone has a tenth of the time. If it proves its network to be the best, no process is started, and
    the result is its own. Otherwise the cubes begin with its network.

    Each truth table of the unit above the first hidden layer is a cube. A cube that takes long is divided by a target.
    All cubes together hold all networks, so the least of their bounds is one of the problem. If `circuits` alone has
    proved a higher bound, that one is returned with its evidence. `make_proof` and
    `verify_proof` treat the result like one of `circuits`: the proof holds the circuits of all cubes, and the check
    does not know of cubes.

    Args:
        seconds: of the whole search.
        workers: cubes at a time, in processes of this machine, or on the executor.
        executor: carries out the cubes in place of processes of this machine.
        engine: of python-sat; auto: all that `circuits` races at first, and glucose4 for the cubes.
        generator: of the first network; None: one of seed 0.
        callback: called with each `Progress`; True stops the search, and what is proved by then counts.
        first_seconds: after which a cube is divided; its halves get twice as much.
        alone_seconds: of `circuits` alone; None: a tenth of `seconds`, and at most 30.

    Raises:
        NotAcceptedError, TooLargeError, MissingLibraryError: the problem is none that `circuits` takes.
        WorkerError: a worker can't be started.

    Source: Heule, Kullmann, Wieringa and Biere, "Cube and conquer: guiding CDCL SAT solvers by lookaheads", 2012.
    """
    check_count("workers", workers, 1)
    alone = min(MAX_ALONE, ALONE_SHARE * seconds) if alone_seconds is None else alone_seconds
    for limit in (seconds, first_seconds, alone):
        Budget(seconds=limit)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    of_cubes, asked = "glucose4" if engine == "auto" else engine, False
    find_solver(f"circuits:engine={of_cubes}").check(problem)

    def told(progress: Progress) -> bool:
        nonlocal asked
        asked = asked or (callback is not None and bool(callback(progress)))
        return asked

    budget = Budget(seconds=min(alone, seconds))
    first = solve(problem, f"circuits:engine={engine}", budget=budget, generator=generator, callback=told)
    spent = first.stats["seconds"]
    none = {"cubes": 0, "divided": 0, "lost": 0, "cube_seconds": 0.0}
    if asked or spent >= seconds or first.status is Status.OPTIMAL:
        return replace(first, stats={**first.stats, **none})
    if executor is None:
        load_ahead()
    min_cubes = CUBES_EACH * workers
    left = seconds - spent
    conquest = Conquest(problem, left, of_cubes, generator, first_seconds, min_cubes, parts_of(workers), first.targets)

    def stop() -> bool:
        bounds = float(conquest.objective), max(float(conquest.bound), first.bound.item())
        moment = Progress(conquest.conflicts, spent + conquest.seconds, *bounds)
        return told(moment) or conquest.seconds > left or bounds[1] >= bounds[0]

    with ExitStack() as held:
        places = Anywhere(executor, workers) if executor is not None else held.enter_context(Workers(workers))
        for outcomes in spread(conquest.waiting, places, stop, lambda cube: None):
            for outcome in outcomes:
                conquest.take(outcome)
    return _joined(first, conquest.result())


def _joined(first: Result, found: Result) -> Result:
    """What both prove: the evidence is that of the higher bound."""
    spent = first.stats["seconds"]
    same = bool((first.targets == found.targets).all())
    later = {name: found.stats[name] for name in ("cubes", "divided", "lost", "cube_seconds")}
    later |= {"seconds": spent + found.stats["seconds"], "steps": first.stats["steps"] + found.stats["steps"]}
    later["found_at"] = first.stats["found_at"] if same else spent + found.stats["found_at"]
    trace = (*first.trace, *(replace(moment, seconds=spent + moment.seconds) for moment in found.trace))
    if first.bound.item() <= found.bound.item():
        later["proved_at"] = spent + found.stats["proved_at"]
        return replace(found, trace=trace, stats=found.stats | later)
    bound = torch.minimum(first.bound, found.objective)
    if (bound == found.objective).all():
        later["proved_at"] = later["found_at"]
    # Weights are those of targets.
    own = {name: value for name, value in first.stats.items() if same or name != "weights"}
    found = replace(first, targets=found.targets, objective=found.objective, bound=bound)
    return replace(found, trace=trace, stats=own | later)
