"""`tpsolve list`: the solvers."""

from rich.table import Table

from tpsolve.cli._answers import Answers, Csv, Json, Quiet


def list_solvers(as_json: Json = False, as_csv: Csv = False, quiet: Quiet = False) -> None:
    """List the solvers: what each accepts, whether it is exact, whether its library is installed."""
    from tpsolve.search import SOLVERS

    answers = Answers(as_json, as_csv, quiet)
    table = Table()
    for heading in ("solver", "accepts", "exact", "random", "library", "what it does"):
        table.add_column(heading, overflow="fold")
    rows = []
    for solver_name, kind in SOLVERS.items():
        library = (kind.module or "-").partition(".")[0]
        accepts = [accepted.__name__.removesuffix("Problem").lower() for accepted in kind.accepts]
        row = {
            "solver": solver_name,
            "accepts": accepts,
            "exact": kind.exact,
            "random": kind.stochastic,
            "library": kind.module and library,
            "installed": kind.installed(),
            "does": _what_it_does(kind),
        }
        rows.append(row)
        table.add_row(
            solver_name,
            ", ".join(accepts),
            "yes" if kind.exact else "no",
            "yes" if kind.stochastic else "no",
            library if row["installed"] else f"{library} (not installed)",
            row["does"],
        )
    answers.give(table, rows)


def _what_it_does(kind: type) -> str:
    """The first sentence of a solver's docstring, and its settings."""
    import dataclasses

    sentence = " ".join((kind.__doc__ or "").split("\n\n")[0].split()).split(". ")[0].split("; ")[0].rstrip(".")
    settings = ", ".join(f"{field.name}={field.default}" for field in dataclasses.fields(kind))
    return f"{sentence}; {settings}" if settings else sentence
