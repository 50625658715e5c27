"""Write the tables and pictures of does-search-help.md from saved rows: `python -m docs.does_search_help`.

A part whose rows are missing stays as it is.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.paired import best_known, excess_of, paired_p, shifted_mean
from tpsolve._storage._row_log import read_parts
from tpsolve.compare.report._plots import COLOURS

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
Row = dict[str, Any]


def read(name: str) -> list[Row]:
    """The rows of a benchmark; none where there is no file."""
    path = RESULTS / f"{name}.jsonl"
    return read_parts(path)


class Narrow:
    """Errors above the best known of the final runs; the best-tuned surrogate is the baseline."""

    def __init__(self, phase: str = "run") -> None:
        rows = read("narrow")
        self.known, excess = best_known(rows), excess_of(rows)
        self.final = [row for row in rows if row["phase"] == phase]
        self.solvers = _names(self.final)
        self.runs: dict[str, dict[str, list[float]]] = {solver: {} for solver in self.solvers}
        for row in self.final:
            key = row["instance"], row["solver"], row["seed"]
            self.runs[row["solver"]].setdefault(row["instance"], []).append(excess[key])
        self.means = {s: {name: float(np.mean(v)) for name, v in of.items()} for s, of in self.runs.items()}
        surrogates = [solver for solver in self.solvers if solver.startswith("surrogate")]
        self.baseline = min(surrogates, key=self.level)

    def level(self, solver: str) -> float:
        return shifted_mean(list(self.means[solver].values()))

    def reached(self, solver: str) -> float:
        """Share of the runs that reach the optimum, where it is proved."""
        return float(np.mean([v <= 0 for name, of in self.runs[solver].items() if self.known[name][1] for v in of]))

    def pairs(self, solver: str) -> tuple[list[float], list[float]]:
        """Means of the solver and of the baseline on the instances that both take."""
        shared = sorted(set(self.means[solver]) & set(self.means[self.baseline]))
        return [self.means[solver][name] for name in shared], [self.means[self.baseline][name] for name in shared]


DECAY = "soft hinge, weight decay"
BASELINES = ("soft hinge", "saturated STE", DECAY, "soft hinge, 16 epochs", "soft hinge, longer")
"""Surrogate gradients and nothing else; a strategy is compared with those of as many epochs, and with the longest."""


def _by_strategy(rows: list[Row]) -> dict[str, dict[int, Row]]:
    """The runs of each strategy, by seed."""
    runs: dict[str, dict[int, Row]] = {}
    for row in rows:
        runs.setdefault(row["strategy"], {})[row["seed"]] = row
    return runs


def _mean(of: dict[int, Row], figure: str) -> float:
    return float(np.mean([row.get(figure, np.nan) for row in of.values()]))


def _baseline(runs: dict[str, dict[int, Row]], strategy: str) -> str:
    """The surrogate gradient of as many epochs that validates best."""
    epochs = {name: next(iter(of.values())).get("epochs", 8) for name, of in runs.items()}
    same = [name for name in BASELINES if name in runs and epochs[name] == epochs[strategy]]
    return max(same, key=lambda name: _mean(runs[name], "validation"))


def _gain(ours: dict[int, Row], theirs: dict[int, Row]) -> tuple[float, float]:
    """Points of test accuracy that ours are better on the same seeds, and the p of a paired t-test."""
    from scipy.stats import ttest_rel

    one, other = ([of[seed].get("test", np.nan) for seed in sorted(set(ours) & set(theirs))] for of in (ours, theirs))
    test: Any = ttest_rel(one, other)
    return float(np.mean(one) - np.mean(other)), float(test.pvalue)


def _longest(runs: dict[str, dict[int, Row]]) -> str:
    """The baseline of the most epochs."""
    return [name for name in BASELINES if name in runs][-1]


def _wide_answer(runs: dict[str, dict[int, Row]]) -> list[str]:
    """What a search adds to the same recipe without it, then what the best recipes gain over the baselines."""
    others = sorted((name for name in runs if name not in BASELINES), key=lambda name: -_mean(runs[name], "test"))
    searched = [name for name in others if next(iter(runs[name].values()))["solver"]]
    plain = [name for name in others if name not in searched]
    longest = _longest(runs)
    epochs = next(iter(runs[longest].values()))["epochs"]
    pairs = [(name, without) for name in searched if (without := name.replace("curvature, ", "")) in runs]
    points, p = _gain(*(runs[name] for name in pairs[0]))
    shown = "A search gains accuracy" if points > 0 and p < 0.01 else "No gain from search is shown"

    def told(name: str) -> str:
        (same, p), (more, q) = (_gain(runs[name], runs[other]) for other in (_baseline(runs, name), longest))
        return (
            f"*{name}*. It gains {same:+.2f} points (p = {p:.2g}) over the tuned surrogate gradient of as many epochs, "
            f"and {more:+.2f} points (p = {q:.2g}) over that of {epochs} epochs."
        )

    lines = [
        f"**{shown}: in the best recipe with a search, the search adds {points:+.2f} points of test accuracy "
        f"(p = {p:.2g}).**",
        "",
        "| recipe with a search | what the search adds to the same recipe without it, points | p |",
        "|---|---:|---:|",
    ]
    for name, without in pairs:
        points, p = _gain(runs[name], runs[without])
        lines.append(f"| {name} | {points:+.2f} | {p:.2g} |")
    return [
        *lines,
        "",
        f"The best recipe with a search is {told(searched[0])}",
        "",
        f"The best recipe without a search is {told(plain[0])}",
        *_without_decay(runs),
    ]


def _without_decay(runs: dict[str, dict[int, Row]]) -> list[str]:
    """What the best strategy of 8 epochs, and weight decay, gain over the baseline of tuned width and rate only."""
    if DECAY not in runs:
        return []
    shorter = [name for name, of in runs.items() if next(iter(of.values())).get("epochs", 8) == 8]
    best = max((name for name in shorter if name not in BASELINES), key=lambda name: _mean(runs[name], "test"))
    (ours, p), (decay, q) = (_gain(runs[name], runs["soft hinge"]) for name in (best, DECAY))
    return [
        "",
        "A second baseline is the surrogate gradient of which only the width and the rate are tuned. In as many "
        f"epochs, *{best}* gains {ours:+.2f} points (p = {p:.2g}) over it. Weight decay by itself gains {decay:+.2f} "
        f"points (p = {q:.2g}) over it.",
    ]


def _narrow_answer(found: Narrow) -> str:
    def ratio(solver: str) -> float:
        ours, theirs = map(shifted_mean, found.pairs(solver))
        return ours / max(theirs, 1e-9)

    best = min((solver for solver in found.solvers if not solver.startswith("surrogate")), key=ratio)
    ours, theirs = found.pairs(best)
    p = paired_p(ours, theirs)
    shown = "Search helps" if shifted_mean(ours) < shifted_mean(theirs) and p < 0.01 else "No gain from search is shown"
    return (
        f"**{shown}: the best search, `{best}`, ends {shifted_mean(ours):.2f} errors above the best known, and the "
        f"best-tuned surrogate gradient ends {shifted_mean(theirs):.2f} errors above it (p = {p:.2g}).** Both take the "
        f"same {len(ours)} instances with equal seconds. The search reaches the proved optimum in "
        f"{found.reached(best):.0%} of its runs. The surrogate gradient, `{found.baseline}`, reaches it in "
        f"{found.reached(found.baseline):.0%} of all its runs."
    ) + _check(best, found.baseline)


def _check(best: str, baseline: str) -> str:
    """The same two on seeds that nothing was developed on, where they have run."""
    fresh = Narrow("check") if any(row["phase"] == "check" for row in read("narrow")) else None
    if fresh is None or not {best, baseline} <= set(fresh.solvers):
        return ""
    return (
        f"\n\nBoth ran again on {len({row['seed'] for row in fresh.final})} seeds that nothing was developed on. The "
        f"search reached the optimum in {fresh.reached(best):.0%} of its runs and ended {fresh.level(best):.2f} errors "
        f"above the best known. The surrogate gradient reached it in {fresh.reached(baseline):.0%} and ended "
        f"{fresh.level(baseline):.2f} errors above."
    )


def narrow() -> str:
    """The answer, then one line a solver, against the baseline on the instances that both take."""
    found = Narrow()
    known, final, solvers, baseline = found.known, found.final, found.solvers, found.baseline
    lines = [
        _narrow_answer(found),
        "",
        "| solver | instances | runs that reach the optimum, where it is proved | errors above the best known | "
        "errors of the baseline above the best known | instances better / worse | p |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for solver in sorted(solvers, key=found.level):
        ours, theirs = found.pairs(solver)
        better = sum(a < b for a, b in zip(ours, theirs, strict=True))
        worse = sum(a > b for a, b in zip(ours, theirs, strict=True))
        p = "" if solver == baseline else f"{paired_p(ours, theirs):.2g}"
        name = f"`{solver}`" + (" (baseline)" if solver == baseline else "")
        lines.append(
            f"| {name} | {len(ours)} | {found.reached(solver):.0%} | {shifted_mean(ours):.2f} | "
            f"{shifted_mean(theirs):.2f} | {better} / {worse} | {p} |"
        )
    proved = sum(one for _, one in known.values())
    seconds, seeds = final[0]["budget"]["seconds"], len({row["seed"] for row in final})
    lines += [
        "",
        f"There are {len(known)} instances, {proved} of them with a proven optimum. Each run has {seconds:g} seconds. "
        f"Each instance has {seeds} seeds. {sum('error' in row for row in final)} runs failed. "
        f"Measured on {final[0]['device']}.",
        "",
        "![Errors above the best known against seconds](images/narrow.svg)",
    ]
    _draw_narrow(final, {name: value for name, (value, _) in known.items()}, solvers)
    return "\n".join(lines)


def instances() -> str:
    """One line an instance: the minimum of errors known, whether it is proved, and each solver's mean."""
    rows = read("narrow")
    known = best_known(rows)
    final = [row for row in rows if row["phase"] == "run" and "error" not in row]
    solvers = list(dict.fromkeys(row["solver"] for row in final))
    lines = [
        "| instance | network | points | best known | " + " | ".join(f"`{solver}`" for solver in solvers) + " |",
        "|---|---|---:|---:|" + "---:|" * len(solvers),
    ]
    for name in dict.fromkeys(row["instance"] for row in final):
        of = [row for row in final if row["instance"] == name]
        cells = []
        for solver in solvers:
            values = [row["objective"][0] for row in of if row["solver"] == solver]
            cells.append(f"{np.mean(values):.3g}" if values else "")
        value, proved = known[name]
        best = f"{value:g}{'' if proved else ' (not proved)'}"
        lines.append(f"| {name} | {of[0]['network']} | {of[0]['points']} | {best} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def middle() -> str:
    """Training errors against width, of each solver."""
    rows = [row for row in read("middle") if "error" not in row]
    lines = ["| instance | " + " | ".join(f"`{s}`" for s in _names(rows)) + " |", "|---|" + "---:|" * len(_names(rows))]
    for name in dict.fromkeys(row["instance"] for row in rows):
        cells = []
        for solver in _names(rows):
            values = [r["objective"][0] for r in rows if (r["instance"], r["solver"]) == (name, solver)]
            cells.append(f"{np.mean(values):.3g}" if values else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    tasks = list(dict.fromkeys(row["instance"].partition("/")[0] for row in rows))
    figure = Figure(figsize=(4.6 * len(tasks), 4.2), layout="constrained")
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        for number, solver in enumerate(_names(rows)):
            points: dict[int, list[float]] = {}
            for row in rows:
                if row["solver"] == solver and row["instance"].startswith(task + "/"):
                    points.setdefault(int(row["instance"].partition("/")[2]), []).append(row["objective"][0])
            widths = sorted(points)
            values = [np.mean(points[width]) for width in widths]
            axes.plot(widths, values, "o-", color=COLOURS[number % len(COLOURS)], label=solver)
        _dress(axes, "hidden units", "training errors")
        axes.set_xscale("log", base=2)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_title(task)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", frameon=False)
    figure.savefig(HERE / "images/middle.svg")
    return "\n".join([*lines, "", "![Training errors against hidden units](images/middle.svg)"])


def wide(model: str) -> str:
    """The answer, then one line a strategy, against the surrogate gradient of higher validation accuracy."""
    rows = [row for row in read("wide") if row["model"] == model]
    finished = _by_strategy([row for row in rows if "test" in row])
    return "\n".join([*_wide_answer(finished), "", *_wide_table(model, rows)])


def _wide_table(model: str, rows: list[Row]) -> list[str]:
    runs = _by_strategy(rows)
    lines = [
        f"| {model} | epochs | setting | test accuracy | best epoch | training | s a run | "
        "against the baseline | p | against the longer one | p |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    better = []
    longest = _longest(runs)
    seconds = {row["strategy"]: row["seconds"] for row in read("wide_seconds") if row["model"] == model}
    for strategy in sorted(runs, key=lambda name: -_mean(runs[name], "test")):
        of, baseline = runs[strategy], _baseline(runs, strategy)
        gains = {other: _gain(of, runs[other]) for other in (baseline, longest) if other != strategy}
        if baseline in gains and gains[baseline][0] > 0 and gains[baseline][1] < 0.01:
            better.append(strategy)
        best = [max(row["curve"]) for row in of.values() if row.get("curve")]
        first = next(iter(of.values()))
        cells = [
            f"{strategy}{' (baseline)' if strategy == baseline else ''}",
            str(first.get("epochs", 8)),
            _setting(first),
            f"{_mean(of, 'test'):.2f} ± {np.std([row.get('test', np.nan) for row in of.values()], ddof=1):.2f}",
            f"{np.mean(best):.2f}" if best else "",
            f"{_mean(of, 'train'):.1f}",
            f"{seconds[strategy]:.0f}" if strategy in seconds else "",
        ]
        for other in (baseline, longest):
            cells += [f"{gains[other][0]:+.2f}", f"{gains[other][1]:.2g}"] if other in gains else ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    seeds = max(len(of) for of in runs.values())
    failed = [f"{row['strategy']}, seed {row['seed']}: {row['failed']}" for row in rows if "failed" in row]
    verdict = f"Better than the baseline at p < 0.01: {'; '.join(better) or 'nothing that was measured'}."
    return [verdict, "", *lines, "", f"Each strategy has {seeds} seeds. {len(failed)} runs failed.", *failed]


def _setting(row: Row) -> str:
    relative = "relative " if row.get("width_mode") == "relative" else ""
    parts = [f"{relative}width {row['width']:g}", f"rate {row['rate']:g}"]
    parts += [
        f"{name.replace('_', ' ')} {row[name]:g}"
        for name in ("noise", "harden", "average", "smooth", "weight_decay")
        if row.get(name)
    ]
    return ", ".join(parts + ([f"`{row['solver']}`"] if row["solver"] else []))


def _names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["solver"] for row in rows))


def _draw_narrow(rows: list[Row], least: dict[str, float], solvers: list[str]) -> None:
    """Anytime curves: shifted geometric mean of the errors above the best known."""
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    axes = figure.add_subplot()
    grid = np.geomspace(0.02, max(row["budget"]["seconds"] for row in rows), 60)
    for number, solver in enumerate(solvers):
        curves = []
        for row in rows:
            if row["solver"] == solver and "error" not in row:
                points = [(s, objective) for s, objective, _ in row["trace"] if objective is not None]
                seconds, objective = np.array([(0.0, row["start"][0]), *points]).T
                at = np.searchsorted(seconds, grid, side="right") - 1
                curves.append(np.minimum.accumulate(objective)[at] - least[row["instance"]])
        mean = np.expm1(np.mean(np.log1p(np.maximum(curves, 0)), axis=0))
        axes.step(grid, mean, where="post", color=COLOURS[number % len(COLOURS)], label=solver, linewidth=2)
    _dress(axes, "seconds", "errors above the best known")
    axes.set_xscale("log")
    axes.set_yscale("log")
    figure.legend(loc="outside lower center", frameon=False)
    figure.savefig(HERE / "images/narrow.svg")


def _dress(axes: Axes, below: str, beside: str) -> None:
    axes.set_xlabel(below)
    axes.set_ylabel(beside)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "narrow": ("narrow", narrow),
    "instances": ("narrow", instances),
    "middle": ("middle", middle),
    "mlp": ("wide", partial(wide, "mlp")),
    "convnet4": ("wide", partial(wide, "convnet4")),
}
"""For each marked part of the page: the rows that it needs, and what writes it."""


if __name__ == "__main__":
    page = HERE / "does-search-help.md"
    text = page.read_text()
    for name, (rows, write) in PARTS.items():
        if not read(rows):
            continue
        part = write()
        marked = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        text = marked.sub(lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text)
    page.write_text(text)
