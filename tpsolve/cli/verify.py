"""`tpsolve verify`: a check that trusts nothing but the problem."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tpsolve.cli.terminal import notes, output
from tpsolve.errors import ArgumentError


def verify(
    file: Annotated[Path, typer.Argument(help="A saved problem (.npz).")],
    result: Annotated[Path, typer.Argument(help="A result of it, saved by `tpsolve solve --save`.")],
    largest: Annotated[int, typer.Option(help="Enumerate problems of at most this many targets.")] = 20,
) -> None:
    """Recompute the objective of a result, and check its bound by enumeration where that is possible.

    Exit status 0: all claims hold, or could not be refuted; 1: a claim is false.
    """
    from tpsolve.problems import load_problem
    from tpsolve.result import load_result
    from tpsolve.search.verify import verify_result

    problem = load_problem(file)
    claimed, fingerprint = load_result(result)
    if fingerprint != problem.fingerprint:
        raise ArgumentError("RESULT", result, f"a result of {file}", "It was saved for another problem.")
    table = Table()
    for heading in ("sample", "objective", "bound", "status"):
        table.add_column(heading, justify="left" if heading == "status" else "right")
    checks = verify_result(problem, claimed, largest)
    for number, check in enumerate(checks):
        table.add_row(str(number), check.objective, check.bound, check.status)
    output.print(table)
    if not all(check.holds for check in checks):
        notes.print("A claim is false.", highlight=False)
        raise typer.Exit(1)
