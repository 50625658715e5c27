"""DataFrames, and files that hold types: their cells as the texts that a CSV file of them would hold."""

import dataclasses
import datetime
import math
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path
from typing import Any

from tpsolve._storage._limits import check_bytes, opened
from tpsolve.errors import ArgumentError, FileFormatError, MissingLibraryError, TpsolveError
from tpsolve.tables._raw_table import Cell, RawTable
from tpsolve.tables._sheets import check_sheets, read_sheet

SHEETS = (".xlsx", ".xls", ".ods")
TYPED = (*SHEETS, ".parquet", ".feather", ".arrow")
"""Ends of the names of files that hold types."""

_CELL_BYTES = 80
"""Of a cell in memory, as a short text in two lists."""

_NOTHING = ("NAType", "NaTType")


def read_frame(
    frame: Any,
    left_out: Collection[str] = (),
    *,
    name: str = "DataFrame",
    header: list[str] | None = None,
    row: str = "row",
    line: int = 1,
) -> RawTable:
    """The cells of a DataFrame of pandas or polars; the index of pandas is no column.

    Floats become the shortest decimals that name them, as in a CSV file, so that both give the same numbers.

    Args:
        left_out: names of columns whose cells nobody needs; they may hold anything.
        name: of the file that the frame was read from, for messages.
        header: names of the columns, if they are others than those of the frame.
        row, line: what the first row is called in messages; see `RawTable`.

    Raises:
        ArgumentError: something else, or cells that are neither numbers, texts, dates nor truth values.
    """
    library = type(frame).__module__.partition(".")[0]
    if library not in ("pandas", "polars") or type(frame).__name__ != "DataFrame":
        mend = {"Series": "Write .to_frame().", "LazyFrame": "Write .collect()."}.get(type(frame).__name__, "")
        kinds = "a path, '-' for standard input, or a DataFrame of pandas or polars"
        raise ArgumentError("table", f"{type(frame).__module__}.{type(frame).__name__}", kinds, mend)
    if library == "pandas" and getattr(frame.columns, "nlevels", 1) > 1:
        mend = 'Join them: df.columns = ["_".join(c) for c in df.columns].'
        raise ArgumentError("table", "a DataFrame with several levels of column names", "one level", mend)
    # By place: names may occur twice, which the caller refuses.
    series = [frame.iloc[:, k] for k in range(frame.shape[1])] if library == "pandas" else list(frame.iter_columns())
    header = [str(name) for name in frame.columns] if header is None else header
    kinds = [str(one.dtype) for one in series]
    words = {name for name, kind in zip(header, kinds, strict=True) if kind.startswith(("category", "Categ", "Enum"))}
    named = list(zip(header, series, strict=True))
    lines = list(range(line, len(frame) + line))
    empty = RawTable(name, header, [], lines, row, frozenset(words))
    columns = [[None] * len(frame) if own in left_out else _texts(empty, own, one) for own, one in named]
    typed = {own for own, one in named if own not in left_out and not _is_text(one)}
    return dataclasses.replace(empty, columns=columns, typed=frozenset(typed))


def read_typed_file(path: Path, left_out: Collection[str] = ()) -> RawTable:
    """The cells of a Parquet, Feather (Arrow IPC), Excel or OpenDocument file; of sheets see `read_sheet`.

    Args:
        left_out: names of columns whose cells nobody needs; they may hold anything.

    Raises:
        MissingLibraryError: polars is not installed.
        FileFormatError: it can't be read.
        ArgumentError: cells that are neither numbers, texts, dates nor truth values.
    """
    header, line = None, 1
    sheet = path.suffix.lower() in SHEETS
    try:
        import polars
    except ImportError as error:
        raise MissingLibraryError(f"a {path.suffix} file", "polars", "'tpsolve[tables]'") from error
    try:
        if sheet:
            check_sheets(path)
            found = read_sheet(path)
            header, frame, line = found.header, found.frame, found.line
        else:
            scan = polars.scan_parquet if path.suffix.lower() == ".parquet" else polars.scan_ipc
            with opened(path):
                lazy = scan(path)
            # Told by the file's own table of contents.
            cells = len(lazy.collect_schema()) * lazy.select(polars.len()).collect().item()
            check_bytes(path, _CELL_BYTES * cells)
            frame = lazy.collect()
        texts = frame.select(polars.col(polars.String, polars.Categorical).cast(polars.String).str.len_bytes().sum())
        # A text that is stored once may stand in many cells.
        check_bytes(path, sum(value or 0 for value in texts.row(0)) if texts.width else 0)
    except TpsolveError:
        raise
    except ImportError as error:
        raise MissingLibraryError(f"a {path.suffix} file", "fastexcel", "'tpsolve[tables]'") from error
    except BaseException as error:  # fastexcel has errors of its own, and panics of Rust are no Exception.
        if not (isinstance(error, Exception) or type(error).__name__ == "PanicException"):
            raise
        mend = f"Is it whole, and a file of the kind {path.suffix}?"
        raise FileFormatError(f"{path}: can't be read ({_first_line(error)}). {mend}") from error
    if not sheet:
        return read_frame(frame, left_out, name=str(path))
    table = read_frame(frame, left_out, name=str(path), header=header, row="", line=line)
    rows = [k for k in range(len(frame)) if any(cells[k] not in (None, "") for cells in table.columns)]
    columns = [[cells[k] for k in rows] for cells in table.columns]
    return dataclasses.replace(table, columns=columns, lines=[table.lines[k] for k in rows])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_text(series: Any) -> bool:
    """Whether a column holds texts, as which numbers may be written in any way."""
    return not _is_time_of_polars(series) and any(isinstance(value, str) for value in series.to_list())


def _is_time_of_polars(series: Any) -> bool:
    return type(series).__module__.startswith("polars") and series.dtype.is_temporal() and str(series.dtype)[:2] != "Du"


def _texts(table: RawTable, name: str, series: Any) -> list[Cell]:
    if str(series.dtype).lower() in ("float32", "float16"):
        # Their own shortest decimals: as Python's floats they would have more digits than they hold.
        return [None if value != value else str(value) for value in series.to_numpy()]
    if _is_time_of_polars(series):
        # Python's own dates and times hold no nanoseconds, and end in the year 9999.
        return series.dt.to_string("iso:strict").to_list()
    texts: list[Cell] = []
    for row, value in enumerate(series.to_list()):
        kind = type(value)
        if kind is str:
            texts.append(value.strip())
        elif kind is float:
            texts.append(None if math.isnan(value) else repr(value))
        elif kind is int:
            texts.append(str(value))
        else:
            texts.append(_text(table, name, row, value))
    return texts


def _text(table: RawTable, name: str, row: int, value: Any) -> Cell:
    if value is None or type(value).__name__ in _NOTHING:
        return None
    if hasattr(value, "item") and not isinstance(value, datetime.datetime):
        # A number of numpy.
        short = type(value).__name__ in ("float32", "float16")
        value = float(str(value)) if short else value.item()
        if type(value).__name__ in ("longdouble", "float128"):
            # Python has no number of so many digits; its own text has them all.
            return None if value != value else str(value)
    if isinstance(value, float):
        return None if math.isnan(value) else repr(value)
    if isinstance(value, Decimal):
        return None if value.is_nan() else str(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | int):
        return str(value)
    mend = "Convert the column, or leave it out (--drop)."
    if isinstance(value, datetime.timedelta) and table.name == "DataFrame":
        mend = "Write .dt.total_seconds()."
    got = f"a cell of type {type(value).__name__} in column {name!r}"
    raise ArgumentError(table.place(row, name), got, "numbers, texts, dates or truth values", mend)
