"""Which exact solver proves a layer problem soonest, by loss and size; `Auto` with `proof` reads the table made of it.

`python -m benchmarks.exact_layers` adds the rows that `results/exact_layers.jsonl` lacks, and writes the table by the
rule that stands in `RULE`.
"""

import json
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of, where
from tpsolve import Budget, LayerProblem, solve
from tpsolve._storage._write_whole import write_whole
from tpsolve.losses import LOSSES, ClassLoss
from tpsolve.search import find_solver

TABLE = Path(__file__).parent.parent / "tpsolve" / "search" / "combined" / "proof.json"
SOLVERS = ("enumerate", "branch", "cp-sat", "milp")
SHAPES = ((8, 8), (12, 12), (16, 16), (20, 20), (24, 24), (32, 32), (32, 8), (64, 16))
"""Targets and units above."""
SECONDS = 4.0
RULE = (
    "For each loss and size, the table names the solver that proved most of the problems; of several, the one that "
    "took the fewest seconds, and where none proved any, the one of the smallest mean gap. It names the best of those "
    "other than enumerate likewise. The problems have normal weights scaled by 1 / sqrt(n), one sample, coin-flip "
    "targets, and unit weights that are all 1 or drawn from an exponential distribution; each solver has {seconds:g} s."
)


def make(loss: str, n: int, m: int, weighted: bool) -> LayerProblem:
    """One problem; equal arguments give equal problems."""
    g = torch.Generator().manual_seed(1000 * n + m)
    weight = torch.randn(m, n, generator=g) / n**0.5
    by_class = isinstance(LOSSES[loss], ClassLoss)
    targets: Any = int(torch.randint(m, (1,), generator=g)) if by_class else 2 * torch.randint(2, (m,), generator=g) - 1
    drawn = -torch.rand(() if by_class else (m,), generator=g).log()
    start = 2.0 * torch.randint(2, (n,), generator=g) - 1
    return LayerProblem(weight, targets, loss=loss, unit_weight=drawn if weighted else None, start=start)


def measure() -> list[dict[str, Any]]:
    """All rows, those that are missing measured now."""
    log = Rows(RESULTS / "exact_layers.jsonl")
    rows = {(row["loss"], row["n"], row["m"], row["weighted"], row["solver"]): row for row in log.read()}
    for name in SOLVERS:
        # Loads its library.
        solve(make("hinge", 4, 4, weighted=True), name, budget=Budget(seconds=1))
    for n, m in SHAPES:
        for loss in LOSSES:
            for weighted in (False, True):
                problem = make(loss, n, m, weighted)
                for name in SOLVERS:
                    key = (loss, n, m, weighted, name)
                    if key in rows or is_elsewhere(key) or (name == "enumerate" and n > 24):
                        continue
                    find_solver(name).check(problem)
                    began = time.perf_counter()
                    result = solve(problem, name, budget=Budget(seconds=SECONDS))
                    row = {"loss": loss, "n": n, "m": m, "weighted": weighted, "solver": name}
                    found = {"objective": result.objective.item(), "bound": result.bound.item()}
                    proved, seconds = bool(result.optimal), time.perf_counter() - began
                    row |= {**found, "proved": proved, "seconds": seconds, "budget": SECONDS, **where()}
                    log.append(row)
                    rows[key] = row
                    print(*key, f"{seconds:.2f} s, {'proved' if proved else found}", flush=True)
    return list(rows.values())


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries that the rule makes of the rows."""
    groups: dict[Any, Any] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["loss"], row["n"], row["m"]][row["solver"]].append(row)
    entries = []
    for (loss, n, m), solvers in sorted(groups.items()):

        def rank(name: str, solvers: Any = solvers) -> tuple[int, float]:
            own = solvers[name]
            proved = sum(row["proved"] for row in own)
            gap = mean(row["objective"] - row["bound"] for row in own)
            return -proved, mean(row["seconds"] for row in own) if proved else gap

        best, other = min(solvers, key=rank), min(set(solvers) - {"enumerate"}, key=rank)
        own = solvers[best]
        entry = {"loss": loss, "n": n, "m": m, "solver": best, "seconds": mean(row["seconds"] for row in own)}
        entries.append({**entry, "proved": sum(row["proved"] for row in own), "of": len(own), "other": other})
    return entries


def main() -> None:
    """Measure, and write the table."""
    rows = measure()
    source = {"measured": RULE.format(seconds=SECONDS), "solves": len(rows), **where()}
    text = json.dumps({**source, "rows": table(rows)}, indent=1)
    write_whole(TABLE, lambda stream: stream.write(text.encode() + b"\n"))


if __name__ == "__main__":
    parser_of(__doc__).parse_args()
    main()
