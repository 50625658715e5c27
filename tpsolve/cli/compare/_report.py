"""`tpsolve report`: the page of a run drawn again, or two runs merged and contrasted."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tpsolve.cli._answers import Answers, Csv, Json, Quiet
from tpsolve.cli._files import portable
from tpsolve.cli._terminal import output
from tpsolve.errors import ArgumentError, FolderError


def report(
    first: Annotated[Path, typer.Argument(help="The folder of a run, such as runs/digits.")],
    second: Annotated[Path | None, typer.Argument(help="A later run, to contrast with the first.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; default: of one run its own, of two FIRST-SECOND.")
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Draw the report of a run again, or merge two runs and say what got worse from the first to the second.

    The two runs may be of two versions, machines or settings. Solvers are compared on the instances that both have,
    by paired tests over them. All rows of one run must be of the same versions and number of threads. Nothing is
    solved, and the runs are left as they are.
    """
    from tpsolve.compare._row_table import RowTable
    from tpsolve.compare._run_folder import check_of_one_kind
    from tpsolve.compare._same_host import of_one_host
    from tpsolve.compare._summary import Findings, advice, as_rows
    from tpsolve.compare.report._contrast import contrast, labels_of, read_run
    from tpsolve.compare.report._report import as_table, budget_words, caption, contrast_table, draw_report

    answers = Answers(as_json, as_csv, quiet)
    settings, rows = read_run(first)
    budget = ""
    if second is None:
        table = RowTable.of(rows)
        check_of_one_kind(first, table)
        rows, words = of_one_host(table)
        folder, about = _prepared(out or first, (first,)), first.name
        found = None
        if "seconds" in settings:
            budget = budget_words(settings["seconds"], settings.get("steps"))
        budget = f"{budget} {words}".strip()
    else:
        labels = labels_of(first, second)
        later = read_run(second)[1]
        for run, of in ((first, rows), (second, later)):
            check_of_one_kind(run, of)
        (rows, words), (later, more) = of_one_host(rows), of_one_host(later)
        budget = " ".join(f"Of {label}, {of}" for label, of in zip(labels, (words, more), strict=True) if of)
        found = contrast(labels, rows, later)
        about = f"{labels[0]} and {labels[1]}"
        folder = _prepared(out or first.parent / portable(f"{first.name}-{second.name}"), (first, second))
        _write_rows(folder, found.rows)
        rows = found.table
    findings = Findings(rows)
    path = draw_report(folder, about, budget, findings, found)
    if found is None:
        words = advice(findings)
        shown = as_table(findings.summaries, caption(findings), output.width)
        answers.give(shown, as_rows(findings.summaries), caption=caption(findings), advice=words, report=str(path))
    else:
        words = found.words
        regressions = found.regressions
        shown = contrast_table(found, output.width)
        changes = as_rows(found.changes)
        answers.give(shown, changes, words=words, regressions=regressions, worse=found.worse, report=str(path))
    answers.say(words, wrap=True)
    answers.tell(f"Report: {path}")


def _prepared(folder: Path, runs: tuple[Path, ...]) -> Path:
    """The folder for the files of a report, made if missing.

    Raises:
        ArgumentError: it is another run's, or holds other files.
        FolderError: it can't be made.
    """
    own = len(runs) == 1 and folder.resolve() == runs[0].resolve()
    if not own and folder.exists() and any(folder.iterdir()):
        if (folder / "comparison.json").exists():
            raise ArgumentError("--out", folder, "a folder of its own", "It holds a run, whose report would be lost.")
        if not (folder / "report.html").exists():
            raise ArgumentError("--out", folder, "a new folder, or that of an earlier report", "It holds other files.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{folder}: can't be made ({error.strerror}). Choose another --out.") from error
    return folder


def _write_rows(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    from tpsolve._storage._write_whole import write_whole

    lines = (json.dumps(row).encode() + b"\n" for row in rows)
    write_whole(folder / "rows.jsonl", lambda stream: stream.writelines(lines))
