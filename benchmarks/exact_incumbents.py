"""Does `circuits` find networks as good as those of quick searches with a third of its time?

`python -m benchmarks.exact_incumbents --data-root DIR`: `circuits`, `column-search`, `line-search` and `surrogate` on
the tables of `benchmarks/unsaturated.py`, and on larger ones. Rows are appended one by one to
benchmarks/results/exact_incumbents.jsonl; what is there is not run again. `--seconds` is the time of `circuits`,
`--seeds` lists seeds, `--only` has parts of names of tables, `--label` names the code that is measured, and `--open`
leaves out tables whose optimum is proved on docs/gaps.md. At the end it prints where `circuits` is worse.

`--processor` counts processor time instead, for busy machines: one worker has the whole budget, and only one thread
works at a time.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import unsaturated
from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of, where
from tpsolve import Budget, NetworkProblem, solve
from tpsolve.errors import TpsolveError
from tpsolve.search import find_solver

SEARCHES = ("column-search", "line-search", "surrogate")
LARGE = (("signs-20000-3-s0", (2,)), ("signs-20000-3-s1", (2,)), ("signs-20000-20-s0", (2,)))
"""The exclusive or of the signs of two features: points, features, seed."""


def table(name: str, root: Path | None) -> unsaturated.Table | None:
    """The table of this name; None: it is in the data folder, which is not given."""
    if not name.startswith("signs-"):
        return unsaturated.table(name, root)
    points, features, seed = (int(v.removeprefix("s")) for v in name.split("-")[1:])
    x = np.random.default_rng(seed).normal(size=(points, features))
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def proved() -> set[tuple[str, tuple[int, ...]]]:
    """The tables, with widths, whose optimum some row has proved."""
    best: dict[tuple[str, tuple[int, ...]], tuple[float, float]] = {}
    for row in unsaturated.rows():
        if "objective" in row:
            key = row["table"], tuple(row["widths"])
            errors, bound = best.get(key, (float("inf"), 0.0))
            best[key] = min(errors, row["objective"]), max(bound, row["bound"])
    return {key for key, (errors, bound) in best.items() if errors == bound}


def measure(name: str, widths: tuple[int, ...], solver: str, seconds: float, seed: int, root: Path | None) -> Any:
    """One row; None: the table is not there."""
    data = table(name, root)
    if data is None:
        return None
    generator, began = torch.Generator().manual_seed(seed), time.process_time()
    try:
        problem = NetworkProblem(*data, widths)
        result = solve(problem, find_solver(solver), budget=Budget(seconds=seconds), generator=generator)
    except TpsolveError as error:
        return {"failure": str(error)}
    return {
        "errors": result.objective.item(),
        "bound": result.bound.item(),
        "found_at": result.stats["found_at"].item(),
        "seconds": result.stats["seconds"],
        "cpu_seconds": time.process_time() - began,
    }


def main() -> None:
    """Measure what is missing, and say where `circuits` is worse."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--only", default="")
    parser.add_argument("--label", default="")
    parser.add_argument("--open", action="store_true")
    parser.add_argument("--processor", action="store_true")
    parser.add_argument("--data-root", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    ours = "circuits"
    if given.processor:
        # All clocks of the search read this one.
        time.perf_counter, ours = time.process_time, "circuits:workers=1"
    log = Rows(RESULTS / "exact_incumbents.jsonl")
    seeds, closed = [int(v) for v in given.seeds.split(",")], proved() if given.open else set()
    clock = "processor" if given.processor else "wall"
    rows = {
        (r["table"], tuple(r["widths"]), r["solver"], r["limit"], r["seed"], r["label"]): r
        for r in log.read()
        if r["clock"] == clock
    }
    keys: list[tuple[str, tuple[int, ...], int]] = [
        (name, widths, seed)
        for name, widths in (*unsaturated.SUITE, *LARGE)
        for seed in seeds
        if (name, widths) not in closed and any(part in name for part in given.only.split(","))
    ]
    for name, widths, seed in keys:
        for solver in (*SEARCHES, ours):
            seconds = given.seconds if solver == ours else given.seconds / 3
            key = (name, widths, solver, seconds, seed, given.label if solver == ours else "")
            if key in rows or is_elsewhere(key):
                continue
            found = measure(name, widths, solver, seconds, seed, given.data_root)
            if found is None:
                break
            head = dict(zip(("table", "widths", "solver", "limit", "seed", "label"), key, strict=True))
            rows[key] = {**head, "widths": list(widths), "clock": clock, **found, **where()}
            log.append(rows[key])
            print(name, widths, solver, seed, found.get("errors", found.get("failure")), flush=True)
    worse, compared = [], 0
    for name, widths, seed in keys:
        own = rows.get((name, widths, ours, given.seconds, seed, given.label))
        others = [rows.get((name, widths, search, given.seconds / 3, seed, "")) for search in SEARCHES]
        least = min((row["errors"] for row in others if row and "errors" in row), default=float("inf"))
        if own and "errors" in own and least < float("inf"):
            compared += 1
            if own["errors"] > least:
                worse.append(f"{name} {widths} seed {seed}: {own['errors']:g} against {least:g}")
    print(f"{compared} compared, circuits is worse on {len(worse)}:", *worse, sep="\n  ")


if __name__ == "__main__":
    main()
