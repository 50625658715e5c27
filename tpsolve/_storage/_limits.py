"""How much a file may take, whoever wrote it, and reading that keeps to it."""

import gzip
import lzma
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any

from tpsolve.errors import ArgumentError, FileFormatError, TooLargeError

VARIABLE = "TPSOLVE_MAX_BYTES"
"""The environment variable that holds the limit."""
DEFAULT = 2**31
PACKED = {".gz": gzip.open, ".xz": lzma.open}
DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error)
"""What gzip and lzma raise on bytes that are not theirs."""
_PIECE = 2**18


def max_bytes() -> int:
    """What one file may take in memory, unpacked: the number in `TPSOLVE_MAX_BYTES`, or 2 GiB.

    Raises:
        ArgumentError: the variable holds no positive whole number.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text)):
        raise ArgumentError(VARIABLE, repr(text[:40]), "a number of bytes, such as 4000000000")
    return int(text)


def check_bytes(path: str | PathLike[str], size: int, most: int | None = None) -> None:
    """Raise TooLargeError if a file takes more than `most` bytes, by default `max_bytes()`."""
    limit = max_bytes()
    most = limit if most is None else min(most, limit)
    if size > most:
        mend = f"If you trust the file, set {VARIABLE} to more." if most == limit else ""
        raise TooLargeError("file", f"{path}, which takes {in_words(size)}", f"at most {in_words(most)}", mend)


def in_words(size: int) -> str:
    """A number of bytes, such as 1.5 GiB."""
    # Claims may be beyond float64.
    size = min(size, 2**80)
    unit = next((u for u in ("TiB", "GiB", "MiB") if size >= 2 ** _POWERS[u]), "")
    return f"{size / 2 ** _POWERS[unit]:.4g} {unit}" if unit else f"{size} bytes"


_POWERS = {"TiB": 40, "GiB": 30, "MiB": 20}


@contextmanager
def opened(path: str | PathLike[str], open_file: Any = open) -> Iterator[IO[bytes]]:
    """The file at `path` for reading bytes, by `open_file(path, "rb")`.

    Raises:
        FileFormatError: there is none, or it can't be read.
    """
    try:
        stream = open_file(path, "rb")
    except (OSError, ValueError) as error:  # A name with a zero byte is a ValueError.
        reason = getattr(error, "strerror", None) or error
        raise FileFormatError(f"{path}: can't be read ({reason}).") from error
    with stream:
        yield stream


@dataclass(frozen=True)
class FilePart(PathLike[str]):
    """Some bytes of a file that holds many files, one behind the other."""

    path: Path
    offset: int
    size: int

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        """For messages."""
        return f"{self.path} from byte {self.offset} on"

    def read(self) -> bytearray:
        """The bytes.

        Raises:
            FileFormatError: the file can't be read, or ends before.
            TooLargeError: more than `max_bytes()`.
        """
        check_bytes(self, self.size)
        with opened(self.path) as stream:
            try:
                stream.seek(self.offset)
                content = read_part(stream, self.size)
            except (OSError, OverflowError) as error:
                raise FileFormatError(
                    f"{self}: can't be read ({getattr(error, 'strerror', None) or error})."
                ) from error
        if len(content) < self.size:
            raise FileFormatError(f"{self}: truncated: {len(content)} bytes, expected {self.size}.")
        return content


def read_bytes(path: str | PathLike[str], most: int | None = None) -> bytearray:
    """All bytes of the file at `path`, unpacked where its name ends in .gz or .xz.

    Args:
        most: of them; by default `max_bytes()`, which it never exceeds.

    Raises:
        FileFormatError: there is no such file, it can't be read, or it is damaged.
        TooLargeError: more bytes; no more than these were read.
    """
    if isinstance(path, FilePart):
        return path.read()
    with opened(path, PACKED.get(Path(path).suffix.lower(), open)) as stream:
        try:
            return read_stream(stream, path, most)
        except DAMAGED as error:
            raise FileFormatError(f"{path}: can't be read ({getattr(error, 'strerror', None) or error}).") from error


def read_stream(stream: IO[bytes], path: str | PathLike[str], most: int | None = None) -> bytearray:
    """As `read_bytes`, of a stream; what that raises itself is not caught."""
    most = max_bytes() if most is None else min(most, max_bytes())
    content = read_part(stream, most + 1)
    check_bytes(path, len(content), most)
    return content


def read_part(stream: IO[bytes], size: int) -> bytearray:
    """The next `size` bytes of a stream, or all that are left."""
    # In pieces: unpacked data would be gathered twice.
    content = bytearray()
    while len(content) < size and (piece := stream.read(min(_PIECE, size - len(content)))):
        content += piece
    return content
