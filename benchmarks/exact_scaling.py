"""How far do exact solvers of small networks get, and how fast? Solvers and baselines with 2 workers, row by row.

`python -m benchmarks.exact_scaling suite`: 40-odd instances, every solver, 60 seconds each; hours.
`python -m benchmarks.exact_scaling known`: the ten instances of the suite with values from elsewhere.
`python -m benchmarks.exact_scaling open`: the open instances, 10 minutes each; proofs go to benchmarks/results/proofs.
`python -m benchmarks.exact_scaling verify`: those proofs, checked whole, the bounds by another engine (`--engine`).
`python -m benchmarks.exact_scaling adam`: ColumnSearch against 200 restarts of Adam with ten times the time.
`python -m benchmarks.exact_scaling table`: what the rows say; writes docs/best-known.md.
`python -m benchmarks.exact_scaling unsaturated`: 70 tables that are hard for exact solvers.
`python -m benchmarks.exact_scaling gaps`: what those rows say; writes docs/gaps.md.

Rows are appended to benchmarks/results/exact_scaling.jsonl one by one; what is there is not run again.
`--seconds`, `--solvers` and `--only` (parts of instances' names, such as parity-,random-2-40/3) narrow a run.
`--workers` solves several instances at a time, with fewer cores for each. A row holds its limit; `table --seconds`
compares solvers on the rows of that limit, and those of other limits are other rows.
About an hour: `suite --solvers circuits,dichotomies,weight-box:workers=2,big-m`, and then `table`.
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import unsaturated
from benchmarks.record import RESULTS, Rows, each, is_elsewhere, parser_of
from tpsolve import Budget, NetworkProblem, solve
from tpsolve.errors import TpsolveError
from tpsolve.problems import make_table
from tpsolve.search import find_solver, load_proof, make_proof, verify_proof
from tpsolve.search.proofs._check_proof import another_engine

ROWS = RESULTS / "exact_scaling.jsonl"
PROOFS = RESULTS / "proofs"
PAGE = Path(__file__).parents[1] / "docs" / "best-known.md"
BASELINES = ("weight-box:workers=2", "big-m")
SOLVERS = ("circuits", "dichotomies", "column-search", *BASELINES)


KNOWN_TABLE = (
    ("parity-4", 3),
    *(("random-2-40", h) for h in (2, 3, 4, 5)),
    *(("random-2-80", h) for h in (2, 3)),
    ("random-4-40", 2),
    ("iris-two", 1),
    ("iris-two", 2),
)
OPEN = (
    ("random-2-80", 4),
    ("random-4-60", 2),
    ("random-4-60", 3),
    ("random-4-80", 2),
    ("parity-6", 3),
    ("parity-6", 4),
    ("parity-6", 5),
    ("breast-cancer-pc5", 2),
)
SUITE = (
    *KNOWN_TABLE,
    *(("parity-3", h) for h in (1, 2, 3)),
    *(("parity-4", h) for h in (1, 2, 4)),
    *(("parity-5", h) for h in (2, 3)),
    *((f"random-2-{n}", h) for n in (16, 24, 32) for h in (2, 3)),
    *((f"random-2-{n}-s1", 2) for n in (60, 100, 120, 160, 200)),
    *((f"random-3-{n}-s1", 2) for n in (16, 24, 32, 40)),
    *((f"random-4-{n}-s1", 2) for n in (16, 24, 32)),
    *((f"random-{p}-16-s1", 1) for p in (5, 6, 8)),
    *((f"random-8-{n}-s1", 1) for n in (24, 40)),
    *(("xor-blobs-100", h) for h in (1, 2)),
)
"""(table, hidden units)."""


def read() -> list[dict[str, Any]]:
    """The rows so far; a torn last line is left out."""
    return Rows(ROWS).read()


def append(row: dict[str, Any]) -> None:
    """Write one row and show it."""
    RESULTS.mkdir(exist_ok=True)
    Rows(ROWS).append(row)
    print("  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)


def run(
    instances: tuple[tuple[str, int], ...],
    solvers: tuple[str, ...],
    seconds: float,
    only: list[str],
    workers: int,
) -> None:
    """Every solver on every instance, or those of a shard, but for rows that are there."""
    done = {(r["table"], r["units"], r["solver"], r["limit"]) for r in read() if "kind" not in r}
    every = [
        (table, units, name, seconds)
        for table, units in instances
        for name in solvers
        if any(word in f"{table}/{units}" for word in only)
    ]
    tasks = [task for task in every if task not in done and not is_elsewhere(task)]
    for row in each(measure, tasks, workers):
        append(row)


def measure(table: str, units: int, name: str, seconds: float) -> dict[str, Any]:
    """One row: objective, bound and seconds, or why there are none."""
    row: dict[str, Any] = {"table": table, "units": units, "solver": name, "limit": seconds, "seed": 0}
    started = time.perf_counter()
    try:
        problem = NetworkProblem(*make_table(table), widths=[units])
        result = solve(problem, find_solver(name), budget=Budget(seconds=seconds))
    except TpsolveError as error:
        return {**row, "failure": str(error), "seconds": time.perf_counter() - started}
    if (table, units) in OPEN and result.optimal.all() and "circuits" in result.stats:
        PROOFS.mkdir(parents=True, exist_ok=True)
        make_proof(problem, result, {"table": table}).save(PROOFS / f"{table}-h{units}.npz")
    note = result.stats["notes"].get(0, "")
    row |= {"objective": result.objective.item(), "bound": result.bound.item(), "status": result.status.value}
    # A baseline is done when its box is, whatever that proves.
    boxed = "(optimal)" in note or (name == "big-m" and result.stats["seconds"] < 0.98 * seconds)
    return {**row, "finished": bool(result.optimal) or boxed, "seconds": result.stats["seconds"], "note": note}


def verify(seconds: float, engine: str | None, only: list[str]) -> None:
    """Check every saved proof, its bound by another engine for at most so many seconds; always anew."""
    for path in sorted(PROOFS.glob("*.npz")):
        if not any(part in path.stem for part in only):
            continue
        proof = load_proof(path)
        checked_by = another_engine(proof.engine, engine)
        row: dict[str, Any] = {"proof": path.stem, "kind": "verify", "engine": checked_by, "limit": seconds}
        samples = make_table(proof.about["table"])
        started = time.perf_counter()
        findings = verify_proof(proof, *samples, engine=checked_by, seconds=seconds)
        verdict = {True: "holds", False: "fails", None: "open"}[findings[-1].holds]
        row |= {"part": findings[-1].part, "verdict": verdict, "note": findings[-1].words}
        append({**row, "digest": proof.digest, "seconds": time.perf_counter() - started})


def adam(seconds: float) -> None:
    """ColumnSearch in `seconds` against the best of 200 surrogate restarts in ten times as much."""
    for table in ("random-8-1000", "xor-blobs-1000"):
        problem = NetworkProblem(*make_table(table), widths=[4])
        for name, limit in (("column-search", seconds), ("surrogate:restarts=200", 10 * seconds)):
            result = solve(problem, find_solver(name), budget=Budget(seconds=limit))
            row = {"table": table, "units": 4, "solver": name, "limit": limit, "seed": 0, "kind": "adam"}
            append({**row, "objective": result.objective.item(), "bound": result.bound.item(), "seconds": limit})


def table(limit: float) -> None:
    """Write docs/best-known.md from the rows: what is known, and how far each solver gets within the limit."""
    rows = [row for row in read() if "kind" not in row]
    if not rows:
        raise SystemExit(f"{ROWS}: no rows yet")
    verified, adams = ([row for row in read() if row.get("kind") == kind] for kind in ("verify", "adam"))
    parts = [*_known(rows), *_proofs(verified), *_race(rows, limit), *_ratios(rows), *_adam(adams)]
    text = "\n".join(parts) + "\n"
    PAGE.write_text(text)
    print(text)


def _known(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "# Best known values\n"
    yield "How few training errors can a small network make? This page lists, for each table and number of hidden"
    yield "units, the minimum number of errors known for any real weights, and the proved lower bound. The answer"
    yield "is proved where the two are equal. The page also says which solver found each of them, and in how many"
    yield "seconds."
    yield ""
    yield "`python -m benchmarks.exact_scaling table` writes this page from"
    yield "`benchmarks/results/exact_scaling.jsonl`."
    yield ""
    yield "| table | units | errors | found by | proved bound | by | seconds |"
    yield "|---|---:|---:|---|---:|---|---:|"
    for key in dict.fromkeys((*SUITE, *OPEN)):
        own = [r for r in rows if (r["table"], r["units"]) == key and "objective" in r]
        if own:
            best = min(own, key=lambda r: (r["objective"], r["seconds"]))
            bound = min(own, key=lambda r: (-r["bound"], r["seconds"]))
            yield (
                f"| `{key[0]}` | {key[1]} | {best['objective']:g} | `{best['solver'].partition(':')[0]}` "
                f"| {bound['bound']:g} | `{bound['solver'].partition(':')[0]}` | {bound['seconds']:.2g} |"
            )


def _proofs(rows: list[dict[str, Any]]) -> Iterator[str]:
    paths = sorted(PROOFS.glob("*.npz"))
    if not paths:
        return
    yield "\n## Saved proofs\n"
    yield "Proofs of hard instances are in `benchmarks/results/proofs`. `python -m benchmarks.exact_scaling verify`"
    yield "checks them. It checks data, weights, circuits and clauses in exact arithmetic. It then writes the"
    yield "clauses again, and an engine shows from them that fewer errors are impossible. This engine is not the"
    yield "one that found the proof. *Seconds* are those of the whole check, on one core."
    yield ""
    yield "| proof | bound | found by | checked by | verdict | seconds |"
    yield "|---|---:|---|---|---|---:|"
    for path in paths:
        proof = load_proof(path)
        # Of this very proof, the last row of each engine.
        own = {r["engine"]: r for r in rows if r["proof"] == path.stem and r["digest"] == proof.digest}
        for row in own.values():
            yield (
                f"| `{path.name}` | {float(proof.bound):g} | `{proof.engine}` | `{row['engine']}` "
                f"| {row['verdict']} | {row['seconds']:.3g} |"
            )
        if not own:
            yield f"| `{path.name}` | {float(proof.bound):g} | `{proof.engine}` | | not checked | |"


def _race(rows: list[dict[str, Any]], limit: float) -> Iterator[str]:
    found = {(r["table"], r["units"], r["solver"]): r for r in rows if r["limit"] == limit}
    instances = [key for key in SUITE if any(key == row[:2] for row in found)]
    if not instances:
        return
    yield "\n## How far each solver gets\n"
    yield f"The solvers ran on {len(instances)} instances of the suite, one after the other, with {limit:g} seconds for"
    yield "each. `dichotomies` and `big-m` have one worker, and the others have two."
    yield ""
    yield "*Proved* counts the instances whose optimum over all real weights was proved. *Finished* counts those"
    yield "that ended before the limit, whatever that proves. An instance that did not end counts as twice the"
    yield "limit in the geometric mean (PAR-2)."
    yield ""
    yield "| solver | proved | finished | geometric mean, s | times the time of `circuits` where both finish |"
    yield "|---|---:|---:|---:|---:|"
    ours = {key: found.get((*key, "circuits")) for key in instances}
    for name in dict.fromkeys(solver for _, _, solver in found):
        own = {key: found.get((*key, name)) for key in instances}
        if not all(own.values()):
            continue
        done = {key: row for key, row in own.items() if row and row.get("finished")}
        proved = sum(row.get("status") == "optimal" for row in own.values() if row)
        seconds = [done[key]["seconds"] if key in done else 2 * limit for key in instances]
        both = [
            row["seconds"] / mine["seconds"] for key, row in done.items() if (mine := ours[key]) and mine["finished"]
        ]
        ratio = f"{_geometric(both):.3g}" if both and name != "circuits" else ""
        yield f"| `{name}` | {proved} | {len(done)} | {_geometric(seconds):.3g} | {ratio} |"
    better = [
        min(row["seconds"] for row in finished) / mine["seconds"]
        for key, mine in ours.items()
        if mine
        and mine["finished"]
        and (finished := [row for name in BASELINES if (row := found.get((*key, name))) and row.get("finished")])
    ]
    if better:
        yield ""
        yield f"`circuits` and at least one baseline finish on {len(better)} instances. The quicker baseline takes"
        yield f"{_geometric(better):.3g} times the time of `circuits` there, as a geometric mean. The range is from"
        yield f"{min(better):.2g} to {max(better):.3g}."


def _ratios(rows: list[dict[str, Any]]) -> Iterator[str]:
    columns = ("circuits", "circuits:engine=cp-sat", "dichotomies", "weight-box:workers=2")
    here = {(r["table"], r["units"], r["solver"]): r for r in rows if r["limit"] == 60}
    known = [key for key in KNOWN_TABLE if (*key, columns[-1]) in here]
    if not known:
        return
    yield "\n## Against boxed weights, row by row\n"
    yield "The table shows the seconds to the end, within a limit of 60. The number in brackets is the ratio to the"
    yield "seconds of `weight-box`. `weight-box` proves less: it shows that no network whose weights are whole"
    yield "numbers of at most 20 makes fewer errors. Each solver has two workers."
    yield ""
    yield "| table | units | " + " | ".join(f"`{name.partition(':workers')[0]}`" for name in columns) + " |"
    yield "|---|---:|" + "---:|" * len(columns)
    for key in known:
        cells = []
        box = here[(*key, columns[-1])]["seconds"]
        for name in columns:
            row = here.get((*key, name))
            if row is None or "objective" not in row:
                cells.append("")
            elif not row["finished"]:
                cells.append("over 60")
            else:
                share = "" if name == columns[-1] else f" ({row['seconds'] / box:.2g})"
                cells.append(f"{row['seconds']:.2g}{share}")
        yield f"| `{key[0]}` | {key[1]} | " + " | ".join(cells) + " |"


def _adam(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield "\n## Against many restarts of Adam\n"
    yield "The networks have four hidden units and learn a thousand samples. `column-search` is compared with 200"
    yield "surrogate networks that Adam trains together. They start again as long as time lasts. They have ten"
    yield "times as much time."
    yield ""
    yield "| table | solver | seconds | errors |"
    yield "|---|---|---:|---:|"
    for row in rows:
        yield f"| `{row['table']}` | `{row['solver'].partition(':')[0]}` | {row['limit']:g} | {row['objective']:g} |"


def _geometric(values: list[float]) -> float:
    return math.exp(float(np.mean(np.log(np.maximum(values, 1e-3)))))


def main() -> None:
    """Read the command line."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "what", choices=("suite", "known", "open", "verify", "adam", "table", "unsaturated", "gaps", "export")
    )
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--solvers", default=",".join(SOLVERS))
    parser.add_argument("--only", default="")
    parser.add_argument("--engine")
    parser.add_argument("--workers", type=int, default=1, help="processes that solve, one instance each at a time")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("instances"), help="the folder of an export")
    given = parser.parse_args()
    # Tensors here are small: a second thread only waits. The two workers are those of SAT and CP-SAT.
    torch.set_num_threads(1)
    if given.what == "table":
        table(given.seconds or 60.0)
    elif given.what == "verify":
        verify(given.seconds or 3600.0, given.engine, given.only.split(","))
    elif given.what == "gaps":
        unsaturated.page()
    elif given.what == "export":
        unsaturated.export(given.out, given.data_root)
    elif given.what == "unsaturated":
        solvers = given.solvers if given.solvers != parser.get_default("solvers") else "circuits"
        budget, only = given.seconds or 60.0, given.only.split(",")
        unsaturated.run(tuple(solvers.split(",")), budget, only, given.data_root, given.workers)
    elif given.what == "adam":
        adam(given.seconds or 10.0)
    else:
        instances = {"suite": SUITE, "known": KNOWN_TABLE, "open": OPEN}[given.what]
        seconds = given.seconds or (600.0 if given.what == "open" else 60.0)
        run(instances, tuple(given.solvers.split(",")), seconds, given.only.split(","), given.workers)


if __name__ == "__main__":
    main()
