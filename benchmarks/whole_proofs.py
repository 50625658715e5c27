"""Proofs of optima with ternary weights: all columns against CP-SAT, on pairs of a table and a number of units.

    OMP_NUM_THREADS=1 python -m benchmarks.whole_proofs --data-root FOLDER --seconds 60

FOLDER holds tabular/NAME.csv, and anchors/breastcancer.csv. `PAIRS` were named before any was solved: ten tables of at
least 100 samples. Columns are whole numbers: grades are numbered in their order, votes and squares are -1, 0 or +1.
Each solver has so many seconds of the processor, on one core. What is proved is checked by `verify_proof`, in as many
seconds again by the clock. One row a pair and solver in results/whole_proofs.jsonl; a run goes on where it was stopped.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of, where
from tpsolve import Budget, NetworkProblem, solve
from tpsolve.search import make_proof, verify_proof

PAIRS = (
    *(("haberman", 1), ("haberman", 2), ("haberman", 3), ("balance", 1), ("balance", 2), ("tictactoe", 1)),
    *((name, units) for name in ("monks1", "monks2", "monks3", "car", "votes", "heart", "cancer") for units in (1, 2)),
)
SOLVERS = {"all-columns": "all-columns", "weight-box": "weight-box:workers=1,search_seconds=3"}
GRADES = {
    "car": (
        {"low": 0, "med": 1, "high": 2, "vhigh": 3},
        {"2": 2, "3": 3, "4": 4, "5more": 5, "more": 5},
        {"small": 0, "big": 2},
    ),
    "votes": ({"n": -1, "?": 0, "y": 1},),
    "tictactoe": ({"o": -1, "b": 0, "x": 1},),
}
SECOND = {"balance": "L", "car": "unacc"}
"""The class that is told from the others, where there are more than two."""
COLUMNS = {"votes": 8}
HEART = ["sex:n", "cp:c", "fbs:n", "restecg:c", "exang:n", "slope:c", "ca:n", "thal:c"]


def problem(root: Path, name: str, units: int) -> NetworkProblem:
    """The problem of a pair."""
    if name == "cancer":
        table = pd.read_csv(root / "anchors" / "breastcancer.csv")
        X, y = table.drop(columns="Benign"), table["Benign"]
    else:
        table = pd.read_csv(root / "tabular" / f"{name}.csv", dtype=str)
        X, y = table.drop(columns=[c for c in ("target", "split") if c in table]), table["target"]
        y = y == SECOND[name] if name in SECOND else y
    X = X[HEART] if name == "heart" else X.iloc[:, : COLUMNS.get(name, X.shape[1])]
    grades = {word: number for one in GRADES.get(name, ()) for word, number in one.items()}
    whole = X.map(lambda value: grades.get(value, value)).to_numpy(float)
    return NetworkProblem(whole, np.asarray(y).astype(str).tolist(), [units], weight_set="ternary")


def run(log: Rows, root: Path, seconds: float, widths: Sequence[int], only: str) -> None:
    """Append what is missing of the pairs with so many units, and of the solvers whose names contain `only`."""
    known = {(row["table"], row["units"], row["solver"], row["budget"]) for row in log.read()}
    for name, units in PAIRS:
        for solver, text in SOLVERS.items():
            key = (name, units, solver, seconds)
            if key in known or is_elsewhere(key) or units not in widths or only not in solver:
                continue
            posed, began = problem(root, name, units), time.process_time()
            with patch("tpsolve.search._base.time", SimpleNamespace(perf_counter=time.process_time)):
                result = solve(posed, text, budget=Budget(seconds=seconds), generator=torch.Generator().manual_seed(0))
            spent, objective, bound = time.process_time() - began, result.objective.item(), result.bound.item()
            checked = None
            if bound == objective:
                labels = [posed.classes[k] for k in posed.index.tolist()]
                proof = make_proof(posed, result)
                checked = verify_proof(proof, posed.samples.numpy(), labels, seconds=4 * seconds)[-1].holds
            row = {
                "table": name,
                "units": units,
                "solver": solver,
                "budget": seconds,
                "samples": len(posed.samples),
                "points": len(posed.inputs),
                "features": posed.samples.shape[1],
                "errors": objective,
                "bound": bound,
                "processor_seconds": spent,
                "checked": checked,
            }
            log.append({**row, **where()})
            print(f"{name:10} {units} {solver:12} {objective:4g} {bound:4g} {spent:6.1f} s {checked}", flush=True)


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Seconds to a proof and whether its check agreed, or errors and bound."""
    yield "| table | samples | columns | units | errors | " + " | ".join(SOLVERS) + " |"
    yield "|---|---:|---:|---:|---:|" + "---:|" * len(SOLVERS)
    for name, units in PAIRS:
        here = {row["solver"]: row for row in rows if (row["table"], row["units"]) == (name, units)}
        if not here:
            continue
        cells = []
        for solver in SOLVERS:
            row = here.get(solver)
            if row is None:
                cells.append("not run")
            elif row["bound"] == row["errors"]:
                check = {True: "checked", False: "REFUTED", None: "not checked"}[row["checked"]]
                cells.append(f"{row['processor_seconds']:.1f} s, {check}")
            else:
                cells.append(f"{row['errors']:g}, at least {row['bound']:g}")
        one = next(iter(here.values()))
        least = min(row["errors"] for row in here.values())
        yield f"| {name} | {one['samples']} | {one['features']} | {units} | {least:g} | " + " | ".join(cells) + " |"


def main() -> None:
    """Run what is missing, or print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--data-root", type=Path, help="needed but for --table")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--units", type=int, nargs="+", default=(1, 2, 3))
    parser.add_argument("--only", default="", help="solvers whose names contain this")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    log = Rows(RESULTS / "whole_proofs.jsonl")
    if options.table:
        print("\n".join(table([row for row in log.read() if row["budget"] == options.seconds])))
    elif options.data_root is None:
        parser.error("--data-root is needed: the folder that holds tabular/")
    else:
        run(log, options.data_root, options.seconds, options.units, options.only)


if __name__ == "__main__":
    main()
