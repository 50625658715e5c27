"""The elastic linear program of one unit, by HiGHS: a guide to its separators or its circuit."""

from dataclasses import dataclass

import numpy as np

from tpsolve.errors import ContradictionError

_POSITIVE = 1e-9


@dataclass(frozen=True)
class ElasticAnswer:
    """What the program says, in floating point.

    Args:
        weight: `(d,)`.
        support: samples with a positive multiplier, in rising order; empty if the program found none.
        order: `(N,)`, the samples by rising margin: those that decide come first.
    """

    weight: np.ndarray
    support: list[int]
    order: list[int]


def solve_elastic(points: np.ndarray, targets: np.ndarray, seconds: float | None) -> ElasticAnswer | None:
    """Minimise xi subject to t (w.x) + xi >= 1, xi >= 0; None: time was up, or HiGHS gave up.

    One xi for all samples: the multipliers then have sum <= 1, and no bound of their own, so that at a
    vertex their support is a circuit. With a xi for each sample most would sit at their bound of 1.

    Args:
        points: `(N, d)` float64.
        targets: `(N,)` in {-1, +1}.
    """
    from scipy.optimize import linprog

    rows, size = points.shape
    left = np.concatenate([-targets[:, None] * points, -np.ones((rows, 1))], axis=1)
    price = np.append(np.zeros(size), 1.0)
    bounds = [(None, None)] * size + [(0, None)]
    options = {} if seconds is None else {"time_limit": max(seconds, 1e-3)}
    # The dual simplex ends in a vertex, whose support is a circuit as it stands.
    answer = linprog(price, left, -np.ones(rows), bounds=bounds, method="highs-ds", options=options)
    if answer.status in (1, 4):
        return None
    if answer.status != 0:
        # 2 and 3, infeasible and unbounded: this program is neither.
        raise ContradictionError(f"HiGHS says of an elastic program: {answer.message}")
    weight, multipliers = answer.x[:size], -answer.ineqlin.marginals
    order = np.argsort(targets * (points @ weight), kind="stable").tolist()
    return ElasticAnswer(weight, np.nonzero(multipliers > _POSITIVE)[0].tolist(), order)
