"""Write the measured sections of choosing-a-solver.md from the rows of a comparison, and from those of benchmarks.

`tpsolve compare`, then `python docs/choosing_a_solver.py runs/digits`, which keeps the rows of that run in
benchmarks/results/compare.jsonl. Without a folder it draws from the rows that are kept.
"""

import math
import os
import re
import sys
from pathlib import Path
from statistics import mean

from tpsolve._storage._row_log import RowLog, read_parts
from tpsolve._storage._write_whole import write_whole
from tpsolve.compare import summarise
from tpsolve.compare._summary import Findings, advice
from tpsolve.compare.report._report import COLUMNS, caption
from tpsolve.search.combined._auto import PROOFS, table

PAGE = Path(__file__).with_name("choosing-a-solver.md")
MEASURED = Path(__file__).parent.parent / "benchmarks" / "results" / "auto.jsonl"
COMPARED = MEASURED.with_name("compare.jsonl")
"""Rows of the default comparison."""
VERDICTS = MEASURED.with_name("verdicts.jsonl")
METHODS = ("studentised", "percentile", "expanded percentile", "BCa")
MOST = 2.0
"""Budgets that a solver of the grid may take."""


def section(rows: list[dict]) -> str:
    """The table as Markdown, with what it was measured on."""
    first, summaries = rows[0], summarise(rows)
    budget = first["budget"]["seconds"] / len(first["objective"])
    versions = ", ".join(f"{name} {number}" for name, number in first["versions"].items())
    lines = ["| " + " | ".join(heading for heading, _ in COLUMNS) + " |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    for summary in summaries:
        solver, *cells = (content(summary) for _, content in COLUMNS)
        lines.append("| " + " | ".join([f"`{solver}`", *cells]) + " |")
    lines += [
        "",
        f"{caption(Findings(rows))}. Budget: {budget:g} seconds a sample. Measured on {os.cpu_count()} cores "
        f"({first['device']}) with {versions}, {first['time'][:10]}.",
        "",
        "What the command concludes from these rows:",
        "",
        f"> {advice(Findings(rows))}",
    ]
    return "\n".join(lines)


def choices() -> str:
    """Who races in `auto`, by kind of problem and time of a call, with what the choice rests on."""
    source = table()
    times = sorted({row["seconds"] for row in source["rows"]})
    names = ("loss", "n", "m", "samples")
    kinds = dict.fromkeys(tuple(row[name] for name in names) for row in source["rows"])
    lines = [
        "| loss | n | m | samples | " + " | ".join(f"{s:g} s" for s in times) + " |",
        "|---|---:|---:|---:|" + "---|" * len(times),
    ]
    for kind in kinds:
        found = {row["seconds"]: row for row in source["rows"] if tuple(row[name] for name in names) == kind}
        cells = [
            f"`{found[s]['solver']}`, {_left(found[s]['left'])}; `{found[s]['other']}`" if s in found else ""
            for s in times
        ]
        lines.append("| " + " | ".join([*map(str, kind), *cells]) + " |")
    versions = ", ".join(f"{name} {number}" for name, number in source["versions"].items())
    lines += ["", f"{source['measured']} Measured on {source['device']} with {versions}."]
    return "\n".join(lines)


def _racers(row: dict) -> str:
    return f"`{row['solver']}`, {_left(row['left'])}; `{row['other']}`"


def held_out() -> str:
    """`auto` beside the best of the grid, on problems that its table was not made from."""
    rows = [row for row in read_parts(MEASURED) if row["set"] == "held-out"]
    # Whoever took longer had more than the others.
    rows = [row for row in rows if row["solver"] == "auto" or row["processor_seconds"] <= MOST * row["budget"]]
    left: dict[tuple[str, float, str], list[float]] = {}
    best: dict[str, float] = {}
    for row in rows:
        best[row["instance"]] = min(best.get(row["instance"], math.inf), row["mean_objective"])
    for row in rows:
        share = (row["mean_objective"] - best[row["instance"]]) / (row["start"] - best[row["instance"]])
        left.setdefault((row["instance"], row["budget"], row["solver"]), []).append(share)
    means = {key: mean(values) for key, values in left.items()}
    budgets = sorted({row["budget"] for row in rows})
    lines = [
        "| problem | " + " | ".join(f"{s:g} s" for s in budgets) + " |",
        "|---|" + "---|" * len(budgets),
    ]
    behind: dict[float, list[float]] = {seconds: [] for seconds in budgets}
    for instance in best:
        cells = []
        for seconds in budgets:
            here = {s: v for (i, b, s), v in means.items() if (i, b) == (instance, seconds)}
            if len(here) < 2 or "auto" not in here:
                cells.append("")
                continue
            auto = here.pop("auto")
            first = min(here, key=lambda solver: here[solver])
            behind[seconds].append(auto - here[first])
            cells.append(f"{_left(auto)}; `{first}` {_left(here[first])}")
        lines.append("| " + " | ".join([instance, *cells]) + " |")
    ends = [f"{100 * mean(behind[s]):+.2f} points, of {len(behind[s])}" if behind[s] else "" for s in budgets]
    lines += ["| " + " | ".join(["**mean of the differences**", *ends]) + " |", ""]
    late = max(row["processor_seconds"] / row["budget"] for row in rows if row["solver"] == "auto")
    lines.append(
        f"Shares of (start - best known) that are left by `auto`, and by the best of the grid. `auto` took at most "
        f"{late:.2f} times the budget. A solver of the grid counts if it took at most {MOST:g} times the budget. "
        f"{len(rows)} calls, by processor time of one thread, on a machine that was busy with other work."
    )
    return "\n".join(lines)


def _left(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 0.1 else f"{share:.0%}"


def provers() -> str:
    """What `auto` takes for a proof, by loss and size, with what the choice rests on."""
    source = table(PROOFS)
    sizes = list(dict.fromkeys((row["n"], row["m"]) for row in sorted(source["rows"], key=lambda row: row["n"])))
    found = {(row["loss"], row["n"], row["m"]): row for row in source["rows"]}
    lines = [
        "| loss | " + " | ".join(f"{n} x {m}" for n, m in sizes) + " |",
        "|---|" + "---|" * len(sizes),
    ]
    for loss in dict.fromkeys(row["loss"] for row in source["rows"]):
        cells = [_cell(found[loss, *size]) if (loss, *size) in found else "" for size in sizes]
        lines.append("| " + " | ".join([loss, *cells]) + " |")
    versions = ", ".join(f"{name} {source[name]}" for name in ("tpsolve", "torch", "ortools", "scipy"))
    lines += ["", f"{source['measured']} Measured on {source['machine']}, with {versions}."]
    return "\n".join(lines)


def _cell(row: dict) -> str:
    text = f"`{row['solver']}`, {row['proved']} of {row['of']}, {row['seconds']:.2g} s"
    return text + (f"; else `{row['other']}`" if row["solver"] == "enumerate" else "")


def intervals() -> str:
    """How often intervals of four kinds hold the mean, least and most over the shapes, by the number of instances."""
    rows = [row for row in read_parts(VERDICTS) if row["question"] == "interval"]
    lines = ["| instances | " + " | ".join(METHODS) + " |", "|---:" * (len(METHODS) + 1) + "|"]
    for count in sorted({row["instances"] for row in rows}):
        here = [row for row in rows if row["instances"] == count]
        cells = []
        for method in METHODS:
            held = sorted(row[method]["held"] / row["draws"] for row in here)
            width = mean(row[method]["width"] / row["percentile"]["width"] for row in here)
            cells.append(f"{held[0]:.1%}, {held[1]:.1%} to {held[-1]:.1%}; x {width:.2f}")
        lines.append("| " + " | ".join([str(count), *cells]) + " |")
    times = [row for row in read_parts(VERDICTS) if row["question"] == "running time"]
    held = sorted(row["expanded percentile"]["held"] / row["draws"] for row in times)
    plain = sorted(row["percentile"]["held"] / row["draws"] for row in times)
    shapes, draws = len({row["of"] for row in rows}), rows[0]["draws"]
    worst = min(rows, key=lambda row: row["studentised"]["held"])
    lines += [
        "",
        f"Of each of {shapes} shapes of shares, {draws} draws: the share of draws whose interval holds the mean, for "
        f"the shape where that is least, and for the others; then the width, beside that of the percentile interval. "
        f'The least of all is that of {worst["instances"]} instances of "{worst["of"]}", of which '
        f"{worst['alike'] / worst['draws']:.0%} of the draws have the same share everywhere, and so no interval.",
        "",
        f"Expected running times, of as many instances and {len({row['of'] for row in times})} distributions of the "
        f"chance to reach a target: expanded percentile intervals hold them in {held[0]:.1%} to {held[-1]:.1%} of "
        f"draws, those that are not expanded in {plain[0]:.1%} to {plain[-1]:.1%}.",
    ]
    return "\n".join(lines)


def verdicts() -> str:
    """How often two solvers are told apart on 100 instances, equal ones and others."""
    rows = [row for row in read_parts(VERDICTS) if row["question"] == "verdict"]
    kinds = list(dict.fromkeys(row["difference"] for row in rows))
    lines = ["| objectives | ties | " + " | ".join(kinds) + " |", "|---|---:" + "|---:" * len(kinds) + "|"]
    for of in dict.fromkeys(row["of"] for row in rows):
        here = {row["difference"]: row for row in rows if row["of"] == of}
        cells = [
            f"{here[k]['told'] / here[k]['draws']:.1%} ({here[k]['t_test'] / here[k]['draws']:.1%})" for k in kinds
        ]
        lines.append("| " + " | ".join([of, f"{here[kinds[0]]['ties']:.0%}", *cells]) + " |")
    lines += [
        "",
        f"Share of {rows[0]['draws']} draws that tell two equal solvers apart, or name the better one of two. In "
        "brackets: Student's paired t test at the same level. Ties: instances on which two equal solvers end alike.",
    ]
    return "\n".join(lines)


def replace(page: str, mark: str, text: str) -> str:
    """The page with `text` between the markers of this name."""
    marked = re.compile(rf"(<!-- {mark}: begin[^\n]*-->\n).*?(<!-- {mark}: end -->)", re.DOTALL)
    if not marked.search(page):
        raise SystemExit(f"{PAGE}: the markers {mark} are missing")
    return marked.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)


def main(folders: list[Path]) -> None:
    """Replace what stands between the markers of the page."""
    page = replace(replace(PAGE.read_text(), "auto", choices()), "proof", provers())
    page = replace(page, "held-out", held_out())
    page = replace(replace(page, "intervals", intervals()), "verdicts", verdicts())
    for folder in folders:
        content = (folder / "rows.jsonl").read_bytes()
        write_whole(COMPARED, lambda stream, content=content: stream.write(content))
    if COMPARED.exists():
        page = replace(page, "measured", section(RowLog(COMPARED).read()))
    PAGE.write_text(page)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
