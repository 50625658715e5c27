"""Write the table and the picture of programs.md from saved rows: `python -m docs.programs`."""

import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tpsolve._storage._row_log import read_parts

HERE = Path(__file__).parent
ROWS = HERE.parent / "benchmarks" / "results" / "programs.jsonl"
SUMS = ROWS.with_name("long_sums.jsonl")
ISED, SECONDS = ROWS.with_name("programs_ised.jsonl"), ROWS.with_name("programs_seconds.jsonl")
WARM = ROWS.with_name("long_sums_warm.jsonl")
PAGE = HERE / "programs.md"
SEARCH_PAGE = HERE / "does-search-help.md"
ALT = "Right answers of every run by task"
PICTURE = HERE / "images" / "programs.svg"
BASELINE, OURS = "exact inference", "tpsolve"
SHOWN = {
    "exact inference": "exact inference",
    "tpsolve": "tpsolve, 64 calls",
    "tpsolve, half the calls": "tpsolve, 32 calls",
    "tpsolve, a quarter of the calls": "tpsolve, 16 calls",
    "tpsolve, values not moved": "tpsolve, reorder=False",
    "tpsolve, terms left out": "tpsolve without the two terms",
    "ABLkit": "ABLkit",
    "DeepProbLog": "DeepProbLog",
    "ISED-like": "ISED-like",
    "IndeCateR-like": "IndeCateR-like",
    "REINFORCE": "REINFORCE",
    "tpsolve, cheapest symbols": "cheapest symbols",
}
"""Methods and what the table calls them."""
PEERS = ("ABLkit", "DeepProbLog", "ISED-like", "IndeCateR-like", "REINFORCE")
MIN_DIFFERENCE = -1.0
"""Points. A method is no worse than a peer on a task if the lower 95 % limit of the mean difference is above."""
PUBLISHED = {
    "A-NeSI, as published": {1: "97.7", 2: "96.0", 4: "92.6", 15: "75.9"},
    "DeepStochLog, as published": {1: "97.9", 2: "96.4", 4: "92.7", 15: "out of time"},
}
"""Sums that are right, by the length of the numbers."""
DRAWN = {
    "tpsolve, cheapest symbols": ("cheapest symbols (k-best)", "x", "C3"),
    "tpsolve, terms left out": ("weighted draws, without the two terms", "^", "C1"),
    "exact inference": ("exact inference", "s", "C7"),
    "tpsolve": ("ProgramLoss as it is", "o", "C0"),
}


