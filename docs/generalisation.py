"""Write the tables of models.md from the rows of the benchmark: `python docs/generalisation.py`."""

import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from tpsolve._storage._row_log import read_parts

HERE = Path(__file__).parent
ORDER = (
    *("logistic regression", "RBF SVM", "random forest", "tree of 8 leaves", "STreeD", "GOSDT", "FasterRisk"),
    *("Tsetlin machine", "one unit", "three units", "auto", "five voting"),
)
OFFERED = ("three units", "auto", "five voting", "margin", "penalty", "whole weights")
"""What the estimator offers for new data, the first of them the one that all are compared with."""
OWN = ("one unit", "three units", "auto", "five voting", "margin", "penalty", "whole weights")
"""Methods of tpsolve."""
OLDER = "older than the solver `refit-search`, with which `circuits` begins now"
READABLE = 30
"""Numbers that decide, at most, of a model that a person reads."""
RESULTS = HERE.parent / "benchmarks" / "results"
Groups = dict[tuple[str, str], list[dict[str, Any]]]


def read_rows() -> Groups:
    """The last row of each table, method and fold; those of a method that refuses a table are left out."""
    last: dict[tuple[str, str, int], dict[str, Any]] = {}
    for row in read_parts(RESULTS / "generalisation.jsonl"):
        if "error" not in row:
            last[row["table"], row["method"], row["fold"]] = row
    groups: Groups = defaultdict(list)
    for row in last.values():
        groups[row["table"], row["method"]].append(row)
    return groups


def states(groups: Groups) -> str:
    """Which rows of our own methods are of which state of the code."""
    names = dict.fromkeys(table for table, _ in groups)
    of_state: dict[str, list[str]] = defaultdict(list)
    for table in names:
        found = {row.get("code", "") for method in OWN for row in groups[table, method]}
        of_state[" and ".join(sorted(code or OLDER for code in found))].append(table)
    lines = ["Code that made the rows of the networks of thresholds, by the last commit of the package:", ""]
    for code, tables in sorted(of_state.items(), key=lambda one: one[0] == OLDER):
        lines.append(f"- {code}: {', '.join(tables)} ({len(tables)} of {len(names)} tables).")
    return "\n".join(lines)


def tables_with(groups: Groups, methods: tuple[str, ...]) -> list[str]:
    """The tables that all these methods have been run on."""
    names = dict.fromkeys(table for table, _ in groups)
    return [table for table in names if all(len(groups[table, method]) == 5 for method in methods)]


def mean(groups: Groups, table: str, method: str, what: str = "accuracy") -> float:
    """Over the folds, in percent."""
    return 100 * statistics.mean(row[what] for row in groups[table, method])


def section(groups: Groups) -> str:
    """Accuracy by table and method, then the sizes, and how often networks were proved optimal."""
    tables = tables_with(groups, ORDER)
    lines = [f"| table | rows | {' | '.join(ORDER)} |", "|---|---|" + "---|" * len(ORDER)]
    for table in tables:
        best = max(round(mean(groups, table, method), 1) for method in ORDER)
        cells = []
        for method in ORDER:
            value = round(mean(groups, table, method), 1)
            cells.append(f"**{value:.1f}**" if value == best else f"{value:.1f}")
        lines.append(f"| {table} | {groups[table, ORDER[0]][0]['rows']} | {' | '.join(cells)} |")
    overall = [f"{statistics.mean(mean(groups, t, m) for t in tables):.1f}" for m in ORDER]
    lines.append(f"| mean of {len(tables)} | | {' | '.join(overall)} |")
    every = {m: [row for t in tables for row in groups[t, m]] for m in ORDER}
    sizes = [f"{statistics.median(row['size'] for row in every[m]):,.0f}" for m in ORDER]
    lines.append(f"| median size | | {' | '.join(sizes)} |")
    few = [f"{100 * statistics.mean(row['size'] <= READABLE for row in every[m]):.0f} %" for m in ORDER]
    lines.append(f"| at most {READABLE} numbers | | {' | '.join(few)} |")
    fits = [f"{statistics.mean(mean(groups, t, m, 'train_accuracy') for t in tables):.1f}" for m in ORDER]
    lines.append(f"| mean on training rows | | {' | '.join(fits)} |")
    lines.append(f"| proved optimal | | {' | '.join(_proved(every[m]) for m in ORDER)} |")
    first = every[ORDER[0]][0]
    size = (
        "The size is the number of weights or points that are not 0, of inner nodes of trees, of literals in all "
        "clauses, or of the numbers in all support vectors."
    )
    machine = f"On {first['machine']}, shared, with Python {first['python']} and tpsolve {first['tpsolve']}."
    return "\n".join([*lines, "", f"{size} {machine}"])


def offers(groups: Groups) -> str:
    """What each offer changes against three units, on the tables that both were run on."""
    base = OFFERED[0]
    lines = [
        "| offer | tables | accuracy | better, worse | median size | proved optimal |",
        "|---|---|---|---|---|---|",
    ]
    for method in OFFERED[1:]:
        tables = tables_with(groups, (base, method))
        if not tables:
            continue
        gains = [mean(groups, t, method) - mean(groups, t, base) for t in tables]
        spread = f" ± {statistics.stdev(gains) / len(gains) ** 0.5:.1f}" if len(gains) > 1 else ""
        own, others = ([row for t in tables for row in groups[t, m]] for m in (method, base))
        size = " against ".join(f"{statistics.median(row['size'] for row in rows):,.0f}" for rows in (own, others))
        counts = f"{sum(gain > 0.05 for gain in gains)}, {sum(gain < -0.05 for gain in gains)}"
        gain = f"{statistics.mean(gains):+.1f}{spread}"
        lines.append(f"| {method} | {len(tables)} | {gain} | {counts} | {size} | {_proved(own)} |")
    return "\n".join(lines)


def _proved(rows: list[dict[str, Any]]) -> str:
    known = [row["proved"] for row in rows if row["proved"] is not None]
    return f"{100 * statistics.mean(known):.0f} %" if known else "-"


def write() -> None:
    """Put both tables between their marks."""
    page, groups = HERE / "models.md", read_rows()
    text = page.read_text()
    for name, content in (("accuracy", section(groups)), ("offers", offers(groups)), ("states", states(groups))):
        marked = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        text = marked.sub(lambda found, content=content: f"{found[1]}\n{content}\n\n{found[2]}", text)
    page.write_text(text)


if __name__ == "__main__":
    write()
