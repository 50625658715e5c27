"""Write the table of `Auto` from the rows of comparisons on harvested layers, by the rule that stands in `RULE`.

for s in 0.001 0.01 0.1; do tpsolve compare --suite wide --name wide-$s --seconds $s --samples 16 --seeds 2 \
        --solver hill-climb:restarts=7 --solver tabu:patience=1000000 --solver anneal ...; done
python -m benchmarks.auto runs/wide-0.001 runs/wide-0.01 runs/wide-0.1
python docs/choosing_a_solver.py
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

from tpsolve._storage._row_log import RowLog
from tpsolve._storage._write_whole import write_whole

TABLE = Path(__file__).parent.parent / "tpsolve" / "search" / "combined" / "auto.json"
RULE = (
    "For each instance and budget, the table names the solver of the lowest mean objective over samples and seeds. "
    "A solver counts if its time for a sample was at most twice the budget. If none kept that limit, the limit is "
    "twice the time of the quickest solver. The rows are those of tpsolve compare on layers of trained networks, with "
    "{samples} samples a batch."
)


def main(folders: list[Path]) -> None:
    """The solver of least mean objective, over samples and seeds, for each instance and budget."""
    rows = [row for folder in folders for row in RowLog(folder / "rows.jsonl").read() if "error" not in row]
    groups = defaultdict(lambda: defaultdict(list))
    for row in rows:
        samples = len(row["objective"])
        device = "cuda" if "threads" not in row["device"] else row["device"].partition(",")[0]
        key = (row["loss"], row["n_vars"], row["n_units"], round(row["budget"]["seconds"] / samples, 9), device)
        groups[key][row["solver"]].append((row["seconds"] / samples, mean(row["objective"])))
    entries = []
    for (loss, n, m, seconds, device), solvers in sorted(groups.items()):
        times = {solver: mean(t for t, _ in values) for solver, values in solvers.items()}
        most = 2 * max(seconds, min(times.values()))
        means = {s: mean(v for _, v in values) for s, values in solvers.items() if times[s] <= most}
        best = min(means, key=lambda solver: means[solver])
        entry = {"loss": loss, "n": n, "m": m, "seconds": seconds, "device": device, "solver": best}
        entries.append({**entry, "objective": means[best]})
    first = rows[0]
    source = {
        "measured": RULE.format(samples=len(first["objective"])),
        "solvers": sorted({row["solver"] for row in rows}),
        "solves": len(rows),
        "device": first["device"],
        "versions": first["versions"],
        "time": first["time"],
    }
    text = json.dumps({**source, "rows": entries}, indent=1)
    write_whole(TABLE, lambda stream: stream.write(text.encode() + b"\n"))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
