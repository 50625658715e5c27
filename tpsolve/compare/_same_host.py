"""Which rows of a comparison may be paired: in seconds those of one host, since hosts differ in speed."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from tpsolve.compare._row_table import Row, RowTable
from tpsolve.compare._stored_rows import StoredRows


@overload
def of_one_host(rows: RowTable) -> tuple[RowTable, str]: ...
@overload
def of_one_host(rows: StoredRows) -> tuple[StoredRows, str]: ...
@overload
def of_one_host(rows: Sequence[Row]) -> tuple[Sequence[Row], str]: ...
def of_one_host(rows: Sequence[Row]) -> tuple[Sequence[Row], str]:
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
    numbers = [
        number
        for number, row in enumerate(rows)
        if row["instance"] not in chosen
        or row["budget"].get("seconds") is None
        or row.get("host") == chosen[row["instance"]]
    ]
    taking = isinstance(rows, RowTable | StoredRows)
    kept = rows.take(np.array(numbers, dtype=np.int64)) if taking else [rows[number] for number in numbers]
    left = len(rows) - len(kept)
    counts = f"{left} row{'s' * (left > 1)} of {len(chosen)} instance{'s' * (len(chosen) > 1)}"
    why = "in seconds only solves of one host are compared"
    return kept, f"{counts} left out: {why}. Shards have whole instances; with a budget in steps nothing is left out."
