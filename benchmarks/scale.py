"""How long do planning and resuming take for many instances and solvers, and how much memory?

`python -m benchmarks.scale` plans a comparison of 10,000 instances and 10 solvers in a temporary folder, puts a row for
each solve into it, with targets of the first instance's, and resumes in another process. Seconds are those of the
processor, since the machine may be busy; `waited` are those of the wall clock besides, above all for the disk. A row
goes to results/scale.jsonl.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, where
from tpsolve._storage._row_log import RowLog
from tpsolve.compare import SUITES, Comparison, run_comparison
from tpsolve.compare._runner import _tasks
from tpsolve.compare.running._instances import MadeInstance
from tpsolve.compare.running._tasks import Solved, Task, start_of, unpacked
from tpsolve.problems import Instance, make_instance

LOG = RowLog(RESULTS / "scale.jsonl", ("instances", "solvers"))
SOLVERS = ("keep", "sign-gradient", "random", "curvature-flip", "hill-climb")
SOLVERS += ("tabu", "anneal", "beam", "guided-random", "enumerate")


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns, its seconds of the processor, and those that it waited."""
    began, processor = time.perf_counter(), time.process_time()
    found = work()
    spent = time.process_time() - processor
    return found, spent, time.perf_counter() - began - spent


def peak() -> float:
    """MiB that the process has had at most."""
    # What `getrusage` tells is at least what the parent had.
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 2**10


def true_of(task: Task, solved: Solved) -> dict[str, Any]:
    """What a row of the task says that has the targets of another one."""
    problem = task.instance.problem
    assert solved.targets is not None
    targets = unpacked(solved.targets, (1, problem.n_vars), "a row").to(problem.dtype)
    assert problem.start is not None
    objective = problem.objective(targets).tolist()
    return {
        "fingerprint": task.instance.fingerprint,
        "start": start_of(problem),
        "objective": objective,
        "bound": [None],
        "found_at": [0.0],
        "proved_at": [None],
        "trace": [[0.0, objective[0], None]],
        "tolerance": problem.tolerance().tolist(),
        "status": ["feasible"],
        "flips": (targets != problem.start).float().mean(-1).tolist(),
    }


def run(count: int, folder: Path) -> dict[str, Any]:
    made = [Instance(f"i{k:05d}", make_instance("random", n=12, m=8, samples=1, seed=k).problem) for k in range(count)]
    SUITES["many"] = lambda samples, seed: made
    comparison = Comparison(folder, "many", SOLVERS, samples=1, steps=2, seeds=(0,))
    row: dict[str, Any] = {"instances": count, "solvers": len(SOLVERS), "made_mib": peak()}
    tasks, row["plan_seconds"], _ = timed(
        lambda: _tasks(comparison, [MadeInstance.of(instance) for instance in made], print)[0]
    )
    assert len(tasks) == count * len(SOLVERS)
    _, row["plan_and_save_seconds"], row["save_waited"] = timed(lambda: run_comparison(comparison, stop=lambda: True))
    row["planned_mib"] = peak()
    solved = {task.text: task.carry_out(lambda: False) for task in tasks[: len(SOLVERS)]}
    with (folder / "rows.jsonl").open("w") as rows, (folder / "targets.jsonl").open("w") as targets:
        for task in tasks:
            one, name = solved[task.text], {"instance": task.instance.name}
            rows.write(json.dumps({**one.row, **name, **true_of(task, one)}) + "\n")
            targets.write(json.dumps({**(one.targets or {}), **name}) + "\n")
    row["rows_mib"] = (folder / "rows.jsonl").stat().st_size / 2**20
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        row |= process.submit(resumed, comparison, count).result()
    return {**row, "load": os.getloadavg()[0], **where()}


def resumed(comparison: Comparison, count: int) -> dict[str, Any]:
    """What resuming takes, in a process that has done nothing else."""
    torch.set_num_threads(1)
    SUITES["many"] = lambda samples, seed: []
    told: list[str] = []
    row: dict[str, Any] = {"loaded_mib": peak()}
    found, row["resume_seconds"], row["resume_waited"] = timed(lambda: run_comparison(comparison, note=told.append))
    assert len(found) == count * len(SOLVERS)
    return {**row, "resumed_mib": peak(), "checked": told[0].replace(str(comparison.folder), "runs/NAME")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=10_000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        row = run(given.instances, Path(folder) / "run")
    LOG.append(row)
    print(row)


if __name__ == "__main__":
    main()
