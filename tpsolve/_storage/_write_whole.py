"""Files that are written whole or not at all, whatever happens, and the deletion of files that were written."""

import contextlib
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from os import PathLike
from pathlib import Path
from typing import IO, Any

from tpsolve.errors import FolderError

_NO_SYNC = (errno.EBADF, errno.EINVAL, errno.ENOTSUP)
"""What file systems say that see to their folders themselves."""
_AT_ONCE = 32
"""Files that are synced at once: a journal takes them together."""
_in_memory: ContextVar[list[bytes] | None] = ContextVar("in_memory", default=None)
"""Gets what would be written; None: it is written."""
_waiting: ContextVar[list[Path] | None] = ContextVar("waiting", default=None)
"""Files that are yet to be synced; None: each is synced when it is written."""


def write_whole(path: str | PathLike[str], write: Any, keep: str | None = None) -> None:
    """Call `write(stream)` on a temporary binary file beside `path`, then rename: all or nothing.

    File and folder are on disk when it returns. A power cut before leaves the earlier file or the new one.

    Args:
        keep: the name, in the same folder, that the file which is replaced is kept under, in place of one of that name.

    Raises:
        FolderError: the folder does not exist or can't be written.
    """
    path = Path(path)
    kept = _in_memory.get()
    if kept is not None:
        content = io.BytesIO()
        write(content)
        kept.append(content.getvalue())
        return
    waiting = _waiting.get()
    if waiting is not None:
        _write_at_once(path, write)
        waiting.append(path)
        return
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise FolderError(f"{path}: can't be written ({error.strerror}). Choose a folder you may write to.") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files for the owner alone; give this one the ordinary mode.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        if keep is not None and path.exists():
            _keep(path, path.with_name(keep))
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise FolderError(f"{path}: can't be written ({error.strerror}).") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextlib.contextmanager
def in_memory() -> Iterator[list[bytes]]:
    """Files that are written whole inside are added to the list, and not written."""
    kept: list[bytes] = []
    token = _in_memory.set(kept)
    try:
        yield kept
    finally:
        _in_memory.reset(token)


def _write_at_once(path: Path, write: Any) -> None:
    try:
        with path.open("wb") as stream:
            write(stream)
    except OSError as error:
        raise FolderError(f"{path}: can't be written ({error.strerror}).") from error


@contextlib.contextmanager
def synced_together() -> Iterator[None]:
    """Files that are written whole inside are on disk at the end, not before: much faster for many small ones.

    They are written in place, and a power cut before the end may leave parts of them. So nothing may refer to them
    earlier, and nobody else may write them.

    Raises:
        FolderError: a file can't be synced.
    """
    waiting: list[Path] = []
    token = _waiting.set(waiting)
    try:
        yield
    finally:
        _waiting.reset(token)
    try:
        if len(waiting) < _AT_ONCE:
            _sync_files(waiting)
        else:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(_sync_files, (waiting[k::_AT_ONCE] for k in range(_AT_ONCE))))
        for folder in {path.parent for path in waiting}:
            sync_folder(folder)
    except OSError as error:
        raise FolderError(f"{error.filename or waiting[0].parent}: can't be written ({error.strerror}).") from error


def _sync_files(paths: list[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDWR)  # Windows syncs only what may be written.
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on disk; the content of a file is another matter."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders, and others none that may not be read.
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def make_synced(folder: Path) -> None:
    """Make `folder` and those above it, if they are not there; they are on disk when it returns.

    Raises:
        OSError: it can't be made.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        sync_folder(path.parent)


def _keep(path: Path, kept: Path) -> None:
    """Give the file at `path` the name `kept` besides."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{kept.name}.")
    os.close(handle)
    try:
        os.unlink(temporary)
        os.link(path, temporary)
        os.replace(temporary, kept)
    except OSError:  # Some file systems have no second names.
        write_whole(kept, lambda stream: _copy(path, stream))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _copy(path: Path, stream: IO[bytes]) -> None:
    with path.open("rb") as source:
        shutil.copyfileobj(source, stream)


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
