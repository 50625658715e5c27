"""How incumbent and bound of `Circuits` close in on each other with time, on ten instances.

`python -m benchmarks.exact_anytime [seconds an instance] [instances]`; afterwards `python docs/exact_anytime.py`
draws the saved rows.
"""

import sys

from benchmarks.record import save
from tpsolve import Budget, NetworkProblem, solve
from tpsolve.problems import make_table
from tpsolve.search import Circuits

INSTANCES = (
    ("parity-4", 3),
    ("parity-6", 5),
    ("random-2-40", 2),
    ("random-2-40", 3),
    ("random-2-40", 4),
    ("random-2-40", 5),
    ("random-2-80", 2),
    ("random-2-80", 3),
    ("random-4-40", 2),
    ("random-4-60", 2),
)
"""Table, hidden units."""


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    rows = []
    for table, units in INSTANCES[: int(sys.argv[2]) if len(sys.argv) > 2 else None]:
        problem = NetworkProblem(*make_table(table), [units])
        result = solve(problem, Circuits(), budget=Budget(seconds=seconds))
        rows.append(
            {
                "instance": f"{table}, {units} units",
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
