"""`tpsolve compare --training`: does search help, in narrow networks and in wide ones?"""

from pathlib import Path
from typing import Any

import typer

from tpsolve.cli._answers import EMPTY, Answers
from tpsolve.cli._terminal import INTERRUPTED, Interrupt, output, progress_bar, say_stopped

NARROW = ("surrogate:rule=saturated-hinge,width=0.3", "surrogate:width=0.3", "ftprop", "column-search", "line-search")
"""Surrogate gradients with a width that suits narrow networks, and searches."""


def compare_training(
    folder: Path, seconds: float, seeds: tuple[int, ...], epochs: int, fresh: bool, answers: Answers
) -> None:
    """Both regimes, each with its own rows under `folder`; a narrow network has the budget of two samples."""
    from tpsolve._storage._folder_lock import locked
    from tpsolve.compare import Comparison, run_comparison, run_training, write_report
    from tpsolve.compare._run_folder import delete_comparison
    from tpsolve.compare._summary import Findings, as_rows
    from tpsolve.compare._training_runs import delete_training
    from tpsolve.compare.report._report import as_table, caption
    from tpsolve.compare.report._training_report import (
        failures,
        save_training_plot,
        summarise_training,
        training_table,
    )

    narrow = Comparison(folder / "narrow", "networks", NARROW, samples=2, seconds=seconds, seeds=seeds)
    if fresh:
        with locked(narrow.folder), locked(folder / "wide"):
            delete_comparison(narrow.folder)
            delete_training(folder / "wide")
    with Interrupt() as interrupt, progress_bar(quiet=answers.quiet) as bar:
        task = bar.add_task("making the instances", total=None)

        def progress(done: int, total: int, now: str) -> None:
            bar.update(task, completed=done, total=total, description=now)

        def stop() -> bool:
            return interrupt.asked

        found = run_comparison(narrow, progress=progress, stop=stop, note=answers.remark)
        report = write_report(narrow, found)
        trained: list[dict[str, Any]] = []
        if not interrupt.asked:
            trained = run_training(folder / "wide", seeds=seeds, epochs=epochs, progress=progress, stop=stop)
            save_training_plot(trained, folder / "wide")
    answers.say("Narrow networks: training errors of all weights that a solver could find.")
    findings = Findings(found)
    if answers.as_json:
        answers.give(EMPTY, as_rows(findings.summaries), wide=trained, report=str(report))
    elif answers.as_csv:
        answers.give(EMPTY, _together(as_rows(findings.summaries), as_rows(summarise_training(trained))))
    else:
        output.print(as_table(findings.summaries, caption(findings), output.width))
    answers.tell(f"Report: {report}")
    if trained:
        answers.say("A wide network, 64-64-64-10 on scikit-learn's digits: who sets the targets in each mini-batch.")
        if answers.for_people:
            output.print(training_table(trained))
        for line in failures(trained):
            answers.remark(line)
        answers.tell(f"Accuracy against seconds: {folder / 'wide' / 'accuracy.png'}")
    if interrupt.asked:
        say_stopped(len(found) + len(trained), fresh)
        raise typer.Exit(INTERRUPTED)


def _together(narrow: list[dict[str, Any]], wide: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both tables as one: a first column says of which networks a row is, and cells of the other table are empty."""
    rows = [{"networks": "narrow", **row} for row in narrow] + [{"networks": "wide", **row} for row in wide]
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]
