"""How good a solver is at each moment: curves, fixed targets, fixed budgets, and expected running times.

A *run* is one row: one solver on one instance under one seed. Its quality at a moment is the share of the attainable
improvement that is left, of the mean objective over the samples of the instance. A *target* is such a share. The terms
are those of COCO (Hansen et al., COCO: a platform for comparing continuous optimizers in a black-box setting,
Optimization Methods and Software 2021) and of IOHprofiler (Doerr et al., arXiv 1810.05281), with seconds in place of
evaluations.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tpsolve.compare._row_table import Row, RowTable
from tpsolve.compare._statistics import LEVEL, Known, is_met, resampled

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
        low, high: the interval of 95%, by the bootstrap over instances.
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


def runs_of(rows: Sequence[Row], known: Mapping[str, Known]) -> list[Run]:
    """The runs on instances where something could be improved, in the order of their rows."""
    table = RowTable.of(rows)
    attainable = _attainable(table, known)
    nothing = np.empty(0)
    found = []
    for number, row in enumerate(table):
        name = row["instance"]
        if name not in attainable:
            continue
        if "error" in row:
            found.append(Run(name, nothing, nothing, float(row["budget"].get("seconds") or np.nan), True))
            continue
        best, slack, improvement = attainable[name]
        seconds, objective = table.trace(number)
        final = sum(row["objective"]) / len(row["objective"])
        if math.isfinite(final) and (not len(objective) or objective[-1] != final):
            seconds, objective = np.append(seconds, row["seconds"]), np.append(objective, final)
        if not len(objective):
            found.append(Run(name, nothing, nothing, row["seconds"]))
            continue
        objective = np.minimum.accumulate(objective)
        # Worse than the start is no more than all left; within rounding of the best is as good.
        left = np.minimum((objective - best) / improvement, 1.0)
        left[objective <= best + slack] = 0.0
        found.append(Run(name, seconds, left, row["seconds"]))
    return found


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
    found = np.full((len(runs), len(targets)), np.inf)
    some = np.array([number for number, run in enumerate(runs) if len(run.seconds)], dtype=int)
    if not len(some):
        return found
    seconds, left = (np.concatenate([getattr(runs[k], name) for k in some]) for name in ("seconds", "left"))
    counts = np.array([len(runs[k].seconds) for k in some])
    first = np.cumsum(counts) - counts
    for place, target in enumerate(targets):
        # Seconds rise within a run.
        found[some, place] = np.minimum.reduceat(np.where(left <= target, seconds, np.inf), first)
    return found


def mean_left(runs: Sequence[Run]) -> Curve | None:
    """The mean share left over instances, of an instance over its runs, but for those that failed.

    It begins when something is known in every run. None: some run ended with nothing, or there are none.
    """
    runs = [run for run in runs if not run.failed]
    if not runs or any(not len(run.seconds) for run in runs):
        return None
    counts = np.array([len(run.seconds) for run in runs])
    seconds, left = (np.concatenate(values) for values in zip(*((run.seconds, run.left) for run in runs), strict=True))
    jumps, first = np.diff(left, prepend=0.0), np.cumsum(counts) - counts
    jumps[first] = left[first]
    jumps *= np.repeat(_weights(runs), counts)
    begin = max(run.seconds[0] for run in runs)
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
    if not runs:
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
    if not runs:
        return []
    at = hits(runs, np.array(targets))
    spent = np.where(np.isfinite(at), at, np.array([run.spent for run in runs])[:, None])
    table = _by_instance(runs, np.concatenate([spent, np.isfinite(at)], axis=1))
    seconds, successes = np.split(table.sum(0), 2)
    drawn = np.split(resampled(table), 2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        again = np.where(drawn[1] > 0, drawn[0] / drawn[1], np.inf)
        expected = np.where(successes > 0, seconds / successes, np.inf)
    # Interpolation between infinities is none.
    low, high = np.quantile(again, [LEVEL / 2, 1 - LEVEL / 2], axis=0, method="nearest")
    if len(table) < 2:
        low, high = np.full(len(targets), np.nan), np.full(len(targets), np.nan)
    return [
        RunningTime(target, *map(float, (expected[k], low[k], high[k], successes[k] / len(runs))))
        for k, target in enumerate(targets)
    ]


def fixed_budgets(runs: Sequence[Run], seconds: Sequence[float]) -> list[FixedBudget]:
    """One a budget: means over instances with the interval of 95%, by the bootstrap over instances.

    Runs that failed are left out.
    """
    runs = [run for run in runs if not run.failed]
    if not runs:
        return []
    moments = np.array(seconds)
    table = _by_instance(runs, np.array([run.at(moments) for run in runs]), mean=True)
    if len(table) < 2:
        low = high = np.full(len(moments), np.nan)
    else:
        low, high = np.quantile(resampled(table) / len(table), [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    nothing = np.isnan(table).sum(0)
    return [
        FixedBudget(float(moment), float(mean), float(down), float(up), int(none), len(table))
        for moment, mean, down, up, none in zip(moments, table.mean(0), low, high, nothing, strict=True)
    ]


def _weights(runs: Sequence[Run]) -> np.ndarray:
    counts = Counter(run.instance for run in runs)
    return np.array([1 / (counts[run.instance] * len(counts)) for run in runs])


def _summed(seconds: np.ndarray, jumps: np.ndarray) -> Curve:
    """The running sum, one point a moment."""
    times, place = np.unique(seconds, return_inverse=True)
    return times, np.cumsum(np.bincount(place, weights=jumps, minlength=len(times)))


def _by_instance(runs: Sequence[Run], values: np.ndarray, mean: bool = False) -> np.ndarray:
    """Sums or means of the values `(runs, k)` over the runs on each instance, `(instances, k)`."""
    names, place = np.unique([run.instance for run in runs], return_inverse=True)
    found = np.zeros((len(names), values.shape[1]))
    np.add.at(found, place, values)
    return found / np.bincount(place)[:, None] if mean else found
