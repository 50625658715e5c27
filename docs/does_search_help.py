"""Write the tables and pictures of does-search-help.md from saved rows: `python -m docs.does_search_help`.

A part whose rows are missing stays as it is.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.paired import best_known, excess_of, paired_p, shifted_mean
from tpsolve.compare._plots import COLOURS

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
Row = dict[str, Any]


def read(name: str) -> list[Row]:
    """The rows of a benchmark; none where there is no file."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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


def answer() -> str:
    """The plain answers, with their numbers."""
    return "\n\n".join([_narrow_answer(), *map(_wide_answer, MODELS)])


MODELS = {
    "mlp": "the network 784-128-128-128-10 on 20,000 images of Fashion-MNIST",
    "convnet4": "convnet4 on 4,000 images",
}
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


def _wide_answer(model: str) -> str:
    runs = _by_strategy([row for row in read("wide") if row["model"] == model and "test" in row])
    others = sorted((name for name in runs if name not in BASELINES), key=lambda name: -_mean(runs[name], "test"))
    searched = {name for name in others if next(iter(runs[name].values()))["solver"]}
    longest = _longest(runs)

    def told(name: str) -> str:
        (same, p), (more, q) = (_gain(runs[name], runs[other]) for other in (_baseline(runs, name), longest))
        return f"*{name}* {same:+.2f} (p = {p:.2g}) and {more:+.2f} (p = {q:.2g})"

    def added(name: str) -> str:
        points, p = _gain(runs[name], runs[name.replace("curvature, ", "")])
        return f"{points:+.2f} (p = {p:.2g}) in *{name}*"

    pairs = [name for name in others if name in searched and name.replace("curvature, ", "") in runs]
    points, p = _gain(runs[pairs[0]], runs[pairs[0].replace("curvature, ", "")])
    shown = points > 0 and p < 0.01
    search, plain = ([name for name in others if (name in searched) is kind] for kind in (True, False))
    epochs = next(iter(runs[longest].values()))["epochs"]
    return (
        f"**Wide networks: {MODELS[model]}.** Points of test accuracy above the tuned surrogate gradient of as many "
        f"epochs, and above that of {epochs} epochs, with a search: {'; '.join(map(told, search[:2]))}. The best "
        f"without one: {'; '.join(map(told, plain[:2]))}. What the search adds to the same recipe without it: "
        f"{'; '.join(map(added, pairs))}: in the best of these {'a gain' if shown else 'no gain is shown'}."
    ) + _without_decay(runs)


def _without_decay(runs: dict[str, dict[int, Row]]) -> str:
    """What the best strategy of 8 epochs, and weight decay alone, gain where the baseline has its width tuned alone."""
    if DECAY not in runs:
        return ""
    shorter = [name for name, of in runs.items() if next(iter(of.values())).get("epochs", 8) == 8]
    best = max((name for name in shorter if name not in BASELINES), key=lambda name: _mean(runs[name], "test"))
    (ours, p), (decay, q) = (_gain(runs[name], runs["soft hinge"]) for name in (best, DECAY))
    return (
        f" Above the surrogate gradient whose width and rate alone are tuned, in as many epochs: *{best}* {ours:+.2f} "
        f"(p = {p:.2g}), and weight decay alone {decay:+.2f} (p = {q:.2g})."
    )


def _narrow_answer() -> str:
    found = Narrow()

    def ratio(solver: str) -> float:
        ours, theirs = map(shifted_mean, found.pairs(solver))
        return ours / max(theirs, 1e-9)

    best = min((solver for solver in found.solvers if not solver.startswith("surrogate")), key=ratio)
    ours, theirs = found.pairs(best)
    return (
        f"**Narrow networks.** The best search, `{best}`, reaches the proved optimum in {found.reached(best):.0%} "
        f"of its runs and ends {shifted_mean(ours):.2f} errors above the best known, on the {len(ours)} instances "
        f"that it takes. The best-tuned surrogate gradient, `{found.baseline}`, reaches the optimum in "
        f"{found.reached(found.baseline):.0%} of all its runs and ends {shifted_mean(theirs):.2f} above on the same "
        f"instances with equal seconds (p = {paired_p(ours, theirs):.2g})."
    ) + _check(best, found.baseline)


def _check(best: str, baseline: str) -> str:
    """The same two on seeds that nothing was developed on, where they have run."""
    fresh = Narrow("check") if any(row["phase"] == "check" for row in read("narrow")) else None
    if fresh is None or not {best, baseline} <= set(fresh.solvers):
        return ""
    return (
        f" Again, on {len({row['seed'] for row in fresh.final})} seeds that nothing was developed on: "
        f"{fresh.reached(best):.0%} and {fresh.level(best):.2f} errors above, against "
        f"{fresh.reached(baseline):.0%} and {fresh.level(baseline):.2f}."
    )


def narrow() -> str:
    """One line a solver, against the baseline on the instances that both take."""
    found = Narrow()
    known, final, solvers, baseline = found.known, found.final, found.solvers, found.baseline
    lines = [
        "| solver | instances | optimum reached, of the runs where it is proved | errors above the best known | "
        "the same of the baseline | better / worse | p |",
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
        f"{len(known)} instances, {proved} with a proven optimum; {seconds:g} seconds a run, {seeds} seeds, "
        f"{sum('error' in row for row in final)} runs failed. Measured on {final[0]['device']}.",
        "",
        "![Errors above the best known against seconds](images/narrow.svg)",
    ]
    _draw_narrow(final, {name: value for name, (value, _) in known.items()}, solvers)
    return "\n".join(lines)


def instances() -> str:
    """One line an instance: the least errors and who proved them, and each solver's mean."""
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


def wide() -> str:
    """One line a strategy, against the surrogate gradient of higher validation accuracy, seed by seed."""
    rows = read("wide")
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        of = [row for row in rows if row["model"] == model]
        lines += ["", *_wide_table(model, of)]
    return "\n".join(lines[1:])


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
    verdict = f"**Better than the baseline at p < 0.01: {'; '.join(better) or 'nothing that was measured'}.**"
    return [verdict, "", *lines, "", f"{seeds} seeds, failed runs: {len(failed)}.", *failed]


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
    "answer": ("narrow", answer),
    "narrow": ("narrow", narrow),
    "instances": ("narrow", instances),
    "middle": ("middle", middle),
    "wide": ("wide", wide),
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
