"""Write a sentence on large tables in exact.md from the rows of the benchmark: `python docs/large_tables.py`."""

import re
from pathlib import Path

from tpsolve._storage._row_log import read_parts

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"


def section() -> str:
    """Errors of the default, of `column-search`, and of naming one class, on each table."""
    rows = read_parts(RESULTS / "large_tables.jsonl")
    lines = ["| table | features | `circuits` | `column-search` | one class for all rows |", "|---|---|---|---|---|"]
    for table in dict.fromkeys(row["table"] for row in rows):
        own = {row["solver"]: row for row in rows if row["table"] == table}
        errors = " | ".join(f"{own[solver]['errors']:,.0f}" for solver in ("circuits", "column-search"))
        first = own["circuits"]
        lines.append(f"| {table} | {first['features']} | {errors} | {first['trivial']:,.0f} |")
    first = rows[0]
    seconds = (
        f"Errors on {first['rows']:,} rows with two hidden units, after {first['processor_seconds']:g} seconds of the"
    )
    return "\n".join(
        [*lines, "", f"{seconds} processor, one run each. On {first['machine']}, with tpsolve {first['tpsolve']}."]
    )


if __name__ == "__main__":
    page = HERE / "exact.md"
    marked = re.compile(r"(<!-- large: begin -->\n).*?(<!-- large: end -->)", re.DOTALL)
    page.write_text(marked.sub(lambda found: f"{found[1]}\n{section()}\n\n{found[2]}", page.read_text()))
