"""Files that commands write: refused before any work where they can't be, and pictures beside an answer."""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tpsolve._storage._write_whole import write_whole
from tpsolve.cli._answers import TABLES, Answers
from tpsolve.cli._terminal import visible
from tpsolve.errors import ArgumentError, FolderError, TpsolveError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAME = 120
"""Bytes of the name of a run: the files in its folder have names of their own, and paths have limits too."""
RESERVED = frozenset(
    ("CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10)))
)
"""What Windows takes for devices."""


def check_output(option: str, path: Path | None, read: Path | None = None) -> None:
    """Raise ArgumentError unless the file that `option` names can be written and is not `read`, or is None."""
    if path is None:
        return
    if read is not None and path.resolve() == read.resolve():
        raise ArgumentError(option, path, "another file than the one that is read", "It would be overwritten.")
    if path.is_dir():
        raise ArgumentError(option, path, "the path of a file", "It is a folder.")
    if path.exists() and not path.is_file():
        raise ArgumentError(option, path, "the path of a file", "It is a device, which would be replaced.")
    try:
        # As the file will be written; permissions alone don't tell of a full or read-only disk.
        tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.").close()
    except OSError as error:
        expected = f"a path that can be written ({error.strerror})"
        raise ArgumentError(option, path, expected, "Choose a folder that exists and that you may write to.") from error


def run_folder(runs: Path, name: str, default: str) -> Path:
    """The folder of a run inside `runs`, named `name`, or after `default` if that is "".

    Names are ones that every system takes, so that runs can be moved.

    Raises:
        ArgumentError: a name that would lead out of `runs`, or that some systems don't take.
    """
    if not name:
        return runs / portable(default)
    stem = name.split(".")[0].upper()
    if (
        not name.isprintable()
        or set(name) & set('<>:"/\\|?*')
        or name != name.strip(" ").rstrip(".")
        or stem in RESERVED
        or len(os.fsencode(name)) > MAX_NAME
    ):
        expected = f'at most {MAX_NAME} letters without < > : " / \\ | ? *, and no point or space at the end'
        raise ArgumentError("--name", repr(name), expected, "Where the run lies is said with --runs.")
    return runs / name


def portable(text: str) -> str:
    """`text` with an underscore for what file systems or shells don't take, cut to a length that all take."""
    name = re.sub(r"[^\w.,=+-]+", "_", text).strip("_. ")
    if len(name.encode(errors="replace")) > MAX_NAME or not name or name.split(".")[0].upper() in RESERVED:
        digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]
        name = f"{name.encode('ascii', 'replace').decode().replace('?', '_')[: MAX_NAME - 9]}_{digest}"
    return name


def check_plot(path: Path | None, features: int) -> None:
    """Raise ArgumentError unless `--plot` is a picture that can be written, of a table with two features, or None."""
    if path is None:
        return
    if features != 2:
        raise ArgumentError("--plot", f"a table of {features} features", "two", "Leave --plot away.")
    check_picture("--plot", path)


def check_picture(option: str, path: Path | None) -> None:
    """Raise ArgumentError unless the file that `option` names is a picture that can be written, or is None."""
    if path is None:
        return
    from matplotlib.backend_bases import FigureCanvasBase

    # pgf needs a TeX, which only shows once it writes.
    known = FigureCanvasBase.get_supported_filetypes().keys() - {"pgf"}
    if _kind(path) not in known:
        raise ArgumentError(option, path, f"a picture, named .{', .'.join(sorted(known))}")
    check_output(option, path)


def save_picture(asked: Path | None, name: str, draw: Callable[[], "Figure"], answers: Answers = TABLES) -> None:
    """Draw into `asked`, or else `name`; an answer stands without its picture, so what can't be drawn is a note.

    Raises:
        FolderError: `asked` can't be written.
    """
    path = asked or Path(name)
    try:
        figure = draw()
        write_whole(path, lambda stream: figure.savefig(stream, format=_kind(path), dpi=150))
    except TpsolveError as error:
        if asked is not None and isinstance(error, FolderError):
            raise
        answers.remark(f"No picture: {visible(str(error))}")
        return
    except Exception as error:  # Whatever the plotting library can't draw; the answer has been printed.
        words = visible(f"{type(error).__name__}: {error}")
        answers.remark(f"No picture: {words}")
        return
    answers.tell(f"Picture: {path}")


def _kind(path: Path) -> str:
    return path.suffix[1:].lower() or "png"
