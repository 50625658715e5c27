"""Is the default of `tpsolve exact` good where rows are many? Errors of two hidden units on tables of 20,000 rows.

    python -m benchmarks.large_tables

Each table is solved by `circuits`, the default, and by `column-search`, which proves nothing, in `SECONDS` of the
processor each. One row a table and solver in results/large_tables.jsonl, from which docs/large_tables.py writes a
sentence; a run goes on where it was stopped.
"""

import time
from types import SimpleNamespace
from unittest import mock

import numpy as np

from benchmarks.record import RESULTS, where
from tpsolve import Budget, NetworkProblem, solve
from tpsolve._storage._row_log import RowLog
from tpsolve.search import _base

ROWS, SECONDS = 20_000, 10.0
SOLVERS = ("circuits", "column-search")


def xor(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The exclusive or of two signs, beside four numbers that say nothing; 35 % of the labels are drawn at random."""
    X = generator.normal(size=(ROWS, 6)).round(3)
    y = (X[:, 0] > 0) ^ (X[:, 1] > 0)
    return X, np.where(generator.uniform(size=ROWS) < 0.35, generator.integers(0, 2, ROWS) > 0, y)


def slopes(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels between two parallel hyperplanes of ten whole numbers, with noise."""
    X = generator.integers(0, 50, size=(ROWS, 10)).astype(float)
    z = X @ generator.normal(size=10)
    y = np.abs(z - np.median(z)) < np.quantile(np.abs(z - np.median(z)), 0.5)
    return X, y ^ (generator.uniform(size=ROWS) < 0.2)


TABLES = {"exclusive or": xor, "between two hyperplanes": slopes}


def main() -> None:
    """Make what rows are missing."""
    log = RowLog(RESULTS / "large_tables.jsonl", ("table", "solver"))
    done = {(row["table"], row["solver"]) for row in log.read()}
    for table, make in TABLES.items():
        problem = NetworkProblem(*make(np.random.default_rng(0)), widths=[2])
        for solver in SOLVERS:
            if (table, solver) in done:
                continue
            with mock.patch.object(_base, "time", SimpleNamespace(perf_counter=time.process_time)):
                result = solve(problem, solver, budget=Budget(seconds=SECONDS))
            row = {"table": table, "solver": solver, "rows": ROWS, "features": problem.samples.shape[1]}
            trivial = ROWS - problem.counts.sum(0).max().item()
            row |= {"errors": result.objective.item(), "bound": result.bound.item(), "trivial": trivial}
            log.append({**row, "processor_seconds": SECONDS, **where()})
            print(row)


if __name__ == "__main__":
    main()
