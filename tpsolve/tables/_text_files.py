"""Text files with delimiters: unpacked, decoded, cut into rows of one length."""

import csv
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tpsolve._storage._limits import PACKED, check_bytes, in_words, max_bytes, opened, read_bytes, read_stream
from tpsolve.errors import FileFormatError, TooLargeError
from tpsolve.tables._options import DELIMITERS, TableOptions
from tpsolve.tables._raw_table import RawTable, check_names

MAX_BYTES = 2**30
"""Of the text of a table: its cells as Python's texts take about `_IN_MEMORY` times that."""

_IN_MEMORY = 10
_CELL_BYTES, _ROW_BYTES = 80, 280
"""Of a short text in two lists; of a row with its first cell."""

SNIFFED_ROWS = 100


def read_text(path: Path, options: TableOptions) -> RawTable:
    """The cells of a text file, or of standard input ("-").

    Raises:
        FileFormatError: it can't be read, has no rows, or rows of several lengths.
        TooLargeError: more than `MAX_BYTES`.
    """
    (_, header), *below = _rows(str(path), _text(path), options)
    if not below:
        raise FileFormatError(f"{path}: no rows below the header.")
    if options.delimiter is None and len(header) == 1 and len(header[0].split()) == len(below[0][1][0].split()) > 1:
        raise FileFormatError(f"{path}: cells with spaces between them, expected one of , ; | or tabs.")
    header, below = _same_length(str(path), header, below)
    columns = [[row[k].strip() for _, row in below] for k in range(len(header))]
    return RawTable(str(path), header, [list(column) for column in columns], [line for line, _ in below])


