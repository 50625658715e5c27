"""How well do the scheduler and the merger use many workers, where tasks differ a thousandfold and workers die?

`python -m benchmarks.cluster simulated`: 64 simulated workers. The scheduler and what keeps the rows, or joins the
cubes, are the real ones. A worker sleeps for as long as the task took when it was measured, times a factor, and then
hands in what became of it; it dies in mid-task as often as the row says. Rows go to results/cluster.jsonl.
`python -m benchmarks.cluster cubes`: of these only the cubes.
`python -m benchmarks.cluster real`: one hard network by cube and conquer with one worker and with two, in turns. Rows
hold seconds of the wall clock and of the processor: on a machine that is busy elsewhere only the latter say something.

Efficiency is the work of the tasks that counted, over the seconds of all workers. What is lost besides are tasks that
died, workers that wait at the end for the last one (`tail_seconds`), and what the scheduler takes itself.
"""

import argparse
import json
import os
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, where
from benchmarks.workers import adopt_orphans, wait_for_orphans
from tpsolve._storage._row_log import RowLog
from tpsolve.compare import SUITES, Comparison, run_comparison
from tpsolve.compare.running._conquer import CUBES_EACH, parts_of
from tpsolve.compare.running._execute import Anywhere, spread
from tpsolve.compare.running._instances import MadeInstance
from tpsolve.compare.running._tasks import Task
from tpsolve.problems import Instance, NetworkProblem, make_instance, make_table
from tpsolve.search import find_solver, load_proof, verify_proof
from tpsolve.search.network.cubes._conquest import Conquest

LOG = RowLog(RESULTS / "cluster.jsonl", ("kind", "workers", "seconds"))
TABLE, UNITS = "random-2-60", 4
SECONDS, FIRST_SECONDS = 3600.0, 0.15
TASKS = 640


class Simulated(Executor):
    """Workers that sleep: `seconds` says how long a task takes, `carry_out` what becomes of it.

    Args:
        deaths: the share of tasks in which the worker dies, at a random moment of it.
    """

    def __init__(
        self, workers: int, deaths: float, seconds: Callable[[Any], float], carry_out: Callable[[Any], Any]
    ) -> None:
        self._pool, self._deaths = ThreadPoolExecutor(workers), deaths
        self._seconds, self._carry_out = seconds, carry_out
        self._drawn, self._lock = random.Random(0), threading.Lock()
        self.lost, self.died, self.last_begun, self.longest, self.work = 0.0, 0, 0.0, 0.0, 0.0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with self._lock:
            self.last_begun = time.perf_counter()
            dies = self._drawn.random() if self._drawn.random() < self._deaths else None
        return self._pool.submit(self._work, args[0], dies)

    def _work(self, packed: bytes, dies: float | None) -> Any:
        task = pickle.loads(packed)
        seconds = self._seconds(task)
        if dies is not None:
            time.sleep(dies * seconds)
            with self._lock:
                self.died, self.lost = self.died + 1, self.lost + dies * seconds
            raise BrokenExecutor("the worker has died")
        until = time.perf_counter() + seconds
        outcome = self._carry_out(task)
        time.sleep(max(0.0, until - time.perf_counter()))
        with self._lock:
            self.work, self.longest = self.work + seconds, max(self.longest, seconds)
        return outcome


def row_of(kind: str, workers: int, deaths: float, tasks: int, seconds: float, end: float, cluster: Simulated) -> Any:
    return {
        "kind": kind,
        "workers": workers,
        "deaths": deaths,
        "tasks": tasks,
        "seconds": seconds,
        "work_seconds": cluster.work,
        "efficiency": cluster.work / (workers * seconds),
        "tail_seconds": end - cluster.last_begun,
        "longest_seconds": cluster.longest,
        "died": cluster.died,
        "lost_seconds": cluster.lost,
        "load": os.getloadavg()[0],
        **where(),
    }


def measured_seconds() -> list[float]:
    """Of exact solves of networks, as saved rows have them: from a hundredth of a second to their limit."""
    lines = (RESULTS / "unsaturated.jsonl").read_text().splitlines()
    return [row["seconds"] for row in map(json.loads, lines) if "failure" not in row]


def comparison(workers: int, deaths: float, mean: float) -> None:
    """The rows of many solves."""
    times = measured_seconds()
    drawn = random.Random(1).choices(times, k=TASKS)
    factor = mean * TASKS / sum(drawn)
    seconds = {f"task-{k:04d}": factor * value for k, value in enumerate(drawn)}
    made = [
        Instance(name, make_instance("planted", n=4, m=3, samples=1, seed=k).problem) for k, name in enumerate(seconds)
    ]
    SUITES.setdefault("simulated", lambda samples, seed: made)
    outcomes: dict[str, Any] = {}
    cluster = Simulated(
        workers, deaths, lambda task: seconds[task.instance.name], lambda task: outcomes[task.instance.name]
    )
    with tempfile.TemporaryDirectory() as folder:
        plan = Comparison(Path(folder) / "run", "simulated", ("keep",), samples=1, steps=1, seeds=(0,))
        run_comparison(plan, stop=lambda: True)
        for instance in made:
            task = Task(MadeInstance.of(instance), find_solver("keep"), "keep", 0, plan.budget_of(1), threads=1)
            outcomes[instance.name] = task.carry_out(lambda: False)
        began, processor = time.perf_counter(), time.process_time()
        rows = run_comparison(plan, workers=workers, executor=cluster)
        end, processor = time.perf_counter(), time.process_time() - processor
        kept = RowLog(plan.folder / "rows.jsonl").read()
    failed = sum("error" in row for row in rows)
    row = row_of("comparison", workers, deaths, TASKS, end - began, end, cluster)
    row |= {
        "scheduler_seconds": processor,
        "failed": failed,
        "rows": len(kept),
        "twice": len(kept) - len({one["instance"] for one in kept}),
    }
    LOG.append(row)
    print(row, flush=True)


