"""Narrow networks: training errors of searches and of tuned surrogate gradients, all under one budget of seconds.

    python -m benchmarks.narrow prove   # the optima, by the exact solvers
    python -m benchmarks.narrow tune    # every setting of the surrogate, one seed of its own
    python -m benchmarks.narrow run     # the best setting of each rule and the searches, seeds 0 to 4
    python -m benchmarks.narrow check   # line search and the best soft hinge again, seeds 5 to 9
    python -m benchmarks.narrow save    # their rows into benchmarks/results, from which docs/does_search_help.py draws

Each goes on where it was stopped. `--half 0` and `--half 1` share the instances between two processes.
"""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.narrow_instances import narrow
from benchmarks.paired import excess_of, shifted_mean
from benchmarks.record import RESULTS
from tpsolve.compare import SUITES, Comparison, run_comparison

RUNS = Path("runs")
SECONDS = 2.0
SEEDS = (0, 1, 2, 3, 4)
FRESH_SEEDS = (5, 6, 7, 8, 9)
TUNING_SEED = 100
PROOF_SECONDS = 20.0
RULES = ("saturated-hinge", "soft-hinge")
WIDTHS = (0.3, 1.0, 3.0)
SHAPES = ("restarts=200,rate=0.05,steps=300", "restarts=30,rate=0.02,steps=1000")
"""Many short trainings, or fewer long ones."""
GRID = tuple(f"surrogate:rule={r},width={w},{s}" for r, w, s in itertools.product(RULES, WIDTHS, SHAPES))
PROVERS = ("dichotomies", "circuits")
"""Those whose bounds hold for all real weights."""
SEARCHES = (
    "line-search",
    "line-search:first=ftprop",
    "column-search",
    "ftprop",
    "ftprop:proposals=enumerate",
    "ftprop:max_moving=8,max_tries=1",
)
KEPT = (
    "instance",
    "solver",
    "seed",
    "exact",
    "network",
    "points",
    "n_vars",
    "budget",
    "fingerprint",
    "device",
    "versions",
    "time",
    "start",
    "objective",
    "bound",
    "seconds",
    "steps",
    "found_at",
    "trace",
    "error",
)
"""Columns of the saved rows."""


def comparison(phase: str, half: str, solvers: tuple[str, ...], seconds: float, seeds: tuple[int, ...]) -> Comparison:
    """A comparison on all instances or on every second one."""
    first, step = (0, 1) if half == "all" else (int(half), 2)
    SUITES[f"narrow-{half}"] = lambda samples, seed: narrow()[first::step]
    folder = RUNS / f"narrow-{phase}-{half}"
    return Comparison(folder, f"narrow-{half}", solvers, samples=1, seconds=seconds, seeds=seeds)


def best_settings() -> list[str]:
    """Of each rule the setting with the least shifted geometric mean of errors above the best known, when tuned."""
    rows = rows_of("tune")
    excess = excess_of([*rows, *rows_of("prove")])

    def level(setting: str) -> float:
        values = [excess[row["instance"], setting, TUNING_SEED] for row in rows if row["solver"] == setting]
        return shifted_mean(values) if values else float("inf")

    if not rows:
        sys.exit("No rows of the tuning: run `python -m benchmarks.narrow tune` first.")
    names = {row["solver"] for row in rows}
    return [
        min((name for name in names if f"rule={rule}" in name or _default(name, rule)), key=level) for rule in RULES
    ]


def _default(name: str, rule: str) -> bool:
    # `solver_text` leaves the default rule out.
    return rule == "soft-hinge" and "rule=" not in name


def rows_of(phase: str) -> list[dict[str, Any]]:
    """Finished rows of a phase, whether it ran whole or in halves."""
    found = []
    for half in ("all", "0", "1"):
        path = RUNS / f"narrow-{phase}-{half}"
        if (path / "rows.jsonl").exists():
            found += Comparison(path, "digits").log.read()
    return list({(row["instance"], row["solver"], row["seed"]): row for row in found}.values())


def save() -> None:
    """The rows of all phases in one file, without what can be computed from others."""
    lines = []
    for phase in ("prove", "tune", "run", "check"):
        for row in rows_of(phase):
            lines.append(json.dumps({"phase": phase, **{key: row[key] for key in KEPT if key in row}}))
    (RESULTS / "narrow.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} rows in {RESULTS / 'narrow.jsonl'}")


def phases(name: str, half: str) -> Iterator[Comparison]:
    """What a command runs."""
    if name == "prove":
        yield comparison("prove", half, PROVERS, PROOF_SECONDS, (0,))
    elif name == "tune":
        yield comparison("tune", half, GRID, SECONDS, (TUNING_SEED,))
    elif name == "check":
        yield comparison("check", half, (best_settings()[1], SEARCHES[0]), SECONDS, FRESH_SEEDS)
    else:
        yield comparison("run", half, (*best_settings(), *SEARCHES), SECONDS, SEEDS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=("prove", "tune", "run", "check", "save"))
    parser.add_argument("--half", choices=("all", "0", "1"), default="all")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.phase == "save":
        save()
        sys.exit()
    if "TPSOLVE_DATA" not in os.environ:
        print("TPSOLVE_DATA is not set: only the instances that need no files.", file=sys.stderr)
    for each in phases(given.phase, given.half):
        rows = run_comparison(each, progress=lambda done, total, now: print(f"{done}/{total} {now}", flush=True))
        print(f"{len(rows)} rows in {each.folder}")
