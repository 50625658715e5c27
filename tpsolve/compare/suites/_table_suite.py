"""A folder of tables as a suite of network problems."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpsolve.errors import ArgumentError, FolderError
from tpsolve.problems import Instance, NetworkProblem
from tpsolve.tables import TableOptions, read_table

ENDINGS = (".csv", ".tsv", ".parquet", ".feather", ".arrow", ".xlsx", ".csv.gz", ".csv.xz", ".tsv.gz", ".tsv.xz")
"""Of the files in a folder that are tables."""


@dataclass(frozen=True)
class TableSuite:
    """Tables whose networks with the fewest training errors are sought.

    Args:
        folder: holds the tables; other files in it are passed over.
        target: the column of classes, the same in all.
        widths: units of each hidden layer.
        options: how the tables are read.

    Raises:
        ArgumentError: no widths, or one below 1.
    """

    folder: Path
    target: str
    widths: Sequence[int] = (3,)
    options: TableOptions = field(default_factory=TableOptions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        widths = NetworkProblem([[0.0], [1.0]], [0, 1], self.widths).widths
        object.__setattr__(self, "widths", widths)

    def instances(self) -> list[Instance[NetworkProblem]]:
        """A problem for each table, in the order of their names, which they are called after.

        Raises:
            FolderError: the folder is missing, or holds no table.
            ArgumentError, FileFormatError: a table can't be read; the message names it.
        """
        if not self.folder.is_dir():
            raise FolderError(f"{self.folder}: is no folder. Give one that holds tables.")
        files = [file for file in sorted(self.folder.iterdir()) if file.name.lower().endswith(ENDINGS)]
        if not files:
            raise FolderError(f"{self.folder}: holds no table, that is no file named {', '.join(ENDINGS)}.")
        shape = "-".join(map(str, self.widths))
        return [
            Instance(
                f"{file.name.partition('.')[0]}/{shape}", read_network(file, self.target, self.widths, self.options)
            )
            for file in files
        ]

    def to_json(self) -> dict[str, Any]:
        """What the rows of a comparison share."""
        options = self.options.to_json()
        return {**dataclasses.asdict(self), "folder": str(self.folder), "widths": list(self.widths), "options": options}


def read_network(file: Path, target: str, widths: Sequence[int], options: TableOptions) -> NetworkProblem:
    """The problem of the network of these widths with the fewest training errors on the numbers of a table."""
    read = read_table(file, target, options)
    if len(read.schema.classes) < 2:
        raise ArgumentError(str(file), f"the class {read.labels[0]!r} only", "at least two classes")
    return NetworkProblem(read.inputs, read.labels, widths, exact=read.exact_rows())
