"""`tpsolve exact`: the fewest training errors of a small network on a table, with a proof."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tpsolve.cli._answers import Answers, Csv, Json, Quiet
from tpsolve.cli._files import check_output, check_plot, save_picture
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
    read_widths,
    show_schema,
    table_stem,
)
from tpsolve.cli._terminal import INTERRUPTED, MAX_SEED, Interrupt, progress_bar, refuse_given

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def exact(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help=TABLE_HELP)],
    target: Annotated[str, typer.Option(help="The column that holds the classes.")],
    widths: Annotated[str, typer.Option(help="Units of each hidden layer, such as 3 or 3,2.")] = "3",
    seconds: Annotated[float, typer.Option(help="Wall-clock limit.")] = 60.0,
    solver: Annotated[
        str, typer.Option(help="Another solver, as `tpsolve list` writes it, such as sweep or column-search.")
    ] = "circuits",
    engine: Annotated[str, typer.Option(help="auto, glucose4, minisat22, cadical195, maplechrono or cp-sat.")] = "auto",
    prefer: Annotated[
        str, typer.Option(help="Which optimal network: any, or the one of the best margin, units or weights.")
    ] = "any",
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the search.")] = 0,
    save: Annotated[Path | None, typer.Option(help="Write the model and its proof here (.npz).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a plane here; default: NAME-exact.png.")] = None,
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
    """Find the fewest training errors that any weights of a small hard-threshold network reach, and prove it.

    It prints the errors of the best network found and a proven lower bound. Where they meet, no network of these
    widths does better. Columns of words become a column of 0 and 1 for each word. Tables of two number columns
    are drawn: regions, hyperplanes and errors. `tpsolve verify PROOF FILE` checks a saved proof in exact arithmetic.
    """
    import torch

    from tpsolve._result import Budget
    from tpsolve.models import make_model
    from tpsolve.models._words import inequality, unscaled
    from tpsolve.problems import NetworkProblem
    from tpsolve.search import Circuits, find_solver, solve
    from tpsolve.tables import read_table

    answers = Answers(as_json, as_csv, quiet)
    chosen = find_solver(solver)
    if solver == "circuits":
        chosen = Circuits(engine=engine, prefer=prefer)
    else:
        refuse_given(context, ("engine", "prefer"), f"beside --solver {solver}")
    budget, layers = Budget(seconds=seconds), read_widths(widths)
    check_output("--save", save, file)
    options = read_options(columns, drop, words, missing, dates, delimiter, decimal)
    read = read_table(file, target, options)
    check_plot(plot, len(read.features))
    problem = NetworkProblem(read.inputs, read.labels, layers)
    if not quiet:
        show_schema(read.schema, read.dropped)
    with Interrupt() as interrupt, progress_bar(seconds, quiet=quiet) as bar:
        task = bar.add_task("", total=seconds)

        def show(progress) -> bool:
            figures = f"{progress.objective:g} errors, at least {max(0.0, progress.bound):g}"
            bar.update(task, completed=progress.seconds, description=figures)
            return interrupt.asked

        generator = torch.Generator().manual_seed(seed)
        result = solve(problem, chosen, budget=budget, generator=generator, callback=show)
    errors, bound = round(result.objective.item()), round(result.bound.item())
    table = Table(caption=f"{result.stats['seconds']:.3g} s, {result.stats['steps']} steps", caption_justify="left")
    row = {
        "samples": len(read.labels),
        "points": len(problem.inputs),
        "features": len(read.features),
        "classes": len(problem.classes),
        "widths": widths,
        "errors": errors,
        "bound": bound,
        "status": result.status.value,
    }
    for heading in row:
        table.add_column(heading, justify="right", overflow="fold")
    table.add_row(*(escape(str(value)) for value in row.values()))
    lines = []
    if "preferred" in result.stats:
        best = "none better" if result.stats["preference_proved"] else "not proved to be the best"
        lines.append(f"{prefer}: {result.stats['preferred']:.4g}, {best}")
    if "weights" in result.stats:
        for number, (weight, bias) in enumerate(zip(*result.stats["weights"][0], strict=True), 1):
            whole = unscaled([round(w) for w in weight.tolist()], round(bias.item()), read.schema.scaling)
            lines.append(f"unit {number}: +1 where {inequality(*whole, read.features)}")
    spent = {"seconds": result.stats["seconds"], "steps": result.stats["steps"]}
    answers.give(table, [{**row, **spent}], words=lines, saved=None if save is None else str(save))
    for line in lines:
        answers.say(line)
    if save is not None:
        # First: float64 may give no network for a picture.
        about = {"target": target, "reading": json.dumps(options.to_json())}
        model = make_model(problem, result, features=read.features, target=target, schema=read.schema, about=about)
        model.save(save)
        answers.tell(f"Saved: {save}" + ("" if model.proof else ", without a proof"))
    if len(read.features) == 2:
        from tpsolve.pictures import draw_network

        def draw() -> "Figure":
            network = problem.network(result.targets, result.stats.get("weights"))
            return draw_network(problem, network, read.features, read.schema.scaling)

        save_picture(plot, f"{table_stem(file)}-exact.png", draw, answers)
    if interrupt.asked:
        raise typer.Exit(INTERRUPTED)
