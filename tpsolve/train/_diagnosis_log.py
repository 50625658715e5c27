"""What `tpsolve.nn.diagnose` says of a network during a run: rows, and a picture of them."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve._storage._write_whole import write_whole
from tpsolve.errors import ArgumentError
from tpsolve.nn import diagnose
from tpsolve.train._recipe import Recipe

COLOURS = colormaps["viridis"]
SEPARABILITY = Budget(steps=1000)
"""For each layer: enough for most units, and a bound where units are many."""
FIGURES = {
    "changed": "targets that differ from activations",
    "flip_quality": "flips that lower the loss",
    "cosine": "cosine with true differences",
    "saturated": "saturated units",
    "separable": "units with separable targets",
    "dead": "dead units",
}
"""Fields of `tpsolve.nn.Diagnosis`, and the titles of their panels."""


def check_diagnose(every: int, recipe: Recipe) -> None:
    """Raise ArgumentError unless a run of this recipe can be diagnosed every so many epochs; 0: never."""
    check_count("diagnose", every, 0)
    if not every:
        return
    if recipe.program:
        raise ArgumentError("diagnose", every, "0, with a program", "Call diagnose_program on the trained network.")
    if recipe.activation not in ("sign", "staircase"):
        raise ArgumentError("diagnose", every, f"0, as {recipe.activation} has no thresholds")
    if recipe.launch != "eager":
        raise ArgumentError("launch", recipe.launch, "eager, with diagnose")


def diagnostic_rows(model: nn.Module, inputs: Tensor, labels: Tensor, epoch: int) -> list[dict[str, Any]]:
    """A row for each threshold of `model` on this batch; None for a figure that has no meaning there."""
    found = diagnose(model, inputs, labels, cross_entropy, separability=SEPARABILITY)
    return [
        {"epoch": epoch, "threshold": name}
        | {figure: None if math.isnan(value) else value for figure, value in asdict(diagnosis).items()}
        for name, diagnosis in found.items()
    ]


def draw_diagnostics(rows: list[dict[str, Any]], title: str) -> Figure:
    """A panel for each figure, a line for each threshold, against epochs; the lowest threshold is the darkest."""
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    figure.suptitle(title)
    thresholds = list(dict.fromkeys(row["threshold"] for row in rows))
    for axes, (name, heading) in zip(figure.subplots(2, 3, sharex=True).flat, FIGURES.items(), strict=True):
        for rank, threshold in enumerate(thresholds):
            points = [(r["epoch"], r[name]) for r in rows if r["threshold"] == threshold and r[name] is not None]
            colour = COLOURS(0.85 * rank / max(1, len(thresholds) - 1))
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, label=threshold, marker="o", markersize=3)
        if not axes.lines:
            axes.text(0.5, 0.5, "no meaning here", ha="center", transform=axes.transAxes, color="grey")
        axes.set_ylim(-1.05 if name == "cosine" else -0.05, 1.05)
        axes.set_title(heading, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in figure.axes[3:]:
        axes.set_xlabel("epoch")
    handles, labels = figure.axes[5].get_legend_handles_labels()
    figure.legend(handles, labels, title="threshold", loc="outside right upper", frameon=False)
    return figure


def save_diagnostics(path: Path, rows: list[dict[str, Any]], title: str) -> None:
    """Write the picture as PNG.

    Raises:
        FolderError: the folder can't be written.
    """
    figure = draw_diagnostics(rows, title)
    write_whole(path, lambda stream: figure.savefig(stream, format="png", dpi=150))
