"""Scores without a scale, their intervals, and paired tests: what may be said of solvers from their rows."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from scipy import stats

from tpsolve._gap import is_closed
from tpsolve.compare._row_table import Row, RowTable

RESAMPLES = 2000
"""Of the bootstrap."""
MAX_KEPT_DRAWS = 10_000
"""Instances up to which all draws are kept, which then take 20 MB."""
LEVEL = 0.05
"""Of the tests and of the intervals."""
MAX_EXACT = 50
"""Up to so many differences the signed rank test knows its distribution, beyond it takes the normal one."""
APART = LEVEL / 2
"""Below this p value two solvers are told apart. The leader was chosen by the same rows, which favours it: of six equal
solvers on 100 instances one is told apart from the leader in 5% of draws."""
LEAST_ERROR = 0.1
"""A resample counts as having at least this part of the standard error of the whole. One that drew only the zeros has
none by itself, and would put no end to an interval."""
MIN_FAMILY = 3
"""Fewer instances are no family."""
MIN_SHARED = 0.5
"""Where less than this share of the instances has rows of all solvers, each solver is scored on its own instances."""


@dataclass(frozen=True)
class Scores:
    """What each solver leaves of the attainable improvement, by instance: means over samples and seeds.

    Args:
        solvers, instances: names. losses: of each instance.
        left: `(solvers, instances)`, from 0, the best objective that is known, to 1, no better than the reference of
            `Solved`; NaN where the solver has no row, and where no solver improved on that.
        proved: `(solvers, instances)`: the share of samples that the solver proved optimal; NaN without a row.
        shared: `(instances,)` bool: those that count in means over one solver.
    """

    solvers: list[str]
    instances: list[str]
    losses: list[str]
    left: np.ndarray
    proved: np.ndarray
    shared: np.ndarray

    @property
    def wide(self) -> np.ndarray:
        """Which solvers have rows of at least `MIN_SHARED` of the instances, `(solvers,)` bool."""
        return (~np.isnan(self.proved)).sum(1) >= MIN_SHARED * len(self.instances)

    def of(self, solver: str) -> np.ndarray:
        """`left` of one solver on the instances that count."""
        values = self.left[self.solvers.index(solver), self.shared]
        return values[~np.isnan(values)]


def is_met(objective: np.ndarray, best: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Where `objective` is no more than the problem's `tolerance` above `best`."""
    return is_closed(objective, best, tolerance)


@dataclass(frozen=True)
class Known:
    """What all rows together know of one instance's samples: best objective, highest proven bound, closed gaps.

    `proven`: where the best objective is proven optimal. `reference`: as `Solved` has it.
    """

    objective: np.ndarray
    bound: np.ndarray
    tolerance: np.ndarray
    proven: np.ndarray
    reference: np.ndarray

    @cached_property
    def mean(self) -> float:
        """The mean best objective over the samples."""
        return float(np.mean(self.objective))


