"""Networks with ternary weights, by search and by peers: errors, test accuracy and size.

    OMP_NUM_THREADS=1 python -m benchmarks.whole_numbers --data-root FOLDER --seeds 3 --seconds 3

FOLDER holds tabular/NAME.csv, as in `generalisation`. The tables are those of `whole_numbers_tables`, and the peers
those of `whole_numbers_peers`. All budgets are seconds of the processor, read from the clock of the one thread that
works: that of the process takes milliseconds to read where machines are virtual and busy. The straight-through
network is one that people write themselves, and it is run with each of two settings: for each table and width
`--table` shows the one of the fewest training errors, chosen with hindsight. One row a table, width, method and seed
in results/whole_numbers.jsonl; a run goes on where it was stopped.
"""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of, where
from benchmarks.whole_numbers_peers import PRICE, Found, peers, predicted
from benchmarks.whole_numbers_tables import FURTHER, TUNING, split
from tpsolve import Budget, NetworkProblem, solve

WIDTHS = (2, 4, 8, 16)
OTHERS = ("genetic", "mixed-integer")
SOLVERS = {"integer-search": "integer-search", "search alone": "integer-search:share=0"}
WITH_MARGIN = "integer-search, a margin"
"""Of a quarter of the units; each step that lacks costs `MARGIN_PRICE`. Chosen on tables of `TUNING`."""
MARGIN_PRICE = 0.25
WITH_PRICE = "integer-search, a price"
"""Of each weight other than 0: as much as `PRICE` errors. Of 0.5, 1, 2 and 4 the best on four tables of `TUNING`."""


def searched(
    solver: str,
    X: np.ndarray,
    y: np.ndarray,
    width: int,
    seconds: float,
    seed: int,
    margin: int | None = None,
    penalty: float = 0.0,
) -> Found:
    """What a solver finds."""
    price = None if margin is None else MARGIN_PRICE
    problem = NetworkProblem(
        X, y.tolist(), [width], weight_set="ternary", margin=margin, margin_price=price, penalty=penalty
    )
    generator = torch.Generator().manual_seed(seed)
    with patch("tpsolve.search._base.time", SimpleNamespace(perf_counter=time.thread_time)):
        result = solve(problem, solver, budget=Budget(seconds=seconds), generator=generator)
    return Found(result.stats["weights"], float(problem.errors(problem.columns(result.targets)[-1])))


