"""What every exporter is given: names made harmless, whole weights, and the rows on which it is compared."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from tpsolve.errors import ExportError
from tpsolve.models._grid import Grid
from tpsolve.models._layers import Layers

MAX_WEIGHT = 2**53


@dataclass(frozen=True, eq=False)
class Plan:
    """An export.

    Args:
        layers, features, classes, grid, scaling, rules, target: of the model.
        words: of each feature the column and the word that it stands for; None: it is a number of its own name.
        title: one line on it.
        facts: of its training, for formats that hold data.
        stem: of the names of the files.
        rows: `(N, n)`, on which the program is compared with the model; training rows come first.
        trained: how many of them are training rows.
        expected: `(N,)`, the numbers of their classes.
        shape: (C, H, W) of images; (): inputs are features of a table.
    """

    layers: Layers
    features: tuple[str, ...]
    classes: tuple[Any, ...]
    grid: Grid
    scaling: tuple[tuple[Fraction, Fraction], ...] | None
    words: tuple[tuple[str, str] | None, ...]
    rules: list[str]
    target: str
    title: str
    facts: dict[str, Any]
    stem: str
    rows: np.ndarray
    trained: int
    expected: np.ndarray
    shape: tuple[int, ...] = ()

    @property
    def pixels(self) -> bool:
        """Whether inputs are whole numbers from 0 to 255."""
        return bool(self.shape) and self.grid.high.max() <= 255

    @cached_property
    def two_values(self) -> list[tuple[int, int]] | None:
        """The two values of each input, (-1, 1) or (0, 1); None: some input has others, or it is an image."""
        zeros = (self.grid.parts == 1) & (self.grid.low >= 0) & (self.grid.high <= 1)
        # A column that is always 1 is as the others are.
        signs = self.grid.signs | ((self.grid.low == 1) & (self.grid.high == 1) & self.grid.signs.any())
        held = (self.rows == 1) | (self.rows == np.where(signs, -1, 0))
        if self.shape or not (signs | zeros).all() or not held.all():
            return None
        return [(-1, 1) if sign else (0, 1) for sign in signs]

    @property
    def name(self) -> str:
        """A name for functions, of letters, digits and underscores."""
        name = re.sub(r"[^A-Za-z0-9_]", "_", self.stem)
        return name if re.match(r"[A-Za-z]", name) else f"model_{name}"

    @cached_property
    def whole(self) -> list[list[tuple[list[int], int]]]:
        """Whole weights and bias of each unit of each layer, below `MAX_WEIGHT`.

        Raises:
            ExportError: larger ones are needed.
        """
        layers = self.layers.whole()
        largest = max(abs(v) for layer in layers for weight, bias in layer for v in (*weight, bias))
        if largest >= MAX_WEIGHT:
            mend = "Scale the columns of the table, or export the model as .py or .json."
            raise ExportError("model", f"weights that are whole numbers up to {largest:.3g}", "less than 2^53", mend)
        return layers

    @property
    def about(self) -> list[str]:
        """Lines for a comment: what is computed, the features in their order, and the classes."""
        lines = [ascii(self.title)[1:-1], "", "Inputs:"]
        if self.shape:
            shape, high = " x ".join(map(str, self.shape)), f"{self.grid.high.max():g}"
            lines.append(f"  the pixels of an image of {shape}, whole numbers from 0 to {high}, row by row")
        for number, name in enumerate(self.features if not self.shape else ()):
            lines.append(f"  {number}: {ascii(name)[1:-1]}{_units(self.scaling[number]) if self.scaling else ''}")
        lines += ["Classes:"] + [f"  {k}: {ascii(str(label))[1:-1]}" for k, label in enumerate(self.classes)]
        if not self.rules:
            return lines
        return [*lines, "Rules:", *(f"  {ascii(rule)[1:-1]}" for rule in self.rules)]


def _units(pair: tuple[Fraction, Fraction]) -> str:
    offset, scale = pair
    if (offset, scale) == (0, 1):
        return ""
    return f", as (value - {offset}) * {scale}" if offset else f", as value * {scale}"
