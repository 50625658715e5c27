"""What every benchmark shares: timing in turns, and rows on disk from which tables are drawn."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from tpsolve.cli._executors import read_shard

RESULTS = Path(__file__).parent / "results"


def in_turns(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each contender over `repeats` rounds in which all run one after the other, after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def each(work: Callable[..., Any], tasks: list[tuple[Any, ...]], workers: int) -> Iterator[Any]:
    """`work(*task)` of each task as it ends: here, or in so many processes with one thread each.

    Solvers that have threads of their own share the cores: give no more workers than there are cores for all.
    """
    if workers == 1:
        yield from (work(*task) for task in tasks)
        return
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(work, *task) for task in tasks]):
            yield future.result()


def part(tasks: list[Any], shard: str) -> list[Any]:
    """Of all tasks those of a shard such as "3/16", for one of 16 machines; "": all.

    Each machine has its own copy of the rows; in the end they are put one after the other into one file.
    """
    chosen = read_shard(shard)
    return tasks if chosen is None else tasks[chosen.number - 1 :: chosen.of]


def median_ratio(seconds: dict[str, list[float]], name: str, against: str) -> float:
    """Median over the rounds of one contender's time over another's."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[against], strict=True))


def where() -> dict[str, str]:
    """The machine and the versions that make a row."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        **{library: metadata.version(library) for library in ("tpsolve", "torch", "ortools", "scipy")},
    }


def save(benchmark: str, rows: list[dict[str, Any]]) -> None:
    """Replace the rows of this benchmark, each with the machine and the versions that made it."""
    RESULTS.mkdir(exist_ok=True)
    # Rows that are there already keep what made them.
    lines = [json.dumps({**where(), **row}) for row in rows]
    (RESULTS / f"{benchmark}.jsonl").write_text("\n".join(lines) + "\n")
    for row in rows:
        print(
            "  ".join(
                f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
            )
        )
