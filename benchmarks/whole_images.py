"""Ternary networks for all 60,000 pictures of MNIST and Fashion-MNIST: where the search still pays.

    OMP_NUM_THREADS=1 python -m benchmarks.whole_images --data-root FOLDER --seconds 60

Pixels above 127 are +1, others -1. Both methods are `integer-search` with moves on some of the points. `trained` spends
19 of 20 parts of its time on the straight-through gradient, and `searched` half of it. So what moves add is told apart
from what time adds. A picture is named where its own output unit alone is +1, and, as most people do it, by the largest
sum. All budgets are seconds of the processor. One row a data set, width, method and seed in results/whole_images.jsonl;
a run goes on where it was stopped.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of, where
from tpsolve import Budget, NetworkProblem, solve
from tpsolve.train.data import load_fashion_mnist, load_mnist

DATA = {"Fashion-MNIST": load_fashion_mnist, "MNIST": load_mnist}
WIDTHS = (16, 64, 256)
METHODS = {"trained": 0.95, "searched": 0.5}
"""Share of the time for the gradient."""
BRIGHT = 127
KEYS = ("data", "width", "method", "seed", "budget")


def run(log: Rows, root: Path, widths: Sequence[int], seeds: int, seconds: float) -> None:
    """Append what is missing."""
    known = {tuple(row[key] for key in KEYS) for row in log.read()}
    for seed, name, width in itertools.product(range(seeds), DATA, widths):
        keys = [(name, width, method, seed, seconds) for method in METHODS]
        keys = [key for key in keys if key not in known and not is_elsewhere(key)]
        if not keys:
            continue
        data = DATA[name](root)
        X, new_X = (2.0 * (x.flatten(1) > BRIGHT).double() - 1 for x in (data.inputs, data.test_inputs))
        problem = NetworkProblem(X, data.labels.tolist(), [width], weight_set="ternary")
        for key in keys:
            solver, began = f"integer-search:share={METHODS[key[2]]}", time.process_time()
            generator = torch.Generator().manual_seed(seed)
            with patch("tpsolve.search._base.time", SimpleNamespace(perf_counter=time.thread_time)):
                result = solve(problem, solver, budget=Budget(seconds=seconds), generator=generator)
            (first, bias), (second, last) = result.stats["weights"]
            sums = torch.where(new_X @ first.T + bias >= 0, 1.0, -1.0).double() @ second.T + last
            own = sums.gather(1, data.test_labels[:, None])[:, 0]
            named = (own >= 0) & ((sums >= 0).sum(1) == 1)
            row = {
                **dict(zip(KEYS, key, strict=True)),
                "errors": float(result.objective),
                "accuracy": float(named.double().mean()),
                "accuracy_of_largest": float((sums.argmax(1) == data.test_labels).double().mean()),
                "weights": problem.nonzero(result.stats["weights"]),
                **result.stats["changes"],
                "processor_seconds": time.process_time() - began,
            }
            log.append({**row, **where()})
            print(*row.values(), flush=True)


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Means over the seeds that both methods have."""
    yield "| data | hidden units | seconds | seeds | training alone | moves in half of the time | changes tried, made |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, width, seconds in sorted({(row["data"], row["width"], row["budget"]) for row in rows}):
        here = {
            method: {
                r["seed"]: r
                for r in rows
                if (r["data"], r["width"], r["budget"], r["method"]) == (name, width, seconds, method)
            }
            for method in METHODS
        }
        seeds = sorted(set.intersection(*(set(own) for own in here.values())))
        if not seeds:
            continue

        def mean(method: str, field: str, here: Any = here, seeds: list[int] = seeds) -> float:
            return float(np.mean([here[method][seed][field] for seed in seeds]))

        cells = [
            f"{mean(m, 'errors'):.0f} ({100 * mean(m, 'accuracy'):.1f} %, {100 * mean(m, 'accuracy_of_largest'):.1f} %)"
            for m in METHODS
        ]
        changes = f"{mean('searched', 'tried'):.0f}, {mean('searched', 'made'):.0f}"
        yield f"| {name} | {width} | {seconds:g} | {len(seeds)} | {' | '.join(cells)} | {changes} |"


def main() -> None:
    """Run what is missing, or print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--data-root", type=Path, help="needed but for --table")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    log = Rows(RESULTS / "whole_images.jsonl")
    if options.table:
        print("\n".join(table(log.read())))
    elif options.data_root is None:
        parser.error("--data-root is needed: the folder of the pictures")
    else:
        run(log, options.data_root, options.widths, options.seeds, options.seconds)


if __name__ == "__main__":
    main()
