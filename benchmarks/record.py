"""What every benchmark shares: timing in turns, and rows on disk from which tables are drawn.

Benchmarks that go on where they were stopped can be shared out: `--shard 3/16` behind any such command does the third
of sixteen parts, on one of 16 machines or in one of 16 processes. Each part writes a file of its own, such as
`results/wide.shard-3-of-16.jsonl`, which is read with the others where it lies beside them.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from tpsolve._storage._row_log import RowLog, read_parts
from tpsolve.cli._executors import read_shard
from tpsolve.compare import Shard

RESULTS = Path(__file__).parent / "results"


def shard_of_command() -> Shard | None:
    """The shard that `--shard` names in the command line of a benchmark, from which it is taken; None: it does all."""
    if Path(sys.argv[0]).parent != Path(__file__).parent or "--shard" not in sys.argv[:-1]:
        return None
    at = sys.argv.index("--shard")
    text = sys.argv[at + 1]
    del sys.argv[at : at + 2]
    return read_shard(text)


SHARD = shard_of_command()


def parser_of(about: str | None) -> argparse.ArgumentParser:
    """A parser of the options of a benchmark that can be shared out; its help tells of `--shard`."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = "only the K-th of N parts of what has no row yet, for other machines and processes"
    made.add_argument("--shard", metavar="K/N", help=words)  # `shard_of_command` has taken it.
    return made


def is_elsewhere(task: Any) -> bool:
    """Whether another shard has this task, which may be anything that JSON holds."""
    if SHARD is None:
        return False
    return zlib.crc32(json.dumps(task, default=str).encode()) % SHARD.of != SHARD.number - 1


class Rows(RowLog):
    """A log of rows that each shard writes into a file of its own; all are read together."""

    def read(self) -> list[dict[str, Any]]:
        return read_parts(self.path, self.fields, self.outcome)

    def append(self, *rows: dict[str, Any]) -> None:
        part = "" if SHARD is None else f".shard-{SHARD.number}-of-{SHARD.of}"
        RowLog.append(RowLog(self.path.with_name(f"{self.path.stem}{part}.jsonl")), *rows)


def in_turns(
    contenders: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each contender over `repeats` rounds in which all run one after the other, after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            started = clock()
            run()
            if turn:
                seconds[name].append(clock() - started)
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


def code_state() -> str:
    """Day and short name of the commit that changed the package last, "+" where it has changed since; "": no git."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words, "--", "tpsolve"], cwd=root, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("log", "-1", "--format=%cs %h") + ("+" if git("status", "--porcelain") else "")
    except FileNotFoundError:
        return ""


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
