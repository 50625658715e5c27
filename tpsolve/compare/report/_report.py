"""What a run leaves to look at: table.csv, plots, and one report.html that needs no network."""

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from jinja2 import Environment
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tpsolve._storage._printable import printable
from tpsolve._storage._write_whole import delete_written, write_whole
from tpsolve._version import __version__
from tpsolve.compare._row_files import TRACES
from tpsolve.compare._row_table import Row, RowTable
from tpsolve.compare._same_host import of_one_host
from tpsolve.compare._summary import Findings, Summary, as_csv
from tpsolve.compare.report._checklist import checklist
from tpsolve.compare.report._contrast import Change, Contrast
from tpsolve.compare.report._page_data import (
    MAX_EMBEDDED,
    MAX_EMBEDDED_BYTES,
    counted_words,
    groups_of,
    page_data,
    size_of,
    solves_of,
)
from tpsolve.compare.report._plots import draw_all, save_all

if TYPE_CHECKING:
    from tpsolve.compare._run_folder import Comparison

SCRIPTS = ("chart.js", "tables.js", "page.js")
MAX_LISTED = 200
"""Instances and failures that the page lists without its script, and failures with it."""
MAX_NAMED = 6
"""Solvers that a caption names, at most."""
FAILURE = ("solver", "seed", "instance", "error")
BESIDE = 200
"""Instances in one of the files beside the page."""
COLUMNS = (
    ("solver", lambda s: s.solver),
    ("left", lambda s: _left(s.left)),
    ("95% interval", lambda s: "-" if s.low != s.low else f"{100 * s.low:.1f} to {_left(s.high)}"),
    ("best found", lambda s: _share(s.best)),
    ("proved optimal", lambda s: _share(s.proved)),
    ("flips", lambda s: _share(s.flips)),
    ("seconds a sample", lambda s: _number(s.seconds)),
)
"""Heading and content of the table's columns."""
CHANGES: tuple[tuple[str, Callable[[Change], str]], ...] = (
    ("solver", lambda c: c.solver),
    ("instances", lambda c: str(c.instances)),
    ("left before", lambda c: _left(c.before)),
    ("left after", lambda c: _left(c.after)),
    ("change", lambda c: _points(c.difference) + f" ({_points(c.low)} to {_points(c.high)})" * (c.low == c.low)),
    ("p", lambda c: _number(c.p)),
    ("seconds", lambda c: "-" if c.seconds != c.seconds else f"x {c.seconds:.2f}"),
    ("failures", lambda c: f"{c.failures_before} to {c.failures_after}"),
    ("verdict", lambda c: ", ".join(word for word in (c.verdict, c.pace) if word != "alike") or "alike"),
)
"""Heading and content of the columns of a contrast."""
CHANGES_LEFT_OUT = ("instances", "failures", "left before", "p", "left after")
"""Columns without which it does on a narrow terminal, the first one first."""
LEFT_OUT = ("flips", "95% interval", "proved optimal", "best found")
"""Columns without which the table does on a narrow terminal, the first one first."""


def as_table(summaries: list[Summary], caption: str, width: int = 80) -> Table:
    """The table that the command line prints, within `width` characters where names allow it."""
    cells = {heading: [content(summary) for summary in summaries] for heading, content in COLUMNS}
    return _fitting(cells, LEFT_OUT, caption, width)


def contrast_table(found: Contrast, width: int = 80) -> Table:
    """What became of each solver, as `as_table` prints it; what got worse is red."""
    cells = {heading: [content(change) for change in found.changes] for heading, content in CHANGES}
    table = _fitting(cells, CHANGES_LEFT_OUT, f"{found.labels[0]} to {found.labels[1]}", width)
    for row, change in zip(table.rows, found.changes, strict=True):
        worse = change.solver in found.regressions
        row.style = "red" if worse else "green" if (change.verdict, change.pace) != ("alike", "alike") else None
    return table


