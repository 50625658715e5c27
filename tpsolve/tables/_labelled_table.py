"""Samples of a table as numbers, with their classes and their places."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from tpsolve.tables._schema import TableSchema


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """Samples and their classes.

    Args:
        inputs: `(N, n)` float64, in the units of the schema's columns.
        features: n names, such as "age" or "colour=red".
        labels: N class names; none where the table has no target column, or nobody asked for it.
        lines: where the N samples begin: lines of a text file or a sheet, rows of a DataFrame or of Parquet, from 1.
        dropped: the places of the rows that were left out, since a value is missing.
        schema: what the columns were taken for.
    """

    inputs: Tensor
    features: tuple[str, ...]
    labels: tuple[str, ...]
    lines: tuple[int, ...]
    dropped: tuple[int, ...]
    schema: "TableSchema"
