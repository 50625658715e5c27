"""The sizes of a file of sheets, before a library takes memory for all that it claims to hold."""

import re
import zipfile
import zlib
from pathlib import Path

from tpsolve._storage._limits import check_bytes, max_bytes, opened
from tpsolve.errors import FileFormatError

_PIECE = 2**18
_TAIL = 256
"""Letters of a tag that may lie on both sides of a cut between pieces."""
_TAG = re.compile(rb"""<(?:\w{1,20}:)?(row|c)(?=[\s/>])|\sr\s{0,9}=\s{0,9}["']([A-Za-z]{0,4})([0-9]{1,8})["']""")
"""A row, a cell, or the place of one of them."""
_CELL_BYTES = 32
"""Of each place up to the last cell of a sheet; all of them are held."""


def check_sheets(path: Path) -> None:
    """Raise unless the sheets of an .xlsx or .ods file may be read; of an .xls file nothing is packed.

    Raises:
        FileFormatError: it can't be read.
        TooLargeError: its parts unpacked, or the places up to the last cell of a sheet, take more than a file may.
    """
    with opened(path) as stream:
        if stream.read(2) != b"PK":
            return
        try:
            with zipfile.ZipFile(stream) as archive:  # pyright: ignore[reportArgumentType]
                size = 0
                for info in archive.infolist():
                    size = _check_part(path, archive, info, size)
        except (EOFError, OSError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise FileFormatError(f"{path}: can't be read ({error}).") from error


def _check_part(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> int:
    """Unpack a part, whatever its size is said to be, and return `size` with its own."""
    rows = columns = row = column = 0
    tail = b""
    # All of it: zipfile would end where it is said to end, and others would not.
    info.file_size = max_bytes() + 1
    with archive.open(info) as part:
        while piece := part.read(_PIECE):
            size += len(piece)
            check_bytes(path, size)
            if not info.filename.endswith(".xml") or "sheet" not in info.filename:
                continue
            text = tail + piece
            cut = max(0, text.rfind(b"<", 0, len(text) - _TAIL))
            for kind, letters, digits in _TAG.findall(text, 0, cut if len(piece) == _PIECE else len(text)):
                if kind == b"row":
                    row, column = row + 1, 0
                elif kind:
                    column += 1
                else:
                    row, column = int(digits), _column(letters) or column
                rows, columns = max(rows, row), max(columns, column)
            check_bytes(path, _CELL_BYTES * rows * columns)
            tail = text[cut:]
    return size


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + (letter & 31)
    return number