def read_rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header of a CSV file with commas, the rows below it as they are, and the line where each begins.

    Raises:
        FileFormatError: as `read_text`, or two columns of one name.
    """
    text = _text(path)
    (_, header), *below = _parse(str(path), text, ",", strict=False) or [(1, [])]
    if not header:
        raise FileFormatError(f"{path}: can't be read as a table with a header (it is empty).")
    if not below:
        raise FileFormatError(f"{path}: no rows below the header.")
    for line, row in below:
        if len(row) != len(header):
            raise FileFormatError(f"{path}:{line}: {len(row)} values, expected {len(header)} as in the header.")
    check_names(str(path), header)
    return header, [row for _, row in below], [line for line, _ in below]


def _text(path: Path) -> str:
    name, most = str(path), min(MAX_BYTES, max_bytes())
    try:
        if name != "-" and path.suffix.lower() not in PACKED:
            with opened(path) as stream:
                # Told before a gigabyte of it is read; pipes have no size.
                size = os.fstat(stream.fileno()).st_size
            if size > most:
                raise TooLargeError("file", f"{in_words(size)} of text", f"at most {in_words(most)}")
        else:
            size = 0
        data = read_stream(sys.stdin.buffer, path, MAX_BYTES) if name == "-" else read_bytes(path, MAX_BYTES)
    except TooLargeError as error:
        mend = "Keep the columns and a sample of the rows that you need."
        text = f"{in_words(size)} of text" if size else f"more than {in_words(most)} of text"
        memory = f"which takes about {in_words(_IN_MEMORY * max(size, most))} of memory"
        raise TooLargeError("table", f"{path}, {text}, {memory}", f"at most {in_words(most)}", mend) from error
    if data[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        raise FileFormatError(f"{path}: can't be read as UTF-32. Save it as UTF-8.")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in data:
        raise FileFormatError(
            f"{path}: can't be read as text (zero bytes). Is it another kind of file? Save it as UTF-8."
        )
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        mend = "Save it as UTF-8, for example with: iconv -f latin1 -t utf-8."
        raise FileFormatError(f"{path}:{line}: can't be read as UTF-8 ({error.reason}). {mend}") from error
    _check_cells(path, text)
    return text


def _check_cells(path: Path, text: str) -> None:
    """Raise TooLargeError if the cells take more than a file may: from little text many may come."""
    cells = max(map(text.count, DELIMITERS))
    check_bytes(path, len(text) + _CELL_BYTES * cells + _ROW_BYTES * (text.count("\n") + text.count("\r")))


def _rows(name: str, text: str, options: TableOptions) -> list[tuple[int, list[str]]]:
    first, _, rest = text.partition("\n")
    delimiter, skipped = options.delimiter, 0
    if first.strip().lower().startswith("sep=") and len(first.strip()) <= 5:
        # How Excel is told the delimiter.
        delimiter, text, skipped = delimiter or first.strip("\r\n")[4:] or ",", rest, 1
    rows = _parse(name, text, delimiter or _sniff(text), strict=True)
    if not rows:
        raise FileFormatError(f"{name}: can't be read as a table with a header (it is empty).")
    return [(line + skipped, row) for line, row in rows]


def _parse(name: str, text: str, delimiter: str, strict: bool) -> list[tuple[int, list[str]]]:
    found: list[tuple[int, list[str]]] = []
    try:
        found.extend(_parsed(text, delimiter, strict))
    except csv.Error as error:
        line = found[-1][0] + 1 if found else 1
        mend = "Is a quotation mark left open, or not doubled?"
        raise FileFormatError(f"{name}:{line}: can't be read as CSV with a header ({error}). {mend}") from error
    return found


def _parsed(text: str, delimiter: str, strict: bool) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, with the line where it begins; `strict`: no rows of empty cells end the table."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict, skipinitialspace=strict)
    line, held = 1, []
    for row in reader:
        if row:
            held.append((line, row))
            if not strict or any(cell.strip() for cell in row):
                yield from held
                held = []
        line = reader.line_num + 1


def _sniff(text: str) -> str:
    """The delimiter that cuts the first rows into the most pieces, as many in each row as in the header, or one more.

    Of equal ones a comma is the last choice, since it may be the sign of decimals: `1,5;yes`. Where none does, the one
    that the header has most of: the rows' lengths are told as errors then.
    """
    best, most = "", 1
    for delimiter in DELIMITERS:
        lengths: list[int] = []
        try:
            for _, row in _parsed(text, delimiter, True):
                lengths.append(len(row))
                if len(lengths) > SNIFFED_ROWS:
                    break
        except csv.Error:
            continue
        if (
            lengths
            and lengths[0] > 1
            and (lengths[0] > most or (lengths[0] == most and best == ","))
            and len(set(lengths[1:])) <= 1
            and set(lengths[1:]) <= {lengths[0], lengths[0] + 1}
        ):
            best, most = delimiter, lengths[0]
    if best:
        return best
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(DELIMITERS, key=header.count)


def _same_length(
    name: str, header: list[str], below: list[tuple[int, list[str]]]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and rows of one length; row names without a header and delimiters at the end of lines are put right."""
    header = [cell.strip() for cell in header]
    if len(header) == 1 < max(len(row) for _, row in below) and header[0].startswith(("#", "//")):
        raise FileFormatError(f"{name}: a comment, expected a header. Remove the lines above the names of the columns.")
    if all(len(row) == len(header) + 1 for _, row in below):
        if not any(row[-1].strip() for _, row in below):
            below = [(line, row[:-1]) for line, row in below]
        elif all(re.search(r"[^\W\d_]", row[0]) for _, row in below):
            # R writes the names of rows so.
            header = ["", *header]
        else:
            mend = "Name the first column, or put quotation marks around cells that hold the delimiter."
            raise FileFormatError(f"{name}: one value more in each row than in the header. {mend}")
    if not header[-1] and all(len(row) == len(header) and not row[-1].strip() for _, row in below):
        header, below = header[:-1], [(line, row[:-1]) for line, row in below]
    for line, row in below:
        if len(row) != len(header):
            raise FileFormatError(f"{name}:{line}: {len(row)} values, expected {len(header)} as in the header.")
    return header, below
