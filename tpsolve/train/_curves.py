"""The picture of a run, drawn only from its rows."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tpsolve._storage._write_whole import write_whole

LINES = {"train": "#0072B2", "validation": "#009E73", "test": "#D55E00"}


def draw_curves(rows: list[dict[str, Any]], title: str) -> Figure:
    """Loss and accuracy against epochs, on each set that the rows speak of; the best test accuracy is marked.

    Below a program the accuracy is that of its answers, and a dotted line shows that of its symbols.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for axes, what in zip(panels, ("loss", "accuracy"), strict=True):
        for name, colour in LINES.items():
            if rows and f"{name}_{what}" in rows[0]:
                values = [row[f"{name}_{what}"] for row in rows]
                axes.plot(epochs, values, color=colour, label=name, marker="o" if len(rows) == 1 else None)
            if rows and f"{name}_symbol_{what}" in rows[0]:
                values = [row[f"{name}_symbol_{what}"] for row in rows]
                axes.plot(epochs, values, color=colour, label=f"{name}, symbols", linestyle=":")
        axes.set_xlabel("epoch")
        axes.set_title(what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[int(bool(rows) and "train_symbol_accuracy" in rows[0])].legend(frameon=False)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    if rows:
        best = max(rows, key=lambda row: row["test_accuracy"])
        panels[1].plot(best["epoch"], best["test_accuracy"], "o", color=LINES["test"], markersize=6)
        panels[1].annotate(
            f"best {best['test_accuracy']:.2%}",
            (best["epoch"], best["test_accuracy"]),
            textcoords="offset points",
            xytext=(0, -16),
            ha="center",
            color=LINES["test"],
        )
    return figure


def save_curves(path: Path, rows: list[dict[str, Any]], title: str) -> None:
    """Write the picture as PNG.

    Raises:
        FolderError: the folder can't be written.
    """
    figure = draw_curves(rows, title)
    write_whole(path, lambda stream: figure.savefig(stream, format="png", dpi=150))
