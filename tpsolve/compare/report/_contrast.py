"""Two runs side by side: rows merged, and what got worse from the first to the second."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tpsolve._storage._documents import read_json
from tpsolve.compare._run_folder import SETTINGS, read_rows
from tpsolve.compare._statistics import LEVEL, Row, Solved, holm, interval, paired, scores, signed
from tpsolve.compare.report._page_data import group_of
from tpsolve.errors import ArgumentError, FolderError

MIN_SLOWER = 1.05
"""A ratio of seconds nearer to 1 is no change."""
MIN_WORSE = 0.01
"""Of the attainable improvement: an instance got worse if this much more is left."""
MAX_WORSE = 20
"""Instances that got worse, named at most."""


@dataclass(frozen=True)
class Change:
    """What became of one solver, over the instances that both runs have.

    Args:
        solver: its name. instances: in both runs.
        before, after: mean share of the attainable improvement left, against the best that either run found.
        difference, low, high: after - before, and its interval of 95% by the studentised bootstrap over
            instances.
        p: of Wilcoxon's signed rank test over instances, after Holm over solvers.
        seconds: the geometric mean over instances of seconds after / before. seconds_low, seconds_high: its interval.
        failures_before, failures_after: solves that ended with an error.
        verdict: "worse", "better" or "alike" of what is left; "mixed" where the signed ranks and the means differ in
            which it is. pace: "slower", "faster" or "alike".
    """

    solver: str
    instances: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    seconds: float
    seconds_low: float
    seconds_high: float
    failures_before: int
    failures_after: int
    verdict: str
    pace: str


@dataclass(frozen=True)
class Contrast:
    """Two runs.

    Args:
        labels: of the first and the second.
        rows: of both; solvers and instances that stand for other things in the two have their run's label.
        changes: one a solver that both runs have, what got worse most first.
        worse: the instances that got worse, in words, the worst first; at most `MAX_WORSE`.
        comparable: whether both ran on the same machine with the same versions and budget.
    """

    labels: tuple[str, str]
    rows: list[Row]
    changes: list[Change]
    worse: list[str]
    comparable: bool

    @property
    def regressions(self) -> list[str]:
        """The solvers that got worse or slower, or fail more often."""
        return [
            change.solver
            for change in self.changes
            if change.verdict == "worse" or change.pace == "slower" or change.failures_after > change.failures_before
        ]

    @property
    def words(self) -> str:
        """What changed, in a line."""
        before, after = self.labels
        if not self.changes:
            return f"{before} and {after} have no solver on the same instance, so nothing can be contrasted."
        parts = []
        for words, names in (
            ("leaves more", [c.solver for c in self.changes if c.verdict == "worse"]),
            ("leaves less on some and more on others", [c.solver for c in self.changes if c.verdict == "mixed"]),
            ("leaves less", [c.solver for c in self.changes if c.verdict == "better"]),
            ("is slower", [c.solver for c in self.changes if c.pace == "slower"]),
            ("is faster", [c.solver for c in self.changes if c.pace == "faster"]),
            ("fails more often", [c.solver for c in self.changes if c.failures_after > c.failures_before]),
        ):
            if names:
                parts.append(f"{words}: {', '.join(names)}")
        text = "; ".join(parts) or "no solver is told apart from itself"
        warning = "" if self.comparable else " The runs differ in machine, versions or budget, so seconds may too."
        return f"From {before} to {after}, {text}.{warning}"


def read_run(folder: Path) -> tuple[dict[str, Any], list[Row]]:
    """The settings and the rows of a comparison on disk, which is left as it is.

    Raises:
        FolderError: the folder holds no comparison.
        FileFormatError: its files are damaged.
    """
    if not (folder / SETTINGS).is_file():
        raise FolderError(f"{folder}: is not the folder of a comparison: it has no {SETTINGS}.")
    settings = read_json(folder / SETTINGS, dict[str, Any])
    return settings, read_rows(folder).rows().unpacked()


def labels_of(first: Path, second: Path) -> tuple[str, str]:
    """Names for two folders: as short as tells them apart.

    Raises:
        ArgumentError: they are one folder.
    """
    paths = first.resolve(), second.resolve()
    if paths[0] == paths[1]:
        raise ArgumentError("SECOND", second, "another run than the first")
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if names[0] != names[1]:
            return names[0], names[1]
    raise AssertionError("different paths have different parts")


def contrast(labels: tuple[str, str], before: Sequence[Row], after: Sequence[Row]) -> Contrast:
    """Merge the rows of two runs, and say what became of each solver that both have."""
    prints = [{row["instance"]: row["fingerprint"] for row in rows} for rows in (before, after)]
    differ = {name for name in prints[0].keys() & prints[1].keys() if prints[0][name] != prints[1][name]}
    runs = [
        [{**row, "instance": f"{row['instance']} [{label}]"} if row["instance"] in differ else row for row in rows]
        for label, rows in zip(labels, (before, after), strict=True)
    ]
    having = [defaultdict(set) for _ in runs]
    for of, rows in zip(having, runs, strict=True):
        for row in rows:
            of[row["solver"]].add(row["instance"])
    both = [name for name in having[0] if name in having[1]]
    merged = [
        [{**row, "solver": f"{row['solver']} [{label}]"} if row["solver"] in both else row for row in rows]
        for label, rows in zip(labels, runs, strict=True)
    ]
    rows = [*merged[0], *merged[1]]
    found = scores(Solved(rows))
    place = {name: number for number, name in enumerate(found.solvers)}
    counts = Counter(row["solver"] for row in rows if "error" in row)
    seconds = _seconds(rows)
    pairs = []
    worse: list[tuple[float, str]] = []
    for solver in both:
        names = [f"{solver} [{label}]" for label in labels]
        if not having[0][solver] & having[1][solver]:
            continue
        # One that only failed has no scores.
        nothing = np.full(len(found.instances), np.nan)
        left = [found.left[place[name]] if name in place else nothing for name in names]
        shared = ~np.isnan(left[0]) & ~np.isnan(left[1])
        common = sorted(seconds[names[0]].keys() & seconds[names[1]].keys())
        pace = np.log([seconds[names[1]][k] / seconds[names[0]][k] for k in common])
        pairs.append((solver, names, left[0][shared], left[1][shared], pace))
        for k in np.flatnonzero(shared & (np.nan_to_num(left[1] - left[0]) > MIN_WORSE)):
            change = float(left[1][k] - left[0][k])
            words = f"{solver} on {found.instances[k]}: {left[0][k]:.1%} left before, {left[1][k]:.1%} after"
            worse.append((change, words))
    quality = holm([paired(first, second) for _, _, first, second, _ in pairs])
    speed = holm([paired(pace, np.zeros(len(pace))) for *_, pace in pairs])
    changes = []
    for (solver, names, first, second, pace), p, of_pace in zip(pairs, quality, speed, strict=True):
        low, high = interval(second - first, -1.0, 1.0)
        difference = float(np.mean(second - first)) if len(first) else math.nan
        ratio = float(np.exp(np.mean(pace))) if len(pace) else math.nan
        changes.append(
            Change(
                solver=solver,
                instances=len(pace),
                before=float(np.mean(first)) if len(first) else math.nan,
                after=float(np.mean(second)) if len(second) else math.nan,
                difference=difference,
                low=low,
                high=high,
                p=p,
                seconds=ratio,
                seconds_low=math.exp(interval(pace)[0]),
                seconds_high=math.exp(interval(pace)[1]),
                failures_before=counts[names[0]],
                failures_after=counts[names[1]],
                verdict=_verdict(first, second, p),
                pace=_pace(pace, of_pace),
            )
        )
    changes.sort(key=lambda change: -np.nan_to_num(change.difference))
    worse.sort(key=lambda each: -each[0])
    kinds = [set(map(group_of, run)) for run in runs]
    return Contrast(labels, rows, changes, [words for _, words in worse[:MAX_WORSE]], kinds[0] == kinds[1])


def _verdict(before: np.ndarray, after: np.ndarray, p: float) -> str:
    if not p < LEVEL:
        return "alike"
    rank, mean = signed(after, before)
    return "worse" if min(rank, mean) > 0 else "better" if max(rank, mean) < 0 else "mixed"


def _pace(logarithms: np.ndarray, p: float) -> str:
    if not p < LEVEL:
        return "alike"
    rank, mean = signed(logarithms, np.zeros(len(logarithms)))
    ratio = math.exp(mean / len(logarithms))
    return "slower" if ratio > MIN_SLOWER and rank > 0 else "faster" if ratio < 1 / MIN_SLOWER and rank < 0 else "alike"


def _seconds(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """For each solver and instance, the mean seconds of a call, of those that took any."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if "error" not in row and row["seconds"] > 0:
            found[row["solver"]][row["instance"]].append(row["seconds"])
    return defaultdict(dict, {s: {i: float(np.mean(v)) for i, v in of.items()} for s, of in found.items()})
