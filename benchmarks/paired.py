"""What the rows of solvers on the same instances say of each other: errors above the best known, paired tests."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]
Key = tuple[str, str, int]
"""Instance, solver, seed."""


def best_known(rows: Iterable[Row]) -> dict[str, tuple[float, bool]]:
    """For each instance the least objective of all rows, and whether some row's bound proves it."""
    least: dict[str, float] = defaultdict(lambda: np.inf)
    bound: dict[str, float] = defaultdict(lambda: -np.inf)
    for row in rows:
        if "error" not in row:
            least[row["instance"]] = min(least[row["instance"]], row["objective"][0])
            if row["bound"][0] is not None:
                bound[row["instance"]] = max(bound[row["instance"]], row["bound"][0])
    return {name: (value, value - bound[name] <= 1e-6) for name, value in least.items()}


def excess_of(rows: Sequence[Row]) -> dict[Key, float]:
    """Errors of each row above the best known of its instance; +inf where it failed."""
    known = best_known(rows)
    return {
        (row["instance"], row["solver"], row["seed"]): np.inf
        if "error" in row
        else row["objective"][0] - known[row["instance"]][0]
        for row in rows
    }


def shifted_mean(values: Sequence[float]) -> float:
    """Geometric mean of 1 + value, less 1: a mean of ratios that bears zeros."""
    return float(np.expm1(np.mean(np.log1p(values))))


def paired_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test on pairs; 1 where all are equal."""
    from scipy.stats import wilcoxon

    pairs = np.array([first, second])
    if np.array_equal(pairs[0], pairs[1]):
        return 1.0
    result: Any = wilcoxon(*pairs, zero_method="wilcox")
    return float(result.pvalue)
