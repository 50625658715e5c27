"""Tables of labelled samples from CSV files."""

import csv
import lzma
import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from tpsolve.errors import FileFormatError, NotFiniteError, UnknownNameError


@dataclass(frozen=True)
class LabelledTable:
    """Samples and their classes.

    Args:
        inputs: `(N, n)` float64; a column of words became one column of {0, 1} for each word.
        features: n names, such as "age" or "colour=red".
        labels: N class names.
        lines: of the file on which the N samples begin, counted from 1.
    """

    inputs: Tensor
    features: tuple[str, ...]
    labels: tuple[str, ...]
    lines: tuple[int, ...]


def read_table(path: str | PathLike[str], target: str) -> LabelledTable:
    """The table of a CSV file with a header; the column `target` holds the classes.

    Raises:
        FileFormatError: it can't be read, has no rows, a row of another length, two columns of one name, or no column
            but the target.
        UnknownNameError: it has no such column; the message offers the nearest.
        NotFiniteError: a number is missing ("" or "?"), NaN or infinite; the message names line and column.
    """
    path = Path(path)
    header, rows, lines = read_rows(path)
    if target not in header:
        raise UnknownNameError("target", target, header)
    if len(header) == 1:
        raise FileFormatError(f"{path}: no columns but {target}, the target.")
    for line, row in zip(lines, rows, strict=True):
        for name, value in zip(header, row, strict=True):
            if value.strip() in ("", "?"):
                raise NotFiniteError(f"{path}:{line}", f"no value for {name}", "one", "Fill it in, or drop the row.")
    features, columns = [], []
    for name, *values in zip(header, *rows, strict=True):
        if name == target:
            continue
        numbers = _as_numbers(values)
        if numbers is None:
            for word in sorted(set(values)):
                features.append(f"{name}={word}")
                columns.append([float(value == word) for value in values])
            continue
        for line, value in zip(lines, numbers, strict=True):
            if not math.isfinite(value):
                raise NotFiniteError(f"{path}:{line}", f"{value} for {name}", "a finite number")
        features.append(name)
        columns.append(numbers)
    labels = tuple(row[header.index(target)].strip() for row in rows)
    inputs = torch.tensor(columns, dtype=torch.float64).T.contiguous()
    return LabelledTable(inputs, tuple(features), labels, tuple(lines))


def read_rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header of a CSV file, the rows below it, and of each row the line of the file where it begins.

    Empty lines are skipped, a byte order mark too. A file that ends in `.xz` is unpacked.

    Raises:
        FileFormatError: it can't be read, has no rows, a row of another length, or two columns of one name.
    """
    opened = lzma.open if path.suffix == ".xz" else open
    found: list[tuple[int, list[str]]] = []
    try:
        with opened(path, "rt", newline="", encoding="utf-8-sig") as stream:
            reader, line = csv.reader(stream), 1
            for row in reader:
                if row:
                    found.append((line, row))
                line = reader.line_num + 1
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path}: can't be read as CSV with a header ({error}).") from error
    if not found:
        raise FileFormatError(f"{path}: can't be read as CSV with a header (it is empty).")
    (_, header), *below = found
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise FileFormatError(f"{path}: two columns are named {twice[0]!r}.")
    if not below:
        raise FileFormatError(f"{path}: no rows below the header.")
    for line, row in below:
        if len(row) != len(header):
            raise FileFormatError(f"{path}:{line}: {len(row)} values, expected {len(header)} as in the header.")
    return header, [row for _, row in below], [line for line, _ in below]


def _as_numbers(values: list[str]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except ValueError:
        return None
