"""Write the measured section of choosing-a-solver.md from the rows of a comparison.

`tpsolve compare`, then `python docs/choosing_a_solver.py runs/digits`.
"""

import os
import re
import sys
from pathlib import Path

from tpsolve.compare import summarise
from tpsolve.compare.report import COLUMNS, caption
from tpsolve.compare.rows import RowLog
from tpsolve.compare.summary import advice

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
        f"{caption(rows)}. Budget: {budget:g} seconds a sample. Measured on {os.cpu_count()} cores "
        f"({first['device']}) with {versions}, {first['time'][:10]}.",
        "",
        "What the command concludes from these rows:",
        "",
        f"> {advice(summaries)}",
    ]
    return "\n".join(lines)


def main(folder: Path) -> None:
    """Replace what stands between the markers of the page."""
    text = section(RowLog(folder / "rows.jsonl").read())
    page = PAGE.read_text()
    marked = re.compile(r"(<!-- measured: begin[^\n]*-->\n).*?(\n<!-- measured: end -->)", re.DOTALL)
    if not marked.search(page):
        raise SystemExit(f"{PAGE}: the markers are missing")
    PAGE.write_text(marked.sub(lambda found: f"{found[1]}\n{text}\n{found[2]}", page))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