def by_task(rows: list[dict[str, Any]], what: str) -> dict[str, dict[str, list[float]]]:
    """Values of a column, in percent, by task and method, in the order of the seeds."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: row["seed"]):
        found[row["task"]][row["method"]].append(100 * row[what])
    return found


def collapsed(accuracy: list[float], digits: list[float], majority: list[float]) -> int:
    """Runs that ended in a false reading.

    Their accuracy is below the mean of the median and of the share of the commonest answer, or fewer digits are read
    than half of the median.
    """
    middle, read = statistics.median(accuracy), statistics.median(digits)
    return sum(a < (m + middle) / 2 or d < read / 2 for a, d, m in zip(accuracy, digits, majority, strict=True))


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def table(rows: list[dict[str, Any]]) -> str:
    """Accuracy of each method on each task, and the means over the tasks that exact inference can list."""
    accuracy, calls = by_task(rows, "accuracy"), by_task(rows, "calls")
    methods = [method for method in SHOWN if any(method in each for each in accuracy.values())]
    lines = ["| task | " + " | ".join(SHOWN[m] for m in methods) + " |", "|---|" + "---:|" * len(methods)]
    lines += [
        f"| {task.replace('|', chr(92) + '|')} | " + " | ".join(_cell(each.get(m, [])) for m in methods) + " |"
        for task, each in accuracy.items()
    ]
    common = [task for task, each in accuracy.items() if each.get(BASELINE)]
    means = {m: [statistics.mean(accuracy[t][m]) for t in common if accuracy[t].get(m)] for m in methods}
    lines.append(
        "| **mean over the tasks of exact inference** | "
        + " | ".join(f"**{statistics.mean(v):.1f}**" if len(v) == len(common) else "" for v in means.values())
        + " |"
    )
    asked = {m: [statistics.mean(each[m]) / 100 for each in calls.values() if each.get(m)] for m in methods}
    lines.append(
        "| assignments asked for, a sample and epoch | "
        + " | ".join(f"{statistics.mean(v):.0f}" for v in asked.values())
        + " |"
    )
    return "\n".join(lines)


def beside(points: float) -> str:
    """A difference in words."""
    return f"{abs(points):.1f} points {'above' if points >= 0 else 'below'}"


def verdict(rows: list[dict[str, Any]]) -> str:
    """What the rows say of ProgramLoss beside exact inference, in sentences."""
    accuracy, digits, majority = (by_task(rows, what) for what in ("accuracy", "digits", "majority"))
    common = [task for task, each in accuracy.items() if each.get(BASELINE) and each.get(OURS)]
    ahead = {task: statistics.mean(accuracy[task][OURS]) - statistics.mean(accuracy[task][BASELINE]) for task in common}
    worst = min(ahead, key=lambda task: ahead[task])
    lost = {
        method: sum(
            collapsed(each[method], digits[task][method], majority[task][method])
            for task, each in accuracy.items()
            if each[method]
        )
        for method in (OURS, BASELINE)
    }
    runs = {method: sum(len(accuracy[t][method]) for t in accuracy) for method in (OURS, BASELINE)}
    seeds = len({row["seed"] for row in rows if row["method"] == OURS})
    return (
        f"Over {len(common)} tasks, with up to {seeds} seed{'s' * (seeds > 1)} each, `ProgramLoss` as it is ends "
        f"{beside(statistics.mean(ahead.values()))} exact inference. On its worst task, *{worst}*, it ends "
        f"{beside(ahead[worst])} it. "
        f"{lost[OURS]} of its {runs[OURS]} runs collapsed, and {lost[BASELINE]} of the {runs[BASELINE]} of exact "
        "inference."
    )


def moved_table(rows: list[dict[str, Any]]) -> str:
    """Digits read and right answers with and without moves of values, where the means differ by a point."""
    shown = {OURS: "reorder=True", "tpsolve, values not moved": "reorder=False"}
    digits, accuracy = by_task(rows, "digits"), by_task(rows, "accuracy")
    lines = [f"| task | {' | '.join(f'{what}, {name}' for what in ('digits', 'answers') for name in shown.values())} |"]
    lines.append("|---|" + "---:|" * 4)
    for task, each in digits.items():
        seeds = min(len(each[method]) for method in shown)
        cells = [[found[task][method][:seeds] for method in shown] for found in (digits, accuracy)]
        if seeds and abs(statistics.mean(cells[0][0]) - statistics.mean(cells[0][1])) >= 1:
            lines.append(f"| {task} | {' | '.join(_cell(values) for both in cells for values in both)} |")
    return "\n".join(lines)


def differences(rows: list[dict[str, Any]], own: str, peer: str) -> dict[str, list[float]]:
    """Points by which `own` is ahead of `peer`, seed by seed, of each task that both have two seeds of at least."""
    found: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["method"] in (own, peer):
            found[row["task"]][row["seed"]][row["method"]] = 100 * row["accuracy"]
    each = {t: [by[own] - by[peer] for by in seeds.values() if len(by) == 2] for t, seeds in found.items()}
    return {task: values for task, values in each.items() if len(values) > 1}


def lower_limit(values: list[float]) -> float:
    """Of the mean, by Student's t with 95 % on both sides."""
    from scipy.stats import t

    n = len(values)
    return statistics.mean(values) - float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5


