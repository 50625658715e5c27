"""Write the table of sizes in models.md from the rows of the benchmark: `python docs/model_size.py`."""

import re
from pathlib import Path
from typing import Any

from tpsolve._storage._row_log import read_parts

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
FIRST_LIMIT = 120
"""Seconds that yosys had for rows that don't say it."""
NAMES = {"digits": "digits", "cancer": "breast cancer"}


def section() -> str:
    """Bytes, accuracy and gates by data set and method, and whether yosys looked for operators to share.

    On one data set the smallest come first.
    """
    read: list[dict[str, Any]] = read_parts(RESULTS / "model_size.jsonl")
    # A method may have been run again, to find its gates.
    rows = list({(row["data"], row["method"]): row for row in read}.values())
    lines = ["| data | method | bytes | right in the test | gates | sharing step |", "|---|---|---|---|---|---|"]
    for data, name in NAMES.items():
        for row in sorted((row for row in rows if row["data"] == data), key=lambda row: row["bytes"]):
            gates = "-"
            if "gates" in row:
                limit = row.get("gate_seconds", FIRST_LIMIT)
                gates = f"{row['gates']:,}" if row["gates"] else f"not within {limit:,} s"
            # Rows that don't say their script had the whole `synth`.
            sharing = "-" if "gates" not in row else "no" if "-noshare" in row.get("gate_script", "") else "yes"
            accuracy = f"{100 * row['accuracy']:.1f} %"
            lines.append(f"| {name} | {row['method']} | {row['bytes']:,} | {accuracy} | {gates} | {sharing} |")
    first = rows[0]
    machine = f"On {first['machine']}, with Python {first['python']} and tpsolve {first['tpsolve']}."
    return "\n".join([*lines, "", machine])


if __name__ == "__main__":
    page = HERE / "models.md"
    marked = re.compile(r"(<!-- sizes: begin -->\n).*?(<!-- sizes: end -->)", re.DOTALL)
    page.write_text(marked.sub(lambda found: f"{found[1]}\n{section()}\n\n{found[2]}", page.read_text()))
