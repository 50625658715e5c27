"""The command line: `tpsolve compare`, `solve`, `verify`, `instances`, `separate`, `list`."""

import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tpsolve.errors import ArgumentError, TpsolveError
from tpsolve.version import __version__

app = typer.Typer(
    help="Target search for networks of hard-threshold units: compare solvers, or run one.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    # Lines of a docstring flow together in --help.
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
# What a command is asked for goes to standard output, what it says on the way to standard error.
output, notes = Console(), Console(stderr=True)

LARGEST_SEED = 2**63 - 1
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells expect."""


class Interrupt:
    """While entered, the first Ctrl-C is remembered and the second one raises as usual."""

    def __init__(self):
        self.asked = False

    def __enter__(self) -> "Interrupt":
        self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _show_version(wanted: bool) -> None:
    if wanted:
        output.print(f"tpsolve {__version__}", highlight=False)
        raise typer.Exit()


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Target search for networks of hard-threshold units: compare solvers, or run one."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def compare(
    suite: Annotated[str, typer.Option(help="Which instances: digits, generated-12, generated-32.")] = "digits",
    name: Annotated[str, typer.Option(help="Name of the run; by default the suite's.")] = "",
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    solver: Annotated[
        list[str] | None, typer.Option(help="A solver, such as hill-climb:restarts=8; may be repeated. Default: all.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Samples of each instance.")] = 4,
    seconds: Annotated[float, typer.Option(help="Budget of each solver, in seconds a sample.")] = 0.4,
    seeds: Annotated[int, typer.Option(help="Seeds of each solver that draws anything.")] = 3,
    suite_seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the instances.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run's earlier rows and begin anew.")] = False,
) -> None:
    """Compare solvers on real layer problems under one equal budget.

    Trains a hard-threshold network on scikit-learn's digits, takes layer problems from it, gives each
    to every solver, and prints one line a solver. Rows, plots and a report.html are kept under
    runs/NAME. A second call with the same name goes on where the first one ended.
    """
    from tpsolve.compare import Comparison, run_comparison, summarise, write_report
    from tpsolve.compare.report import as_table, caption
    from tpsolve.compare.summary import advice

    comparison = Comparison(
        folder=runs / (name or suite),
        suite=suite,
        solvers=tuple(solver or ()),
        samples=samples,
        seconds=seconds,
        seeds=tuple(range(seeds)),
        suite_seed=suite_seed,
        device=device,
    )
    if fresh and comparison.folder.exists():
        _delete_run(comparison.folder)
    with Interrupt() as interrupt, _progress_bar() as bar:
        task = bar.add_task("making the instances", total=None)
        rows = run_comparison(
            comparison,
            progress=lambda done, total, now: bar.update(task, completed=done, total=total, description=now),
            stop=lambda: interrupt.asked,
        )
        bar.update(task, description="drawing")
        report = write_report(comparison, rows)
    summaries = summarise(rows)
    output.print(as_table(summaries, caption(rows)))
    output.print(advice(summaries), highlight=False, markup=False)
    _say(f"Report: {report}")
    if interrupt.asked:
        notes.print("Stopped. Finished rows are kept: the same command goes on from here.", highlight=False)
        raise typer.Exit(INTERRUPTED)


@app.command(name="list")
def list_solvers() -> None:
    """List the solvers: what each accepts, whether it is exact, whether its library is installed."""
    from tpsolve.search import SOLVERS

    table = Table()
    for heading in ("solver", "accepts", "exact", "random", "library", "what it does"):
        table.add_column(heading, overflow="fold")
    for solver_name, kind in SOLVERS.items():
        library = (kind.library or "-").partition(".")[0]
        table.add_row(
            solver_name,
            ", ".join(accepted.__name__ for accepted in kind.accepts),
            "yes" if kind.exact else "no",
            "yes" if kind.stochastic else "no",
            library if kind.installed() else f"{library} (not installed)",
            _what_it_does(kind),
        )
    output.print(table)


@app.command()
def solve(
    file: Annotated[Path, typer.Argument(help="A saved problem (.npz).")],
    solver: Annotated[str, typer.Option(help="See `tpsolve list`; settings follow a colon.")] = "cp-sat",
    seconds: Annotated[float | None, typer.Option(help="Wall-clock limit of the call; 10 if none is given.")] = None,
    steps: Annotated[int | None, typer.Option(help="Limit in steps of each sample.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of the solver.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    save: Annotated[Path | None, typer.Option(help="Write the result here (.npz), for `tpsolve verify`.")] = None,
) -> None:
    """Solve a saved problem and print objective, bound and status of each sample."""
    import torch

    from tpsolve.problems import load_problem
    from tpsolve.result import Budget
    from tpsolve.search import find_solver
    from tpsolve.search import solve as run
    from tpsolve.spins import find_device

    if seconds is None and steps is None:
        seconds = 10.0
    budget, chosen = Budget(seconds=seconds, steps=steps), find_solver(solver)
    problem = load_problem(file).to(find_device(device))
    if save is not None and not save.resolve().parent.is_dir():
        raise ArgumentError("--save", save, "a path in a folder that exists")
    generator = torch.Generator().manual_seed(seed)
    with Interrupt() as interrupt, _progress_bar(seconds) as bar:
        task = bar.add_task(chosen.name, total=seconds)
        result = run(
            problem,
            chosen,
            budget=budget,
            generator=generator,
            callback=lambda progress: bar.update(task, completed=progress.seconds) or interrupt.asked,
        )
    objective, bound = result.objective.reshape(-1).tolist(), result.bound.reshape(-1).tolist()
    statuses = [status.value for status in _flat(result.status)]
    table = Table(caption=f"{chosen.name}: {result.stats['seconds']:.3g} s, {result.stats['steps']} steps")
    for heading in ("sample", "objective", "bound", "gap", "status"):
        table.add_column(heading, justify="right")
    for number, (value, least, status) in enumerate(zip(objective, bound, statuses, strict=True)):
        table.add_row(str(number), f"{value:.6g}", f"{least:.6g}", f"{max(0.0, value - least):.3g}", status)
    output.print(table)
    for row, reason in result.stats["notes"].items():
        notes.print(f"Sample {row}: {reason}", highlight=False)
    if save is not None:
        result.save(save, fingerprint=problem.fingerprint)
        _say(f"Saved: {save}")
    if interrupt.asked:
        raise typer.Exit(INTERRUPTED)


@app.command()
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


@app.command()
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
    _say(f"Saved: {path}: {made.problem}{optimum}")


@app.command()
def separate(
    file: Annotated[Path, typer.Argument(help="A table (.csv with a header).")],
    target: Annotated[str, typer.Option(help="The column that holds the classes.")],
    plot: Annotated[Path | None, typer.Option(help="Draw a plane here; default: NAME-separate.png.")] = None,
) -> None:
    """Tell which classes of a table a single unit can tell from the rest, each answer with its proof.

    A class that can be told apart comes with the margin of the weights found; one that can't with a
    circuit, a few samples that forbid any weights. Both are verified in exact arithmetic. Columns of
    words become a column of 0 and 1 for each word. Tables of two number columns are drawn.
    """
    from tpsolve.tables import read_table
    from tpsolve.units.report import class_rows

    read = read_table(file, target)
    if plot is not None and len(read.features) != 2:
        raise ArgumentError("--plot", f"a table of {len(read.features)} features", "two", "Leave --plot away.")
    rows, certificate = class_rows(read.inputs, read.labels)
    table = Table(caption=f"{len(read.labels)} samples, {len(read.features)} features", caption_justify="left")
    for heading in ("class", "samples", "separable", "margin", "circuit (line: weight)"):
        table.add_column(heading, justify="left" if heading[0] == "c" else "right", overflow="fold")
    for row in rows:
        circuit = ", ".join(f"{i + 2}: {w:.3g}%" for i, w in zip(row.circuit, row.weights, strict=True))
        table.add_row(
            escape(row.label),
            str(row.samples),
            {1: "yes, proved", -1: "no, proved", 0: "undecided"}[row.status],
            "-" if row.margin is None else f"{row.margin:.4g}",
            circuit or "-",
        )
    output.print(table)
    if len(read.features) == 2:
        from tpsolve.archive import write_whole
        from tpsolve.pictures import draw_separation

        path = plot or Path(f"{file.stem}-separate.png")
        figure = draw_separation(read.inputs, read.labels, read.features, rows, certificate)
        write_whole(path, lambda stream: figure.savefig(stream, format=path.suffix[1:] or "png", dpi=150))
        _say(f"Picture: {path}")


def main() -> None:
    """Entry point: one line and exit status 2 for what the user can mend, never a traceback for it."""
    try:
        status = app(standalone_mode=False)
    except TpsolveError as error:
        notes.print(f"tpsolve: {error}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        notes.print("tpsolve: interrupted.", highlight=False)
        sys.exit(INTERRUPTED)
    except Exception as error:
        # Typer's own errors of usage; their class has moved between its versions.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        notes.print(f"tpsolve: {message()}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _say(text: str) -> None:
    """Print a line as it is: paths hold brackets and may be long."""
    output.print(text, highlight=False, markup=False, soft_wrap=True)


def _progress_bar(seconds: float | None = None) -> Progress:
    """A bar on a terminal, nothing in a pipe; counts seconds if given, else rows."""
    count = TextColumn("{task.completed:.1f} s") if seconds else MofNCompleteColumn()
    return Progress(
        BarColumn(30),
        count,
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,
    )


def _what_it_does(kind: type) -> str:
    """The first sentence of a solver's docstring, and its settings."""
    import dataclasses

    sentence = " ".join((kind.__doc__ or "").split("\n\n")[0].split()).split(". ")[0].split("; ")[0].rstrip(".")
    settings = ", ".join(f"{field.name}={field.default}" for field in dataclasses.fields(kind))
    return f"{sentence}; {settings}" if settings else sentence


def _delete_run(folder: Path) -> None:
    if not (folder / "comparison.json").exists():
        raise ArgumentError("--fresh", folder, "the folder of a comparison", "Choose another --name.")
    shutil.rmtree(folder)


def _flat(nested: object) -> list:
    return [item for part in nested for item in _flat(part)] if isinstance(nested, list) else [nested]
