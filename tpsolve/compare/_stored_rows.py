"""Rows of a comparison that stay in their files: each is read when it is asked for."""

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, overload

import msgspec
import numpy as np

from tpsolve.compare._row_files import ROWS, Places, file_and_start, files_of, key_of, parts_of, place_of, row_log
from tpsolve.errors import FileFormatError

_PIECE = 2**12
"""Bytes that are read at once, more than most rows take."""
_MAX_HELD = 64
"""Files that are held open. The rows of more of them are copied into one."""


class StoredRows(Sequence[dict[str, Any]]):
    """Rows as their files have them. Each is a new dict whenever it is asked for, so what is changed in one is lost.

    They take a few bytes each. Their files are held open, so that they can be read after these were deleted.

    Args:
        files: of the rows. places: where in them each begins, as `place_of` counts, int64.
    """

    __slots__ = ("_files", "_places")

    def __init__(self, files: "_Files", places: np.ndarray) -> None:
        self._files, self._places = files, places

    @classmethod
    def of_lines(cls, lines: Iterable[bytes]) -> "StoredRows":
        """Rows that were JSON, in a file of their own."""
        files, places = _Files(1), []
        with tempfile.TemporaryFile() as stream:
            for line in lines:
                places.append(place_of(0, stream.tell()))
                stream.write(line.rstrip(b"\n") + b"\n")
            stream.flush()
            files.hold(0, os.dup(stream.fileno()))
        return cls(files, np.array(places, dtype=np.int64))

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Self:
        if isinstance(index, slice):
            return type(self)(self._files, self._places[index])
        return self._read(int(self._places[index]))

    def take(self, numbers: np.ndarray) -> Self:
        """The rows of these numbers, in their order."""
        return type(self)(self._files, self._places[numbers])

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._read(int(place)) for place in self._places)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | StoredRows):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # Elsewhere there are no such files.
        return StoredRows.of_lines, ([self._files.line(int(place)) for place in self._places],)

    def _read(self, place: int) -> dict[str, Any]:
        try:
            return msgspec.json.decode(self._files.line(place))
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise FileFormatError(f"A row has changed in its file while it was used ({error}).") from error


class _Files:
    """Files that are held open by descriptors, since an open file would be told as forgotten at the end."""

    def __init__(self, count: int) -> None:
        self._descriptors = [-1] * count

    def hold(self, number: int, descriptor: int) -> None:
        """Read from the descriptor, and close it at the end."""
        self._descriptors[number] = descriptor
        weakref.finalize(self, os.close, descriptor)

    def line(self, place: int) -> bytes:
        """The line that begins there."""
        number, start = file_and_start(place)
        parts = []
        while piece := self._read(self._descriptors[number], start):
            end = piece.find(b"\n")
            if end >= 0:
                return b"".join([*parts, piece[: end + 1]])
            parts.append(piece)
            start += len(piece)
        return b"".join(parts)

    @staticmethod
    def _read(descriptor: int, start: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(descriptor, _PIECE, start)
        os.lseek(descriptor, start, os.SEEK_SET)
        return os.read(descriptor, _PIECE)


def read_places(folder: Path) -> tuple[list[str], Places]:
    """The parts of the files of rows of a comparison, and where in these files each row stands.

    The first one of a key counts.

    Raises:
        FileFormatError: they are damaged.
        TooLargeError: a file of rows is larger than one may be.
    """
    parts, places = parts_of(folder), Places()
    for number, part in enumerate(parts):
        for row, start in row_log(folder, part).each():
            places.add(key_of(row), place_of(number, start))
    return parts, places


def stored_rows(folder: Path, parts: Sequence[str], places: np.ndarray) -> StoredRows:
    """The rows at some places of the files of a comparison; `parts`: of these files.

    Raises:
        FileFormatError: a file can't be read.
    """
    used = files_of(places)
    files = _Files(len(parts))
    # Windows deletes no file that is open.
    few = len(used) <= _MAX_HELD and os.name != "nt"
    for number in used if few else ():
        files.hold(number, _opened(folder / ROWS.format(parts[number])))
    return StoredRows(files, places) if few else StoredRows.of_lines(_lines(folder, parts, places))


def _lines(folder: Path, parts: Sequence[str], places: np.ndarray) -> Iterator[bytes]:
    for place in places.tolist():
        number, start = file_and_start(place)
        files = _Files(len(parts))
        files.hold(number, _opened(folder / ROWS.format(parts[number])))
        yield files.line(place_of(number, start))


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise FileFormatError(f"{path}: can't be read ({error.strerror}).") from error


def read_rows(folder: Path) -> StoredRows:
    """The rows of a comparison, those of all shards with them; of two with one key the first counts.

    Raises:
        FileFormatError: they are damaged.
        TooLargeError: a file of rows is larger than one may be.
    """
    parts, places = read_places(folder)
    return stored_rows(folder, parts, places.in_order())
