"""Write the table of support-matrix.md from the rows of the benchmark: `python docs/support_matrix.py`."""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
ROWS = HERE.parent / "benchmarks" / "results" / "support_matrix.jsonl"


def table(rows: list[dict[str, str]]) -> str:
    """A line a model, a column a part, and below it why the others fail."""
    parts, models = (list(dict.fromkeys(row[key] for row in rows)) for key in ("part", "model"))
    why = {(row["model"], row["part"]): row["why"] for row in rows}
    lines = ["| model | " + " | ".join(parts) + " |", "|---|" + "---|" * len(parts)]
    lines += [f"| {m} | " + " | ".join("fails" if why[m, p] else "yes" for p in parts) + " |" for m in models]
    failed = [f"- {m}, {p}: {words}" for (m, p), words in why.items() if words and words != "not converted"]
    where = f"On {rows[0]['machine']} with Python {rows[0]['python']}, torch {rows[0]['torch']}."
    plain = (line.replace("<", "&lt;").replace("[", "\\[") for line in failed)
    return "\n".join([*lines, "", *plain, "", where])


if __name__ == "__main__":
    page = HERE / "support-matrix.md"
    found = [json.loads(line) for line in ROWS.read_text().splitlines()]
    begin, end = "<!-- matrix: begin -->", "<!-- matrix: end -->"
    text = re.sub(f"(?s){begin}.*{end}", lambda _: f"{begin}\n\n{table(found)}\n\n{end}", page.read_text())
    page.write_text(text)
