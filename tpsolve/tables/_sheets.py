"""Sheets of Excel and OpenDocument: their sizes before a library takes memory for them, and the first one's cells."""

import logging
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpsolve._storage._limits import check_bytes, max_bytes, opened
from tpsolve.errors import FileFormatError

_PIECE = 2**18
_TAIL = 256
"""Letters of a tag that may lie on both sides of a cut between pieces."""
_TAG = re.compile(rb"""<(?:\w{1,20}:)?(row|c)(?=[\s/>])|\sr\s{0,9}=\s{0,9}["']([A-Za-z]{0,4})([0-9]{1,8})["']""")
"""A row, a cell, or the place of one of them."""
_MAX_INT64 = 2.0**63
_CELL_BYTES = 32
"""Of each place up to the last cell of a sheet; all of them are held."""


@dataclass(frozen=True)
class Sheet:
    """A sheet with its header.

    Args:
        header: names of the columns; "" where there is none.
        frame: of polars, the cells below; a column has a type if all its cells have it.
        line: of the first row of `frame`, from 1.
    """

    header: list[str]
    frame: Any
    line: int


def read_sheet(path: Path) -> Sheet:
    """The first sheet that is shown and holds something; the first row that holds something is its header.

    Columns without a name and values are left out. Empty rows stay, so that lines can be counted.

    Raises:
        FileFormatError: no sheet holds anything.
        ImportError: fastexcel is not installed.
    """
    import fastexcel
    import polars

    # It would print that a column without values has no type.
    log = logging.getLogger("fastexcel")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        book = fastexcel.read_excel(path)
        for name in book.sheet_names:
            # header_row=None skips empty rows; with skip_rows it counts them.
            top = book.load_sheet(name, header_row=None, n_rows=1, dtypes="string")
            if getattr(top, "visible", "visible") != "visible" or not top.width or not top.to_polars().height:
                continue
            row, above = top.to_polars().row(0), 0
            while not any(_row(book, name, above)):
                above += 1
            header = [(cell or "").strip() for cell in row]
            cells = book.load_sheet(name, header_row=None, skip_rows=above + 1, schema_sample_rows=None)
            frame = cells.to_polars()
            used = [k for k, column in enumerate(frame.iter_columns()) if header[k] or column.null_count() < len(frame)]
            frame = frame[:, used].with_columns(_as_shown(polars, column) for column in frame[:, used].iter_columns())
            return Sheet([header[k] for k in used], frame, above + 2)
    finally:
        log.setLevel(level)
    raise FileFormatError(f"{path}: no sheet that is shown holds anything.")


def _row(book: Any, name: str, number: int) -> tuple[Any, ...]:
    """The texts of a row of a sheet, from 0."""
    return book.load_sheet(name, header_row=None, skip_rows=number, n_rows=1, dtypes="string").to_polars().row(0)


def _as_shown(polars: Any, column: Any) -> Any:
    """A column as a sheet shows it; inside, numbers are floats, and times of a day those of Excel's first day."""
    kind, values = column.dtype.base_type(), column.drop_nulls()
    if kind is polars.Float64 and (values == values.round()).all() and (values.abs() < _MAX_INT64).all():
        return column.cast(polars.Int64)
    if kind is polars.Datetime and len(values):
        days = {(day.year, day.month, day.day) for day in values.dt.date().unique()}
        return column.dt.strftime("%H:%M:%S%.f") if days <= {(1899, 12, 30), (1899, 12, 31)} else column
    return column


def check_sheets(path: Path) -> None:
    """Raise unless the sheets of an .xlsx or .ods file may be read; of an .xls file nothing is packed.

    Raises:
        FileFormatError: it can't be read.
        TooLargeError: its parts unpacked, or the places up to the last cell of a sheet, take more than a file may.
    """
    with opened(path) as stream:
        if stream.read(2) != b"PK":
            return
        # What zipfile raises for broken, encrypted and unknown contents.
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
