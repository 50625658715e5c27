"""Who sets the targets while a network learns: strategies trained alike, epoch for epoch, one row a run."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tpsolve._result import Budget
from tpsolve._storage._folder_lock import locked
from tpsolve._storage._row_log import RowLog
from tpsolve._storage._write_whole import delete_written
from tpsolve.errors import FileFormatError
from tpsolve.nn import HardThreshold, TargetReport
from tpsolve.train import averaged_weights, estimate_batch_norm, ftprop_mb
from tpsolve.train._ftprop_mb import LossFunction
from tpsolve.train.data._digits import load_digits
from tpsolve.train.data._resident import Resident
from tpsolve.train.models._mlp import mlp

WIDTHS = (64, 64)
EPOCHS = 20
CURVES = ("seconds", "loss", "train_accuracy", "test_accuracy")
"""What a row holds of each epoch."""
BATCH = 64
RATE = 3e-3


class _Row(TypedDict):
    strategy: str
    settings: dict[str, str | int | float]
    seed: int
    epochs: int
    fallbacks: NotRequired[int]
    error: NotRequired[str]


class _Curves(TypedDict):
    seconds: list[float]
    loss: list[float]
    train_accuracy: list[float]
    test_accuracy: list[float]


@dataclass(frozen=True)
class Strategy:
    """Who sets the targets of the hidden units in each mini-batch.

    Args:
        rule, width: of the thresholds; see `HardThreshold`.
        solver: sets the targets of the last hidden layer, through `target_backward`; "": nobody does, the
            backward pass takes the closed form everywhere.
        steps: budget of each search.
        importance: how much a searched target counts; see `target_backward`.
        average, smooth: averaged weights, along a rate that does not fall, and smoothed labels, as in a `Recipe`.
    """

    rule: str = "soft-hinge"
    width: float = 1.0
    solver: str = ""
    steps: int = 8
    importance: str = "flip-delta"
    average: float = 0.0
    smooth: float = 0.0

    @property
    def loss(self) -> LossFunction:
        """Of the training."""
        # Searches know the cross-entropy itself, and one with smoothed labels by its name and keywords.
        return partial(cross_entropy, label_smoothing=self.smooth) if self.smooth else cross_entropy


STRATEGIES: dict[str, Strategy] = {
    "saturated-ste": Strategy("saturated-ste"),
    "soft-hinge": Strategy(),
    "soft-hinge, width 0.5": Strategy(width=0.5),
    "one flip": Strategy(solver="hill-climb", steps=1),
    "hill-climb": Strategy(solver="hill-climb"),
    "averaged, smoothed": Strategy(width=0.5, average=0.1, smooth=0.1),
    "curvature, averaged, smoothed": Strategy(
        width=0.5, solver="curvature-flip", steps=1, importance="gradient", average=0.1, smooth=0.1
    ),
}
"""Closed-form rules, searches for the targets of the last hidden layer, and both with averaged weights."""


def run_training(
    folder: Path,
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    epochs: int = EPOCHS,
    strategies: dict[str, Strategy] = STRATEGIES,
    progress: Callable[[int, int, str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Train scikit-learn's digits under each strategy and seed that has no row of so many epochs yet; all rows.

    A run that diverges, or fails otherwise, is a row with its reason in "error".

    Args:
        progress: called with (rows finished, rows in all, what is trained now).
        stop: asked after every step; True ends cleanly, dropping only the run under way.

    Raises:
        FolderInUseError: another process writes into the folder.
        FolderError: the folder can't be written.
        FileFormatError: its rows are damaged.
    """
    with locked(folder):
        return _run(folder, seeds, epochs, strategies, progress, stop)


