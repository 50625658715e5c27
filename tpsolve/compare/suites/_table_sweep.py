"""A sweep: the fewest training errors on each table of a folder, with networks of several widths."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpsolve.compare._row_files import EXACT
from tpsolve.compare.suites._table_suite import TableSuite
from tpsolve.errors import ArgumentError
from tpsolve.problems import Instance, NetworkProblem
from tpsolve.tables import TableOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MAX_NAMED = 5
"""Instances that a message names."""


@dataclass(frozen=True)
class Sweep:
    """Tables, and the networks whose fewest training errors are sought on each of them.

    Args:
        folder: holds the tables; other files in it are passed over.
        target: the column of classes, the same in all.
        widths: of each network, the units of each hidden layer.
        options: how the tables are read.

    Raises:
        ArgumentError: no widths, the same twice, or one below 1.
    """

    folder: Path
    target: str
    widths: Sequence[Sequence[int]]
    options: TableOptions = field(default_factory=TableOptions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        suites = [TableSuite(self.folder, self.target, widths, self.options) for widths in self.widths]
        widths = tuple(tuple(suite.widths) for suite in suites)
        if not widths or len(set(widths)) < len(widths):
            raise ArgumentError("widths", list(widths), "one network or more, each once")
        object.__setattr__(self, "widths", widths)

    def instances(self) -> list[Instance[NetworkProblem]]:
        """A problem for each table and network, table by table, named as in `table/3-2`.

        Raises:
            FolderError: the folder is missing, or holds no table.
            ArgumentError, FileFormatError: a table can't be read; or two have one name.
        """
        suites = [TableSuite(self.folder, self.target, widths, self.options).instances() for widths in self.widths]
        made = [instance for of_table in zip(*suites, strict=True) for instance in of_table]
        name, count = Counter(instance.name for instance in made).most_common(1)[0]
        if count > 1:
            expected = "tables whose names differ before their first dot"
            raise ArgumentError("sweep", f"{count} tables named {name.partition('/')[0]}", expected)
        return made

    def to_json(self) -> dict[str, Any]:
        """What the rows of a comparison share."""
        options = self.options.to_json()
        return {
            **dataclasses.asdict(self),
            "folder": str(self.folder),
            "widths": [list(one) for one in self.widths],
            "options": options,
        }


FLOAT64 = "float64"
"""What a line says of numbers that float64 holds as they are."""


def rounded_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of rows, or lines, of a comparison: which instances have numbers that float64 rounds; "" if none has."""
    name = "table" if rows and "table" in rows[0] else "instance"
    names = dict.fromkeys(str(row[name]) for row in rows if row.get("numbers") == EXACT)
    if not names:
        return ""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    shown = ", ".join(list(names)[:MAX_NAMED]) + more
    return f"float64 rounds numbers of {shown}. Errors and bounds are those of the numbers as the files have them."


def as_lines(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each row of a sweep what a table shows: errors and bound of the whole table; None where it failed."""
    lines = []
    for row in rows:
        table, _, widths = row["instance"].rpartition("/")
        line = {"table": table, "widths": widths, "points": row["points"], "solver": row["solver"], "seed": row["seed"]}
        line["numbers"] = row.get("numbers", FLOAT64)
        if "error" in row:
            line |= {"errors": None, "bound": None, "status": f"failed: {row['error']}", "seconds": None}
        else:
            # Errors are whole multiples of what weights share, but for rounding a bound is one too.
            bound = row["bound"][0]
            line |= {"errors": row["objective"][0], "bound": None if bound is None else max(0.0, bound)}
            line |= {"status": row["status"][0], "seconds": row["seconds"]}
        lines.append(line)
    return lines


def draw_sweep(lines: Sequence[dict[str, Any]]) -> "Figure":
    """Errors of each table against the networks: dots where they are proved, bars down to the bound where not."""
    from matplotlib.figure import Figure

    tables = list(dict.fromkeys(line["table"] for line in lines))
    networks = list(dict.fromkeys(line["widths"] for line in lines))
    columns = min(4, len(tables))
    figure = Figure(figsize=(3.2 * columns, 2.6 * math.ceil(len(tables) / columns)), layout="constrained")
    axes = figure.subplots(math.ceil(len(tables) / columns), columns, squeeze=False)
    for axis in axes.flat[len(tables) :]:
        axis.set_axis_off()
    for axis, table in zip(axes.flat, tables, strict=False):
        own = [line for line in lines if line["table"] == table and line["errors"] is not None]
        places = [networks.index(line["widths"]) for line in own]
        errors, bounds = [line["errors"] for line in own], [line["bound"] or 0.0 for line in own]
        axis.plot(places, errors, color="tab:blue", linewidth=1)
        axis.vlines(places, bounds, errors, color="tab:orange", linewidth=4)
        for proved, face in ((True, "tab:blue"), (False, "white")):
            shown = [
                (p, e)
                for p, e, line in zip(places, errors, own, strict=True)
                if (line["status"] == "optimal") == proved
            ]
            axis.plot(*zip(*shown, strict=True), "o", color="tab:blue", markerfacecolor=face) if shown else None
        axis.set_title(table, fontsize=10, parse_math=False)
        axis.set_xticks(range(len(networks)), networks)
        most = max(errors, default=1.0) or 1.0
        axis.set_ylim(-0.05 * most, 1.1 * most)
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.set_xlabel("units of the hidden layers")
        axis.set_ylabel("errors")
    return figure
