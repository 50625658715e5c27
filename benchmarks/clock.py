"""How far every solver overruns a budget in seconds, over kinds and sizes of problems up to 100,000 x 50.

`python -m benchmarks.clock` adds the rows that `results/clock.jsonl` lacks, each from a process of its own, and prints
those that end later than they may: a tenth of the budget or 0.2 s, whichever is more, and one exact check of the
answer. A busy machine makes calls late: `cpu_over` says how late the call's own work is, by the clock of the
processor. `--solver NAME` measures that one anew, `--late` what was late, `--size TEXT` only problems of that size.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from queue import Empty
from typing import Any

import numpy as np
import torch

from benchmarks.record import RESULTS, where
from tpsolve import SOLVERS, BlockProblem, Budget, LayerProblem, NetworkProblem, ProgramProblem, solve
from tpsolve._storage._row_log import RowLog
from tpsolve.errors import ArgumentError
from tpsolve.problems import Problem

BUDGETS = (0.5, 2.0)
PATIENCE = 60.0
"""Seconds after which a call is given up."""
SHARE, LEAST = 0.1, 0.2


def network(points: int, features: int, units: int = 2) -> NetworkProblem:
    """The exclusive or of the signs of two features."""
    x = np.random.default_rng(0).normal(size=(points, features))
    return NetworkProblem(x, (x[:, 0] * x[:, 1] > 0).astype(int), [units])


def layer(samples: int, n: int, m: int, loss: str = "hinge") -> LayerProblem:
    """Random weights and targets."""
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(m, n, generator=g) / n**0.5
    s = 2.0 * torch.randint(0, 2, (samples, m), generator=g) - 1
    start = 2.0 * torch.randint(0, 2, (samples, n), generator=g) - 1
    return LayerProblem(weight, s, loss=loss, start=start)


def block(samples: int, n: int, width: int) -> BlockProblem:
    """Two linear layers with a ReLU between them, ten classes."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(n, width), torch.nn.ReLU(), torch.nn.Linear(width, 10)).eval()
    g = torch.Generator().manual_seed(0)
    start = 2.0 * torch.randint(0, 2, (samples, n), generator=g) - 1
    return BlockProblem(module, torch.randint(0, 10, (samples,), generator=g), start)


def program(samples: int, symbols: int) -> ProgramProblem:
    """The sum of digits."""
    logits = torch.randn(samples, symbols, 10, generator=torch.Generator().manual_seed(0))
    return ProgramProblem(lambda *digits: sum(digits), [4 * symbols] * samples, logits, symbols=10)


SIZES: dict[str, Callable[[], Problem]] = {
    "network 200 x 2": lambda: network(200, 2),
    "network 2000 x 2, 8 units": lambda: network(2000, 2, 8),
    "network 2000 x 10": lambda: network(2000, 10),
    "network 20000 x 20": lambda: network(20_000, 20),
    "network 20000 x 50": lambda: network(20_000, 50),
    "network 100000 x 50": lambda: network(100_000, 50),
    "layer 16 of 24 x 24": lambda: layer(16, 24, 24),
    "layer 16 of 64 x 64": lambda: layer(16, 64, 64),
    "layer 4096 of 256 x 256": lambda: layer(4096, 256, 256),
    "layer 64 of 2048 x 2048": lambda: layer(64, 2048, 2048),
    "layer 4 of 64 x 64, soft-hinge": lambda: layer(4, 64, 64, "soft-hinge"),
    "block 64 of 64": lambda: block(64, 64, 64),
    "block 512 of 512": lambda: block(512, 512, 512),
    "program 64 of 3": lambda: program(64, 3),
    "program 256 of 8": lambda: program(256, 8),
}


def measure(name: str, size: str, seconds: float) -> dict[str, Any] | None:
    """The row of one call; None: the solver does not take the problem."""
    torch.set_num_threads(1)
    problem, solver = SIZES[size](), SOLVERS[name]()
    try:
        solver.check(problem)
    except ArgumentError:
        return None
    # What a first check loads, and the memory that it asks for, are no part of the call.
    assert problem.start is not None
    SIZES[size]().objective(problem.start)
    began, worked = time.perf_counter(), time.process_time()
    result = solve(problem, solver, budget=Budget(seconds=seconds))
    ended, worked = time.perf_counter(), time.process_time() - worked
    # Of a problem that does not know the answer yet.
    again = SIZES[size]()
    check_began, check_worked = time.perf_counter(), time.process_time()
    again.objective(result.targets)
    check, check_worked = time.perf_counter() - check_began, time.process_time() - check_worked
    over = ended - began - seconds - check
    stats = {name: result.stats[name] for name in ("steps", "judge_seconds")}
    late = over > max(SHARE * seconds, LEAST)
    cpu_over = worked - seconds - check_worked
    return {
        "seconds": ended - began,
        "check_seconds": check,
        "over": over,
        "late": late,
        "cpu_over": cpu_over,
        "cpu_late": cpu_over > max(SHARE * seconds, LEAST),
        **stats,
    }


def tell(queue: Any, task: tuple[str, str, float]) -> None:
    """Put the row of `task` into `queue`."""
    queue.put(measure(*task))


def measured(task: tuple[str, str, float]) -> dict[str, Any]:
    """The row of `task`, from a process of its own."""
    context = multiprocessing.get_context("fork")
    queue: Any = context.Queue()
    process = context.Process(target=tell, args=(queue, task))
    process.start()
    found: dict[str, Any] | None = {"late": True, "seconds": None, "error": f"no end within {PATIENCE:g} s"}
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        try:
            found = queue.get(timeout=0.1)
            break
        except Empty:
            if not process.is_alive():
                found = {"late": True, "seconds": None, "error": f"ended with code {process.exitcode}"}
                break
    process.kill()
    process.join()
    return {"taken": False} if found is None else {"taken": True, **found}


def main() -> None:
    """Measure what is missing, and print what is late."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--solver", action="append", default=[])
    parser.add_argument("--size", action="append", default=[])
    parser.add_argument("--late", action="store_true")
    asked = parser.parse_args()
    log = RowLog(RESULTS / "clock.jsonl")
    rows = {(row["solver"], row["size"], row["budget"]): row for row in log.read()}
    for size, name in ((size, name) for size in SIZES for name in SOLVERS):
        if asked.size and size not in asked.size:
            continue
        for seconds in BUDGETS:
            key = (name, size, seconds)
            again = asked.late and rows.get(key, {}).get("late")
            if name not in asked.solver and not again and (asked.solver or key in rows):
                continue
            row = {"solver": name, "size": size, "budget": seconds, **measured((name, size, seconds)), **where()}
            log.append(row)
            rows[key] = row
            if row["taken"]:
                print(name, size, seconds, row.get("error") or f"{row['seconds']:.2f} s, {row['over']:+.2f} s")
            if not row["taken"]:
                break
    taken = [row for row in rows.values() if row["taken"]]
    print(f"{len(taken)} calls, {sum(row['late'] for row in taken)} late")


if __name__ == "__main__":
    main()
