"""Networks with ternary weights, by search and by a straight-through gradient: errors, test accuracy and size.

    TPSOLVE_DATA=FOLDER OMP_NUM_THREADS=1 python -m benchmarks.whole_numbers --seeds 3 --seconds 3

FOLDER holds tabular/NAME.csv, as in `generalisation`. Columns become -1 and +1, by cuts at quantiles of the training
rows; pixels of digits by one cut. Of each table 60 % are training rows, drawn anew for each seed. All budgets are
seconds of the processor. The straight-through network is one that people write themselves, and it is run with each of
`SETTINGS`: for each table and width `--table` shows the setting of the fewest training errors, chosen with hindsight.
One row a table, width, method and seed in results/whole_numbers.jsonl; a run goes on where it was stopped.
"""

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.generalisation import load
from benchmarks.generalisation_peers import Cuts
from benchmarks.record import RESULTS, where
from tpsolve import Budget, NetworkProblem, solve
from tpsolve._storage._row_log import RowLog

TABLES = ("breast_cancer", "digits", "tictactoe", "heart")
WIDTHS = (2, 4, 8, 16)
SOLVERS = {"integer-search": "integer-search", "search alone": "integer-search:share=0"}
SETTINGS = tuple(itertools.product((0.7, None), (0.1,), (300, 1500)))
"""Of the straight-through network: the threshold of `ternary`, the rate of Adam, and steps of one training.

Rates from 0.01 to 0.3 were tried on digits and heart; 0.1 was the best."""
RESTARTS, WIDTH = 8, 0.5
"""Networks side by side, and the width of the region in which hidden units learn, in typical sums."""


