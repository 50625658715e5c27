"""What the rows of `run_training` say: one line a strategy, and accuracy against seconds."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.table import Table

from tpsolve.compare.report._plots import COLOURS, save_all

Row = dict[str, Any]


@dataclass(frozen=True)
class TrainingSummary:
    """One strategy over its seeds.

    Args:
        test, spread: mean and standard deviation of the test accuracy after the last epoch; NaN: no run ended well.
        train: mean training accuracy of the last epoch.
        equal_seconds: mean test accuracy after the last epoch that was over when the fastest strategy was done.
        cost: median seconds of a run, in those of the first strategy.
        runs: that ended well.
        failures: runs that ended with an error.
        fallbacks: samples whose search failed, over all runs.
    """

    strategy: str
    test: float
    spread: float
    train: float
    equal_seconds: float
    cost: float
    runs: int
    failures: int
    fallbacks: int


def summarise_training(rows: list[Row]) -> list[TrainingSummary]:
    """One summary a strategy, in the order of the rows."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["strategy"]].append(row)
    good = {name: [row for row in of if "error" not in row] for name, of in grouped.items()}
    seconds = {name: float(np.median([r["seconds"][-1] for r in of])) if of else np.nan for name, of in good.items()}
    first = next(iter(seconds.values()), np.nan)
    least = min((value for value in seconds.values() if value == value), default=np.nan)
    return [
        TrainingSummary(
            strategy=name,
            test=_mean([row["test_accuracy"][-1] for row in of]),
            spread=float(np.std([row["test_accuracy"][-1] for row in of], ddof=1)) if len(of) > 1 else np.nan,
            train=_mean([row["train_accuracy"][-1] for row in of]),
            equal_seconds=_mean([_accuracy_at(row, least) for row in of]),
            cost=seconds[name] / first,
            runs=len(of),
            failures=len(grouped[name]) - len(of),
            fallbacks=sum(row.get("fallbacks", 0) for row in grouped[name]),
        )
        for name, of in good.items()
    ]


def training_table(rows: list[Row]) -> Table:
    """The table that the command line prints."""
    epochs = max((row["epochs"] for row in rows), default=0)
    summaries = summarise_training(rows)
    caption = f"{len(rows)} runs of {epochs} epochs"
    for label, count in (
        ("runs failed", sum(s.failures for s in summaries)),
        ("samples kept the closed form", sum(s.fallbacks for s in summaries)),
    ):
        caption += f"; {count} {label}" if count else ""
    table = Table(caption=caption, caption_justify="left")
    table.add_column("targets by", overflow="fold")
    for heading in ("test\naccuracy", "at equal\nseconds", "train\naccuracy", "cost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for s in summaries:
        spread = "" if s.spread != s.spread else f" ± {s.spread:.2%}"
        cost = "-" if s.cost != s.cost else f"{s.cost:.1f}"
        table.add_row(s.strategy, _share(s.test) + spread, _share(s.equal_seconds), _share(s.train), cost)
    return table


def failures(rows: list[Row]) -> list[str]:
    """One line for each run that failed."""
    return [f"{row['strategy']}, seed {row['seed']}: {row['error']}" for row in rows if "error" in row]


def save_training_plot(rows: list[Row], folder: Path) -> None:
    """Write accuracy.png and .svg: mean test accuracy over the seeds against mean seconds, epoch by epoch.

    Raises:
        FolderError: the folder can't be written.
    """
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    for number, name in enumerate(names):
        of = [row for row in rows if row["strategy"] == name and "error" not in row]
        if of:
            seconds = np.mean([row["seconds"] for row in of], axis=0)
            accuracy = np.mean([row["test_accuracy"] for row in of], axis=0)
            axes.plot(seconds, accuracy, color=COLOURS[number % len(COLOURS)], label=name, linewidth=2)
    axes.set_title("Who sets the targets: test accuracy")
    axes.set_xlabel("seconds of training")
    axes.set_xscale("log")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="lower right")
    save_all({"accuracy": figure}, folder)


def _accuracy_at(row: Row, seconds: float) -> float:
    over = np.searchsorted(row["seconds"], seconds, side="right")
    return row["test_accuracy"][over - 1] if over else float("nan")


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.2%}"


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else np.nan
