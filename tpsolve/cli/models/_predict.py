"""`tpsolve predict`: the classes that a saved model gives to the rows of a new table."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tpsolve._storage._write_whole import write_whole
from tpsolve.cli._answers import EMPTY, Answers, Csv, Json, Quiet
from tpsolve.cli._files import check_output
from tpsolve.cli._tables import TABLE_HELP
from tpsolve.cli._terminal import output, visible
from tpsolve.errors import UnknownNameError


def predict(
    model: Annotated[
        Path, typer.Argument(help="A model that `exact --save` or `train` has saved (.npz), or the folder of a run.")
    ],
    file: Annotated[Path, typer.Argument(help=f"{TABLE_HELP} For models of images: arrays, .npy or .npz.")],
    target: Annotated[
        str | None, typer.Option(help="The column of true classes, or the array of an .npz, to count errors.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the column of classes here (.csv).")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Give a class to each row of a table, read as the table that the model was trained on.

    The column of classes goes to standard output or to --out. With --target, accuracy and a table of confusions are
    printed instead. Columns may stand in any order. A column that is missing or unknown, and a word that training had
    not, is an error. The column is CSV already, so --csv changes nothing without --target. Images are arrays of pixels
    as they were before normalisation.
    """
    from tpsolve.cli.models._saved import load_predictor, read_arrays

    answers = Answers(as_json, as_csv, quiet)
    check_output("--out", out, file)
    read = load_predictor(model)
    if read.schema is None:
        given, true = read_arrays(file, target)
        values, truth = read.read(given), None if true is None else [str(label) for label in true.tolist()]
        lines, dropped, exact = list(range(len(values))), [], None
    else:
        schema = read.schema if target is None else replace(read.schema, target=target)
        rows = schema.apply(_source(file), labels=target is not None)
        if target is not None and not rows.labels:
            raise UnknownNameError("--target", target, [column.name for column in schema.columns])
        values, truth, lines, dropped = rows.inputs.numpy(), list(rows.labels), rows.lines, rows.dropped
        exact = rows.exact_rows()
    labels = [str(read.classes[k]) for k in read.index(values, exact).tolist()] if len(values) else []
    if dropped:
        shown = ", ".join(map(str, dropped[:10])) + (", ..." if len(dropped) > 10 else "")
        lost = f"{len(dropped)} rows have no class, since a value is missing: {shown}"
        answers.remark(lost)
    if target is not None and truth is not None:
        _show_confusions(read.classes, truth, labels, answers)
    if out is not None or target is None:
        # One line for each row of the table, so that the column can be put beside it.
        by_line = dict(zip(lines, labels, strict=True)) | dict.fromkeys(dropped, "")
        stream = io.StringIO()
        name = f"predicted {read.target}" if read.target else "predicted"
        csv.writer(stream, lineterminator="\n").writerows([[name], *([by_line[line]] for line in sorted(by_line))])
        text = stream.getvalue()
        if out is None and as_json:
            answers.give(EMPTY, [{"line": line, name: by_line[line] or None} for line in sorted(by_line)])
        elif out is None:
            if output.is_terminal:
                text = "".join(f"{visible(line)}\n" for line in text.splitlines())
            output.file.write(text)
        else:
            write_whole(out, lambda file: file.write(text.encode()))
            answers.tell(f"Saved: {out}")


def _source(file: Path) -> Any:
    return "-" if str(file) == "-" else file


def _show_confusions(classes: Sequence[Any], true: list[str], predicted: list[str], answers: Answers) -> None:
    right = sum(a == b for a, b in zip(true, predicted, strict=True))
    answers.say(f"{right} of {len(true)} right: {right / len(true):.1%}")
    known = [str(label) for label in classes]
    table = Table()
    table.add_column("true \\ predicted", overflow="fold")
    for label in known:
        table.add_column(escape(visible(label)), justify="right", overflow="fold")
    rows = []
    for label in [*known, *sorted(set(true) - set(known))]:
        counts = [sum(a == label and b == other for a, b in zip(true, predicted, strict=True)) for other in known]
        table.add_row(escape(visible(label)), *map(str, counts))
        rows.append(
            {"true": label, **{f"predicted {other}": count for other, count in zip(known, counts, strict=True)}}
        )
    answers.give(table, rows, right=right, rows_read=len(true))
    if unknown := sorted(set(true) - set(known)):
        shown = visible(", ".join(unknown[:5]))
        answers.remark(f"Classes that the model does not know: {shown}")