def split(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs in {-1, +1} and labels 0 and 1 of the training rows, then those of the test rows."""
    X, y = load(name)
    y = y % 2 if name == "digits" else np.unique(y, return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[: 6 * len(y) // 10], order[6 * len(y) // 10 :]
    bits = X > 7 if name == "digits" else Cuts().fit(X[train]).transform(X)
    return 2.0 * bits[train] - 1, y[train], 2.0 * bits[test] - 1, y[test]


@dataclass
class Found:
    """A network, of weights and biases of each layer, and its training errors."""

    layers: list[tuple[Tensor, Tensor]]
    errors: float


def searched(solver: str, X: np.ndarray, y: np.ndarray, width: int, seconds: float, seed: int) -> Found:
    """What a solver finds."""
    problem = NetworkProblem(X, y.tolist(), [width], weight_set="ternary")
    generator = torch.Generator().manual_seed(seed)
    with patch("tpsolve.search._base.time", SimpleNamespace(perf_counter=time.process_time)):
        result = solve(problem, solver, budget=Budget(seconds=seconds), generator=generator)
    return Found(result.stats["weights"], float(result.objective))


def ternary(weight: Tensor, threshold: float | None) -> Tensor:
    """-1, 0, +1 by a threshold in mean sizes (0.7: Li, Zhang and Liu 2016), passed straight through; None: a third."""
    size = 1 / 3 if threshold is None else threshold * weight.detach().abs().mean((-2, -1), keepdim=True)
    rounded = torch.where(weight.detach().abs() > size, weight.detach().sign(), torch.zeros_like(weight))
    return rounded + (weight - weight.detach())


def trained(
    setting: tuple[float | None, float, int], X: np.ndarray, y: np.ndarray, width: int, seconds: float, seed: int
) -> Found:
    """The best of networks trained by Adam, `RESTARTS` side by side, and then anew until the time is over."""
    threshold, rate, steps = setting
    ends, generator = time.process_time() + seconds, torch.Generator().manual_seed(seed)
    inputs, wanted = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(2.0 * y - 1, dtype=torch.float32)
    best = Found([], math.inf)
    while time.process_time() < ends and best.errors > 0:
        shapes = ((width, X.shape[1]), (1, width))
        sizes = (float((inputs - inputs.mean(0)).square().sum(1).mean().sqrt()), math.sqrt(width))
        weights = [2 * torch.rand(RESTARTS, *shape, generator=generator) - 1 for shape in shapes]
        # In units of a typical sum.
        biases = [torch.rand(RESTARTS, shape[0], generator=generator) - 0.5 for shape in shapes]
        biases[0] -= (ternary(weights[0], threshold) @ inputs.mean(0)) / sizes[0]
        adam = torch.optim.Adam([p.requires_grad_() for p in (*weights, *biases)], rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        for _ in range(steps):
            layers, h, z = [], inputs, inputs
            for weight, bias, size in zip(weights, biases, sizes, strict=True):
                rounded = ternary(weight, threshold)
                shift = bias + ((bias * size).round() / size - bias).detach()
                layers.append((rounded, shift * size))
                z = torch.matmul(h, rounded.mT) / size + shift[:, None]
                soft = WIDTH * torch.tanh(z / WIDTH)
                h = torch.where(z >= 0, 1.0, -1.0) + (soft - soft.detach())
            errors, row = (h[..., 0].detach().sign() != wanted).sum(1).min(0)
            if float(errors) < best.errors:
                kept = [(w[row].detach().round().double(), b[row].detach().round().double()) for w, b in layers]
                best = Found(kept, float((predicted(kept, X) != y).sum()))
            if time.process_time() >= ends or best.errors == 0:
                break
            adam.zero_grad()
            torch.nn.functional.softplus(-3 * z[..., 0] * wanted).mean(1).sum().backward()
            adam.step()
            schedule.step()
            with torch.no_grad():
                for weight in weights:
                    weight.clamp_(-1, 1)
    return best


def predicted(layers: list[tuple[Tensor, Tensor]], X: np.ndarray) -> np.ndarray:
    """Classes 0 and 1, in whole numbers of numpy."""
    h = X.astype(np.int64)
    for weight, bias in layers:
        z = h @ weight.numpy().astype(np.int64).T + bias.numpy().astype(np.int64)
        h = np.where(z >= 0, 1, -1)
    return (h[:, 0] > 0).astype(np.int64)


def methods() -> Iterator[tuple[str, Any]]:
    """Name and function of inputs, labels, width, seconds and seed."""
    for name, solver in SOLVERS.items():
        yield name, lambda *given, solver=solver: searched(solver, *given)
    for setting in SETTINGS:
        yield f"straight-through {setting}", lambda *given, setting=setting: trained(setting, *given)


def run(log: RowLog, seeds: int, seconds: float, widths: tuple[int, ...], only: str) -> None:
    """Append what is missing of the methods whose names contain `only`."""
    keys = ("table", "width", "method", "seed", "budget")
    known = {tuple(row[key] for key in keys) for row in log.read()}
    for seed, name, width in itertools.product(range(seeds), TABLES, widths):
        for method, find in methods():
            key = (name, width, method, seed, seconds)
            if key in known or only not in method:
                continue
            X, y, new_X, new_y = split(name, seed)
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


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Means over seeds: training errors, accuracy on test rows in percent, and weights that are not 0."""
    yield "| table | units | straight-through, best setting | search alone | integer-search |"
    yield "|---|---:|---:|---:|---:|"
    ratios = []
    for name, width in itertools.product(TABLES, sorted({row["width"] for row in rows})):
        here: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if (row["table"], row["width"]) == (name, width):
                here.setdefault(row["method"], []).append(row)
        if not here:
            continue

        def mean(method: str, field: str, here: dict[str, list[dict[str, Any]]] = here) -> float:
            return float(np.mean([row[field] for row in here[method]]))

        peers = [method for method in here if method.startswith("straight")]
        best = min(peers, key=lambda method: mean(method, "errors"))
        if mean(best, "errors"):
            ratios.append((mean("integer-search", "errors") + 1) / (mean(best, "errors") + 1))
        cells = [
            f"{mean(m, 'errors'):.1f} ({100 * mean(m, 'accuracy'):.1f} %, {mean(m, 'weights'):.0f})"
            for m in (best, "search alone", "integer-search")
        ]
        yield f"| {name} | {width} | " + " | ".join(cells) + " |"
    if ratios:
        yield ""
        yield f"Geometric mean of the ratios of errors + 1: {math.exp(float(np.mean(np.log(ratios)))):.2f}"


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--only", default="", help="methods whose names contain this")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    log = RowLog(RESULTS / "whole_numbers.jsonl")
    if options.table:
        print("\n".join(table([row for row in log.read() if row["budget"] == options.seconds])))
    else:
        run(log, options.seeds, options.seconds, tuple(options.widths), options.only)


if __name__ == "__main__":
    main()
