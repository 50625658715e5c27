"""How long the report of 100,000 rows takes, how large its page is, and how soon a browser shows it.

    pip install '.[browser]' && python -m benchmarks.report_page

Two shapes: many instances under two solvers, and many solvers. The rows are drawn at random and have traces of eight
points. They are written to a folder, which `tpsolve report` draws. The browser is Debian's chromium or playwright's
own; without one the page is only built. A row a shape goes to results/report_page.jsonl.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, where
from tpsolve._storage._row_log import RowLog

LOG = RowLog(RESULTS / "report_page.jsonl", ("instances", "solvers"))
SHAPES = ((50_000, 2, 1), (1_300, 25, 3))
"""Instances, solvers and seeds."""
SAMPLES, POINTS = 4, 8


def rows(instances: int, solvers: int, seeds: int) -> Iterator[dict[str, Any]]:
    """As the runner writes them; the first solver proves what it solves."""
    drawn = np.random.default_rng(0)
    for place in range(instances):
        best = drawn.uniform(0, 5, SAMPLES)
        start = best + drawn.uniform(1, 5, SAMPLES)
        for solver in range(solvers):
            for seed in range(seeds):
                left = drawn.uniform(0, 1, SAMPLES) ** (1 + solver / 3) * (drawn.random(SAMPLES) < 0.7)
                objective = best + left * (start - best)
                seconds = np.sort(drawn.uniform(1e-4, 0.1, POINTS))
                trace = zip(seconds.tolist(), np.linspace(start.mean(), objective.mean(), POINTS).tolist(), strict=True)
                proved = [None if solver or share else float(seconds[-1]) for share in left]
                yield {
                    "instance": f"suite/epoch-{place}/layer-{place % 7}",
                    "solver": f"solver-{solver}:restarts={solver}",
                    "exact": solver == 0,
                    "seed": seed,
                    "budget": {"seconds": 0.1, "steps": None},
                    "loss": ("hinge", "squared", "soft-hinge")[place % 3],
                    "n_vars": 32,
                    "n_units": 16,
                    "start": start.tolist(),
                    "fingerprint": str(place),
                    "device": "cpu",
                    "versions": {"tpsolve": "0.1.0"},
                    "objective": objective.tolist(),
                    "bound": [None if at is None else value for at, value in zip(proved, best.tolist(), strict=True)],
                    "tolerance": [1e-6] * SAMPLES,
                    "flips": [0.25] * SAMPLES,
                    "seconds": float(seconds[-1]),
                    "found_at": [float(seconds[-1])] * SAMPLES,
                    "proved_at": proved,
                    "trace": [[at, value, None] for at, value in trace],
                }


def opened(page: Path) -> float | None:
    """Seconds until a browser shows the page with all its tables and pictures; None without a browser."""
    if find_spec("playwright") is None:
        return None
    from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        began = time.perf_counter()
        tab.goto(page.as_uri())
        tab.locator("#instance-table .link").first.wait_for()
        return time.perf_counter() - began


def drawn(folder: Path) -> dict[str, float]:
    """The seconds of the processor that `tpsolve report` takes, and its MiB at most, in a process of its own."""
    command = [sys.executable, "-m", "tpsolve", "report", str(folder), "--quiet"]
    _, status, used = os.wait4(os.spawnv(os.P_NOWAIT, sys.executable, command), 0)
    assert status == 0
    return {"drawn_seconds": used.ru_utime + used.ru_stime, "drawn_mib": used.ru_maxrss / 2**10}


def main() -> None:
    """A row a shape."""
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "comparison.json").write_text(json.dumps({"suite": "digits", "seconds": 0.1, "samples": SAMPLES}))
            # One by one: the most memory of a process counts as that of those that it starts, too.
            with (folder / "rows.jsonl").open("w") as stream:
                count = sum(bool(stream.write(json.dumps(row) + "\n")) for row in rows(*shape))
            page = folder / "report.html"
            found = {**drawn(folder), "page_mb": page.stat().st_size / 1e6, "opened_seconds": opened(page)}
            row = {"rows": count, "instances": shape[0], "solvers": shape[1], "seeds": shape[2], **found}
            LOG.append({**row, "load": os.getloadavg()[0], **where()})
            print(row, flush=True)


if __name__ == "__main__":
    main()
