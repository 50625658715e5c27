"""Cells of a table as texts, with their places; what they mean is decided elsewhere."""

from collections import Counter
from dataclasses import dataclass

from tpsolve.errors import FileFormatError

Cell = str | None
"""A text without spaces around it; None: missing for certain, such as the null of a Parquet file."""


@dataclass(frozen=True)
class RawTable:
    """A table of texts.

    Args:
        name: of the file, for messages.
        header: names of the columns; "" for an unnamed one.
        columns: the cells of each.
        lines: where each row begins, from 1.
        row: what lines count: "" for lines of a text, else a word such as "row".
        words: names of columns whose type says that they hold words.
        typed: names of columns whose cells were no texts: their numbers have points, and their dates are ISO dates.
    """

    name: str
    header: list[str]
    columns: list[list[Cell]]
    lines: list[int]
    row: str = ""
    words: frozenset[str] = frozenset()
    typed: frozenset[str] = frozenset()

    def place(self, index: int, column: str) -> str:
        """Where a cell stands, for a message: file, line and column."""
        line = self.lines[index]
        return f"{self.name}:{f'{self.row} {line}' if self.row else line}:{column or 'unnamed column'}"


def checked(table: RawTable) -> RawTable:
    """The table, or FileFormatError where it has no rows, or two columns of one name."""
    check_names(table.name, table.header)
    if not table.lines:
        raise FileFormatError(f"{table.name}: no rows.")
    return table


def check_names(name: str, header: list[str]) -> None:
    """Raise FileFormatError where two columns have one name."""
    if twice := sorted(column for column, count in Counter(header).items() if count > 1):
        if not twice[0]:
            raise FileFormatError(f"{name}: several columns have no name. The first row must hold the names.")
        raise FileFormatError(f"{name}: two columns are named {twice[0]!r}. Give one of them another name.")
