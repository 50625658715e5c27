"""The answer of a command: a table for people, JSON or CSV for programs, and what is said beside it."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from tpsolve.cli._terminal import notes, output, say, visible
from tpsolve.errors import ArgumentError

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print the answer as comma-separated values, names first.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing beside the answer: no progress, no remarks.")]


@dataclass(frozen=True)
class Answers:
    """How a command answers.

    Args:
        as_json, as_csv: in place of tables. quiet: nothing is said beside the answer.

    Raises:
        ArgumentError: both JSON and CSV.
    """

    as_json: bool = field(default=False)
    as_csv: bool = field(default=False)
    quiet: bool = field(default=False)

    def __post_init__(self) -> None:
        if self.as_json and self.as_csv:
            raise ArgumentError("--csv", "beside --json", "one of the two")

    @property
    def for_people(self) -> bool:
        """Whether tables and words are printed."""
        return not (self.as_json or self.as_csv)

    def give(self, table: RenderableType, rows: Sequence[Mapping[str, Any]], **about: Any) -> None:
        """Print the table, or the same rows as JSON, an object with `about` and `rows`, or as CSV."""
        if self.as_json:
            typer.echo(json.dumps({**_plain(about), "rows": _plain(rows)}, allow_nan=False))
        elif self.as_csv:
            typer.echo(_as_csv(rows), nl=False)
        else:
            output.print(table)

    def note(self, text: str, **row: Any) -> None:
        """Say in a line what was done, or print it as the one row of the answer."""
        if self.for_people:
            self.tell(text)
        else:
            self.give(EMPTY, [row])

    def say(self, text: str, wrap: bool = False) -> None:
        """Print a line of the answer that tables have no place for, wrapped or not; JSON has it elsewhere."""
        if self.for_people:
            output.print(visible(text), highlight=False, markup=False, soft_wrap=not wrap)

    def tell(self, text: str) -> None:
        """Print a line beside the answer, such as where a file lies."""
        if self.for_people and not self.quiet:
            say(text)

    def remark(self, text: str) -> None:
        """Print a line to standard error."""
        if not self.quiet:
            notes.print(text, highlight=False, markup=False, soft_wrap=True)


EMPTY = Group()
TABLES = Answers()
"""Of commands that only answer people."""


def _plain(value: Any) -> Any:
    """`value` without what JSON has not: null stands for NaN and infinities."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
        writer.writerows(map(_cells, rows))
    return stream.getvalue()


def _cells(row: Mapping[str, Any]) -> Iterable[Any]:
    for value in row.values():
        text = "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
        # A pipe gets names as they are; a terminal would obey some.
        yield visible(text) if isinstance(text, str) and output.is_terminal else text
