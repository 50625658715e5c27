"""Write the table of reliability.md from the rows of the benchmark: `python docs/reliability.py`."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"


def section() -> str:
    """How changed files of each kind ended, and how long and how much they took at most."""
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (RESULTS / "hostile_files.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    ends: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for text, count in row["ends"].items():
            kind, _, end = text.partition(": ")
            ends[kind, end] += count
    kinds = sorted({kind for kind, _ in ends})
    lines = ["| kind of file | tried | read | refused with one line | anything else |", "|---|---:|---:|---:|---:|"]
    totals = Counter[str]()
    for kind in kinds:
        read, refused = ends[kind, "read"], ends[kind, "refused"]
        tried = sum(count for (one, _), count in ends.items() if one == kind)
        totals.update(tried=tried, read=read, refused=refused, other=tried - read - refused)
        lines.append(f"| {kind} | {tried:,} | {read:,} | {refused:,} | {tried - read - refused:,} |")
    cells = " | ".join(f"{totals[name]:,}" for name in ("tried", "read", "refused", "other"))
    lines.append(f"| all | {cells} |")
    slowest, peak = max(row["slowest"] for row in rows), max(row["peak"] for row in rows)
    first = rows[0]
    words = (
        f"Valid files of {len(kinds)} kinds were changed as somebody does who knows their structure: headers, numbers, "
        "types, shapes, sizes and bytes. Hashes were made anew, so that checks see the change. The limit "
        f"of a file was 64 MiB. The slowest took {slowest:.1f} s of the processor, and the largest "
        f"{peak / 2**20:.0f} MiB. Anything else would be a traceback, a crash, more than 5 s or 128 MiB, or a file or "
        "process that appears. "
        f"On {first['machine']}, with Python {first['python']}."
    )
    return "\n".join([words, "", *lines])


if __name__ == "__main__":
    page = HERE / "reliability.md"
    marked = re.compile(r"(<!-- hostile-files: begin -->\n).*?(<!-- hostile-files: end -->)", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    page.write_text(marked.sub(lambda found: f"{found[1]}\n{section()}\n\n{found[2]}", text), encoding="utf-8")
