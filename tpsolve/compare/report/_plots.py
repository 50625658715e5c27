"""The pictures of a comparison, drawn only from its rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tpsolve._glyphs import drawable, dress
from tpsolve._storage._printable import printable
from tpsolve._storage._write_whole import write_whole
from tpsolve.compare._anytime import (
    MIN_LEFT,
    Curve,
    found_at,
    mean_left,
    proved_at,
    reached,
    share_done,
    thinned,
)
from tpsolve.compare._row_table import RowTable
from tpsolve.compare._statistics import mean_ranks
from tpsolve.compare._summary import Findings, wins

# Okabe and Ito's palette, told apart by the colour-blind too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
# With more solvers than colours, the next marker and line go through the colours again.
MARKERS = ("o", "s", "^", "D")
LINES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
TICKS = ((3.0, (1,)), (1.2, (1, 3)), (0.5, (1, 2, 5)), (-1.0, (1, 1.5, 2, 3, 4, 5, 7)))
"""Parts of a decade that have labels, on axes of more decades than these."""
POINTS = 400
"""Of a curve, at most."""


def draw_all(findings: Findings) -> dict[str, Figure]:
    """Figures by file name."""
    return {name: draw(name, findings) for name in FIGURES}


def draw(name: str, findings: Findings) -> Figure:
    """The figure of this name, in fonts that have the letters of all names."""
    return dress(FIGURES[name](findings))


def save_all(figures: dict[str, Figure], folder: Path) -> None:
    """Write each figure as PNG and SVG.

    Raises:
        FolderError: the folder can't be written.
    """
    for name, figure in figures.items():
        # Laid out once for both.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for kind in ("png", "svg"):
            write_whole(
                folder / f"{name}.{kind}", lambda stream, f=figure, k=kind: f.savefig(stream, format=k, dpi=150)
            )


def gap_against_seconds(findings: Findings) -> Figure:
    """What is left of the attainable improvement, against the seconds of a call.

    1: as bad as the activations; 0: the best objective that any solver found. Means over the instances that count of
    (mean objective - mean best) / (mean at the activations - mean best). A curve begins where its solver has something
    on each of them.
    """
    figure, axes = _new_figure("What is left of the attainable improvement", "left (100%: none made, 0%: all)")
    for name, _, style in _by_solver(findings):
        curve = mean_left(findings.runs[name])
        if curve is not None:
            seconds, left = thinned(curve, POINTS)
            axes.step(seconds, np.maximum(left, MIN_LEFT), where="post", label=_shown(name), linewidth=2, **style)
    axes.set_yscale("log")
    axes.set_ylim(MIN_LEFT * 0.8, 1.25)
    _finish(axes)
    return figure


def solved_against_seconds(findings: Findings) -> Figure:
    """Share of samples at their best known objective, and (thin) proved optimal, against the seconds of a call."""
    figure, axes = _new_figure("Samples solved", "share of samples")
    for name, group, style in _by_solver(findings):
        _share_curve(axes, share_done(found_at(group, findings.known)), label=_shown(name), linewidth=2, **style)
        proved = share_done(proved_at(group))
        _share_curve(axes, proved, linewidth=0.8, alpha=0.8, label=f"{_shown(name)}, proved", **style)
    axes.set_ylim(-0.02, 1.02)
    _finish(axes)
    return figure


def targets_against_seconds(findings: Findings) -> Figure:
    """Share of pairs of a run and a target that are reached, against the seconds of a call."""
    figure, axes = _new_figure("Targets reached, from 79% to 0.01% left, and none", "share of (run, target) pairs")
    for name, _, style in _by_solver(findings):
        _share_curve(axes, reached(findings.attempts[name]), label=_shown(name), linewidth=2, **style)
    axes.set_ylim(-0.02, 1.02)
    _finish(axes)
    return figure


def who_beats_whom(findings: Findings) -> Figure:
    """Share of samples on which the solver of the row is strictly better than that of the column."""
    names, table = wins(findings)
    if not names:
        return Figure(figsize=(4, 1))
    figure = Figure(figsize=(2.2 + 0.75 * len(names), 1.6 + 0.6 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    # A mesh, since an image of many solvers takes hundreds of MiB while it is drawn.
    edges = np.arange(len(names) + 1) - 0.5
    mesh = axes.pcolormesh(edges, edges, table, cmap="Blues", vmin=0, vmax=1)
    axes.invert_yaxis()
    shown = list(map(_shown, names))
    axes.set_xticks(range(len(names)), shown, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), shown)
    for (i, j), share in np.ndenumerate(table):
        if np.isfinite(share):
            axes.text(
                j, i, whole_percent(share), ha="center", va="center", color="white" if share > 0.55 else "#222222"
            )
    axes.set_title("Share of samples on which the row beats the column")
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.colorbar(mesh, ax=axes, format=lambda share, _: f"{share:.0%}")
    return figure


def ranks_of_solvers(findings: Findings) -> Figure:
    """Mean ranks over the instances, and lines that join solvers which Nemenyi's test does not tell apart.

    Solvers with rows of less than half of the instances are left out.
    """
    found = findings.scores
    ranks, p, difference = mean_ranks(found)
    ranked = np.flatnonzero(np.isfinite(ranks))
    order = ranked[np.argsort(ranks[ranked])]
    figure = Figure(figsize=(8, 1.4 + 0.3 * len(order)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(range(len(order)), [_shown(found.solvers[i]) for i in order])
    axes.invert_yaxis()
    if len(order):
        axes.scatter(ranks[order], range(len(order)), color=COLOURS[0], zorder=3)
        for place, i in enumerate(order):
            # From each solver to the last one that is not told apart from it.
            end = ranks[order][ranks[order] <= ranks[i] + difference].max()
            axes.plot([ranks[i], end], [place, place], color="#888888", linewidth=3, alpha=0.6)
        axes.set_title(f"Mean ranks (1: the best); Friedman's p = {p:.2g}, critical difference {difference:.2g}")
    else:
        axes.set_title("Mean ranks need two instances that three solvers share")
    axes.set_xlabel("mean rank; a line reaches to what is not told apart")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


FIGURES: dict[str, Callable[[Findings], Figure]] = {
    "gap": gap_against_seconds,
    "solved": solved_against_seconds,
    "targets": targets_against_seconds,
    "ranks": ranks_of_solvers,
    "wins": who_beats_whom,
}
"""The pictures, by the names of their files."""


def _new_figure(title: str, label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel("seconds of a call, all samples of an instance together")
    axes.set_ylabel(label)
    axes.set_xscale("log")
    return figure, axes


def _shown(name: str) -> str:
    return drawable(printable(name))


def whole_percent(share: float) -> str:
    """Half a percent is rounded up, as on the page."""
    return f"{int(100 * share + 0.5)}%"


def _seconds(seconds: float, _: int = 0) -> str:
    units = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
    # 0.001 may be a bit less than that.
    unit, size = next((each for each in units if seconds >= 0.999 * each[1]), units[-1])
    return f"{seconds / size:.4g} {unit}"


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    # As many labels as have room, in units that one can read.
    low, high = axes.get_xlim()
    decades = np.log10(high / low)
    parts = (
        (1,) if decades > 3 else (1, 3) if decades > 1.2 else (1, 2, 5) if decades > 0.5 else (1, 1.5, 2, 3, 4, 5, 7)
    )
    axes.xaxis.set_major_locator(LogLocator(subs=parts, numticks=8 if decades > 8 else 16))
    axes.xaxis.set_major_formatter(FuncFormatter(_seconds))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    if entries := len(axes.get_legend_handles_labels()[0]):
        # The legend stands beside the axes: a line each.
        if isinstance(axes.figure, Figure):
            axes.figure.set_size_inches(8, max(4.6, 0.26 * entries))
        # Long enough to show how a line is dashed.
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=3.5)


def _by_solver(findings: Findings) -> list[tuple[str, RowTable, dict[str, Any]]]:
    """Solvers with their finished rows on the instances that count, and the style of their curves, the best first."""
    grouped = {name: of.take(~of.failed) for name, of in findings.of_solvers.items()}
    return [(name, of, _style(i)) for i, (name, of) in enumerate((name, of) for name, of in grouped.items() if len(of))]


def _style(number: int) -> dict[str, Any]:
    again, colour = divmod(number, len(COLOURS))
    again %= len(LINES)
    return {"color": COLOURS[colour], "marker": MARKERS[again], "linestyle": LINES[again], "markevery": [-1]}


def _share_curve(axes: Axes, curve: Curve | None, **style: Any) -> None:
    if curve is not None:
        seconds, share = thinned(curve, POINTS)
        axes.step([seconds[0], *seconds], [0, *share], where="post", **style)
