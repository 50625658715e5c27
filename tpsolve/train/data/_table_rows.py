"""A table as a data set: features of mean 0 and standard deviation 1, and some rows kept for testing."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict

import torch
from torch import Tensor

from tpsolve._storage._documents import Count, parse_json, read_json
from tpsolve._storage._write_whole import write_whole
from tpsolve.errors import ArgumentError, FileFormatError
from tpsolve.tables import TableOptions, TableSchema, read_table
from tpsolve.train._recipe import Recipe
from tpsolve.train.data._images import Images

FILE = "table.json"
"""In the folder of a run: how its table became the inputs of the network."""


class _Text(TypedDict):
    schema: dict[str, Any]
    mean: list[float]
    std: list[float]
    data: str
    merged: NotRequired[Count]


@dataclass(frozen=True)
class TablePreprocessing:
    """How a table became the inputs of a network, so that new rows become inputs alike.

    Args:
        schema: what the columns were taken for.
        mean, std: of each feature over the rows for training; a constant feature has the deviation 1.
        data: a hash of the table's inputs and classes.
        merged: rows whose inputs are those of another row, though the numbers of the table differ: float32 rounds.
    """

    schema: TableSchema
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data: str
    merged: int = 0

    @property
    def rounding(self) -> str:
        """What the network does not see of the numbers of the table, in a sentence; "" if nothing is to be said."""
        columns, words = self.schema.rounded, []
        if columns:
            words.append(f"float64 rounds the numbers of {', '.join(columns)}")
        if self.merged:
            words.append(f"in float32 {self.merged} rows have the inputs of another row that differs in the table")
        return f"Trained on rounded numbers: {'; '.join(words)}." if words else ""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class of each of the network's outputs."""
        return self.schema.classes

    def read(self, source: Any) -> Tensor:
        """The inputs `(N, n)` float32 of a table, a path or a DataFrame, in the order of its rows.

        Raises:
            TpsolveError: as `TableSchema.apply`.
        """
        return self.standardise(self.schema.apply(source, labels=False).inputs)

    def standardise(self, inputs: Tensor) -> Tensor:
        """`inputs (N, n)` of the schema less the mean, by the standard deviation, as float32."""
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (self.mean, self.std))
        return ((inputs - mean) / std).float()

    def save(self, folder: Path) -> None:
        """Write `FILE` into the folder of a run."""
        told = {"schema": self.schema.to_json(), "mean": self.mean, "std": self.std, "data": self.data}
        text = json.dumps(told | ({"merged": self.merged} if self.merged else {}), indent=1)
        write_whole(folder / FILE, lambda stream: stream.write(text.encode()))

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Self:
        """The preprocessing of the run in `folder`.

        Raises:
            FileFormatError: the folder holds no run on a table, or its file is damaged.
        """
        path = Path(folder) / FILE
        try:
            data = read_json(path, _Text)
            schema = TableSchema.from_json(data["schema"])
        except FileFormatError as error:
            raise FileFormatError(f"{path}: can't be read as the preprocessing of a table ({error})") from error
        mean, std = tuple(map(float, data["mean"])), tuple(map(float, data["std"]))
        if not len(mean) == len(std) == len(schema.features) or not all(deviation > 0 for deviation in std):
            raise FileFormatError(f"{path}: can't be read as the preprocessing of a table (mean, std).")
        return cls(schema, mean, std, data["data"], data.get("merged", 0))


def load_table(recipe: Recipe) -> tuple[Images, TablePreprocessing]:
    """The rows of the recipe's table, `(N, n, 1, 1)` float32; those for testing are always the same ones.

    Raises:
        ArgumentError: settings that don't fit a table, or too few rows or classes.
        TpsolveError: the table can't be read.
    """
    for name, wanted in (("model", "mlp"), ("crop", 0), ("flip", False), ("program", "")):
        if getattr(recipe, name) != wanted:
            raise ArgumentError(name, repr(getattr(recipe, name)), f"{wanted!r} for a table")
    for name in ("table", "target"):
        if not getattr(recipe, name):
            raise ArgumentError(name, "nothing", "the file and its column of classes", f"Give --{name}.")
    try:
        told = parse_json(recipe.reading, "reading") if recipe.reading else TableOptions().to_json()
    except FileFormatError as error:
        raise ArgumentError("reading", repr(recipe.reading), "the JSON of reading options") from error
    options = TableOptions.from_json(told)
    read = read_table(recipe.table, recipe.target, options)
    classes = read.schema.classes
    if len(classes) < 2:
        raise ArgumentError("target", f"the classes {list(classes)}", "at least two classes")
    count = round(recipe.test * len(read.labels))
    if not 0 < count < len(read.labels):
        raise ArgumentError("test", recipe.test, f"a share of the {len(read.labels)} rows that leaves some for both")
    place = {name: k for k, name in enumerate(classes)}
    labels = torch.tensor([place[label] for label in read.labels])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:count].sort().values, order[count:].sort().values
    std = read.inputs[train].std(0, correction=0)
    digest = hashlib.sha256(read.inputs.numpy().tobytes() + json.dumps(read.labels).encode()).hexdigest()
    mean = read.inputs[train].mean(0)
    std = torch.where(std > 0, std, 1.0)
    preprocessing = TablePreprocessing(read.schema, tuple(mean.tolist()), tuple(std.tolist()), digest)
    standard = preprocessing.standardise(read.inputs)
    exact = read.exact_rows()
    preprocessing = replace(preprocessing, merged=_merged(read.inputs, exact, standard))
    inputs = standard[:, :, None, None]
    zeros, ones = (0.0,) * inputs.shape[1], (1.0,) * inputs.shape[1]
    images = Images(
        inputs[train],
        labels[train],
        inputs[test],
        labels[test],
        len(classes),
        zeros,
        ones,
        raw=read.inputs[train],
        raw_test=read.inputs[test],
        exact=None if exact is None else [exact[row] for row in train.tolist()],
        exact_test=None if exact is None else [exact[row] for row in test.tolist()],
    )
    return images, preprocessing


def _merged(inputs: Tensor, exact: Sequence[tuple[Fraction, ...]] | None, standard: Tensor) -> int:
    """How many rows have the `standard` inputs of another row that the numbers of the table tell from them."""
    numbers = list(map(tuple, inputs.tolist())) if exact is None else exact
    different: dict[tuple[float, ...], set[Any]] = defaultdict(set)
    rows = list(map(tuple, standard.tolist()))
    for row, given in zip(rows, numbers, strict=True):
        different[row].add(given)
    return sum(len(different[row]) > 1 for row in rows)