def _fitting(cells: dict[str, list[str]], left_out: tuple[str, ...], caption: str, width: int) -> Table:
    # Two words, two lines.
    titles = {heading: heading if heading == "solver" else heading.replace(" ", "\n", 1) for heading in cells}
    widths = {heading: max(map(len, [*titles[heading].split("\n"), *values])) + 3 for heading, values in cells.items()}
    for heading in left_out:
        if sum(widths.values()) + 1 > width:
            del widths[heading]
    table = Table(caption=Text(caption), caption_justify="left")
    for heading in widths:
        if heading == "solver":
            table.add_column(heading, overflow="fold", min_width=min(widths[heading] - 3, 20))
        else:
            table.add_column(titles[heading], justify="right", no_wrap=True, min_width=widths[heading] - 3)
    for row in zip(*(cells[heading] for heading in widths), strict=True):
        table.add_row(*map(escape, row))
    return table


def caption(findings: Findings) -> str:
    """What the table's figures are means over."""
    known, rows = findings.known, findings.table
    samples = sum(len(of.objective) for of in known.values())
    proven = sum(int(of.proven.sum()) for of in known.values())
    failed = int(rows.failed.sum())
    counted = len(findings.counted)
    means = f"; the means are over the {counted} instances of which every solver has rows" * (counted < len(known))
    fewer = [f"{s.solver} {s.instances}" for s in findings.summaries if 0 < s.instances < counted]
    if fewer:
        named = ", ".join(fewer[:MAX_NAMED]) + f" and {len(fewer) - MAX_NAMED} more" * (len(fewer) > MAX_NAMED)
        means = f"; each solver's means are over its own instances, fewer than {counted} for: {named}"
    return (
        f"{counted_words(len(known), 'instance')}, {counted_words(samples, 'sample')}, {proven} with a proven optimum; "
        f"{counted_words(len(rows), 'solve')}{f', {failed} of them failed' if failed else ''}{means}"
    )


def write_report(comparison: "Comparison", rows: Sequence[Row]) -> Path:
    """Write `table.csv`, the plots and `report.html` into the run's folder; the report's path.

    Raises:
        FolderError: the folder can't be written.
    """
    compared, words = of_one_host(RowTable.of(rows))
    return report_of(comparison, Findings(compared), words)


def report_of(comparison: "Comparison", findings: Findings, left_out: str) -> Path:
    """Write `table.csv`, the plots and `report.html` of findings into the run's folder; the report's path.

    Args:
        left_out: which rows the findings are not of, in words.

    Raises:
        FolderError: the folder can't be written.
    """
    about = f"{comparison.folder.name} on {comparison.source}"
    budget = f"{budget_words(comparison.seconds, comparison.steps)} {left_out}".rstrip()
    return draw_report(comparison.folder, about, budget, findings)


def budget_words(seconds: float, steps: int | None) -> str:
    """The budget of a comparison, which has steps or seconds."""
    return f"Every sample had {f'{seconds:g} seconds' if steps is None else f'{steps} steps'}."


