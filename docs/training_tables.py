"""Write the tables of training.md from the rows of the benchmark: `python docs/training_tables.py`."""

import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from tpsolve._storage._row_log import read_parts

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
TABLES = ("digits", "fashion-mnist-small", "fashion-mnist", "cifar10")


def section(table: str) -> str:
    """One line for each network, activation and rule: mean and standard deviation over the seeds."""
    path = RESULTS / f"training_{table}.jsonl"
    if not path.exists():
        return "Not measured yet."
    rows = read_parts(path)
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["recipe"], row["activation"], row.get("rule", "-")].append(row)
    lines = [
        "| recipe | activation | rule | seeds | last epoch | best epoch | in training |",
        "|---|---|---|---|---|---|---|",
    ]
    for (recipe, activation, rule), group in groups.items():
        good = [row for row in group if "error" not in row]
        seeds = str(len(good)) + (f", {len(group) - len(good)} diverged" if len(good) < len(group) else "")
        cells = [_cell([row[key] for row in good]) for key in ("final_accuracy", "best_accuracy", "train_accuracy")]
        lines.append(f"| {recipe} | {activation} | {rule} | {seeds} | {' | '.join(cells)} |")
    first = rows[0]
    versions = f"Python {first['python']}, tpsolve {first['tpsolve']}, torch {first['torch']}"
    images = f" of {first['images']} images" if first.get("images") else ""
    return "\n".join([*lines, "", f"{first['epochs']} epochs{images}, on {first['machine']} with {versions}."])


def _cell(shares: list[float]) -> str:
    if not shares:
        return "-"
    spread = f" ± {100 * statistics.stdev(shares):.2f}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.2f}{spread}"


if __name__ == "__main__":
    page = HERE / "training.md"
    text = page.read_text()
    for name in TABLES:
        marked = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        text = marked.sub(lambda found, name=name: f"{found[1]}\n{section(name)}\n\n{found[2]}", text)
    page.write_text(text)
