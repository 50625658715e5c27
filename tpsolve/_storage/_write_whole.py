"""Files that are written whole or not at all, and the deletion of files that were written."""

import os
import tempfile
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from tpsolve.errors import FolderError


def write_whole(path: str | PathLike[str], write: Any) -> None:
    """Call `write(stream)` on a temporary binary file beside `path`, then rename: all or nothing.

    Raises:
        FolderError: the folder does not exist or can't be written.
    """
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise FolderError(f"{path}: can't be written ({error.strerror}). Choose a folder you may write to.") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        # mkstemp makes files for the owner alone; give this one the ordinary mode.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise FolderError(f"{path}: can't be written ({error.strerror}).") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def delete_written(folder: Path, patterns: Iterable[str]) -> None:
    """Delete the files of `folder` that were written under these names, and folders that are empty then; no others.

    Args:
        patterns: paths below `folder`, whose names may have the wildcards of `Path.glob`; in the order of deletion.

    Raises:
        FolderError: a file can't be deleted.
    """
    places = {folder}
    try:
        for pattern in map(Path, patterns):
            place = folder / pattern.parent
            places.add(place)
            # Its temporary files too, which a kill leaves: see `write_whole`.
            for name in (pattern.name, f".{pattern.name}.????????"):
                for path in list(place.glob(name)):
                    path.unlink()
        for place in sorted(places, reverse=True):
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
    except OSError as error:
        raise FolderError(f"{error.filename}: can't be deleted ({error.strerror}).") from error
