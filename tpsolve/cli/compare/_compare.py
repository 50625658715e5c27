"""`tpsolve compare`: every solver on the same problems under one budget."""

import importlib
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from tpsolve.cli._answers import Answers, Csv, Json, Quiet
from tpsolve.cli._executors import ExecutorName, MaxMemory, ShardText, connected, read_shard
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
    read_widths,
)
from tpsolve.cli._terminal import (
    INTERRUPTED,
    MAX_SEED,
    Interrupt,
    is_given,
    output,
    progress_bar,
    refuse_given,
    say_stopped,
)
from tpsolve.errors import ArgumentError

OF_TABLES = ("target", "widths", "columns", "drop", "words", "missing", "dates", "delimiter", "decimal")
FIXED_IN_TRAINING = (
    *("tables", "suite", "solver", "samples", "suite_seed", "device", "steps", "workers", "executor", "shard"),
    "max_memory",
    *OF_TABLES,
)


def compare(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILES]...", help="Saved problems (.npz) and tables, in place of a suite."),
    ] = None,
    suite: Annotated[
        str,
        typer.Option(
            help="Which instances: digits, generated-12, generated-32, networks, programs, wide. Or file.py:function."
        ),
    ] = "digits",
    name: Annotated[str, typer.Option(help="Name of the run; by default the suite's.")] = "",
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    solver: Annotated[
        list[str] | None, typer.Option(help="A solver, such as hill-climb:restarts=8; may be repeated. Default: all.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Number of samples of each instance of a suite.")] = 4,
    seconds: Annotated[float, typer.Option(help="Budget of each solver, in seconds a sample.")] = 0.1,
    steps: Annotated[
        int | None, typer.Option(help="Budget of each solver, in steps a sample, in place of --seconds.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds of each solver that draws anything.")] = 3,
    suite_seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the instances.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that solve, each with one thread and one task.")] = 1,
    max_memory: MaxMemory = None,
    executor: ExecutorName = "",
    shard: ShardText = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run's earlier files and begin anew.")] = False,
    training: Annotated[
        bool,
        typer.Option("--training", help="Compare who sets the targets in training, narrow and wide networks."),
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="With --training: epochs of each wide network.")] = 20,
    tables: Annotated[Path | None, typer.Option(help="A folder of tables, in place of a suite.")] = None,
    target: Annotated[str, typer.Option(help="Of tables: the column that holds the classes.")] = "",
    widths: Annotated[str, typer.Option(help="Of tables: units of each hidden layer, such as 3 or 3,2.")] = "3",
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
    """Compare solvers on real layer problems under one equal budget.

    It trains a hard-threshold network on scikit-learn's digits, takes layer problems from it, gives each
    to every solver, and prints one line a solver. Other suites have other problems. Rows, plots and a
    report.html are kept under runs/NAME. A second call with the same name goes on where the first one ended.

    --workers 8 solves in eight processes. --shard 3/16 does one part of sixteen, for other machines and clusters.

    The problems may be files of yours: `tpsolve compare my/*.npz --solver tabu --solver cp-sat`. Of tables, networks
    with the fewest training errors are sought: `tpsolve compare *.csv --target class`, or --tables for a folder.

    With --training the question is whether search helps to train: surrogate gradients against searches, on
    narrow networks by their training errors and on a wider one by its test accuracy, in under 5 minutes.
    """
    answers = Answers(as_json, as_csv, quiet)
    if training:
        if files:
            raise ArgumentError("FILES", files[0], "none with --training, whose instances and solvers are fixed")
        refuse_given(context, FIXED_IN_TRAINING, "with --training, whose instances and solvers are fixed")
        _training(name, runs, seconds, seeds, epochs, fresh, answers)
        return
    refuse_given(context, ("epochs",), "without --training")
    if (workers > 1 or max_memory is not None) and not executor:
        from tpsolve.compare.running._start import load_ahead

        load_ahead()
    from tpsolve.compare import Comparison, FileSuite, TableSuite, run_comparison

    options = read_options(columns, drop, words, missing, dates, delimiter, decimal)
    of_files = of_tables = None
    if files:
        refuse_given(context, ("suite", "suite_seed", "samples", "tables"), "with files")
        of_files = FileSuite(files, target, read_widths(widths), options)
    if tables is not None:
        refuse_given(context, ("suite", "suite_seed"), "with --tables")
        if not target:
            raise ArgumentError("--target", "nothing", "the column that holds the classes, with --tables")
        of_tables = TableSuite(tables, target, read_widths(widths), options)
    elif of_files is None or not of_files.has_tables:
        refuse_given(context, OF_TABLES, "without tables")
    if steps is not None:
        refuse_given(context, ("seconds",), "with --steps")
    from tpsolve.compare import suite as named_suite

    suite = named_suite(suite)
    default = "files" if of_files is not None else suite if tables is None else tables.resolve().name
    comparison = Comparison(
        folder=run_folder(runs, name, default),
        suite=suite,
        solvers=tuple(solver or ()),
        samples=samples,
        seconds=seconds,
        seeds=tuple(range(seeds)),
        suite_seed=suite_seed,
        device=device,
        tables=of_tables,
        files=of_files,
        steps=steps,
    )
    part = read_shard(shard)
    cluster, cores = connected(executor, runs) or (None, workers)
    if not is_given(context, "workers"):
        workers = cores
    told: list[str] = []
    solves = [0, 1]
    # Beside the workers, which this process waits for.
    loading = threading.Thread(target=importlib.import_module, args=("tpsolve.compare.report._report",), daemon=True)

    def show(done: int, total: int, now: str) -> None:
        if workers > 1 and part is None and loading.ident is None:
            loading.start()
        solves[:] = done, total
        bar.update(task, completed=done, total=total, description=now)

    with cluster or nullcontext(), Interrupt() as interrupt, progress_bar(quiet=quiet) as bar:
        task = bar.add_task("making the instances", total=None)
        rows = run_comparison(
            comparison,
            fresh=fresh,
            note=told.append,
            progress=show,
            stop=lambda: interrupt.asked,
            workers=workers,
            executor=cluster,
            shard=part,
            max_memory=max_memory,
        )
        if part is None:
            bar.update(task, description="drawing")
            if loading.ident is not None:
                loading.join()
            from tpsolve.compare._same_host import of_one_host
            from tpsolve.compare._summary import Findings, advice, as_rows
            from tpsolve.compare.report._report import as_table, caption, report_of
            from tpsolve.compare.suites._table_sweep import rounded_words

            compared, left_out = of_one_host(rows)
            findings = Findings(compared)
            report = report_of(comparison, findings, left_out)
    # Asked to stop when nothing was left to do, it has not stopped anything.
    stopped = interrupt.asked and solves[0] < solves[1]
    if part is not None:
        answers.tell(f"Shard {shard}: {len(rows)} rows. The same command without --shard draws the report of all.")
        _end(answers, told, stopped, len(rows), fresh)
        return
    if left_out:
        told.append(left_out)
    if rounded := rounded_words(compared):
        told.append(rounded)
    words = advice(findings)
    if stopped:
        words = f"After {solves[0]:,} of {solves[1]:,} solves: {words}"
    table = as_table(findings.summaries, caption(findings), output.width)
    answers.give(table, as_rows(findings.summaries), caption=caption(findings), advice=words, report=str(report))
    answers.say(words, wrap=True)
    answers.tell(f"Report: {report}")
    _end(answers, told, stopped, len(rows), fresh)


def _end(answers: Answers, told: list[str], stopped: bool, rows: int, fresh: bool) -> None:
    for line in told:
        answers.remark(line)
    if stopped:
        say_stopped(rows, fresh)
        raise typer.Exit(INTERRUPTED)


def _training(name: str, runs: Path, seconds: float, seeds: int, epochs: int, fresh: bool, answers: Answers) -> None:
    from tpsolve._check_arguments import check_count
    from tpsolve.cli.compare._compare_training import compare_training

    check_count("--seeds", seeds, 1)
    compare_training(run_folder(runs, name, "training"), seconds, tuple(range(seeds)), epochs, fresh, answers)
