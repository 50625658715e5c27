"""How incumbent and bound of `Circuits` close in on each other with time, on ten instances.

`python benchmarks/exact_anytime.py [seconds an instance] [instances]`; afterwards `python docs/exact_anytime.py`
draws the saved rows. `random(p, N)` are uniform points with coin-flip labels.
"""

import itertools
import sys

import numpy as np
from record import save

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.search import Circuits

INSTANCES = (
    ("parity", 4, 16, 3),
    ("parity", 6, 64, 5),
    ("random", 2, 40, 2),
    ("random", 2, 40, 3),
    ("random", 2, 40, 4),
    ("random", 2, 40, 5),
    ("random", 2, 80, 2),
    ("random", 2, 80, 3),
    ("random", 4, 40, 2),
    ("random", 4, 60, 2),
)
"""Family, features, samples, hidden units."""


def table(family: str, features: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels of an instance, seed 0."""
    if family == "parity":
        x = np.array(list(itertools.product([-1, 1], repeat=features)))
        return x, x.prod(1)
    rng = np.random.default_rng(0)
    return np.round(rng.uniform(-1, 1, (samples, features)), 2), rng.choice([-1, 1], samples)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    rows = []
    for family, features, samples, units in INSTANCES[: int(sys.argv[2]) if len(sys.argv) > 2 else None]:
        problem = NetworkProblem(*table(family, features, samples), [units])
        result = solve(problem, Circuits(), budget=Budget(seconds=seconds))
        rows.append(
            {
                "instance": f"{family}({features}, {samples}), {units} units",
                "objective": result.objective.item(),
                "bound": result.bound.item(),
                "status": result.status.value,
                "engine": result.stats["engine"],
                "seconds": result.stats["seconds"],
                "limit": seconds,
                "trace": [[p.seconds, p.objective, p.bound] for p in result.trace],
            }
        )
    save("exact_anytime", rows)


if __name__ == "__main__":
    main()
