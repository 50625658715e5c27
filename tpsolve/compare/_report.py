"""What a run leaves to look at: table.csv, plots, and one report.html that needs no network."""

from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment
from rich.table import Table

from tpsolve._storage._write_whole import write_whole
from tpsolve._version import __version__
from tpsolve.compare._plots import draw_all, save_all
from tpsolve.compare._run_folder import Comparison
from tpsolve.compare._summary import Row, Summary, advice, as_csv, known_of, summarise

COLUMNS = (
    ("solver", lambda s: s.solver),
    ("mean objective", lambda s: _number(s.objective)),
    ("mean gap", lambda s: _number(s.gap)),
    ("proved optimal", lambda s: _share(s.proved)),
    ("best found", lambda s: _share(s.best)),
    ("flips", lambda s: _share(s.flips)),
    ("seconds a sample", lambda s: _number(s.seconds)),
)
"""Heading and content of the table's columns."""


def as_table(summaries: list[Summary], caption: str) -> Table:
    """The table that the command line prints."""
    table = Table(caption=caption, caption_justify="left")
    for number, (heading, _) in enumerate(COLUMNS):
        # Two words, two lines: the table then fits 80 columns.
        if number == 0:
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading.replace(" ", "\n", 1), justify="right", no_wrap=True, min_width=_width(heading))
    for summary in summaries:
        table.add_row(*(content(summary) for _, content in COLUMNS))
    return table


def caption(rows: list[Row]) -> str:
    """What the table's figures are means over."""
    known = known_of(rows)
    samples = sum(len(of.objective) for of in known.values())
    proven = sum(int(of.proven.sum()) for of in known.values())
    failed = sum("error" in row for row in rows)
    return (
        f"{len(known)} instances, {samples} samples, {proven} with a proven optimum (the gap is over these); "
        f"{len(rows)} solves{f', {failed} of them failed' if failed else ''}"
    )


def write_report(comparison: Comparison, rows: list[Row]) -> Path:
    """Write `table.csv`, the plots and `report.html` into the run's folder; the report's path.

    Raises:
        FolderError: the folder can't be written.
    """
    summaries = summarise(rows)
    _write_text(comparison.folder / "table.csv", as_csv(summaries))
    figures = draw_all(rows)
    save_all(figures, comparison.folder)
    template = resources.files("tpsolve.compare").joinpath("report.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template)
    path = comparison.folder / "report.html"
    text = page.render(
        name=comparison.folder.name,
        comparison=comparison,
        advice=advice(summaries),
        caption=caption(rows),
        headings=[heading for heading, _ in COLUMNS],
        lines=[[content(summary) for _, content in COLUMNS] for summary in summaries],
        figures={name: _svg(comparison.folder / f"{name}.svg") for name in figures},
        instances=_instance_lines(rows),
        failures=[row for row in rows if "error" in row],
        device=rows[0].get("device", "") if rows else "",
        versions=rows[0].get("versions", {}) if rows else {},
        version=__version__,
        saved=(comparison.folder / "instances").exists(),
    )
    _write_text(path, text)
    return path


def _instance_lines(rows: list[Row]) -> list[dict[str, Any]]:
    sizes = {row["instance"]: row for row in rows}
    return [
        {
            "name": name,
            "loss": sizes[name]["loss"],
            "size": _size(sizes[name]),
            "objective": _number(float(known.objective.mean())),
            "proven": f"{int(known.proven.sum())} of {len(known.objective)}",
        }
        for name, known in known_of(rows).items()
    ]


def _size(row: Row) -> str:
    if "network" in row:
        return f"{row['points']} points, network {row['network']}"
    if "assignments" in row:
        return f"{row['n_vars']} symbols, at most {row['assignments']:,} assignments"
    return f"{row['n_vars']} targets, {row['n_units']} units above"


def _svg(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]


def _write_text(path: Path, text: str) -> None:
    write_whole(path, lambda stream: stream.write(text.encode()))


def _width(heading: str) -> int:
    """Of the heading on two lines, and of a figure."""
    return max(len(part) for part in [*heading.split(" ", 1), "1.23e-05" if "mean" in heading else "100%"])


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3g}"


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.0%}"