def draw_report(folder: Path, about: str, budget: str, findings: Findings, contrast: Contrast | None = None) -> Path:
    """Write the files of a report into a folder that exists; the path of the page.

    Args:
        about, budget: what was compared, and under which budget, in words.
        contrast: of two runs, whose rows the findings are of.

    Raises:
        FolderError: the folder can't be written.
    """
    write_text(folder / "table.csv", as_csv(findings.summaries))
    save_all(draw_all(findings), folder)
    delete_written(folder, [TRACES])
    embedded, count = _write_solves(findings, folder)
    data = {**page_data(findings), "solves": [msgspec.Raw(each) for each in embedded], "beside": BESIDE}
    files = resources.files("tpsolve.compare.report")
    template = files.joinpath("page.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    failures = findings.table.take(findings.table.failed)
    text = page.render(
        about=printable(about),
        budget=budget,
        advice=data["views"][0]["advice"],
        caption=caption(findings),
        headings=[heading for heading, _ in COLUMNS],
        lines=[[printable(content(summary)) for _, content in COLUMNS] for summary in findings.summaries],
        style=files.joinpath("page.css").read_text(encoding="utf-8"),
        scripts=[files.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS],
        data=_in_script(msgspec.json.encode(data)),
        instances=_instance_lines(findings),
        count=count,
        failures=[
            {key: printable(row[key]) for key in ("solver", "seed", "instance", "error")}
            for row in failures[:MAX_LISTED]
        ],
        failed=len(failures),
        checklist=checklist(findings),
        groups=_group_lines(findings),
        mixed=len({(machine, versions) for machine, versions, _ in groups_of(findings.table)}) > 1,
        contrast=None if contrast is None else _contrast_section(contrast),
        version=__version__,
        listed=MAX_LISTED,
    )
    path = folder / "report.html"
    write_text(path, text)
    return path


def _contrast_section(found: Contrast) -> dict[str, Any]:
    lines = [
        {
            "verdict": "worse" if change.solver in found.regressions else change.verdict,
            "cells": [printable(cell(change)) for _, cell in CHANGES],
        }
        for change in found.changes
    ]
    before, after = map(printable, found.labels)
    return {
        "title": f"From {before} to {after}",
        "words": printable(found.words),
        "headings": [heading for heading, _ in CHANGES],
        "lines": lines,
        "note": "Over the instances that both runs have. Left is against the best that either run found. Its change, "
        "in points, has the 95% interval of a studentised bootstrap over instances, and the p value of Wilcoxon's "
        "signed rank test, adjusted after Holm. Seconds: the geometric mean of after / before.",
        "worse": [printable(words) for words in found.worse],
    }


def _write_solves(findings: Findings, folder: Path) -> tuple[list[bytes], int]:
    """Write the solves of instances that the page itself does not hold beside it.

    Returns:
        Those of the first instances, which it holds, and the number of all instances.
    """
    embedded, size, start, beside = [], 0, 0, []
    for count, solves in enumerate(solves_of(findings), start=1):
        size += len(solves)
        if count <= MAX_EMBEDDED and size <= MAX_EMBEDDED_BYTES:
            embedded.append(solves)
            start = count
            continue
        beside.append(solves)
        if len(beside) == BESIDE:
            _write_beside(folder, start, len(embedded), beside)
            start, beside = count, []
    if beside:
        _write_beside(folder, start, len(embedded), beside)
    return embedded, start + len(beside)


def _write_beside(folder: Path, start: int, embedded: int, solves: list[bytes]) -> None:
    (folder / "traces").mkdir(exist_ok=True)
    number = (start - embedded) // BESIDE
    text = f"tpsolveSolves({start}, [{_in_script(b','.join(solves))}]);\n"
    write_text(folder / "traces" / f"{number:04d}.js", text)


def _in_script(json: bytes) -> str:
    """JSON that ends no script element, whatever its texts hold."""
    return json.decode().replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _instance_lines(findings: Findings) -> list[dict[str, Any]]:
    lines = []
    for row in findings.solved.heads[:MAX_LISTED]:
        known = findings.known[row["instance"]]
        lines.append(
            {
                "name": printable(row["instance"]),
                "loss": printable(row["loss"]),
                "size": size_of(row),
                "objective": _number(known.mean),
                "proven": f"{int(known.proven.sum())} of {len(known.objective)}",
            }
        )
    return lines


def _group_lines(findings: Findings) -> list[dict[str, Any]]:
    """What the rows ran on and with, a line each; the most rows first."""
    lines = []
    for (machine, versions, budget), rows in groups_of(findings.table).items():
        times = [row["time"] for row in rows.firsts("time")]
        when = " to ".join(one[:16].replace("T", " ") for one in (min(times), max(times))) if times else "-"
        solvers = len(rows.firsts("solver"))
        lines.append(
            {
                "rows": len(rows),
                "solvers": solvers,
                "machine": machine or "-",
                "versions": versions or "-",
                "budget": budget or "-",
                "when": printable(when),
            }
        )
    return lines


def _left(value: float) -> str:
    return "-" if value != value else f"{value:.1%}"


def write_text(path: Path, text: str) -> None:
    """Write a file whole, in UTF-8.

    Raises:
        FolderError: it can't be written.
    """
    write_whole(path, lambda stream: stream.write(text.encode()))


def _points(value: float) -> str:
    return "-" if value != value else f"{100 * value:+.1f}"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3g}"


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.0%}"
