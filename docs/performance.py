"""Write the tables of performance.md from the rows of the benchmarks: `python docs/performance.py`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tpsolve._storage._row_log import read_parts

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
COLUMNS = {
    "flip_delta": {
        "loss": "loss",
        "size": "B x n x m",
        "flip_delta_ms": "ms",
        "ratio_to_pass": "ratio to pass",
        "ratio_to_pass_into": "ratio to pass into",
        "flip_ms": "one flip, ms",
        "peak_extra_mb": "peak extra MB",
    },
    "cp_sat": {
        "n": "n",
        "m": "m",
        "problems": "problems",
        "proved_optimal": "proved",
        "median_seconds": "median s",
        "slowest_seconds": "slowest s",
        "build_share": "share spent building",
    },
    "units_speed": {
        "what": "task",
        "data": "data",
        "units": "units",
        "rows": "samples",
        "who": "by",
        "seconds": "s",
        "measured": "units measured",
        "times_slower": "times slower",
        "objective_ratio_max": "our objective / its, largest",
        "extra_mb": "peak extra MB",
    },
    "threshold_step": {
        "network": "network",
        "batch": "batch",
        "activation": "activation",
        "ms": "ms",
        "ratio_to_relu": "ratio to ReLU",
        "mb_saved": "MB saved",
        "bytes_ratio_to_relu": "ratio to ReLU's",
        "ratio_to_backward": "ratio to backward()",
        "skipped": "skipped",
    },
    "local_search_race": {
        "task": "solver",
        "ms_a_problem": "ms a problem",
        "mean_objective": "mean objective",
        "million_flips_a_second": "million flips offered a second",
        "ours_in_the_same_time": "our objective in its time",
        "times_sooner": "ours as good, times sooner",
    },
    "local_search_optima": {
        "loss": "loss",
        "n": "n",
        "m": "m",
        "proved": "proved",
        "cp_sat_ms": "CP-SAT, ms a sample",
        "solver": "solver",
        "share_of_time": "share of its time",
        "hit_rate": "optimum hit",
    },
    "local_search_step": {
        "step_ms": "step, ms",
        "ratio_to_update_in_memory": "ratio to update in memory",
        "ratio_to_update_in_cache": "ratio to update in cache",
        "flips_per_second": "flips a second",
    },
    "local_search_anytime": {
        "instance": "layer",
        "budget_ms": "budget, ms a sample",
        "start": "at the activations",
        "best": "best of the others",
        "by": "by",
        "auto": "auto",
        "auto_ms": "auto's ms",
        "share": "share of the best one's improvement",
    },
    "packed_layers": {
        "layer": "layer",
        "samples": "samples",
        "packed_ms": "packed, ms",
        "float_ms": "float32, ms",
        "times_slower": "times slower",
        "packed_kb": "packed weights, KB",
        "float_kb": "float32 weights, KB",
    },
    "search_costs": {
        "network": "network",
        "search": "search",
        "thresholds": "thresholds",
        "relu_ms": "step with ReLU, ms",
        "search_ms": "searched step, ms",
        "ratio": "ratio",
        "passes": "passes",
        "ratio_before": "ratio before",
        "times_quicker": "times quicker",
    },
    "program_overhead": {
        "calls": "calls",
        "labelled_ms": "labelled step, ms",
        "searched_ms": "searched step, ms",
        "step_ratio": "ratio",
        "k_best_us": "64 best of 4 x 10, µs a sample",
    },
    "clock": {
        "size": "problem",
        "calls": "calls",
        "late": "late",
        "latest": "latest, s",
        "by": "by",
        "cpu_calls": "calls with processor's clock",
        "cpu_late": "late by it",
    },
    "import_time": {"tpsolve_seconds": "tpsolve, s", "torch_seconds": "torch, s", "ratio": "ratio"},
}

LIBRARIES = ("tpsolve", "torch", "ortools", "scipy", "scikit-learn")


def section(benchmark: str) -> str:
    """The table of one benchmark as Markdown, with what it was measured on."""
    rows = read_parts(RESULTS / f"{benchmark}.jsonl")
    if benchmark == "local_search_anytime":
        rows = list(auto_against_the_others(rows))
    if benchmark == "clock":
        rows = list(lateness(rows))
    columns = COLUMNS[benchmark]
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---:|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(key, "")) for key in columns) + " |" for row in rows]
    versions = ", ".join(f"{name} {rows[0][name]}" for name in LIBRARIES if name in rows[0])
    return "\n".join([*lines, "", f"Measured on {rows[0]['machine']} with Python {rows[0]['python']}, {versions}."])


def lateness(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """For each problem the calls, how many were late, and the latest; of equal calls the last row counts."""
    last = {(row["size"], row["solver"], row["budget"]): row for row in rows}
    for size in dict.fromkeys(row["size"] for row in last.values()):
        here = [row for row in last.values() if row["size"] == size and row["taken"]]
        # One that did not end has no figure.
        latest = max(here, key=lambda row: row.get("over", float("inf")))
        timed = [row for row in here if "cpu_late" in row]
        yield {
            **here[0],
            "size": size,
            "calls": len(here),
            "late": sum(row["late"] for row in here),
            "latest": latest.get("over", latest.get("error")),
            "by": f"`{latest['solver']}`",
            "cpu_calls": len(timed),
            "cpu_late": sum(row["cpu_late"] for row in timed),
        }


def auto_against_the_others(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """For each layer and budget `auto` beside the best of the solvers that took at most twice the budget."""
    for instance, budget in dict.fromkeys((row["instance"], row["budget"]) for row in rows):
        here = {row["solver"]: row for row in rows if (row["instance"], row["budget"]) == (instance, budget)}
        auto = here.pop("auto")
        best = min(
            (row for row in here.values() if row["ms_a_sample"] <= 2000 * budget), key=lambda r: r["mean_objective"]
        )
        yield {
            **auto,
            "instance": instance.removeprefix("wide/"),
            "budget_ms": round(1000 * budget),
            "best": best["mean_objective"],
            "by": best["solver"],
            "auto": auto["mean_objective"],
            "auto_ms": auto["ms_a_sample"],
            "share": (auto["start"] - auto["mean_objective"]) / (auto["start"] - best["mean_objective"]),
        }


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    # A ratio of objectives is told by its distance from 1.
    return f"{value:.6f}" if abs(value - 1) < 0.01 else f"{value:.3g}"


if __name__ == "__main__":
    page = HERE / "performance.md"
    text = page.read_text()
    for name in COLUMNS:
        if not (RESULTS / f"{name}.jsonl").is_file():
            continue
        marked = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        text = marked.sub(lambda found, name=name: f"{found[1]}\n{section(name)}\n\n{found[2]}", text)
    page.write_text(text)
