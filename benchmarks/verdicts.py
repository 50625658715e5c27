"""How often the intervals of a comparison hold the mean, and how often its verdict tells two solvers apart.

`python -m benchmarks.verdicts`, then `python docs/choosing_a_solver.py`. The shapes of shares left and the pairs of
solvers were written down before anything was drawn from them. A row a shape and number of instances goes to
results/verdicts.jsonl: for the interval of `tpsolve compare` and for three others, how many of the draws it held the
mean in, and its median width. Likewise for expected running times, whose interval is a percentile one that is expanded
for the number of instances. A row a pair of solvers and difference says how many of 200 draws of 100 instances told
them apart, for the verdict and for Student's paired t test at the same level.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from benchmarks.record import RESULTS, where
from tpsolve._storage._row_log import RowLog
from tpsolve.compare._statistics import APART, LEVEL, alike, intervals, resampled, share_left, tail

LOG = RowLog(RESULTS / "verdicts.jsonl", ("question", "of", "instances"))
DRAWS = {"interval": 2000, "running time": 1000, "verdict": 200}
COUNTS = (6, 12, 25, 50, 100)

Numbers = np.random.Generator
Shape = Callable[[Numbers, tuple[int, int]], np.ndarray]


def _mixed(share: float, zeros: Shape, others: Shape) -> Shape:
    return lambda drawn, size: np.where(drawn.random(size) < share, zeros(drawn, size), others(drawn, size))


def _nothing(drawn: Numbers, size: tuple[int, int]) -> np.ndarray:
    return np.zeros(size)


def _beta(a: float, b: float) -> Shape:
    return lambda drawn, size: drawn.beta(a, b, size)


SHAPES: dict[str, tuple[Shape, float]] = {
    "normal, 50% ± 10%": (lambda drawn, size: drawn.normal(0.5, 0.1, size), 0.5),
    "uniform": (lambda drawn, size: drawn.random(size), 0.5),
    "beta(0.5, 5), skewed to the right": (_beta(0.5, 5), 0.5 / 5.5),
    "beta(5, 0.5), skewed to the left": (_beta(5, 0.5), 5 / 5.5),
    "exponential of mean 5%": (lambda drawn, size: drawn.exponential(0.05, size), 0.05),
    "lognormal, sigma 1": (lambda drawn, size: drawn.lognormal(-4, 1, size), math.exp(-3.5)),
    "half nothing, half beta(1, 4)": (_mixed(0.5, _nothing, _beta(1, 4)), 0.1),
    "80% nothing, 20% beta(1, 4)": (_mixed(0.8, _nothing, _beta(1, 4)), 0.04),
    "two humps, at 10% and 90%": (
        _mixed(0.7, lambda d, s: d.normal(0.1, 0.03, s), lambda d, s: d.normal(0.9, 0.03, s)),
        0.34,
    ),
    "0% or 100%, 3 of 10": (_mixed(0.7, _nothing, lambda drawn, size: np.ones(size)), 0.3),
}
"""Shares left by instance, and their mean."""

Ends = tuple[np.ndarray, np.ndarray]


def percentile(table: np.ndarray, beyond: float = LEVEL / 2) -> Ends:
    """Quantiles of the resampled means."""
    low, high = np.quantile(resampled(table) / len(table), [beyond, 1 - beyond], axis=0)
    return low, high


def bca(table: np.ndarray) -> Ends:
    """Bias-corrected and accelerated (Efron, Journal of the American Statistical Association 1987)."""
    count, columns = table.shape
    drawn, mean = resampled(table) / count, table.mean(0)
    below = ((drawn < mean).mean(0) + (drawn <= mean).mean(0)) / 2
    bias = stats.norm.ppf(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    centred = table - mean
    with np.errstate(invalid="ignore"):
        skew = np.nan_to_num((centred**3).sum(0) / (6 * (centred**2).sum(0) ** 1.5))
    ends = []
    for z in stats.norm.ppf([LEVEL / 2, 1 - LEVEL / 2]):
        levels = stats.norm.cdf(bias + (bias + z) / (1 - skew * (bias + z)))
        ends.append(np.array([np.quantile(drawn[:, k], levels[k]) for k in range(columns)]))
    return ends[0], ends[1]


METHODS: dict[str, Callable[[np.ndarray], Ends]] = {
    "studentised": lambda table: intervals(table, 0.0, 1.0),
    "percentile": percentile,
    "expanded percentile": lambda table: percentile(table, tail(len(table))),
    "BCa": bca,
}
"""The first one is that of a comparison."""


def coverage(of: str, count: int) -> dict:
    """How often each method's interval holds the mean; one that has no ends, since all values are alike, does not."""
    shape, mean = SHAPES[of]
    draws = DRAWS["interval"]
    table = shape(np.random.default_rng([count, list(SHAPES).index(of)]), (count, draws))
    row: dict = {"draws": draws, "alike": int((table == table[0]).all(0).sum())}
    for name, method in METHODS.items():
        low, high = method(table)
        row[name] = {"held": int(((low <= mean) & (mean <= high)).sum()), "width": float(np.nanmedian(high - low))}
    return row


CHANCES = {"around a half": (2.0, 2.0), "high": (5.0, 1.0), "low": (1.0, 4.0), "near 0 or 1": (0.5, 0.5)}
"""Parameters of the beta distribution of the chance that a run on an instance reaches its target."""
RUNS = 3
"""On each instance. One that succeeds takes 0 to 0.5 seconds, uniformly; one that fails takes its budget, a second."""


