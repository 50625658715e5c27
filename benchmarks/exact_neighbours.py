"""Errors of optimal trees on the tables of docs/gaps.md, beside those of small networks.

`python -m benchmarks.exact_neighbours --data-root DIR`: ConTree (Brita, van der Linden and Demirovic, AAAI 2025) finds
the tree of axis-parallel tests with the fewest training errors, at depths 2 and 3. It is installed by hand:
`pip install --no-deps pycontree pandas`. Rows are appended to benchmarks/results/exact_neighbours.jsonl; what is there
is not run again. `python -m benchmarks.exact_scaling gaps` shows them.
"""

import time
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import unsaturated
from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of, where

DEPTHS = (2, 3)
"""Of trees with up to 3 and 7 tests."""


def measure(inputs: np.ndarray, labels: np.ndarray, depth: int, seconds: float) -> dict[str, Any]:
    """Errors of the tree, counted from its predictions; a tree that takes as long as it may need not be optimal."""
    frames, library = import_module("pandas"), import_module("pycontree")
    table, began = frames.DataFrame(inputs), time.perf_counter()
    tree = library.ConTree(max_depth=depth, time_limit=seconds)
    tree.fit(table, frames.Series(labels))
    spent = time.perf_counter() - began
    errors = int((np.asarray(tree.predict(table)).ravel() != labels).sum())
    return {"errors": errors, "seconds": spent, "optimal": spent < seconds}


def main() -> None:
    """Measure what is missing."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--data-root", type=Path)
    given = parser.parse_args()
    log = Rows(RESULTS / "exact_neighbours.jsonl")
    done = {(row["table"], row["depth"], row["limit"]) for row in log.read()}
    for name in dict.fromkeys(name for name, _ in unsaturated.SUITE):
        data = unsaturated.table(name, given.data_root)
        for depth in DEPTHS:
            if data is None or (name, depth, given.seconds) in done or is_elsewhere((name, depth)):
                continue
            row = {"table": name, "depth": depth, "limit": given.seconds, **measure(*data, depth, given.seconds)}
            log.append({**row, "pycontree": metadata.version("pycontree"), **where()})
            print(row, flush=True)


if __name__ == "__main__":
    main()
