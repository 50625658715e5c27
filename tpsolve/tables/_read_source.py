"""The cells of whatever holds a table."""

from collections.abc import Collection
from os import PathLike
from pathlib import Path
from typing import Any

from tpsolve.tables._frames import TYPED, read_frame, read_typed_file
from tpsolve.tables._options import TableOptions
from tpsolve.tables._raw_table import RawTable, checked
from tpsolve.tables._text_files import read_text


def read_raw(source: Any, options: TableOptions, left_out: Collection[str] = ()) -> RawTable:
    """The cells of a file, of standard input ("-"), or of a DataFrame.

    Args:
        left_out: names of further columns whose cells nobody needs, besides those that `options` drop.

    Raises:
        FileFormatError: it can't be read, has no rows, rows of several lengths, or two columns of one name.
        TooLargeError: more than a gigabyte of text.
        MissingLibraryError: a file that needs an extra.
        ArgumentError: something else than these.
    """
    left_out = {*options.drop, *left_out}
    if not isinstance(source, str | PathLike):
        return checked(read_frame(source, left_out))
    path = Path(source)
    return checked(read_typed_file(path, left_out) if path.suffix.lower() in TYPED else read_text(path, options))
