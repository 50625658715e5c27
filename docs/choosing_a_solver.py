"""Write the measured sections of choosing-a-solver.md from the rows of a comparison and from the table of `auto`.

`tpsolve compare`, then `python docs/choosing_a_solver.py runs/digits`; without a folder, the table of `auto` alone.
"""

import os
import re
import sys
from pathlib import Path

from tpsolve._storage._row_log import RowLog
from tpsolve.compare import summarise
from tpsolve.compare._summary import Findings, advice
from tpsolve.compare.report._report import COLUMNS, caption
from tpsolve.search.combined._auto import PROOFS, table

PAGE = Path(__file__).with_name("choosing-a-solver.md")


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
    """What `auto` takes, by kind of problem and time a sample, with what the choice rests on."""
    source = table()
    times = sorted({row["seconds"] for row in source["rows"]})
    kinds = dict.fromkeys((row["loss"], row["n"], row["m"], row["device"]) for row in source["rows"])
    lines = [
        "| loss | n | m | " + " | ".join(f"{1e3 * s:g} ms" for s in times) + " |",
        "|---|---:|---:|" + "---|" * len(times),
    ]
    for kind in kinds:
        found = {r["seconds"]: r for r in source["rows"] if (r["loss"], r["n"], r["m"], r["device"]) == kind}
        cells = [f"`{found[s]['solver']}`, {found[s]['objective']:.3g}" if s in found else "" for s in times]
        lines.append("| " + " | ".join([*map(str, kind[:3]), *cells]) + " |")
    versions = ", ".join(f"{name} {number}" for name, number in source["versions"].items())
    lines += ["", f"{source['measured']} Measured on {source['device']} with {versions}, {source['time'][:10]}."]
    return "\n".join(lines)


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


def replace(page: str, mark: str, text: str) -> str:
    """The page with `text` between the markers of this name."""
    marked = re.compile(rf"(<!-- {mark}: begin[^\n]*-->\n).*?(<!-- {mark}: end -->)", re.DOTALL)
    if not marked.search(page):
        raise SystemExit(f"{PAGE}: the markers {mark} are missing")
    return marked.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)


def main(folders: list[Path]) -> None:
    """Replace what stands between the markers of the page."""
    page = replace(replace(PAGE.read_text(), "auto", choices()), "proof", provers())
    for folder in folders:
        page = replace(page, "measured", section(RowLog(folder / "rows.jsonl").read()))
    PAGE.write_text(page)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
