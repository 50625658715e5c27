"""Which rows of a comparison may be paired: in seconds those of one host, since hosts differ in speed."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any


def of_one_host(rows: Sequence[dict[str, Any]]) -> tuple[Sequence[dict[str, Any]], str]:
    """The rows that are compared, and a sentence about those that are left out; "" if all are compared.

    Rows with a budget in steps are pooled over hosts. Of an instance with rows in seconds from several hosts, only
    those of one host are compared: of the one with the most solvers, and of these the one with the most rows.
    """
    solvers: dict[str, dict[Any, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["budget"].get("seconds") is not None:
            solvers[row["instance"]][row.get("host")].append(row["solver"])
    chosen = {
        name: max(of, key=lambda host: (len(set(of[host])), len(of[host])))  # The first of equal ones.
        for name, of in solvers.items()
        if len(of) > 1
    }
    if not chosen:
        return rows, ""
    kept = [
        row
        for row in rows
        if row["instance"] not in chosen
        or row["budget"].get("seconds") is None
        or row.get("host") == chosen[row["instance"]]
    ]
    left = len(rows) - len(kept)
    counts = f"{left} row{'s' * (left > 1)} of {len(chosen)} instance{'s' * (len(chosen) > 1)}"
    why = "in seconds only solves of one host are compared"
    return kept, f"{counts} left out: {why}. Shards have whole instances; with a budget in steps nothing is left out."