def beside_peers(rows: list[dict[str, Any]]) -> str:
    """For each peer, on how many tasks ProgramLoss is no worse, and where that is not shown."""
    lines = [
        "| beside | tasks | mean difference, points | no worse | not shown on | at most a quarter of its calls |",
        "|---|---:|---:|---:|---|---:|",
    ]
    calls = by_task(rows, "calls")
    for peer in PEERS:
        ahead = differences(rows, OURS, peer)
        if not ahead:
            continue
        open_ones = [task for task, values in ahead.items() if lower_limit(values) <= MIN_DIFFERENCE]
        few = sum(
            statistics.mean(calls[task][OURS]) <= statistics.mean(calls[task][peer]) / 4
            for task in ahead
            if any(calls[task][peer])
        )
        names = ", ".join(f"{t} ({statistics.mean(ahead[t]):+.1f})" for t in open_ones).replace("|", r"\|")
        lines.append(
            f"| {peer} | {len(ahead)} | {statistics.mean(map(statistics.mean, ahead.values())):+.1f} | "
            f"{len(ahead) - len(open_ones)} | {names} | {few} |"
        )
    return "\n".join(lines)


def seconds_table(rows: list[dict[str, Any]]) -> str:
    """Accuracy of each method after equal time of the processor."""
    accuracy = by_task(rows, "accuracy")
    methods = [m for m in SHOWN if any(m in each for each in accuracy.values())]
    lines = ["| task | " + " | ".join("tpsolve" if m == OURS else SHOWN[m] for m in methods) + " |"]
    lines.append("|---|" + "---:|" * len(methods))
    lines += [
        f"| {task.replace('|', chr(92) + '|')} | " + " | ".join(_cell(each.get(m, [])) for m in methods) + " |"
        for task, each in accuracy.items()
    ]
    seeds = {m: max(len(each.get(m, [])) for each in accuracy.values()) for m in methods}
    return "\n".join(lines) + (
        "\n\nRight answers on the test set, in percent, after 20 s of one processor core; seeds at most: "
        + ", ".join(f"{m} {n}" for m, n in seeds.items())
        + ". `python -m benchmarks.programs seconds` makes the rows."
    )


def warm_table(rows: list[dict[str, Any]]) -> str:
    """Sums of two numbers of four digits after a few labelled digits."""
    found = by_task([{**row, "task": "sums"} for row in rows], "accuracy")["sums"]
    seconds = by_task([{**row, "task": "sums"} for row in rows], "cpu_seconds")["sums"]
    most = statistics.mean(found["labelled digits"])
    names = {
        "labelled digits": "every digit labelled",
        "tpsolve": "tpsolve, `Fold`",
        "declared constraint": "tpsolve, declared constraint",
        "100 labelled digits alone": "100 labelled digits alone",
    }
    lines = ["| what is known of the 4,000 sums | right sums | of every digit labelled | processor seconds |"]
    lines.append("|---|---:|---:|---:|")
    for method, name in names.items():
        if method in found:
            share, spent = statistics.mean(found[method]) / most, statistics.mean(seconds[method]) / 100
            lines.append(f"| {name} | {_cell(found[method])} | {share:.0%} | {spent:.0f} |")
    seeds = max(map(len, found.values()))
    return "\n".join(lines) + (
        f"\n\nPercent of the test set's sums; {seeds} seed{'s' * (seeds > 1)}. "
        "`python -m benchmarks.long_sums --warm` makes the rows."
    )


