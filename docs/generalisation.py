"""Write the tables of models.md from the rows of the benchmark: `python docs/generalisation.py`."""

import json
import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ORDER = (
    *("logistic regression", "RBF SVM", "random forest", "tree of 8 leaves", "STreeD", "GOSDT", "FasterRisk"),
    *("Tsetlin machine", "one unit", "three units", "auto", "five voting"),
)
RESULTS = HERE.parent / "benchmarks" / "results"


def section() -> str:
    """Accuracy by table and method, then the sizes, and how often networks were proved optimal."""
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (RESULTS / "generalisation.jsonl").read_text().splitlines()
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["table"], row["method"]].append(row)
    methods = [m for m in ORDER if any(row["method"] == m for row in rows)]
    # Tables that all methods have been run on.
    tables = [t for t in dict.fromkeys(row["table"] for row in rows) if all(len(groups[t, m]) == 5 for m in methods)]
    means = {(t, m): 100 * statistics.mean(row["accuracy"] for row in groups[t, m]) for t in tables for m in methods}
    lines = [f"| table | rows | {' | '.join(methods)} |", "|---|---|" + "---|" * len(methods)]
    for table in tables:
        best = max(round(means[table, method], 1) for method in methods)
        cells = []
        for method in methods:
            value = round(means[table, method], 1)
            cells.append(f"**{value:.1f}**" if value == best else f"{value:.1f}")
        lines.append(f"| {table} | {groups[table, methods[0]][0]['rows']} | {' | '.join(cells)} |")
    overall = [f"{statistics.mean(means[t, m] for t in tables):.1f}" for m in methods]
    lines.append(f"| mean | | {' | '.join(overall)} |")
    every = {m: [row for t in tables for row in groups[t, m]] for m in methods}
    sizes = [f"{statistics.median(row['size'] for row in every[m]):,.0f}" for m in methods]
    lines.append(f"| median size | | {' | '.join(sizes)} |")
    fits = [f"{100 * statistics.mean(row['train_accuracy'] for row in every[m]):.1f}" for m in methods]
    lines.append(f"| mean on training rows | | {' | '.join(fits)} |")
    proved = [[row["proved"] for row in every[m] if row["proved"] is not None] for m in methods]
    shares = [f"{100 * statistics.mean(each):.0f} %" if each else "-" for each in proved]
    lines.append(f"| proved optimal | | {' | '.join(shares)} |")
    first = rows[0]
    size = (
        "The size is the number of weights or points that are not 0, of inner nodes of trees, of literals in all "
        "clauses, or of the numbers in all support vectors."
    )
    machine = f"On {first['machine']}, shared, with Python {first['python']} and tpsolve {first['tpsolve']}."
    return "\n".join([*lines, "", f"{size} {machine}"])


if __name__ == "__main__":
    page = HERE / "models.md"
    marked = re.compile(r"(<!-- accuracy: begin -->\n).*?(<!-- accuracy: end -->)", re.DOTALL)
    page.write_text(marked.sub(lambda found: f"{found[1]}\n{section()}\n\n{found[2]}", page.read_text()))
