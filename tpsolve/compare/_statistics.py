"""Scores without a scale, their intervals, and paired tests: what may be said of solvers from their rows."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy import stats

from tpsolve._gap import is_closed

Row = dict[str, Any]
RESAMPLES = 2000
"""Of the bootstrap."""
LEVEL = 0.05
"""Of the tests and of the intervals."""
MAX_EXACT = 50
"""Up to so many differences the signed rank test knows its distribution, beyond it takes the normal one."""
APART = LEVEL / 2
"""Below this p value two solvers are told apart. The leader was chosen by the same rows, which favours it: of six equal
solvers on 100 instances one is told apart from the leader in 5% of draws."""
MIN_SHARED = 0.5
"""Where less than this share of the instances has rows of all solvers, each solver is scored on its own instances."""


@dataclass(frozen=True)
class Scores:
    """What each solver leaves of the attainable improvement, by instance: means over samples and seeds.

    Args:
        solvers, instances: names. losses: of each instance.
        left: `(solvers, instances)`, from 0, the best objective that is known, to 1, no better than the start; NaN
            where the solver has no row, and where no solver improved on the start.
        proved: `(solvers, instances)`: the share of samples that the solver proved optimal; NaN without a row.
        shared: `(instances,)` bool: those that count in means over one solver.
    """

    solvers: list[str]
    instances: list[str]
    losses: list[str]
    left: np.ndarray
    proved: np.ndarray
    shared: np.ndarray

    def of(self, solver: str) -> np.ndarray:
        """`left` of one solver on the instances that count."""
        values = self.left[self.solvers.index(solver), self.shared]
        return values[~np.isnan(values)]


def is_met(objective: np.ndarray, best: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Where `objective` is no more than the problem's `tolerance` above `best`."""
    return is_closed(*map(torch.as_tensor, (objective, best, tolerance))).numpy()


def bound_of(row: Row) -> np.ndarray:
    """Of each sample; -inf where none was proved."""
    return np.array([-np.inf if bound is None else bound for bound in row["bound"]])


def tolerance_of(row: Row) -> np.ndarray:
    """Of each sample. Rows of versions that had none: only equal objectives are equal."""
    return np.array(row.get("tolerance", [0.0] * len(row["objective"])))


@dataclass(frozen=True)
class Known:
    """What all rows together know of one instance's samples: best objective, highest proven bound, closed gaps."""

    objective: np.ndarray
    bound: np.ndarray
    tolerance: np.ndarray

    @property
    def proven(self) -> np.ndarray:
        """Where the best objective is proven optimal."""
        return is_met(self.objective, self.bound, self.tolerance)


def known_of(rows: Iterable[Row]) -> dict[str, Known]:
    """For each instance, what the rows know of it together."""
    grouped = defaultdict(list)
    for row in rows:
        if "error" not in row:
            grouped[row["instance"]].append(row)
    return {
        name: Known(
            np.min([row["objective"] for row in group], axis=0),
            np.max([bound_of(row) for row in group], axis=0),
            np.max([tolerance_of(row) for row in group], axis=0),
        )
        for name, group in grouped.items()
    }