def methods(width: int) -> Iterator[tuple[str, Any]]:
    """Name and function of inputs, labels, width, seconds and seed."""
    for name, solver in SOLVERS.items():
        yield name, lambda *given, solver=solver: searched(solver, *given)
    yield WITH_MARGIN, lambda *given: searched("integer-search", *given, margin=width // 4)
    yield WITH_PRICE, lambda *given: searched("integer-search", *given, penalty=PRICE)
    yield from peers(width)


def run(
    log: Rows,
    root: Path,
    tables: Sequence[str],
    seeds: int,
    seconds: float,
    widths: Sequence[int],
    only: Sequence[str],
) -> None:
    """Append what is missing of the methods that are named in `only`, or whose names contain a word of it."""
    keys = ("table", "width", "method", "seed", "budget")
    known = {tuple(row[key] for key in keys) for row in log.read()}
    for seed, name, width in itertools.product(range(seeds), tables, widths):
        for method, find in methods(width):
            key = (name, width, method, seed, seconds)
            every = [name for name, _ in methods(width)]
            wanted = any(method == part if part in every else part in method for part in only)
            if key in known or is_elsewhere(key) or not wanted:
                continue
            X, y, new_X, new_y = split(name, seed, root)
            began, processor = time.perf_counter(), time.process_time()
            found = find(X, y, width, seconds, seed)
            row = {
                **dict(zip(keys, key, strict=True)),
                "errors": int((predicted(found.layers, X) != y).sum()),
                "rows": len(y),
                "accuracy": float((predicted(found.layers, new_X) == new_y).mean()),
                "weights": sum(int((weight != 0).sum()) for weight, _ in found.layers),
                "seconds": time.perf_counter() - began,
                "processor_seconds": time.process_time() - processor,
            }
            assert row["errors"] == found.errors
            log.append({**row, **where()})
            print(
                f"{name:14} {width:3} {method:30} {row['errors']:4} errors, {row['accuracy']:.3f} on test", flush=True
            )


def of_cell(rows: list[dict[str, Any]], name: str, width: int) -> dict[str, dict[int, dict[str, Any]]]:
    """The rows of a table and a width, by method and seed."""
    here: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        if (row["table"], row["width"]) == (name, width):
            here.setdefault(row["method"], {})[row["seed"]] = row
    return here


def table(rows: list[dict[str, Any]], tables: Sequence[str]) -> Iterator[str]:
    """Means over the seeds that all methods of a cell have: errors, accuracy on test rows in percent, and weights.

    Cells without `integer-search` or without a straight-through network are left out; others with fewer seeds have a
    star.
    """
    yield f"| table | units | seeds | straight-through, best setting | {' | '.join(OTHERS)} | integer-search |"
    yield "|---|---:|---:|---:|" + "---:|" * (len(OTHERS) + 1)
    ratios, gains, worse = [], [], 0
    for name, width in itertools.product(tables, sorted({row["width"] for row in rows})):
        here = of_cell(rows, name, width)
        peers = [method for method in here if method.startswith("straight")]
        seeds = set.intersection(*(set(here.get(m, {})) for m in ("integer-search", *peers))) if peers else set()
        if not seeds:
            continue

        def mean(method: str, field: str, here: Any = here, seeds: set[int] = seeds) -> float:
            return float(np.mean([here[method][seed][field] for seed in sorted(seeds & set(here[method]))]))

        best = min(peers, key=lambda method: mean(method, "errors"))
        least = min(mean(m, "errors") for m in (best, *(m for m in OTHERS if seeds <= set(here.get(m, {})))))
        worse += mean("integer-search", "errors") > mean(best, "errors")
        if least:
            ratios.append((mean("integer-search", "errors") + 1) / (least + 1))
        gains.append(100 * (mean("integer-search", "accuracy") - mean(best, "accuracy")))
        cells = [
            f"{mean(m, 'errors'):.1f} ({100 * mean(m, 'accuracy'):.1f} %, {mean(m, 'weights'):.0f})"
            + ("" if seeds <= set(here[m]) else " *")
            if seeds & set(here.get(m, {}))
            else "not run"
            for m in (best, *OTHERS, "integer-search")
        ]
        yield f"| {name} | {width} | {len(seeds)} | " + " | ".join(cells) + " |"
    if ratios:
        spread = 1.96 * float(np.std(gains)) / math.sqrt(len(gains))
        yield ""
        yield (
            f"Geometric mean of the ratios of errors + 1 to those of the best peer, over the {len(ratios)} cells in "
            f"which it has errors: {math.exp(float(np.mean(np.log(ratios)))):.2f}. More errors than the "
            f"straight-through network: in {worse} of {len(gains)} cells. Accuracy on test rows, beside that network: "
            f"{np.mean(gains):+.1f} points on average of these cells, give or take {spread:.1f}."
        )


def margins(rows: list[dict[str, Any]], tables: Sequence[str]) -> Iterator[str]:
    """Accuracy on test rows, and training errors, of networks with a margin beside those without, at 8 units or more.

    Means over the seeds that all have; the last lines are paired differences over the cells, with 95% limits.
    """
    yield "| table | units | seeds | straight-through, best setting | integer-search | integer-search, a margin |"
    yield "|---|---:|---:|---:|---:|---:|"
    apart: dict[str, list[float]] = {"the straight-through network": [], "integer-search without a margin": []}
    for name, width in itertools.product(tables, sorted({row["width"] for row in rows if row["width"] >= 8})):
        here = of_cell(rows, name, width)
        peers = [method for method in here if method.startswith("straight")]
        seeds = set.intersection(*(set(here.get(m, {})) for m in ("integer-search", WITH_MARGIN, *peers)))
        if not seeds or not peers:
            continue

        def mean(method: str, field: str, here: Any = here, seeds: set[int] = seeds) -> float:
            return float(np.mean([here[method][seed][field] for seed in sorted(seeds)]))

        best = min(peers, key=lambda method: mean(method, "errors"))
        shown = [best, "integer-search", WITH_MARGIN]
        cells = [f"{100 * mean(m, 'accuracy'):.1f} % ({mean(m, 'errors'):.1f} errors)" for m in shown]
        for key, method in zip(apart, shown, strict=False):
            apart[key].append(100 * (mean(WITH_MARGIN, "accuracy") - mean(method, "accuracy")))
        yield f"| {name} | {width} | {len(seeds)} | " + " | ".join(cells) + " |"
    yield ""
    for key, each in apart.items():
        if len(each) > 1:
            spread = 1.96 * float(np.std(each, ddof=1)) / math.sqrt(len(each))
            yield f"With a margin, beside {key}: {np.mean(each):+.1f} ± {spread:.1f} points in {len(each)} cells."
            yield ""


def sizes(rows: list[dict[str, Any]], tables: Sequence[str]) -> Iterator[str]:
    """Weights other than 0, and accuracy on test rows, of networks whose weights have a price, beside peers.

    Means over the seeds that all have. The peers are the straight-through network of the fewest errors, and that with a
    price whose errors and priced weights are fewest together.
    """
    heads = ("straight-through, best setting", "straight-through, a price", WITH_PRICE)
    yield f"| table | units | seeds | {' | '.join(heads)} |"
    yield "|---|---:|---:|---:|---:|---:|"
    ratios: dict[str, list[float]] = {"network without a price": [], "network with a price": []}
    gains: dict[str, list[float]] = {name: [] for name in ratios}
    costs: list[float] = []
    for name, width in itertools.product(tables, sorted({row["width"] for row in rows})):
        here = of_cell(rows, name, width)
        peers = [method for method in here if method.startswith("straight")]
        seeds = set.intersection(*(set(here.get(m, {})) for m in (WITH_PRICE, *peers)))
        if not seeds or not peers:
            continue

        def mean(method: str, field: str, here: Any = here, seeds: set[int] = seeds) -> float:
            return float(np.mean([here[method][seed][field] for seed in sorted(seeds)]))

        def cost(method: str, mean: Any = mean) -> float:
            return mean(method, "errors") + PRICE * mean(method, "weights")

        priced = [m for m in here if m.startswith("priced") and seeds <= set(here[m])]
        chosen = {"network without a price": min(peers, key=lambda method: mean(method, "errors"))}
        if priced:
            chosen["network with a price"] = min(priced, key=cost)
            costs.append((cost(WITH_PRICE) + 1) / (cost(chosen["network with a price"]) + 1))
        cells = {
            m: f"{mean(m, 'weights'):.0f} ({100 * mean(m, 'accuracy'):.1f} %, {mean(m, 'errors'):.1f} errors)"
            for m in (*chosen.values(), WITH_PRICE)
        }
        for key, method in chosen.items():
            ratios[key].append((mean(WITH_PRICE, "weights") + 1) / (mean(method, "weights") + 1))
            gains[key].append(100 * (mean(WITH_PRICE, "accuracy") - mean(method, "accuracy")))
        shown = [cells[chosen[key]] if key in chosen else "not run" for key in ratios]
        yield f"| {name} | {width} | {len(seeds)} | " + " | ".join([*shown, cells[WITH_PRICE]]) + " |"
    yield ""
    for key, each in gains.items():
        if len(each) > 1:
            spread = 1.96 * float(np.std(each, ddof=1)) / math.sqrt(len(each))
            yield (
                f"Beside the straight-through {key}: geometric mean of the ratios of weights + 1 over the {len(each)} "
                f"cells {math.exp(float(np.mean(np.log(ratios[key])))):.2f}. Accuracy on test rows: "
                f"{np.mean(each):+.1f} points on average, give or take {spread:.1f}; no lower in "
                f"{sum(gain >= 0 for gain in each)} of these cells."
            )
            yield ""
    if costs:
        yield (
            f"Errors and priced weights together, which both lower: {math.exp(float(np.mean(np.log(costs)))):.2f} of "
            f"the peer's, as a geometric mean over the {len(costs)} cells."
        )


def main() -> None:
    """Run what is missing, or print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--data-root", type=Path, help="needed but for --table")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--only", nargs="+", default=[""], help="methods, or words that their names contain")
    parser.add_argument("--tables", nargs="+", default=(*TUNING, *FURTHER))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    log = Rows(RESULTS / "whole_numbers.jsonl")
    if options.table:
        print("\n".join(table([row for row in log.read() if row["budget"] == options.seconds], options.tables)))
    elif options.data_root is None:
        parser.error("--data-root is needed: the folder that holds tabular/")
    else:
        run(log, options.data_root, options.tables, options.seeds, options.seconds, options.widths, options.only)


if __name__ == "__main__":
    main()
