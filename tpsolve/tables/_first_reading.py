"""The reading of the first proofs: float64 rounds the numbers, and a column with one word in it is one of words."""

import math
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from tpsolve.errors import FileFormatError, NotFiniteError, UnknownNameError
from tpsolve.tables._text_files import read_rows


def read_first(path: str | PathLike[str], target: str) -> tuple[Tensor, tuple[str, ...]]:
    """Inputs `(N, n)` float64 and N classes of a CSV file, as proofs without reading options have them.

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
    columns = []
    for name, *values in zip(header, *rows, strict=True):
        if name == target:
            continue
        numbers = _as_numbers(values)
        if numbers is None:
            for word in sorted(set(values)):
                columns.append([float(value == word) for value in values])
            continue
        for line, value in zip(lines, numbers, strict=True):
            if not math.isfinite(value):
                raise NotFiniteError(f"{path}:{line}", f"{value} for {name}", "a finite number")
        columns.append(numbers)
    labels = tuple(row[header.index(target)].strip() for row in rows)
    inputs = torch.tensor(columns, dtype=torch.float64).T.contiguous()
    return inputs, labels


def _as_numbers(values: list[str]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except ValueError:
        return None
