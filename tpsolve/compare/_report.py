"""What a run leaves to look at: table.csv, plots, and one report.html that needs no network."""

from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment
from rich.table import Table

from tpsolve._storage._write_whole import write_whole
from tpsolve._version import __version__
from tpsolve.compare._plots import draw_all, save_all
from tpsolve.compare._run_folder import Comparison
from tpsolve.compare._statistics import Row, scores
from tpsolve.compare._summary import Summary, advice, as_csv, known_of, summarise

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
LEFT_OUT = ("flips", "95% interval", "proved optimal", "best found")
"""Columns without which the table does on a narrow terminal, the first one first."""


def as_table(summaries: list[Summary], caption: str, width: int = 80) -> Table:
    """The table that the command line prints, within `width` characters where names allow it."""
    cells = {heading: [content(summary) for summary in summaries] for heading, content in COLUMNS}
    # Two words, two lines.
    titles = {heading: heading if heading == "solver" else heading.replace(" ", "\n", 1) for heading in cells}
    widths = {heading: max(map(len, [*titles[heading].split("\n"), *values])) + 3 for heading, values in cells.items()}
    for heading in LEFT_OUT:
        if sum(widths.values()) + 1 > width:
            del widths[heading]
    table = Table(caption=caption, caption_justify="left")
    for heading in widths:
        if heading == "solver":
            table.add_column(heading, overflow="fold", min_width=min(widths[heading] - 3, 20))
        else:
            table.add_column(titles[heading], justify="right", no_wrap=True, min_width=widths[heading] - 3)
    for row in range(len(summaries)):
        table.add_row(*(cells[heading][row] for heading in widths))
    return table


def caption(rows: list[Row]) -> str:
    """What the table's figures are means over."""
    known = known_of(rows)
    samples = sum(len(of.objective) for of in known.values())
    proven = sum(int(of.proven.sum()) for of in known.values())
    failed = sum("error" in row for row in rows)
    return (
        f"{len(known)} instances, {samples} samples, {proven} with a proven optimum; "
        f"{len(rows)} solves{f', {failed} of them failed' if failed else ''}{_counted(rows)}"
    )


def _counted(rows: list[Row]) -> str:
    shared = scores(rows).shared
    if shared.all():
        return ""
    return f"; the means are over the {int(shared.sum())} instances of which every solver has rows"


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
        advice=advice(rows),
        caption=caption(rows),
        headings=[heading for heading, _ in COLUMNS],
        lines=[[content(summary) for _, content in COLUMNS] for summary in summaries],
        figures={name: _svg(comparison.folder / f"{name}.svg") for name in figures},
        instances=_instance_lines(rows),
        failures=[row for row in rows if "error" in row],
        machines=_machines(rows),
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


def _machines(rows: list[Row]) -> list[dict[str, Any]]:
    """What the rows ran on and with, a line each; the most rows first."""
    groups = Counter(
        (row.get("device", ""), ", ".join(f"{name} {v}" for name, v in row.get("versions", {}).items())) for row in rows
    )
    return [{"rows": count, "device": device, "versions": text} for (device, text), count in groups.most_common()]


def _left(value: float) -> str:
    return "-" if value != value else f"{value:.1%}"


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


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3g}"


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.0%}"