def running_times(of: str, count: int) -> dict:
    """How often the intervals of the expected running time hold it."""
    a, b = CHANCES[of]
    draws, drawn = DRAWS["running time"], np.random.default_rng([count, list(CHANCES).index(of)])
    reached = drawn.random((RUNS, count, draws)) < drawn.beta(a, b, (count, draws))
    spent = np.where(reached, drawn.uniform(0, 0.5, reached.shape), 1.0)
    expected = (a * 0.25 + b) / a
    sums = [resampled(table.sum(0).astype(float)) for table in (spent, reached)]
    with np.errstate(divide="ignore"):
        again = np.where(sums[1] > 0, sums[0] / sums[1], np.inf)
    row: dict = {"draws": draws}
    for name, beyond in (("percentile", LEVEL / 2), ("expanded percentile", tail(count))):
        low, high = np.quantile(again, [beyond, 1 - beyond], axis=0, method="nearest")
        row[name] = {"held": int(((low <= expected) & (expected <= high)).sum())}
    return row


def _normal(drawn: Numbers, instances: int) -> np.ndarray:
    base = drawn.normal(0.5, 0.1, instances)
    return base + drawn.normal(0, 0.1, (2, instances))


def _poisson(mean: float) -> Callable[[Numbers, int], np.ndarray]:
    return lambda drawn, instances: drawn.poisson(mean, (2, instances)).astype(float)


PAIRS: dict[str, Callable[[Numbers, int], np.ndarray]] = {
    "normal, common part": _normal,
    "normal": lambda drawn, instances: drawn.normal(0.5, 0.1, (2, instances)),
    "uniform": lambda drawn, instances: drawn.random((2, instances)),
    "exponential": lambda drawn, instances: drawn.exponential(1, (2, instances)),
    "Student's t, 3 degrees": lambda drawn, instances: drawn.standard_t(3, (2, instances)),
    "lognormal, sigma 1": lambda drawn, instances: drawn.lognormal(0, 1, (2, instances)),
    "whole numbers 0 to 3": lambda drawn, instances: drawn.integers(0, 4, (2, instances)).astype(float),
    "Poisson, mean 0.2": _poisson(0.2),
    "Poisson, mean 1": _poisson(1.0),
    "Poisson, mean 5": _poisson(5.0),
}
"""Objectives of two equal solvers, `(2, instances)`."""
DIFFERENCES = ("equal", "half an sd of the differences", "half an sd of the objectives")


def _pair(of: str, difference: str, drawn: Numbers, instances: int) -> np.ndarray:
    """Objectives of two solvers, the first of which is better by `difference`."""
    found = PAIRS[of](drawn, instances)
    if difference == DIFFERENCES[0]:
        return found
    of_objectives = difference == DIFFERENCES[2]
    if of.startswith("Poisson"):
        mean = float(of.rpartition(" ")[2])
        # Of two Poisson numbers the variance of the difference is the sum of the means.
        more = 0.5 * math.sqrt(mean) if of_objectives else 0.125 + math.sqrt(0.125**2 + 0.5 * mean)
        return np.stack([found[0], drawn.poisson(mean + more, instances).astype(float)])
    many = PAIRS[of](np.random.default_rng(0), 1_000_000)
    sd = many.std(1).mean() if of_objectives else (many[1] - many[0]).std()
    return np.stack([found[0], found[1] + 0.5 * sd])


def verdicts(of: str, difference: str, instances: int) -> dict:
    """How many draws tell the two apart, or name the first as the better one; the reference is far above both."""
    drawn = np.random.default_rng([list(PAIRS).index(of), DIFFERENCES.index(difference)])
    row = {"draws": DRAWS["verdict"], "told": 0, "t_test": 0, "ties": 0.0}
    for _ in range(row["draws"]):
        found = _pair(of, difference, drawn, instances)
        best, tolerance = found.min(0), np.full(instances, 1e-9)
        reference = np.full(instances, 1.0 + found.max() + found.std())
        left = np.array([share_left(each, best, reference, tolerance) for each in found])
        leader = int(left[1].mean() < left[0].mean())
        wrong = difference != DIFFERENCES[0] and leader == 1
        row["told"] += int(not wrong and not alike(left, leader).any())
        row["t_test"] += int(not wrong and stats.ttest_rel(*left).pvalue < APART)
        row["ties"] += float((found[0] == found[1]).mean() / row["draws"])
    return row


def main() -> None:
    """Rows that are there already are kept."""
    known = {(row["question"], row["of"], row["instances"], row.get("difference")) for row in LOG.read()}
    for count in COUNTS:
        for of in SHAPES:
            if ("interval", of, count, None) not in known:
                row = coverage(of, count)
                LOG.append({"question": "interval", "of": of, "instances": count, **row, **where()})
        for of in CHANCES:
            if ("running time", of, count, None) not in known:
                row = running_times(of, count)
                LOG.append({"question": "running time", "of": of, "instances": count, **row, **where()})
    for of in PAIRS:
        for difference in DIFFERENCES:
            if ("verdict", of, 100, difference) not in known:
                row = verdicts(of, difference, 100)
                LOG.append(
                    {"question": "verdict", "of": of, "instances": 100, "difference": difference, **row, **where()}
                )


if __name__ == "__main__":
    main()
