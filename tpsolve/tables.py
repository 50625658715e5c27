"""Tables of labelled samples from CSV files."""

import csv
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
    """

    inputs: Tensor
    features: tuple[str, ...]
    labels: tuple[str, ...]


def read_table(path: str | PathLike[str], target: str) -> LabelledTable:
    """The table of a CSV file with a header; the column `target` holds the classes.

    Raises:
        FileFormatError: it can't be read, has no rows, or a row of another length.
        UnknownNameError: it has no such column; the message offers the nearest.
        NotFiniteError: a number is missing ("" or "?"), NaN or infinite; the message names line and column.
    """
    path = Path(path)
    try:
        with path.open(newline="") as stream:
            header, *rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise FileFormatError(f"{path}: can't be read as CSV with a header ({error}).") from error
    if target not in header:
        raise UnknownNameError("target", target, header)
    if not rows:
        raise FileFormatError(f"{path}: no rows below the header.")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise FileFormatError(f"{path}:{number}: {len(row)} values, expected {len(header)} as in the header.")
        for name, value in zip(header, row, strict=True):
            if value.strip() in ("", "?"):
                raise NotFiniteError(f"{path}:{number}", f"no value for {name}", "one", "Fill it in, or drop the row.")
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
        for number, value in enumerate(numbers, start=2):
            if not math.isfinite(value):
                raise NotFiniteError(f"{path}:{number}", f"{value} for {name}", "a finite number")
        features.append(name)
        columns.append(numbers)
    labels = tuple(row[header.index(target)].strip() for row in rows)
    return LabelledTable(torch.tensor(columns, dtype=torch.float64).T.contiguous(), tuple(features), labels)


def _as_numbers(values: list[str]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except ValueError:
        return None
