"""`tpsolve instances`: the built-in problems."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tpsolve.cli.terminal import LARGEST_SEED, output, say


def instances(
    name: Annotated[str | None, typer.Argument(help="Write a problem of this generator; none: list them.")] = None,
    n: Annotated[int, typer.Option("--n", help="Targets sought.")] = 16,
    m: Annotated[int, typer.Option("--m", help="Units above that read them.")] = 10,
    samples: Annotated[int, typer.Option(help="Samples of the batch.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of the generator.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where to write it; by default NAME.npz.")] = None,
) -> None:
    """List the built-in generators of problems, or write one of their problems to a file."""
    from tpsolve.problems import GENERATORS, make_instance

    if name is None:
        table = Table("generator", "what it makes")
        for known, generator in GENERATORS.items():
            table.add_row(known, (generator.__doc__ or "").split("\n\n")[0].replace("\n", " "))
        output.print(table)
        return
    made = make_instance(name, n=n, m=m, samples=samples, seed=seed)
    path = out or Path(f"{name}.npz")
    made.problem.save(path)
    optimum = "" if made.optimum is None else f", mean optimum {made.optimum.mean():.6g} by construction"
    say(f"Saved: {path}: {made.problem}{optimum}")
