"""`tpsolve predict`: the classes that a saved model gives to the rows of a new table."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tpsolve._storage._write_whole import write_whole
from tpsolve.cli._files import check_output
from tpsolve.cli._tables import TABLE_HELP
from tpsolve.cli._terminal import notes, output, say, visible
from tpsolve.errors import ArgumentError, UnknownNameError

if TYPE_CHECKING:
    from tpsolve.models import Model


def predict(
    model: Annotated[Path, typer.Argument(help="A model saved by `tpsolve exact --save` (.npz).")],
    file: Annotated[Path, typer.Argument(help=TABLE_HELP)],
    target: Annotated[str | None, typer.Option(help="The column of true classes, to count errors.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the column of classes here (.csv).")] = None,
) -> None:
    """Give a class to each row of a table, read as the table that the model was trained on.

    The column of classes goes to standard output or to --out. With --target, accuracy and a table of confusions are
    printed instead. Columns may stand in any order. A column that is missing or unknown, and a word that training had
    not, is an error.
    """
    from tpsolve.models import load_model

    check_output("--out", out, file)
    read = load_model(model)
    if read.schema is None:
        raise ArgumentError("MODEL", model, "a model made from a table", "Use its predict() from Python.")
    schema = read.schema if target is None else replace(read.schema, target=target)
    rows = schema.apply(_source(file), labels=target is not None)
    if target is not None and not rows.labels:
        raise UnknownNameError("--target", target, [column.name for column in schema.columns])
    index = read.layers.classes(rows.inputs.numpy())
    labels = [str(label) for label in read.labels(index)]
    if rows.dropped:
        lines = ", ".join(map(str, rows.dropped[:10])) + (", ..." if len(rows.dropped) > 10 else "")
        lost = f"{len(rows.dropped)} rows have no class, since a value is missing: {lines}"
        notes.print(lost, highlight=False, markup=False, soft_wrap=True)
    if target is not None:
        _show_confusions(read, list(rows.labels), labels)
    if out is not None or target is None:
        # One line for each row of the table, so that the column can be put beside it.
        by_line = dict(zip(rows.lines, labels, strict=True)) | dict.fromkeys(rows.dropped, "")
        stream = io.StringIO()
        name = f"predicted {read.target}" if read.target else "predicted"
        csv.writer(stream, lineterminator="\n").writerows([[name], *([by_line[line]] for line in sorted(by_line))])
        text = stream.getvalue()
        if out is None:
            if output.is_terminal:
                text = "".join(f"{visible(line)}\n" for line in text.splitlines())
            output.file.write(text)
        else:
            write_whole(out, lambda file: file.write(text.encode()))
            say(f"Saved: {out}")


def _source(file: Path) -> Any:
    return "-" if str(file) == "-" else file


def _show_confusions(model: "Model", true: list[str], predicted: list[str]) -> None:
    right = sum(a == b for a, b in zip(true, predicted, strict=True))
    say(f"{right} of {len(true)} right: {right / len(true):.1%}")
    known = [str(label) for label in model.classes]
    table = Table()
    table.add_column("true \\ predicted", overflow="fold")
    for label in known:
        table.add_column(escape(visible(label)), justify="right", overflow="fold")
    for label in [*known, *sorted(set(true) - set(known))]:
        counts = [sum(a == label and b == other for a, b in zip(true, predicted, strict=True)) for other in known]
        table.add_row(escape(visible(label)), *map(str, counts))
    output.print(table)
    if unknown := sorted(set(true) - set(known)):
        shown = visible(", ".join(unknown[:5]))
        notes.print(f"Classes that the model does not know: {shown}", highlight=False, markup=False, soft_wrap=True)
