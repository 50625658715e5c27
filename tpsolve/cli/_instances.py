"""`tpsolve instances`: the built-in problems."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table

from tpsolve.cli._answers import Answers, Csv, Json, Quiet
from tpsolve.cli._files import check_output
from tpsolve.cli._terminal import MAX_SEED, refuse_given
from tpsolve.errors import ArgumentError, UnknownNameError

GENERATOR_OPTIONS = ("n", "m", "samples", "seed")


def instances(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="The generator or table; without a name, all are listed.")] = None,
    n: Annotated[int, typer.Option("--n", help="Number of targets.")] = 16,
    m: Annotated[int, typer.Option("--m", help="Number of units above that read them.")] = 10,
    samples: Annotated[int, typer.Option(help="Number of samples in the batch.")] = 8,
    widths: Annotated[str, typer.Option(help="For a table: units of each hidden layer, such as 3 or 3,2.")] = "3",
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the generator.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where to write it; by default NAME.npz.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """List the built-in generators of problems and tables, or write one of their problems to a file."""
    from tpsolve.problems import GENERATORS, TABLES, NetworkProblem, make_instance, make_table

    answers = Answers(as_json, as_csv, quiet)
    if name is None:
        refuse_given(context, (*GENERATOR_OPTIONS, "widths", "out"), "without a name")
        tables, rows = [], []
        for kind, makers in (("generator", GENERATORS), ("table", TABLES)):
            tables.append(Table())
            for heading in (kind, "what it makes"):
                tables[-1].add_column(heading, overflow="fold")
            for known, maker in makers.items():
                does = " ".join((maker.__doc__ or "").split("\n\n")[0].split())
                tables[-1].add_row(known, does)
                rows.append({"name": known, "kind": kind, "makes": does})
        answers.give(Group(*tables), rows)
        return
    check_output("--out", out)
    if name not in GENERATORS:
        try:
            inputs, labels = make_table(name)
        except UnknownNameError as error:
            raise UnknownNameError("name", name, [*GENERATORS, *TABLES]) from error
        refuse_given(context, GENERATOR_OPTIONS, "for a table, which its name describes")
        problem = NetworkProblem(inputs, labels, _widths(widths))
        path = out or Path(f"{name.replace('/', '-')}.npz")
        problem.save(path)
        answers.note(f"Saved: {path}: {problem}", path=str(path), problem=str(problem), optimum=None)
        return
    refuse_given(context, ("widths",), "for a generator of layer problems")
    made = make_instance(name, n=n, m=m, samples=samples, seed=seed)
    path = out or Path(f"{name}.npz")
    made.problem.save(path)
    optimum = "" if made.optimum is None else f", mean optimum {made.optimum.mean():.6g} by construction"
    known = None if made.optimum is None else made.optimum.tolist()
    answers.note(f"Saved: {path}: {made.problem}{optimum}", path=str(path), problem=str(made.problem), optimum=known)


def _widths(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ArgumentError("widths", repr(text), "whole numbers with commas between them", "Such as 3,2.") from error
