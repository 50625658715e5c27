"""How good a solver is at each moment: curves, fixed targets, fixed budgets, and expected running times.

A *run* is one row: one solver on one instance under one seed. Its quality at a moment is the share of the attainable
improvement that is left, of the mean objective over the samples of the instance. A *target* is such a share. The terms
are those of COCO (Hansen et al., COCO: a platform for comparing continuous optimizers in a black-box setting,
Optimization Methods and Software 2021) and of IOHprofiler (Doerr et al., arXiv 1810.05281), with seconds in place of
evaluations.
"""

import math
from array import array
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from tpsolve.compare._row_table import Row, RowTable, spans
from tpsolve.compare._statistics import Known, intervals, is_met, resampled, tail

MIN_LEFT = 1e-4
"""A share of the improvement left below this counts as none."""
ROUNDED = 1e-6
"""A share of the improvement left of at most this is none: what float32 rounds."""
TARGETS = np.array([*10.0 ** (-np.arange(1, 41) / 10), 0.0])
"""Of the empirical distribution: shares left from 79% to 0.01%, evenly on a logarithmic axis, and none."""
TABLE_TARGETS = (0.5, 0.1, 0.01, 0.0)
"""Of the table of expected running times."""
TABLE_BUDGETS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Of the table of fixed budgets, in budgets of a solve."""

Curve = tuple[np.ndarray, np.ndarray]
"""Seconds, increasing, and a value that holds from each on."""


@dataclass(frozen=True)
class Run:
    """One row as a course in time.

    Args:
        instance: its name.
        seconds: `(k,)`, increasing, at which the quality changed; empty for a run that failed.
        left: `(k,)`, decreasing shares of the attainable improvement left, from each of these on.
        spent: seconds that the run took; of one that failed, its budget, NaN if that has no seconds.
        failed: whether it ended with an error.
    """

    instance: str
    seconds: np.ndarray
    left: np.ndarray
    spent: float
    failed: bool = False

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """The share left at each moment; NaN before anything is known."""
        return np.append(np.nan, self.left)[np.searchsorted(self.seconds, seconds, side="right")]


@dataclass(frozen=True)
class RunningTime:
    """Expected running time to a target, over runs on many instances.

    Args:
        target: the share left.
        seconds: spent by all runs until they reached it or ended, for each run that reached it; inf: none did; NaN:
            a run spent what is not known. It is
            the expected time of a solver that is started again and again (Auger and Hansen, Performance evaluation of
            an advanced local search evolutionary algorithm, CEC 2005).
        low, high: the interval of 95%, by the bootstrap over instances, with the `tail` of their number.
        reached: share of the runs that reached it.
    """

    target: float
    seconds: float
    low: float
    high: float
    reached: float


@dataclass(frozen=True)
class FixedBudget:
    """The mean share left after so many seconds; NaN where `nothing` is known yet on so many of the `instances`."""

    seconds: float
    left: float
    low: float
    high: float
    nothing: int
    instances: int


class Runs(Sequence[Run]):
    """Runs in columns, which take as much as their moments do; each is made when it is asked for.

    Attributes:
        names: of instances. instance: of each run the place of its name, `(runs,)`.
        first: of each run its first moment, and behind the last one their number, `(runs + 1,)`.
        seconds, left: of the moments of all runs, one run after the other.
        spent, failed: of each run, `(runs,)`.
    """

    def __init__(
        self,
        names: list[str],
        instance: np.ndarray,
        first: np.ndarray,
        seconds: np.ndarray,
        left: np.ndarray,
        spent: np.ndarray,
        failed: np.ndarray,
    ) -> None:
        self.names, self.instance, self.first, self.seconds, self.left = names, instance, first, seconds, left
        self.spent, self.failed = spent, failed

    @classmethod
    def of(cls, runs: Iterable[Run]) -> "Runs":
        """The runs, read once, one after the other."""
        if isinstance(runs, Runs):
            return runs
        names: dict[str, int] = {}
        instance, first, failed = array("q"), array("q", [0]), array("b")
        seconds, left, spent = (array("d") for _ in range(3))
        for run in runs:
            instance.append(names.setdefault(run.instance, len(names)))
            seconds.extend(run.seconds)
            left.extend(run.left)
            first.append(len(seconds))
            spent.append(run.spent)
            failed.append(run.failed)
        of_runs, firsts = np.frombuffer(instance, dtype=np.int64), np.frombuffer(first, dtype=np.int64)
        moments, shares, spending = (np.frombuffer(column, dtype=float) for column in (seconds, left, spent))
        failures = np.frombuffer(failed, dtype=bool)
        return cls(list(names), of_runs, firsts, moments, shares, spending, failures)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> "Runs": ...
    def __getitem__(self, index: int | slice) -> "Run | Runs":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        at = range(len(self))[index]
        part = slice(self.first[at], self.first[at + 1])
        name = self.names[self.instance[at]]
        return Run(name, self.seconds[part], self.left[part], float(self.spent[at]), bool(self.failed[at]))

    def __len__(self) -> int:
        return len(self.instance)

    @property
    def lengths(self) -> np.ndarray:
        """How many moments each run has, `(runs,)`."""
        return np.diff(self.first)

    def take(self, which: np.ndarray) -> "Runs":
        """The runs that these numbers, or these truth values, choose."""
        lengths = self.lengths[which]
        at = spans(self.first[:-1][which], lengths)
        first = np.append(0, np.cumsum(lengths))
        of_runs = self.spent[which], self.failed[which]
        return Runs(self.names, self.instance[which], first, self.seconds[at], self.left[at], *of_runs)

    def on(self, instances: Container[str]) -> "Runs":
        """The runs on these instances."""
        wanted = np.array([name in instances for name in self.names], dtype=bool)
        return self.take(wanted[self.instance] if len(wanted) else self.instance)


def runs_of(rows: Sequence[Row], known: Mapping[str, Known]) -> Runs:
    """The runs on instances where something could be improved, in the order of their rows."""
    return Runs.of(_each_run(RowTable.of(rows), known))


def _each_run(table: RowTable, known: Mapping[str, Known]) -> Iterator[Run]:
    attainable = _attainable(table, known)
    nothing = np.empty(0)
    for number, row in enumerate(table):
        name = row["instance"]
        if name not in attainable:
            continue
        if "error" in row:
            yield Run(name, nothing, nothing, float(row["budget"].get("seconds") or np.nan), True)
            continue
        best, slack, improvement = attainable[name]
        seconds, objective = table.trace(number)
        final = sum(row["objective"]) / len(row["objective"])
        if math.isfinite(final) and (not len(objective) or objective[-1] != final):
            seconds, objective = np.append(seconds, row["seconds"]), np.append(objective, final)
        if not len(objective):
            yield Run(name, nothing, nothing, row["seconds"])
            continue
        objective = np.minimum.accumulate(objective)
        # Worse than the start is no more than all left; within rounding of the best is as good.
        left = np.minimum((objective - best) / improvement, 1.0)
        left[objective <= best + slack] = 0.0
        yield Run(name, seconds, left, row["seconds"])


def _attainable(rows: RowTable, known: Mapping[str, Known]) -> dict[str, tuple[float, float, float]]:
    """Of each instance with an improvement to make: the best mean objective, its rounding, and that improvement."""
    found = {}
    for name in rows.numbered("instance")[0]:
        if name in known:
            best = known[name].mean
            slack = 1e-9 * max(1.0, abs(best))
            improvement = float(np.mean(known[name].reference)) - best
            if math.isfinite(improvement) and improvement > slack:
                # Traces of searches in float32 round more than their ends, which are judged in float64.
                found[name] = best, max(slack, ROUNDED * improvement), improvement
    return found


def hits(runs: Sequence[Run], targets: np.ndarray) -> np.ndarray:
    """The seconds at which each run first reached each target, a share left, `(runs, targets)`; inf: never."""
    table = Runs.of(runs)
    found = np.full((len(runs), len(targets)), np.inf)
    some = np.flatnonzero(table.lengths)
    if not len(some):
        return found
    # Runs without moments take no place among these.
    seconds, left, first = table.seconds, table.left, table.first[some]
    for place, target in enumerate(targets):
        # Seconds rise within a run.
        found[some, place] = np.minimum.reduceat(np.where(left <= target, seconds, np.inf), first)
    return found


def mean_left(runs: Sequence[Run]) -> Curve | None:
    """The mean share left over instances, of an instance over its runs, but for those that failed.

    It begins when something is known in every run. None: some run ended with nothing, or there are none.
    """
    runs = Runs.of(runs)
    runs = runs.take(~runs.failed)
    counts, first = runs.lengths, runs.first[:-1]
    if not len(runs) or not counts.all():
        return None
    seconds, left = runs.seconds, runs.left
    jumps = np.diff(left, prepend=0.0)
    jumps[first] = left[first]
    jumps *= np.repeat(_weights(runs), counts)
    begin = seconds[first].max()
    times, values = _summed(seconds, jumps)
    later = times >= begin
    values = np.clip(values[later], 0.0, 1.0)
    # What the sums of the jumps have lost in rounding.
    values[values < 1e-12] = 0.0
    return times[later], values


def reached(runs: Sequence[Run], targets: np.ndarray = TARGETS) -> Curve | None:
    """The empirical distribution of running times: the share of pairs of a run and a target reached by each moment.

    All instances count alike, and so do the runs on one. None: nothing was reached, or there are no runs.
    """
    runs = Runs.of(runs)
    if not len(runs):
        return None
    at = hits(runs, targets).ravel()
    weights = np.repeat(_weights(runs), len(targets)) / len(targets)
    done = np.isfinite(at)
    return _summed(at[done], weights[done]) if done.any() else None


def share_done(at: Sequence[float] | np.ndarray) -> Curve | None:
    """The share of samples done by each moment, from the seconds at which each was, inf for never."""
    times = np.asarray(at, dtype=float)
    done = times[np.isfinite(times)]
    return _summed(done, np.full(len(done), 1 / len(times))) if len(done) else None


def found_at(rows: Sequence[Row], known: Mapping[str, Known]) -> np.ndarray:
    """For each sample of each row, when it had the best objective that is known; inf: never."""
    if not rows:
        return np.empty(0)
    table = RowTable.of(rows)
    objective, at = table.lists("objective"), table.lists("found_at")
    best = np.concatenate([known[row["instance"]].objective for row in rows])
    tolerance = np.concatenate([known[row["instance"]].tolerance for row in rows])
    return np.where(is_met(objective, best, tolerance) & ~np.isnan(at), at, np.inf)


def proved_at(rows: Sequence[Row]) -> np.ndarray:
    """For each sample of each row, when it was proved optimal; inf: never."""
    at = RowTable.of(rows).lists("proved_at")
    return np.where(np.isnan(at), np.inf, at)


def thinned(curve: Curve, points: int) -> Curve:
    """The curve at no more than so many moments, evenly on a logarithmic axis, the first and the last among them."""
    seconds, values = curve
    if len(seconds) <= points:
        return curve
    first = max(seconds[0], 1e-9)
    grid = np.clip(np.geomspace(first, max(seconds[-1], first), points), seconds[0], seconds[-1])
    # A value is drawn where it begins to hold.
    places = np.unique(np.append(np.searchsorted(seconds, grid, side="right") - 1, len(seconds) - 1))
    return seconds[places], values[places]


def expected_times(runs: Sequence[Run], targets: Sequence[float] = TABLE_TARGETS) -> list[RunningTime]:
    """One a target; runs that failed count with their budget as spent."""
    runs = Runs.of(runs)
    if not len(runs):
        return []
    at = hits(runs, np.array(targets))
    spent = np.where(np.isfinite(at), at, runs.spent[:, None])
    table = _by_instance(runs, np.concatenate([spent, np.isfinite(at)], axis=1))
    seconds, successes = np.split(table.sum(0), 2)
    drawn = np.split(resampled(table), 2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        again = np.where(drawn[1] > 0, drawn[0] / drawn[1], np.inf)
        expected = np.where(successes > 0, seconds / successes, np.inf)
    if len(table) < 2:
        low, high = np.full(len(targets), np.nan), np.full(len(targets), np.nan)
    else:
        beyond = tail(len(table))
        # Interpolation between infinities is none.
        low, high = np.quantile(again, [beyond, 1 - beyond], axis=0, method="nearest")
    return [
        RunningTime(target, *map(float, (expected[k], low[k], high[k], successes[k] / len(runs))))
        for k, target in enumerate(targets)
    ]


def fixed_budgets(runs: Sequence[Run], seconds: Sequence[float]) -> list[FixedBudget]:
    """One a budget: means over instances with the interval of 95%, by the studentised bootstrap over instances.

    Runs that failed are left out.
    """
    runs = Runs.of(runs)
    runs = runs.take(~runs.failed)
    if not len(runs):
        return []
    moments = np.array(seconds)
    table = _by_instance(runs, np.array([run.at(moments) for run in runs]), mean=True)
    low, high = intervals(table, 0.0, 1.0)
    nothing = np.isnan(table).sum(0)
    return [
        FixedBudget(float(moment), float(mean), float(down), float(up), int(none), len(table))
        for moment, mean, down, up, none in zip(moments, table.mean(0), low, high, nothing, strict=True)
    ]


def _weights(runs: Runs) -> np.ndarray:
    counts = np.bincount(runs.instance)
    return 1 / (counts[runs.instance] * np.count_nonzero(counts))


def _summed(seconds: np.ndarray, jumps: np.ndarray) -> Curve:
    """The running sum, one point a moment."""
    times, place = np.unique(seconds, return_inverse=True)
    return times, np.cumsum(np.bincount(place, weights=jumps, minlength=len(times)))


def _by_instance(runs: Runs, values: np.ndarray, mean: bool = False) -> np.ndarray:
    """Sums or means of the values `(runs, k)` over the runs on each instance, `(instances, k)`, by their names."""
    used = np.unique(runs.instance).tolist()
    order = {number: place for place, number in enumerate(sorted(used, key=runs.names.__getitem__))}
    place = np.array([order[number] for number in runs.instance.tolist()])
    found = np.zeros((len(used), values.shape[1]))
    np.add.at(found, place, values)
    return found / np.bincount(place)[:, None] if mean else found
