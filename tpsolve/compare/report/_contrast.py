"""Two runs side by side: rows merged, and what got worse from the first to the second."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tpsolve._storage._documents import read_json
from tpsolve.compare._row_files import SETTINGS
from tpsolve.compare._row_table import Row, RowTable
from tpsolve.compare._statistics import LEVEL, Solved, holm, interval, paired, scores, signed
from tpsolve.compare._stored_rows import StoredRows, read_rows
from tpsolve.compare.report._page_data import groups_of
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
        rows: of both, one run after the other; solvers and instances that stand for other things in the two have their
            run's label. table: the same rows in columns.
        changes: one a solver that both runs have, what got worse most first.
        worse: the instances that got worse, in words, the worst first; at most `MAX_WORSE`.
        comparable: whether both ran on the same machine with the same versions and budget.
    """

    labels: tuple[str, str]
    rows: "Merged"
    table: RowTable
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


class Merged:
    """Rows of two runs, each of which is made when its turn comes.

    Args:
        labels: of the runs. runs: their rows. instances, solvers: those whose names get the label of their run.
    """

    def __init__(
        self, labels: tuple[str, str], runs: Sequence[Sequence[Row]], instances: set[str], solvers: set[str]
    ) -> None:
        self._labels, self._runs, self._instances, self._solvers = labels, runs, instances, solvers

    def __iter__(self) -> Iterator[Row]:
        for label, rows in zip(self._labels, self._runs, strict=True):
            for row in rows:
                names = {name: row[name] for name in ("instance", "solver")}
                for name, common in (("instance", self._instances), ("solver", self._solvers)):
                    if row[name] in common:
                        names[name] = f"{row[name]} [{label}]"
                yield {**row, **names}

    def __len__(self) -> int:
        return sum(map(len, self._runs))


def read_run(folder: Path) -> tuple[dict[str, Any], StoredRows]:
    """The settings and the rows of a comparison on disk, which is left as it is.

    Raises:
        FolderError: the folder holds no comparison.
        FileFormatError: its files are damaged.
    """
    if not (folder / SETTINGS).is_file():
        raise FolderError(f"{folder}: is not the folder of a comparison: it has no {SETTINGS}.")
    settings = read_json(folder / SETTINGS, dict[str, Any])
    return settings, read_rows(folder)


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
    prints: list[dict[str, str]] = []
    having: list[dict[str, set[str]]] = []
    for rows in (before, after):
        prints.append({})
        having.append(defaultdict(set))
        for row in rows:
            prints[-1][row["instance"]] = row["fingerprint"]
            having[-1][row["solver"]].add(row["instance"])
    differ = {name for name in prints[0].keys() & prints[1].keys() if prints[0][name] != prints[1][name]}
    both = [name for name in having[0] if name in having[1]]
    merged = Merged(labels, (before, after), differ, set(both))
    table = RowTable.of(merged)
    found = scores(Solved(table))
    place = {name: number for number, name in enumerate(found.solvers)}
    counts = {solver: int(of.failed.sum()) for solver, of in table.grouped("solver").items()}
    seconds = _seconds(table)
    pairs = []
    worse: list[tuple[float, str]] = []
    for solver in both:
        names = [f"{solver} [{label}]" for label in labels]
        if not (having[0][solver] & having[1][solver]) - differ:
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
    kinds = [set(groups_of(part)) for part in (table[: len(before)], table[len(before) :])]
    return Contrast(labels, merged, table, changes, [words for _, words in worse[:MAX_WORSE]], kinds[0] == kinds[1])


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


def _seconds(rows: RowTable) -> dict[str, dict[str, float]]:
    """For each solver and instance, the mean seconds of a call, of those that took any."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if "error" not in row and row["seconds"] > 0:
            found[row["solver"]][row["instance"]].append(row["seconds"])
    return defaultdict(dict, {s: {i: float(np.mean(v)) for i, v in of.items()} for s, of in found.items()})
