"""`tpsolve export`: a saved model as a program, or as a file of another tool."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tpsolve.cli._answers import Answers, Csv, Json, Quiet
from tpsolve.cli._files import check_output


def export(
    model: Annotated[
        Path, typer.Argument(help="A model that `exact --save` or `train` has saved (.npz), or the folder of a run.")
    ],
    file: Annotated[Path, typer.Argument(help="What to write: .c, .py, .json, .v (Verilog) or .onnx.")],
    table: Annotated[
        Path | None, typer.Option(help="The training table or array, on whose rows both are compared too.")
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Round weights to so many bits, 2 to 32, for less memory.")] = None,
    qonnx: Annotated[bool, typer.Option("--qonnx", help="Of .onnx: Quant and BipolarQuant nodes for QONNX.")] = False,
    float32: Annotated[bool, typer.Option("--float32", help="Of .onnx: float32 in place of float64.")] = False,
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Write a model in another language, and compare the classes that both give to many rows.

    They are random rows and pairs of rows beside the boundary of each unit; with --table also those of the table. If a
    class differs, nothing is written.
    """
    from tpsolve.cli.models._saved import read_arrays
    from tpsolve.models import load_model

    answers = Answers(as_json, as_csv, quiet)
    check_output("FILE", file, model)
    read = load_model(model)
    rows: Any = table
    if table is not None and read.schema is None:
        rows, _ = read_arrays(table)
    made = read.export(file, rows, bits=bits, qonnx=qonnx, float32=float32)
    others, of = made.others
    counts = {"rows": made.rows, "by": made.by, "others": others, "others_of": of}
    answers.note(str(made), files=list(map(str, made.files)), **counts)
