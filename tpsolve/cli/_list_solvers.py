"""`tpsolve list`: the solvers."""

from rich.table import Table

from tpsolve.cli._terminal import output


def list_solvers() -> None:
    """List the solvers: what each accepts, whether it is exact, whether its library is installed."""
    from tpsolve.search import SOLVERS

    table = Table()
    for heading in ("solver", "accepts", "exact", "random", "library", "what it does"):
        table.add_column(heading, overflow="fold")
    for solver_name, kind in SOLVERS.items():
        library = (kind.module or "-").partition(".")[0]
        table.add_row(
            solver_name,
            ", ".join(accepted.__name__.removesuffix("Problem").lower() for accepted in kind.accepts),
            "yes" if kind.exact else "no",
            "yes" if kind.stochastic else "no",
            library if kind.installed() else f"{library} (not installed)",
            _what_it_does(kind),
        )
    output.print(table)


def _what_it_does(kind: type) -> str:
    """The first sentence of a solver's docstring, and its settings."""
    import dataclasses

    sentence = " ".join((kind.__doc__ or "").split("\n\n")[0].split()).split(". ")[0].split("; ")[0].rstrip(".")
    settings = ", ".join(f"{field.name}={field.default}" for field in dataclasses.fields(kind))
    return f"{sentence}; {settings}" if settings else sentence