class Solved:
    """The samples of all rows that ended well, one after the other; a *spot* is a sample of an instance.

    Args:
        rows: those of one instance have as many samples as each other.

    Attributes:
        rows: those without an error. heads: of these the first one of each instance. names: of the instances. length:
            samples of each row. instance: of each row.
        solvers: names. solver: of each row.
        first: of each instance, its first spot, and behind the last one their number.
        row, spot: of each sample. objective, bound, tolerance: of each sample.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        table = RowTable.of(rows)
        self.rows = table.take(~table.failed)
        self.heads = self.rows.firsts("instance")
        self.names, self.instance = self.rows.numbered("instance")
        self.solvers, self.solver = self.rows.numbered("solver")
        self.length = self.rows.lengths("objective")
        self.first = np.concatenate([[0], np.cumsum(self.heads.lengths("objective"))]).astype(int)
        self.row = np.repeat(np.arange(len(self.rows)), self.length)
        within = np.arange(len(self.row)) - np.repeat(np.cumsum(self.length) - self.length, self.length)
        self.spot = self.first[self.instance[self.row]] + within
        self.objective = self.rows.lists("objective")
        # NaN: nothing was proved.
        self.bound = self.rows.lists("bound")
        self.bound[np.isnan(self.bound)] = -np.inf
        # Rows of versions that had none: only equal objectives are equal.
        self.tolerance = self.rows.lists_or("tolerance", 0.0, self.length)

    @cached_property
    def reference(self) -> np.ndarray:
        """Of each spot, the start, which leaves all; where there is none, or none that is finite, the worst objective
        that a solver ended with.
        """
        finite = np.where(np.isinf(self.objective), -np.inf, self.objective)
        worst = self.of_spots(finite, -np.inf, np.maximum)
        start = self.heads.lists_or("start", np.nan, self.heads.lengths("objective"))
        return np.where(np.isfinite(start), start, worst)

    def of_spots(self, values: np.ndarray, first: float, join: np.ufunc) -> np.ndarray:
        """What `join`, such as the minimum, makes of the values at each spot, and of `first`."""
        joined = np.full(self.first[-1], first)
        join.at(joined, self.spot, values)
        return joined


def known_of(solved: Solved) -> dict[str, Known]:
    """For each instance, what the rows know of it together."""
    best = solved.of_spots(solved.objective, np.inf, np.minimum)
    bound = solved.of_spots(solved.bound, -np.inf, np.maximum)
    tolerance = solved.of_spots(solved.tolerance, -np.inf, np.maximum)
    each = (best, bound, tolerance, is_met(best, bound, tolerance), solved.reference)
    return {
        name: Known(*(values[start:end] for values in each))
        for name, start, end in zip(solved.names, solved.first[:-1], solved.first[1:], strict=True)
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


def attempted_instances(rows: Sequence[Row]) -> set[str]:
    """Those that count in running times: in means over one solver, and of which all have rows that may have failed.

    Without the others a solver that fails on what is hard would have the times of what is easy.
    """
    counted = counted_instances(rows)
    solvers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        solvers[row["instance"]].add(row["solver"])
    every = {row["solver"] for row in rows if "error" not in row}
    return counted | {name for name, having in solvers.items() if having >= every}


def scores(solved: Solved) -> Scores:
    """Of all solvers that finished a row."""
    good, instances, solvers = solved.rows, solved.names, solved.solvers
    best = solved.of_spots(solved.objective, np.inf, np.minimum)
    tolerance = solved.of_spots(solved.tolerance, -np.inf, np.maximum)
    at = solved.spot
    found = share_left(solved.objective, best[at], solved.reference[at], tolerance[at])
    shown = is_met(solved.objective, solved.bound, solved.tolerance).astype(float)
    group = solved.solver * len(instances) + solved.instance
    shape = len(solvers), len(instances)
    left, proved = (means(values, group[solved.row], shape[0] * shape[1]).reshape(shape) for values in (found, shown))
    counted = counted_instances(good)
    shared = np.array([name in counted for name in instances], dtype=bool)
    losses = [row["loss"] for row in solved.heads]
    return Scores(solvers, instances, losses, left, proved, shared)


def means(values: np.ndarray, of: np.ndarray, groups: int) -> np.ndarray:
    """Of the values that are not NaN, by the group that each belongs to; NaN of none."""
    known = ~np.isnan(values)
    counts = np.bincount(of[known], minlength=groups)
    with np.errstate(invalid="ignore"):
        return np.bincount(of[known], weights=values[known], minlength=groups) / counts


def resampled(table: np.ndarray) -> np.ndarray:
    """Sums of the rows of `(instances, k)` over `RESAMPLES` bootstrap draws of its instances, `(RESAMPLES, k)`."""
    # Of many instances all draws would take more memory than the rows; they are made again each time.
    kept = len(table) <= MAX_KEPT_DRAWS
    draws = [_kept_bootstrap(len(table))] if kept else _bootstrap(len(table))
    at_once = _draws_at_once(len(table))
    return np.concatenate(
        [
            part[start : start + at_once].astype(float) @ table
            for part in draws
            for start in range(0, len(part), at_once)
        ]
    )


def _draws_at_once(count: int) -> int:
    return max(1, 2_000_000 // count)


def _bootstrap(count: int) -> Iterator[np.ndarray]:
    """How often each of `count` instances is drawn, `(draws, count)` uint8 again and again until there are `RESAMPLES`
    draws; the same ones every time.
    """
    generator = np.random.default_rng(0)
    for start in range(0, RESAMPLES, _draws_at_once(count)):
        times = np.empty((min(_draws_at_once(count), RESAMPLES - start), count), dtype=np.uint8)
        for each in times:
            each[:] = np.bincount(generator.integers(count, size=count), minlength=count)
        yield times


@lru_cache(maxsize=1)
def _kept_bootstrap(count: int) -> np.ndarray:
    return np.concatenate(list(_bootstrap(count)))


def interval(values: np.ndarray, least: float = -np.inf, most: float = np.inf) -> tuple[float, float]:
    """Of the mean of the values `(instances,)`, as `intervals` has it."""
    low, high = intervals(values[:, None], least, most)
    return float(low[0]), float(high[0])


def intervals(table: np.ndarray, least: float = -np.inf, most: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends `(k,)` of intervals of the means over instances of `(instances, k)`.

    By the studentised bootstrap: each resample's distance from the mean counts in standard errors of its own. Where few
    of the shares are large, this is what keeps the level (Hesterberg, What teachers should know about the bootstrap,
    The American Statistician 2015). NaN of fewer than two instances, and of values that are all alike, which don't say
    how far others are from them.

    Args:
        least, most: between which all values are, and so the ends. No end is further from its mean than Hoeffding's,
            which holds for all values between these (Journal of the American Statistical Association 1963); a few
            resamples of no spread would put it there.
    """
    count = len(table)
    if count < 2:
        return np.full(table.shape[1], np.nan), np.full(table.shape[1], np.nan)
    means = table.mean(0)
    centred = table - means
    error = np.sqrt((centred**2).sum(0) / (count * (count - 1)))
    error[error <= 1e-12] = np.nan
    drift, squares = np.split(resampled(np.concatenate([centred, centred**2], axis=1)) / count, 2, axis=1)
    own = np.sqrt(np.maximum(squares - drift**2, 0.0) / (count - 1))
    early, late = np.quantile(drift / np.maximum(own, LEAST_ERROR * error), [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    widest = (most - least) * np.sqrt(np.log(2 / LEVEL) / (2 * count))
    low, high = means - np.minimum(late * error, widest), means + np.minimum(-early * error, widest)
    return np.clip(low, least, most), np.clip(high, least, most)


def tail(count: int) -> float:
    """Of the resamples of so many instances, the part beyond each end of a percentile interval.

    It is less than `LEVEL / 2`, by what makes the interval of a normal mean as wide as that of Student's t (Hesterberg,
    as above). This is for ratios, which may be infinite, and have no standard error then.
    """
    return float(stats.norm.cdf(np.sqrt(count / (count - 1)) * stats.t.ppf(LEVEL / 2, count - 1)))


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


def told(table: np.ndarray, leader: int) -> np.ndarray:
    """How each row of scores stands to that of the leader, whose mean is least, `(solvers,)` int.

    -1: worse, by the signed ranks and by the mean over the instances that both have. 1: better by the signed ranks: the
    leader's mean is least by few instances, or by those that the other has no score of. 0: neither is told. A test by
    ranks supports no order of means that it contradicts.
    """
    others = [i for i in range(len(table)) if i != leader]
    adjusted = holm([paired(table[leader], table[i]) for i in others])
    found = np.zeros(len(table), dtype=int)
    found[others] = [_side(table[leader], table[i]) for i in others]
    found[others] *= np.array(adjusted) < APART
    return found


def _side(first: np.ndarray, second: np.ndarray) -> int:
    """1: the signed ranks say that `second` is smaller; -1: both they and the means say that `first` is; 0: neither."""
    rank, mean = signed(first, second)
    return 1 if rank > 0 else -1 if rank < 0 and mean < 0 else 0


def signed(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The sum of the signed ranks of first - second, which `paired` tests, and of these differences themselves."""
    difference = first - second
    difference = difference[np.abs(difference) >= 1e-12]
    ranks = stats.rankdata(np.abs(difference).round(12))
    return float(np.sign(difference) @ ranks), float(difference.sum())


def alike(table: np.ndarray, leader: int) -> np.ndarray:
    """Which rows of scores are not told to be worse than that of the leader, `(solvers,)` bool."""
    found = told(table, leader) >= 0
    found[leader] = False
    return found


def families_of(losses: Mapping[str, str]) -> dict[str, set[str]]:
    """Families of instances by what they are called: those of one loss, and those of one beginning of their names.

    The beginning is the longest folder of which some family has `MIN_FAMILY` instances, such as `easy` of `easy/1`; of
    names without any, what stands before the first digit, or else before the last sign that is no letter. A family that
    holds all instances, or the same ones as an earlier family, is none.

    Args:
        losses: of each instance, by its name.
    """
    by_loss: dict[str, set[str]] = defaultdict(set)
    for name, loss in losses.items():
        by_loss[loss].add(name)
    found = dict(by_loss) if len(by_loss) > 1 else {}
    depths = range(max((name.count("/") for name in losses), default=0), 0, -1)
    for beginning in (*(lambda name, k=k: "/".join(name.split("/")[:-1][:k]) for k in depths), _stem):
        by_name: dict[str, set[str]] = defaultdict(set)
        for name in losses:
            by_name[beginning(name)].add(name)
        if len(by_name) > 1 and max(map(len, by_name.values())) >= MIN_FAMILY:
            for family, names in by_name.items():
                if family and len(names) >= MIN_FAMILY and names not in found.values():
                    found[f"{family} (by name)" if family in found else family] = names
            break
    return found


def _stem(name: str) -> str:
    before = re.split(r"\d", name, maxsplit=1)[0] if re.search(r"\d", name) else re.sub(r"[\W_][^\W_]*$", "", name)
    return before.rstrip("-_./ ")


def pair_tests(found: Scores) -> np.ndarray:
    """The p value of each pair of solvers by `paired`, after Holm over all pairs; NaN of one with itself."""
    count = len(found.solvers)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    table = np.full((count, count), np.nan)
    for (i, j), p in zip(pairs, holm([paired(found.left[i], found.left[j]) for i, j in pairs]), strict=True):
        table[i, j] = table[j, i] = p
    return table


def mean_ranks(found: Scores) -> tuple[np.ndarray, float, float]:
    """Mean ranks `(solvers,)` over the instances that all wide solvers have, Friedman's p, and the critical difference.

    Solvers that are not wide have none: NaN. With them, the few instances that they take would be all that is ranked.

    Mean ranks that differ by less than the critical difference are not told apart, after Nemenyi; see Demsar,
    Statistical comparisons of classifiers over multiple data sets (JMLR 2006).
    """
    wide, ranks = found.wide, np.full(len(found.solvers), np.nan)
    table = found.left[wide]
    table = table[:, ~np.isnan(table).any(0)]
    solvers, instances = table.shape
    if solvers < 3 or instances < 2:
        return ranks, float("nan"), float("nan")
    table = np.round(table, 12)
    ranks[wide] = stats.rankdata(table, axis=0).mean(1)
    p = 1.0 if (table == table[0]).all() else float(stats.friedmanchisquare(*table).pvalue)
    return ranks, p, _critical(solvers) * float(np.sqrt(solvers * (solvers + 1) / (6 * instances)))


@lru_cache
def _critical(solvers: int) -> float:
    """Of the studentized range; it takes a good part of a second."""
    return float(stats.studentized_range.ppf(1 - LEVEL, solvers, np.inf) / np.sqrt(2))
