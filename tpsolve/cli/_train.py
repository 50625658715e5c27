"""`tpsolve train`: carry out a recipe."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tpsolve.cli._answers import EMPTY, Answers, Csv, Json, Quiet
from tpsolve.cli._files import run_folder
from tpsolve.cli._tables import (
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
)
from tpsolve.cli._terminal import INTERRUPTED, Interrupt, notes
from tpsolve.errors import ArgumentError

SHORT = ("activation", "rule", "width", "solver", "seed", "epochs", "batch", "rate")
"""Settings with an option of their own."""


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe or a .toml file; without it, recipes are listed.")] = "",
    data_root: Annotated[
        Path | None, typer.Option(envvar="TPSOLVE_DATA", help="Folder with the files of the data set.")
    ] = None,
    activation: Annotated[str | None, typer.Option(help="sign, staircase, relu or saturated-relu.")] = None,
    rule: Annotated[str | None, typer.Option(help="What passes a gradient through a threshold.")] = None,
    width: Annotated[float | None, typer.Option(help="Width of the region that learns around a threshold.")] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            help="The solver of the targets, such as hill-climb, or of a program's symbols, such as marginal."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, batches and augmentation.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training set.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images, or groups of them, of a step, over all processes.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate at the start.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of the recipe; may be repeated."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the run; by default made of what was chosen.")] = "",
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint, if it has one.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the run's files, and no others, and begin anew.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's files as well.")] = False,
    diagnose: Annotated[
        int, typer.Option(metavar="N", help="Every N epochs, say how well each threshold learns; 0: never.")
    ] = 0,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="After so many, a checkpoint is written within an epoch too.")
    ] = 10.0,
    table: Annotated[str | None, typer.Option(help="The table to train on, for recipes such as table-mlp.")] = None,
    target: Annotated[str | None, typer.Option(help="Its column that holds the classes.")] = None,
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
    """Train a hard-threshold network by a recipe: `tpsolve train digits-mlp` takes a minute and needs no files.

    `tpsolve train table-mlp --table data.csv --target class` trains on a table of yours.

    Of two digits at a time, `tpsolve train sum-of-digits` knows only the sum.

    The folder runs/NAME gets the resolved recipe, a row of metrics.jsonl an epoch, curves.png, a checkpoint, and of
    dense networks model.npz, for predict, show and export. Ctrl-C saves; the same command with --resume goes on. On
    several GPUs or cores: torchrun --nproc-per-node 2 -m tpsolve train ...
    """
    from tpsolve.tables import TableOptions
    from tpsolve.train import load_recipe
    from tpsolve.train import train as carry_out
    from tpsolve.train._recipe import parse_settings
    from tpsolve.train.data._table_rows import load_table

    answers = Answers(as_json, as_csv, quiet)
    if not recipe:
        _list_recipes(answers)
        return
    values = (activation, rule, width, solver, seed, epochs, batch, rate)
    given = {key: value for key, value in zip(SHORT, values, strict=True) if value is not None}
    chosen = {**parse_settings(setting or []), **given}
    options = read_options(columns, drop, words, missing, dates, delimiter, decimal)
    of_table = {key: value for key, value in (("table", table), ("target", target)) if value is not None}
    if options != TableOptions():
        of_table["reading"] = json.dumps(options.to_json())
    resolved = load_recipe(recipe, {**chosen, **of_table})
    if of_table and resolved.data != "table":
        raise ArgumentError("--table", recipe, "a recipe for tables, such as table-mlp")
    named = {"table": table_stem(Path(resolved.table))} if resolved.data == "table" else {}
    folder = run_folder(runs, name, _run_name(recipe, {**chosen, **named, "seed": resolved.seed}))
    first = os.environ.get("RANK", "0") == "0"
    if resolved.data == "table" and first and not quiet:
        show_schema(load_table(resolved)[1].schema)
    with Interrupt() as interrupt, _bar(first and not quiet) as bar:
        task = bar.add_task("reading the data", total=None)

        def show(moment: Any) -> None:
            done, total = moment.epoch * moment.steps + moment.step, resolved.epochs * moment.steps
            text = f"epoch {moment.epoch + 1}/{resolved.epochs}  loss {moment.loss:.3f}"
            text += f"  accuracy {moment.accuracy:.1%}  rate {moment.rate:.2g}"
            bar.update(task, completed=done, total=total, description=text)

        rows = carry_out(
            resolved,
            folder,
            data_root=data_root,
            device=device,
            resume=resume,
            fresh=fresh,
            tensorboard=tensorboard,
            diagnose=diagnose,
            checkpoint_minutes=checkpoint_minutes,
            progress=show,
            stop=lambda: interrupt.asked,
        )
    if first:
        _show_end(rows, folder, answers)
    if interrupt.asked and len(rows) < resolved.epochs:
        words = "--resume in place of --fresh" if fresh else "--resume"
        answers.remark(f"Stopped and saved. The same command with {words} goes on from here.")
        raise typer.Exit(INTERRUPTED)


def _show_end(rows: list[dict[str, Any]], folder: Path, answers: Answers) -> None:
    from tpsolve.train import TablePreprocessing

    table, given = Table(), []
    if rows:
        for heading in ("", "epoch", "train loss", "train accuracy", "test loss", "test accuracy"):
            table.add_column(heading, justify="right" if heading else "left", overflow="fold")
        for label, row in (("best", max(rows, key=lambda row: row["test_accuracy"])), ("last", rows[-1])):
            given.append({"of": label, **row})
            table.add_row(
                label,
                str(row["epoch"]),
                f"{row['train_loss']:.4f}",
                f"{row['train_accuracy']:.2%}",
                f"{row['test_loss']:.4f}",
                f"{row['test_accuracy']:.2%}",
            )
    rounding = TablePreprocessing.load(folder).rounding if (folder / "table.json").exists() else ""
    answers.give(table if rows else EMPTY, given, run=str(folder), **({"rounding": rounding} if rounding else {}))
    if rows:
        if "calls" in rows[-1]:
            calls = sum(row["calls"] for row in rows)
            answers.say(
                f"Symbols read rightly: {rows[-1]['test_symbol_accuracy']:.2%} in the test set, after {calls} calls."
            )
        fallbacks = sum(row.get("fallbacks", 0) for row in rows)
        if fallbacks:
            answers.say(f"Searches that failed: {fallbacks} targets of a threshold and sample kept the closed form.")
        answers.tell(f"Curves: {folder / 'curves.png'}")
        if (folder / "diagnostics.png").exists():
            answers.tell(f"Diagnostics: {folder / 'diagnostics.png'}")
        _show_model(folder, answers)
        if rounding:
            answers.say(rounding, wrap=True)
    answers.tell(f"Run: {folder}")


def _show_model(folder: Path, answers: Answers) -> None:
    """What of the run can be used, and how many of the test rows it gets right as it was saved."""
    from tpsolve.models import load_model

    if not (folder / "model.npz").exists():
        answers.tell(f"Network: {folder / 'checkpoint.pt'}, which tpsolve predict reads")
        return
    counts = load_model(folder).counts
    words = f"{counts['right']} of {counts['test']} test rows right"
    if counts["others"]:
        words += f"; {counts['others']} of {counts['rows']} rows get another class than in float32, which rounds sums"
    answers.tell(f"Model: {folder / 'model.npz'}, {words}")


def _list_recipes(answers: Answers) -> None:
    from tpsolve.train import RECIPES, load_recipe

    table = Table()
    for heading in ("recipe", "data", "model", "epochs", "batch", "optimizer"):
        table.add_column(heading, overflow="fold")
    rows = []
    for name in RECIPES:
        made = load_recipe(name)
        data = f"{made.data}, {made.program} of {made.count}" if made.program else made.data
        table.add_row(name, data, made.model, str(made.epochs), str(made.batch), f"{made.optimizer} {made.rate:g}")
        row = {"recipe": name, "data": data, "model": made.model, "epochs": made.epochs, "batch": made.batch}
        rows.append({**row, "optimizer": made.optimizer, "rate": made.rate})
    answers.give(table, rows)


def _run_name(recipe: str, chosen: dict[str, Any]) -> str:
    """The recipe and what was changed of it, so that different runs have different folders."""
    texts = {key: ",".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for key, v in chosen.items()}
    return "-".join([Path(recipe).stem, *(f"{key}-{texts[key]}" for key in sorted(texts))])


def _bar(first: bool) -> Progress:
    return Progress(
        BarColumn(24),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=notes,
        transient=True,
        disable=not (notes.is_terminal and first),
    )
