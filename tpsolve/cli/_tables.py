"""What the commands on tables share: their options, and the table of what each column was taken for."""

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tpsolve.cli._terminal import notes, visible
from tpsolve.errors import ArgumentError, UnknownNameError

if TYPE_CHECKING:
    from tpsolve.tables import TableOptions, TableSchema

TABLE_HELP = "A table with a header: .csv (.gz, .xz), .tsv, .parquet, .feather, .xlsx; - for standard input."

MIN_ALIKE = 4
"""Columns in a row that are alike and are printed as one."""

Columns = Annotated[str, typer.Option(help="Names of the only columns to use, separated by commas; default: all.")]
Drop = Annotated[str, typer.Option(help="Names of columns to leave out.")]
Words = Annotated[str, typer.Option(help="Names of columns that hold words even if they look like numbers.")]
Missing = Annotated[
    str, typer.Option(help="Missing values: refuse, drop their rows, an indicator column, or impute the middle value.")
]
Dates = Annotated[str, typer.Option(help="Dates: auto, dmy or mdy where day and month can't be told apart, or drop.")]
Delimiter = Annotated[str, typer.Option(help='Between cells: "," ";" "|" or tab; default: found out.')]
Decimal = Annotated[str, typer.Option(help='Sign of decimals: "." or ","; default: found out.')]


def read_options(
    columns: str, drop: str, words: str, missing: str, dates: str, delimiter: str, decimal: str
) -> "TableOptions":
    """The options of a command as those of a reading.

    Raises:
        ArgumentError: as `TableOptions`.
    """
    from tpsolve.tables import TableOptions

    delimiter = "\t" if delimiter in ("tab", "\\t") else delimiter
    return TableOptions(
        missing, dates, _names(columns), _names(drop), _names(words), delimiter or None, decimal or None
    )


def show_schema(schema: "TableSchema", dropped: tuple[int, ...] = ()) -> None:
    """Print what each column was taken for, long rows of columns that are alike as one; `dropped`: rows left out."""
    rows = []
    for (kind, details), alike in itertools.groupby(schema.table(), key=lambda row: row[1:]):
        names = [name for name, _, _ in alike]
        if len(names) >= MIN_ALIKE:
            names = [f"{names[0]} to {names[-1]} ({len(names)})"]
        rows += [(name, kind, details) for name in names]
    headings = ("column", "taken for", "details")[: 3 if any(details for _, _, details in rows) else 2]
    table = Table(*headings)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(escape(visible(text)) for text in row[: len(headings)]))
    notes.print(table)
    notes.print(schema.summary(), highlight=False, soft_wrap=True)
    if dropped:
        lines = ", ".join(map(str, dropped[:10])) + (", ..." if len(dropped) > 10 else "")
        rows = "1 row" if len(dropped) == 1 else f"{len(dropped)} rows"
        notes.print(f"{rows} left out, since a value is missing: {lines}", highlight=False, markup=False)
    if schema.rounded:
        names = visible(", ".join(schema.rounded))
        notes.print(f"float64 rounds {names}.", highlight=False, markup=False, soft_wrap=True)


def unrounded_words(holds: bool | None) -> str:
    """Whether what was proved of numbers that float64 rounds holds for those of the table; None: not decided."""
    if holds:
        return "The proof holds for the numbers of the table, which float64 rounds: exact fractions were checked."
    if holds is None:
        return "Whether the proof holds for the numbers of the table was not decided in time, only for rounded ones."
    return "The proof holds for the numbers as float64 rounds them, not for those of the table."


def read_widths(text: str) -> list[int]:
    """Units of each hidden layer, from a text such as 3,2.

    Raises:
        ArgumentError: no whole numbers.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ArgumentError("--widths", repr(text), "whole numbers separated by commas, such as 3 or 3,2") from error


def read_set(option: str, text: str) -> "str | range | list[int] | None":
    """A set of whole numbers, from a name or a text such as -7..7 or -4,0,4; None: the text is empty.

    Raises:
        ArgumentError: neither a range nor whole numbers.
    """
    if not text or (text[0] not in "+-" and not text[0].isdigit()):
        return text or None
    try:
        numbers = [int(part) for part in text.split(".." if ".." in text else ",")]
    except ValueError as error:
        raise ArgumentError(option, repr(text), "a range such as -7..7, or whole numbers such as -4,0,4") from error
    if ".." not in text:
        return numbers
    if len(numbers) != 2 or numbers[0] > numbers[1]:
        raise ArgumentError(option, repr(text), "a range that rises, such as -7..7")
    return range(numbers[0], numbers[1] + 1)


def read_signs(features: Sequence[str], rising: str, falling: str) -> dict[int, int] | None:
    """+1 and -1 by the numbers of features that are named between commas; None: none is.

    Raises:
        UnknownNameError: no such feature.
        ArgumentError: one that is named twice.
    """
    found: dict[int, int] = {}
    for option, text, sign in (("--rising", rising, 1), ("--falling", falling, -1)):
        for name in _names(text):
            if name not in features:
                raise UnknownNameError(option, name, features)
            if features.index(name) in found:
                raise ArgumentError(option, f"{name} more than once", "each column once")
            found[features.index(name)] = sign
    return found or None


def read_groups(schema: "TableSchema", texts: Sequence[str]) -> list[tuple[list[int], int]] | None:
    """Features and how many of their weights may be other than 0, from texts such as 1:age,income; None: no text.

    A column of words stands for all of its features.

    Raises:
        ArgumentError: no whole number before a colon, or no column after it, or one twice.
        UnknownNameError: no such feature or column.
    """
    places = {name: [place] for place, name in enumerate(schema.features)}
    start = 0
    for column in schema.columns:
        places.setdefault(column.name, [*range(start, start + len(column.features))])
        start += len(column.features)
    found = []
    for text in texts:
        most, colon, listed = text.partition(":")
        names = _names(listed)
        if not colon or not most.strip().isdecimal() or not all(names) or not names:
            raise ArgumentError("--group", repr(text), "how many, a colon and columns, such as 1:age,income")
        for name in names:
            if name not in places:
                raise UnknownNameError("--group", name, places)
        members = [place for name in names for place in places[name]]
        if len(set(members)) < len(members):
            twice = next(schema.features[place] for place in members if members.count(place) > 1)
            raise ArgumentError("--group", f"{text!r}, which has {twice} twice", "each column once")
        found.append((members, int(most)))
    return found or None


def table_stem(file: Path) -> str:
    """The name of a table for files beside it."""
    return "table" if str(file) == "-" else file.name.partition(".")[0] or "table"


def _names(text: str) -> tuple[str, ...]:
    """Names between commas; quotes around those that hold a comma."""
    return tuple(name.strip() for row in csv.reader([text], skipinitialspace=True) for name in row)