def opened(workers: int, best: torch.Tensor | None) -> Conquest:
    """The search, before its first cube; equal networks `best` give equal cubes."""
    problem = NetworkProblem(*make_table(TABLE), widths=[UNITS])
    first = FIRST_SECONDS if workers > 1 else 4 * FIRST_SECONDS
    cubes = CUBES_EACH * workers if workers > 1 else 1
    generator = torch.Generator().manual_seed(0)
    return Conquest(problem, SECONDS, "glucose4", generator, first, cubes, parts_of(workers), best)


def recorded(
    workers: int, best: torch.Tensor | None = None
) -> tuple[Conquest, dict[tuple[int, ...], Any], dict[tuple[int, ...], float]]:
    """A search by cubes in this process: what became of each cube, and its seconds of the processor.

    Seconds of the search itself are those of the processor too, so that a busy machine divides no more cubes.
    """
    clock, time.perf_counter = time.perf_counter, time.process_time
    try:
        conquest, outcomes, seconds = opened(workers, best), {}, {}
        while conquest.waiting and not conquest.closed:
            cube = conquest.waiting.popleft()
            began = time.process_time()
            outcomes[cube.literals] = cube.carry_out(lambda: False)
            seconds[cube.literals] = time.process_time() - began
            conquest.take(outcomes[cube.literals])
    finally:
        time.perf_counter = clock
    print(
        f"{conquest.objective} errors, at least {conquest.bound}: {len(seconds)} cubes, {sum(seconds.values()):.3g} s"
    )
    return conquest, outcomes, seconds


def cubes(workers: int, deaths: float, mean: float, kept: Any, alone: float) -> None:
    """The cubes of one network; `alone`: the seconds of one worker, who needs no more than the truth tables."""
    expected, outcomes, seconds = kept
    factor = mean * len(seconds) / sum(seconds.values())
    conquest = opened(workers, expected.best)
    cluster = Simulated(
        workers, deaths, lambda cube: factor * seconds[cube.literals], lambda cube: outcomes[cube.literals]
    )
    began, processor = time.perf_counter(), time.process_time()
    for some in spread(conquest.waiting, Anywhere(cluster, workers), lambda: conquest.closed, lambda cube: None):
        for outcome in some:
            conquest.take(outcome)
    end, processor = time.perf_counter(), time.process_time() - processor
    row = row_of("cubes", workers, deaths, conquest.cubes, end - began, end, cluster)
    row |= {
        "scheduler_seconds": processor,
        "failed": conquest.lost,
        "closed": conquest.closed,
        "same": conquest.objective == expected.objective,
        "table": TABLE,
        "units": UNITS,
        "one_worker_seconds": factor * alone,
    }
    LOG.append(row)
    print(row, flush=True)


REAL = """
import json, sys
from tpsolve.compare.running._conquer import conquer
from tpsolve.problems import NetworkProblem, make_table
from tpsolve.search import make_proof
if __name__ == "__main__":
    table, units, workers, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    data = make_table(table)
    problem = NetworkProblem(*data, widths=[units])
    result = conquer(problem, seconds=3600.0, workers=workers, first_seconds=first, alone_seconds=0.01)
    found = {name: result.stats[name] for name in ("cubes", "divided", "seconds", "cube_seconds", "steps")}
    make_proof(problem, result).save(sys.argv[5])
    print(json.dumps(found | {"errors": result.objective.item(), "bound": result.bound.item()}))
"""


def real(workers: int) -> None:
    """One hard network with so many workers, in a process of its own; its proof is checked."""
    with tempfile.TemporaryDirectory() as folder:
        script, proof = Path(folder) / "real.py", Path(folder) / "proof.npz"
        script.write_text(REAL)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, str(script), TABLE, str(UNITS), str(workers), str(4 * FIRST_SECONDS), str(proof)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        wait_for_orphans()
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)

        findings = verify_proof(load_proof(proof), *make_table(TABLE))
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    row = {"kind": "conquer", "workers": workers, "seconds": seconds, "processor_seconds": processor}
    row |= {"cores": processor / seconds, "table": TABLE, "units": UNITS, "search": json.loads(out)}
    row |= {"proof": "holds" if all(f.holds for f in findings) else findings[-1].words}
    LOG.append({**row, "load": os.getloadavg()[0], **where()})
    print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("simulated", "cubes", "real"))
    parser.add_argument("--mean", type=float, default=8.0, help="seconds of a task, on average")
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    adopt_orphans()
    for _ in range(given.repeats):
        if given.what == "real":
            real(1)
            real(2)
            continue
        if given.what == "simulated":
            for deaths in (0.0, 0.05):
                comparison(64, deaths, given.mean)
        one, _, seconds = recorded(1)
        kept = recorded(64, one.best)
        for deaths in (0.0, 0.05):
            cubes(64, deaths, given.mean, kept, sum(seconds.values()))


if __name__ == "__main__":
    main()
