"""`tpsolve separate`: which classes of a table a single unit can tell apart."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tpsolve.cli._answers import Answers, Csv, Json, Quiet
from tpsolve.cli._files import check_plot, save_picture
from tpsolve.cli._tables import (
    TABLE_HELP,
    Columns,
    Dates,
    Decimal,
    Delimiter,
    Drop,
    Missing,
    Words,
    read_options,
    show_schema,
    table_stem,
    unrounded_words,
)
from tpsolve.cli._terminal import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpsolve.units.separability._class_rows import ClassRow


def separate(
    file: Annotated[Path, typer.Argument(help=TABLE_HELP)],
    target: Annotated[str, typer.Option(help="The column that holds the classes.")],
    plot: Annotated[Path | None, typer.Option(help="Draw a plane here; default: NAME-separate.png.")] = None,
    columns: Columns = "",
    drop: Drop = "",
    words: Words = "",
    missing: Missing = "refuse",
    dates: Dates = "auto",
    delimiter: Delimiter = "",
    decimal: Decimal = "",
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Tell which classes of a table a single unit can tell from the rest, each answer with its proof.

    A class that can be told apart comes with the margin of the weights found; one that can't with a
    circuit, a few samples that forbid any weights. Both are verified in exact arithmetic. Columns of
    words become a column of 0 and 1 for each word. Tables of two number columns are drawn.
    """
    from tpsolve.tables import read_table
    from tpsolve.units.separability._class_rows import class_rows, class_targets

    answers = Answers(as_json, as_csv, quiet)
    read = read_table(file, target, read_options(columns, drop, words, missing, dates, delimiter, decimal))
    check_plot(plot, len(read.features))
    class_targets(read.labels)
    if not quiet:
        show_schema(read.schema, read.dropped)
    rows, certificate = class_rows(read.inputs, read.labels, read.schema.scaling, read.exact_rows())
    table = Table(caption=f"{len(read.labels)} samples, {len(read.features)} features", caption_justify="left")
    for heading in ("class", "samples", "separable", "margin", "circuit (line: weight)"):
        table.add_column(heading, justify="left" if heading[0] == "c" else "right", overflow="fold")
    for row in rows:
        circuit = ", ".join(f"{read.lines[i]}: {w:.3g}%" for i, w in zip(row.circuit, row.weights, strict=True))
        table.add_row(
            escape(visible(row.label)),
            str(row.samples),
            {1: "yes, proved", -1: "no, proved", 0: "undecided"}[row.status],
            "-" if row.margin is None else f"{row.margin:.4g}",
            circuit or "-",
        )
    answers.give(table, [_as_row(row, read.lines) for row in rows], samples=len(read.labels), features=read.features)
    if read.schema.rounded:
        answers.say(unrounded_words(True))
    if len(read.features) == 2:
        from tpsolve.pictures import draw_separation

        save_picture(
            plot,
            f"{table_stem(file)}-separate.png",
            lambda: draw_separation(read.inputs, read.labels, read.features, rows, certificate, read.schema.scaling),
            answers,
        )


def _as_row(row: "ClassRow", lines: "Sequence[int]") -> dict[str, Any]:
    return {
        "class": row.label,
        "samples": row.samples,
        "separable": {1: "yes", -1: "no", 0: "undecided"}[row.status],
        "margin": row.margin,
        "circuit": [lines[i] for i in row.circuit],
        "weights": list(row.weights),
    }
