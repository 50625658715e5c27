"""`tpsolve exact --sweep`: the fewest training errors on many tables with several widths, on any executor."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.table import Table

from tpsolve._storage._write_whole import write_whole
from tpsolve.cli._answers import Answers
from tpsolve.cli._executors import connected, read_shard
from tpsolve.cli._terminal import INTERRUPTED, Interrupt, progress_bar, say_stopped, visible
from tpsolve.errors import ArgumentError

if TYPE_CHECKING:
    from tpsolve.tables import TableOptions


def read_networks(text: str) -> list[list[int]]:
    """Hidden layers of several networks, from a text such as 1..4, or 2;3;3,2.

    Raises:
        ArgumentError: no whole numbers, or a range that falls.
    """
    found: list[list[int]] = []
    for part in text.split(";"):
        first, dots, last = part.partition("..")
        try:
            found += [[n] for n in range(int(first), int(last) + 1)] if dots else [[int(n) for n in part.split(",")]]
        except ValueError as error:
            raise ArgumentError("--widths", repr(text), "such as 1..4, or 2;3;3,2 for three networks") from error
    if not found:
        raise ArgumentError("--widths", repr(text), "a range that rises, such as 1..4")
    return found


def sweep(
    folder: Path,
    target: str,
    widths: str,
    options: "TableOptions",
    run: Path,
    *,
    solver: str,
    seconds: float,
    seed: int,
    workers: int | None,
    max_memory: float | None,
    executor: str,
    shard: str,
    fresh: bool,
    answers: Answers,
) -> None:
    """Solve all, go on where an earlier call ended, and print and draw what is known then."""
    from tpsolve.compare import Comparison, run_comparison
    from tpsolve.compare.report._report import write_text
    from tpsolve.compare.suites._table_sweep import Sweep, as_lines, draw_sweep, rounded_words

    tables = Sweep(folder, target, read_networks(widths), options)
    comparison = Comparison(run, solvers=(solver,), samples=1, seconds=seconds, seeds=(seed,), tables=tables)
    part = read_shard(shard)
    cluster, cores = connected(executor, run.parent) or (None, 1)
    solves = [0, 1]

    def show(done: int, total: int, now: str) -> None:
        solves[:] = done, total
        bar.update(task, completed=done, total=total, description=now)

    with Interrupt() as interrupt, progress_bar(quiet=answers.quiet) as bar:
        task = bar.add_task("reading the tables", total=None)
        rows = run_comparison(
            comparison,
            fresh=fresh,
            progress=show,
            stop=lambda: interrupt.asked,
            note=answers.remark,
            workers=workers or cores,
            executor=cluster,
            shard=part,
            max_memory=max_memory,
        )
    stopped = interrupt.asked and solves[0] < solves[1]
    if part is not None:
        answers.tell(f"Shard {shard}: {len(rows)} rows. The same command without --shard shows those of all.")
    else:
        lines = as_lines(rows)
        picture, page = run / "sweep.png", run / "table.csv"
        if lines:
            write_text(page, _as_csv(lines))
            figure = draw_sweep(lines)
            write_whole(picture, lambda stream: figure.savefig(stream, format="png", dpi=150))
        answers.give(_as_table(lines), lines, picture=str(picture), file=str(page))
        if words := rounded_words(lines):
            answers.say(words, wrap=True)
        if lines:
            answers.tell(f"Picture: {picture}. Table: {page}. `tpsolve verify {run}` recomputes the errors.")
    if stopped:
        say_stopped(len(rows), fresh)
        raise typer.Exit(INTERRUPTED)


def _as_table(lines: list[dict[str, Any]]) -> Table:
    table = Table()
    shown = ("table", "widths", "points", "errors", "bound", "status", "seconds")
    for name in shown:
        table.add_column(name, justify="left" if name in ("table", "status") else "right", overflow="fold")
    for line in lines:
        values = (line[name] for name in shown)
        cells = ("" if v is None else f"{v:.4g}" if isinstance(v, float) else visible(str(v)) for v in values)
        table.add_row(*map(escape, cells))
    return table


def _as_csv(lines: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()
