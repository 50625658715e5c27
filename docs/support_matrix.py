"""Write the table of support-matrix.md from the rows of the benchmark: `python docs/support_matrix.py`."""

import re
from pathlib import Path

from tpsolve._storage._row_log import read_parts

HERE = Path(__file__).parent
ROWS = HERE.parent / "benchmarks" / "results" / "support_matrix.jsonl"


def table(rows: list[dict[str, str]]) -> str:
    """A line a model, a column a part, and below it why the others fail."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    # In the order of a model that has them all.
    parts = max(([row["part"] for row in rows if row["model"] == m] for m in models), key=len)
    why = {(row["model"], row["part"]): row["why"] for row in rows}
    lines = ["| model | " + " | ".join(parts) + " |", "|---|" + "---|" * len(parts)]
    lines += [f"| {m} | " + " | ".join(_word(why.get((m, p))) for p in parts) + " |" for m in models]
    same: dict[tuple[str, str], list[str]] = {}
    for (m, p), words in why.items():
        if words and words != "not converted":
            same.setdefault((m, words), []).append(p)
    failed = [f"- {m}, {' and '.join(names)}: {words}" for (m, words), names in same.items()]
    where = f"On {rows[0]['machine']} with Python {rows[0]['python']}, torch {rows[0]['torch']}."
    plain = (line.replace("<", "&lt;").replace("[", "\\[") for line in failed)
    return "\n".join([*lines, "", *plain, "", where])


def _word(why: str | None) -> str:
    return "not run" if why is None else "fails" if why else "yes"


if __name__ == "__main__":
    page = HERE / "support-matrix.md"
    found = read_parts(ROWS)
    begin, end = "<!-- matrix: begin -->", "<!-- matrix: end -->"
    text = re.sub(f"(?s){begin}.*{end}", lambda _: f"{begin}\n\n{table(found)}\n\n{end}", page.read_text())
    page.write_text(text)
