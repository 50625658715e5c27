"""What a run leaves on disk besides its checkpoint: its recipe, one row an epoch, curves, and TensorBoard's files."""

import json
import time
from pathlib import Path
from typing import Any

from tpsolve.archive import write_whole
from tpsolve.compare.rows import RowLog
from tpsolve.errors import FolderError, MissingLibraryError
from tpsolve.train.curves import save_curves
from tpsolve.train.recipe import Recipe

DRAW_SECONDS = 10
"""Between two drawings of the curves during a run."""


class Log:
    """The files of one run in `folder`, which is made if it is not there.

    Args:
        rows: of the epochs that are already done; the file is brought in line with them.
        tensorboard: write TensorBoard's files too.

    Raises:
        MissingLibraryError: TensorBoard is asked for and not installed.
        FolderError: the folder can't be written.
    """

    def __init__(self, folder: Path, recipe: Recipe, rows: list[dict[str, Any]], tensorboard: bool):
        self._board = _board(folder / "tensorboard", len(rows)) if tensorboard else None
        make_folder(folder)
        self._drawn = time.monotonic()
        self._folder, self._rows = folder, list(rows)
        self._title = f"{recipe.model} on {recipe.data}, {recipe.activation}"
        write_whole(folder / "recipe.toml", lambda stream: stream.write(recipe.to_toml().encode()))
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        write_whole(folder / "metrics.jsonl", lambda stream: stream.write(lines.encode()))

    def append(self, row: dict[str, Any]) -> None:
        """Add the row of an epoch; the curves are drawn anew if they are old."""
        self._rows.append(row)
        RowLog(self._folder / "metrics.jsonl").append(row)
        if time.monotonic() - self._drawn > DRAW_SECONDS:
            self.draw()
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, row["epoch"])
            self._board.flush()

    def draw(self) -> None:
        """Draw the curves."""
        save_curves(self._folder / "curves.png", self._rows, self._title)
        self._drawn = time.monotonic()


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it.

    Raises:
        FolderError: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{folder}: can't be made ({error.strerror}). Choose a folder you may write to.") from error


def _board(folder: Path, epochs: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingLibraryError("--tensorboard", "tensorboard", "'tpsolve[tensorboard]'") from error
    return SummaryWriter(str(folder), purge_step=epochs + 1)