def share_left(objective: np.ndarray, best: np.ndarray, reference: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """(objective - best) / (reference - best) of each sample, within 0 and 1; NaN where there is nothing to improve.

    An objective of +inf, which is none, leaves all.
    """
    attainable = reference - best
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.clip((objective - best) / attainable, 0.0, 1.0)
    left = np.where(objective - best <= tolerance, 0.0, left)
    left = np.where(np.isinf(objective), 1.0, left)
    return np.where(np.isinf(best) | (attainable <= tolerance), np.nan, left)


def counted_instances(rows: Sequence[Row]) -> set[str]:
    """Those that count in means over one solver: of which all solvers have rows, or all if these are few."""
    solvers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if "error" not in row:
            solvers[row["instance"]].add(row["solver"])
    every = set[str]().union(*solvers.values())
    shared = {name for name, having in solvers.items() if having == every}
    return shared if len(shared) >= MIN_SHARED * len(solvers) else set(solvers)


def scores(rows: Sequence[Row]) -> Scores:
    """Of all solvers that finished a row.

    The reference of a sample is its start; where it has none, or none that is finite, the worst objective that a solver
    ended with.
    """
    good = [row for row in rows if "error" not in row]
    solvers, instances = (list(dict.fromkeys(row[what] for row in good)) for what in ("solver", "instance"))
    by_instance: dict[str, list[Row]] = defaultdict(list)
    for row in good:
        by_instance[row["instance"]].append(row)
    place = {name: number for number, name in enumerate(solvers)}
    left = np.full((len(solvers), len(instances)), np.nan)
    proved = left.copy()
    for column, name in enumerate(instances):
        group = by_instance[name]
        of = np.array([place[row["solver"]] for row in group])
        objective = np.array([row["objective"] for row in group], dtype=float)
        tolerance = np.array([tolerance_of(row) for row in group])
        best = objective.min(0)
        worst = np.where(np.isinf(objective), -np.inf, objective).max(0)
        start = group[0]["start"]
        reference = worst if start is None else np.where(np.isfinite(start), np.array(start, dtype=float), worst)
        found = share_left(objective, best, reference, tolerance.max(0))
        shown = is_met(objective, np.array([bound_of(row) for row in group]), tolerance).mean(1)
        left[:, column] = _means(found.ravel(), np.repeat(of, found.shape[1]), len(solvers))
        proved[:, column] = _means(shown, of, len(solvers))
    counted = counted_instances(rows)
    shared = np.array([name in counted for name in instances], dtype=bool)
    losses = [by_instance[name][0]["loss"] for name in instances]
    return Scores(solvers, instances, losses, left, proved, shared)


def _means(values: np.ndarray, of: np.ndarray, groups: int) -> np.ndarray:
    """Of the values that are not NaN, by the group that each belongs to; NaN of none."""
    known = ~np.isnan(values)
    counts = np.bincount(of[known], minlength=groups)
    with np.errstate(invalid="ignore"):
        return np.bincount(of[known], weights=values[known], minlength=groups) / counts


def resampled(table: np.ndarray) -> np.ndarray:
    """Sums of the rows of `(instances, k)` over `RESAMPLES` bootstrap draws of its instances, `(RESAMPLES, k)`."""
    times = _bootstrap(len(table))
    at_once = max(1, 2_000_000 // len(table))
    parts = [times[start : start + at_once].astype(float) @ table for start in range(0, RESAMPLES, at_once)]
    return np.concatenate(parts)


@lru_cache(maxsize=1)
def _bootstrap(count: int) -> np.ndarray:
    """How often each of `count` instances is drawn, `(RESAMPLES, count)` uint8; the same draws every time."""
    generator = np.random.default_rng(0)
    times = np.empty((RESAMPLES, count), dtype=np.uint8)
    for each in times:
        each[:] = np.bincount(generator.integers(count, size=count), minlength=count)
    return times


def interval(values: np.ndarray) -> tuple[float, float]:
    """Of the mean over instances, by the percentile bootstrap; NaN of fewer than two."""
    if len(values) < 2:
        return float("nan"), float("nan")
    means = resampled(values[:, None])[:, 0] / len(values)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def paired(first: np.ndarray, second: np.ndarray) -> float:
    """The p value of Wilcoxon's signed rank test that two rows of scores differ, over the instances that both have.

    Exact up to `MAX_EXACT` differences, ties or not: each rank is positive or negative with equal chance, and the sums
    of the positive ones are counted rank by rank. (scipy lists all signs of tied differences one by one.)
    """
    both = ~np.isnan(first) & ~np.isnan(second)
    difference = first[both] - second[both]
    difference = difference[np.abs(difference) >= 1e-12]
    if not len(difference):
        return 1.0
    if len(difference) > MAX_EXACT:
        found: Any = stats.wilcoxon(difference)
        return float(found.pvalue)
    doubled = (2 * stats.rankdata(np.abs(difference).round(12))).astype(int)
    chances = np.zeros(doubled.sum() + 1)
    chances[0] = 1.0
    for rank in doubled:
        chances = (chances + np.roll(chances, rank)) / 2
    positive = doubled[difference > 0].sum()
    return float(min(1.0, 2 * min(chances[: positive + 1].sum(), chances[positive:].sum())))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number, after Holm (Scandinavian Journal of Statistics 1979)."""
    order = np.argsort(p_values)
    adjusted, largest = [0.0] * len(order), 0.0
    for rank, place in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def alike(table: np.ndarray, leader: int) -> np.ndarray:
    """Which rows of scores can't be told from that of the leader, `(solvers,)` bool."""
    others = [i for i in range(len(table)) if i != leader]
    adjusted = holm([paired(table[leader], table[i]) for i in others])
    found = np.zeros(len(table), dtype=bool)
    found[others] = np.array(adjusted) >= APART
    return found


def pair_tests(found: Scores) -> np.ndarray:
    """The p value of each pair of solvers by `paired`, after Holm over all pairs; NaN of one with itself."""
    count = len(found.solvers)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    table = np.full((count, count), np.nan)
    for (i, j), p in zip(pairs, holm([paired(found.left[i], found.left[j]) for i, j in pairs]), strict=True):
        table[i, j] = table[j, i] = p
    return table


def mean_ranks(found: Scores) -> tuple[np.ndarray, float, float]:
    """Mean ranks `(solvers,)` over the instances that all have, Friedman's p, and the critical difference.

    Mean ranks that differ by less than the critical difference are not told apart, after Nemenyi; see Demsar,
    Statistical comparisons of classifiers over multiple data sets (JMLR 2006).
    """
    table = found.left[:, ~np.isnan(found.left).any(0)]
    solvers, instances = table.shape
    if solvers < 3 or instances < 2:
        return np.full(solvers, np.nan), float("nan"), float("nan")
    table = np.round(table, 12)
    ranks = stats.rankdata(table, axis=0).mean(1)
    p = 1.0 if (table == table[0]).all() else float(stats.friedmanchisquare(*table).pvalue)
    return ranks, p, _critical(solvers) * float(np.sqrt(solvers * (solvers + 1) / (6 * instances)))


@lru_cache
def _critical(solvers: int) -> float:
    """Of the studentized range; it takes a good part of a second."""
    return float(stats.studentized_range.ppf(1 - LEVEL, solvers, np.inf) / np.sqrt(2))
