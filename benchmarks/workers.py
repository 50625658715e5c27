"""How much faster are two workers than one, with the same rows but for what is measured?

`python -m benchmarks.workers` runs the same comparison with one worker and with two, in turns, each in a process of its
own and with one thread a task. Budgets are in steps, so that the work is the same. Rows of results/workers.jsonl hold
wall-clock seconds, seconds of the processor, load, and whether the rows are the same.

On a machine whose cores are busy elsewhere two workers get no two cores. `cores` is what the processes had: seconds of
the processor, over wall-clock seconds. What two workers take more of the processor than one is what it
costs to have them: loading libraries once more, and handing tasks and rows over.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, where
from tpsolve._storage._row_log import RowLog

COMMAND = ("compare", "--suite", "wide", "--name", "run", "--solver", "hill-climb", "--solver", "tabu")
COMMAND += ("--solver", "anneal", "--samples", "8")
MEASURED = ("seconds", "load", "time", "found_at", "proved_at", "trace")
CHILD_SUBREAPER = 36
"""Of Linux's prctl."""
LOG = RowLog(RESULTS / "workers.jsonl", ("workers", "seconds", "processor_seconds"))


def run(workers: int, steps: int, seeds: int) -> dict[str, Any]:
    """One comparison in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--steps", str(steps), "--seeds", str(seeds), "--workers", str(workers), "--runs", folder)
        load, before = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "tpsolve", *COMMAND, *options],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        wait_for_orphans()
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = RowLog(Path(folder) / "run" / "rows.jsonl").read()
    processor_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "workers": workers,
        "steps": steps,
        "tasks": len(rows),
        "solve_seconds": sum(row["seconds"] for row in rows),
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "load": load,
        "rows": [{name: value for name, value in row.items() if name not in MEASURED} for row in rows],
    }


def adopt_orphans() -> None:
    """Make this process the parent of those whose own has ended, so that their seconds count too."""
    ctypes.CDLL(None).prctl(CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_orphans() -> None:
    """Wait for the processes that have outlived their parents."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1)
    chosen = parser.parse_args()
    adopt_orphans()
    for _ in range(chosen.repeats):
        made = [run(workers, chosen.steps, chosen.seeds) for workers in (1, 2)]
        rows = [{json.dumps(row, sort_keys=True) for row in one.pop("rows")} for one in made]
        for one in made:
            one["cores"] = one["processor_seconds"] / one["seconds"]
            LOG.append({**one, "same_rows": rows[0] == rows[1], **where()})
            print(one, flush=True)


if __name__ == "__main__":
    main()