def sums_table(rows: list[dict[str, Any]]) -> str:
    """Accuracy of the sums by the length of the numbers, beside what was published."""
    longest = {n: max(row["epochs"] for row in rows if row["length"] == n) for n in {row["length"] for row in rows}}
    ours: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["epochs"] == longest[row["length"]]:
            ours[row["method"]][row["length"]].append(row)
    by_length = ours["tpsolve"]
    lengths = sorted(by_length)

    def percent(method: str, what: str) -> list[str]:
        return [_cell([100 * row[what] for row in ours[method][n]]) for n in lengths]

    cells = {
        "tpsolve, `Fold`": percent("tpsolve", "accuracy"),
        "the same network, every digit labelled": percent("labelled digits", "accuracy"),
        **{name: [PUBLISHED[name].get(n, "") for n in lengths] for name in PUBLISHED},
        "digits read rightly, tpsolve": percent("tpsolve", "digits"),
        "processor seconds, tpsolve": [
            f"{statistics.mean(row['cpu_seconds'] for row in by_length[n]):.0f}" for n in lengths
        ],
    }
    seeds, first = len({row["seed"] for row in rows}), rows[0]
    epochs = " / ".join(str(by_length[n][0]["epochs"]) for n in lengths)
    lines = ["| digits of each number | " + " | ".join(map(str, lengths)) + " |", "|---|" + "---:|" * len(lengths)]
    lines += [f"| {name} | " + " | ".join(each) + " |" for name, each in cells.items()]
    return "\n".join(lines) + (
        f"\n\nSums that are right on the test set, in percent; {seeds} seed{'s' * (seeds > 1)}, {epochs} epochs, torch "
        f"{first['torch']}, {first['machine']}. The published rows are of 100 epochs and networks of their own "
        "([references](references.md)). Ours: `python -m benchmarks.long_sums`."
    )


def ised_table(rows: list[dict[str, Any]]) -> str:
    """Accuracy of each method with the network and the lengths of ISED's paper."""
    accuracy = by_task(rows, "accuracy")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = ["| method | " + " | ".join(accuracy) + " |", "|---|" + "---:|" * len(accuracy)]
    lines += [
        f"| {method} | " + " | ".join(_cell(each[method]) for each in accuracy.values()) + " |" for method in methods
    ]
    seeds = max(len(values) for each in accuracy.values() for values in each.values())
    return "\n".join(lines) + (
        f"\n\nRight answers on the test set, in percent; up to {seeds} seeds, torch {rows[0]['torch']}. "
        "`python -m benchmarks.programs ised` writes the rows."
    )


def draw(rows: list[dict[str, Any]]) -> None:
    """Every run as a dot: the accuracy of its answers, by task."""
    accuracy = by_task(rows, "accuracy")
    figure = Figure(figsize=(9, 0.36 * len(accuracy) + 1.4), layout="constrained")
    axes = figure.subplots()
    for place, each in enumerate(accuracy.values()):
        for shift, (method, (label, marker, colour)) in enumerate(DRAWN.items()):
            values = each.get(method, [])
            heights = [place + 0.2 * (shift - 1.5)] * len(values)
            axes.scatter(
                values, heights, marker=marker, color=colour, s=18, alpha=0.8, label=label if place == 0 else None
            )
    axes.set_yticks(range(len(accuracy)), list(accuracy))
    axes.invert_yaxis()
    axes.set_xlabel("answers that are right on the test set, percent; a dot a seed")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(PICTURE)


def read(path: Path) -> list[dict[str, Any]]:
    """Saved rows."""
    return read_parts(path)


def write(page: Path, mark: str, content: str) -> None:
    """Put the content between the page's marks."""
    marked = re.compile(rf"(<!-- {mark}: begin -->\n).*?(<!-- {mark}: end -->)", re.DOTALL)
    page.write_text(marked.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", page.read_text()))


def main() -> None:
    """Write both."""
    rows = read(ROWS)
    where = f"Measured on {rows[0]['machine']} with Python {rows[0]['python']} and torch {rows[0]['torch']}."
    write(PAGE, "rows", f"{verdict(rows)}\n\n{table(rows)}\n\n{where}")
    write(PAGE, "moved", moved_table(rows))
    write(PAGE, "peers", beside_peers(rows))
    write(PAGE, "seconds", seconds_table(read(SECONDS)))
    write(PAGE, "warm", warm_table(read(WARM)))
    write(PAGE, "sums", sums_table(read(SUMS)))
    write(PAGE, "ised", ised_table(read(ISED)))
    write(SEARCH_PAGE, "programs", f"{verdict(rows)}\n\n![{ALT}](images/programs.svg)")
    draw(rows)


if __name__ == "__main__":
    main()