def _run(
    folder: Path,
    seeds: tuple[int, ...],
    epochs: int,
    strategies: dict[str, Strategy],
    progress: Callable[[int, int, str], None] | None,
    stop: Callable[[], bool],
) -> list[dict[str, Any]]:
    log = RowLog(folder / "rows.jsonl", _Row, _Curves)
    finished = {_key(row): row for row in log.read()}
    for row in finished.values():
        if "error" not in row and any(len(row[name]) != row["epochs"] for name in CURVES):
            raise FileFormatError(f"{log.path}: a row of {row['epochs']} epochs holds others. Move the file away.")
    wanted = [(name, seed) for seed in seeds for name in strategies]
    rows = []
    for name, seed in wanted:
        row = {"strategy": name, "settings": asdict(strategies[name]), "seed": seed, "epochs": epochs}
        if _key(row) in finished:
            rows.append(finished[_key(row)])
            continue
        if progress is not None:
            progress(len(rows), len(wanted), f"{name}, seed {seed}")
        row |= _train(strategies[name], seed, epochs, stop)
        if stop():
            break
        log.append(row)
        rows.append(row)
    return rows


def delete_training(folder: Path) -> None:
    """Delete what `run_training` and its picture have written into `folder`, and no other files.

    Whoever calls it holds the lock of the folder.

    Raises:
        FolderError: a file can't be deleted.
    """
    delete_written(folder, ("rows.jsonl", "accuracy.png", "accuracy.svg"))


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["strategy"], *row["settings"].values(), row["seed"], row["epochs"]


def _train(strategy: Strategy, seed: int, epochs: int, stop: Callable[[], bool]) -> dict[str, Any]:
    """A row's figures after each epoch; `seconds` are only of the training.

    `fallbacks` counts the samples, over all steps, whose search failed and that kept the closed form.
    """
    data = Resident(load_digits(), torch.device("cpu"), BATCH)

    def new_threshold() -> HardThreshold:
        return HardThreshold(rule=strategy.rule, width=strategy.width)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = mlp(data.shape, data.classes, new_threshold, WIDTHS, True)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    averaged = averaged_weights(model, strategy.average) if strategy.average else None
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=RATE if averaged else 0.0)
    generator = torch.Generator().manual_seed(seed)
    curves: dict[str, Any] = {**{name: [] for name in CURVES}, "fallbacks": 0}
    seconds = 0.0

    def count_fallbacks(report: TargetReport) -> None:
        curves["fallbacks"] += sum(report.fallbacks.values())

    try:
        for epoch in range(epochs):
            started = time.perf_counter()
            losses, right, seen = [], 0, 0
            passes = ftprop_mb(
                model,
                data.train(seed * epochs + epoch),
                strategy.loss,
                optimizer,
                solver={-1: strategy.solver} if strategy.solver else None,
                budget=Budget(steps=strategy.steps),
                importance=strategy.importance,
                generator=generator,
                told=count_fallbacks,
            )
            for loss, outputs, labels in passes:
                if averaged is not None:
                    averaged.update_parameters(model)
                losses.append(float(loss))
                right, seen = right + int((outputs.argmax(1) == labels).sum()), seen + len(labels)
                if not math.isfinite(losses[-1]):
                    return {**curves, "error": f"diverged: loss {losses[-1]} in epoch {epoch + 1}"}
                if stop():
                    return curves
            schedule.step()
            if averaged is not None:
                estimate_batch_norm(averaged, (inputs for inputs, _ in data.train(seed * epochs + epoch)))
            seconds += time.perf_counter() - started
            for name, value in (
                ("seconds", seconds),
                ("loss", sum(losses) / len(losses)),
                ("train_accuracy", right / seen),
                ("test_accuracy", _accuracy(averaged or model, data)),
            ):
                curves[name].append(value)
    except Exception as error:  # A strategy that fails is a row with its reason, not the end of the comparison.
        return {**curves, "error": f"{type(error).__name__}: {error}"}
    return curves


@torch.no_grad()
def _accuracy(model: nn.Module, data: Resident) -> float:
    model.eval()
    right = [model(inputs).argmax(1) == labels for inputs, labels in data.test()]
    return float(torch.cat(right).float().mean())
