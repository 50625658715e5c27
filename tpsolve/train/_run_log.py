"""What a run leaves on disk besides its checkpoint: its recipe, rows, pictures of them, and TensorBoard's files."""

import json
import time
from pathlib import Path
from typing import Any

from tpsolve._storage._row_log import RowLog
from tpsolve._storage._write_whole import make_synced, write_whole
from tpsolve.errors import FolderError, MissingLibraryError
from tpsolve.train._checkpoint import Position
from tpsolve.train._curves import save_curves
from tpsolve.train._diagnosis_log import FIGURES, save_diagnostics
from tpsolve.train._recipe import Recipe

RECIPE = "recipe.toml"
METRICS = "metrics.jsonl"
DIAGNOSTICS = "diagnostics.jsonl"
BOARD = "tensorboard"
WRITTEN = (METRICS, DIAGNOSTICS, "curves.png", "diagnostics.png", f"{BOARD}/events.out.tfevents.*", RECIPE)
"""All that a `Log` writes; the recipe marks the folder of a run."""
DRAW_SECONDS = 10
"""Between two drawings of the pictures during a run."""


class Log:
    """The files of one run in `folder`, which is made if it is not there.

    Args:
        position: the epochs that are already done; the files are brought in line with them.
        tensorboard: write TensorBoard's files too.

    Raises:
        MissingLibraryError: TensorBoard is asked for and not installed.
        FolderError: the folder can't be written.
    """

    def __init__(self, folder: Path, recipe: Recipe, position: Position, tensorboard: bool) -> None:
        self._board = _board(folder / BOARD, len(position.rows)) if tensorboard else None
        make_folder(folder)
        self._drawn = time.monotonic()
        self._folder, self._rows, self._diagnostics = folder, list(position.rows), list(position.diagnostics)
        read = f"the {recipe.program} of {recipe.count} {recipe.data}" if recipe.program else recipe.data
        self._title = f"{recipe.model} on {read}, {recipe.activation}"
        write_whole(folder / RECIPE, lambda stream: stream.write(recipe.to_toml().encode()))
        _write_rows(folder / METRICS, self._rows)
        if self._diagnostics or (folder / DIAGNOSTICS).exists():
            _write_rows(folder / DIAGNOSTICS, self._diagnostics)

    def append(self, row: dict[str, Any], diagnostics: list[dict[str, Any]]) -> None:
        """Add the row of an epoch and those of its thresholds; the pictures are drawn anew if they are old."""
        self._rows.append(row)
        self._diagnostics += diagnostics
        RowLog(self._folder / METRICS).append(row)
        for one in diagnostics:
            RowLog(self._folder / DIAGNOSTICS).append(one)
        if time.monotonic() - self._drawn > DRAW_SECONDS:
            self.draw()
        if self._board is not None:
            scalars = dict(row)
            for one in diagnostics:
                scalars |= {f"{figure}/{one['threshold']}": one[figure] for figure in FIGURES}
            for name, value in scalars.items():
                if value is not None:
                    self._board.add_scalar(name, value, row["epoch"])
            self._board.flush()

    def draw(self) -> None:
        """Draw the curves, and the diagnostics if there are any."""
        save_curves(self._folder / "curves.png", self._rows, self._title)
        if self._diagnostics:
            save_diagnostics(self._folder / "diagnostics.png", self._diagnostics, self._title)
        self._drawn = time.monotonic()


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_whole(path, lambda stream: stream.write(lines.encode()))


def has_rows(folder: Path) -> bool:
    """Whether `folder` holds rows of a run."""
    path = folder / METRICS
    return path.exists() and path.stat().st_size > 0


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it.

    Raises:
        FolderError: it can't be made.
    """
    try:
        make_synced(folder)
    except OSError as error:
        raise FolderError(f"{folder}: can't be made ({error.strerror}). Choose a folder you may write to.") from error


def _board(folder: Path, epochs: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingLibraryError("--tensorboard", "tensorboard", "'tpsolve[tensorboard]'") from error
    return SummaryWriter(str(folder), purge_step=epochs + 1)
