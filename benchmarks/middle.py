"""The open middle: training errors against hidden units, from 4 to 128, of searches and surrogate gradients.

`python -m benchmarks.middle` runs what has no row yet and saves; scikit-learn's digits, even against odd.
"""

import json

import torch

from benchmarks.narrow import KEPT, RUNS
from benchmarks.record import RESULTS
from tpsolve.compare import SUITES, Comparison, run_comparison
from tpsolve.compare.suites._digits_suites import load_digits
from tpsolve.problems import Instance, NetworkProblem

WIDTHS = (4, 8, 16, 32, 64, 128)
SECONDS = 5.0
SEEDS = (0, 1)
POINTS = 600
SOLVERS = (
    "surrogate:restarts=4,width=0.3,steps=1000",
    "surrogate:restarts=4,width=1.0,steps=1000",
    "surrogate:restarts=4,width=1.0,rule=saturated-hinge,steps=1000",
    "line-search",
    "column-search",
    "ftprop",
)


def middle(samples: int, seed: int) -> list[Instance[NetworkProblem]]:
    """The first scans with their own labels, and with labels by coin flips, for every width."""
    inputs, digits = load_digits()
    inputs = inputs[:POINTS].double()
    flips = torch.randint(2, (POINTS,), generator=torch.Generator().manual_seed(0))
    tables = {"even or odd": digits[:POINTS] % 2, "coin flips": flips}
    return [
        Instance(f"{name}/{width}", NetworkProblem(inputs, labels, widths=(width,)))
        for name, labels in tables.items()
        for width in WIDTHS
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    SUITES["middle"] = middle
    comparison = Comparison(RUNS / "middle", "middle", SOLVERS, samples=1, seconds=SECONDS, seeds=SEEDS)
    rows = run_comparison(comparison, progress=lambda done, total, now: print(f"{done}/{total} {now}", flush=True))
    lines = [json.dumps({key: row[key] for key in KEPT if key in row}) for row in rows]
    (RESULTS / "middle.jsonl").write_text("\n".join(lines) + "\n")
