"""A model as a Python function that imports the standard library only."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tpsolve.models.export._plan import Plan

MAX_WORK, MAX_NUMBERS = 10_000_000, 10_000_000
"""Weights times rows of a comparison, and numbers in all rows: what takes a second or two."""
SUFFIXES = (".py",)


def write(plan: Plan) -> dict[str, bytes]:
    """The files by their suffixes."""
    lines = "\n".join(line.replace("\\", "\\\\").replace('"""', "'''") for line in plan.about)
    layers = ",\n    ".join(repr(layer) for layer in plan.layers.whole())
    reads = "\n".join(f"    {read!a}," for read in _reads(plan))
    text = f'''"""{lines}
"""

from fractions import Fraction

# How a row becomes the numbers that the network reads: ("number", name, offset, scale) stands for
# (row[name] - offset) * scale, and ("word", name, word) for 1 where row[name] is this word, else 0.
READS = [
{reads}
]
CLASSES = {list(plan.classes)!a}
# Of each layer the units, of each unit its weights and its bias.
LAYERS = [
    {layers},
]


def predict(row):
    """The class of a row, a dict from names of columns to numbers and words.

    The answer is exact. A float counts as the shortest decimal that names it, as in a table.
    """
    names = list(dict.fromkeys(read[1] for read in READS))
    unknown = [name for name in row if name not in names]
    missing = [name for name in names if name not in row]
    if unknown or missing:
        raise KeyError(f"unknown: {{unknown}}, missing: {{missing}}")
    for name in names:
        words = [read[2] for read in READS if read[:2] == ("word", name)]
        if words and row[name] not in words:
            raise ValueError(f"{{name}}: got {{row[name]!r}}, expected one of {{words}}")
    return CLASSES[
        decide(
            int(row[read[1]] == read[2])
            if read[0] == "word"
            else (Fraction(str(row[read[1]])) - Fraction(read[2])) * Fraction(read[3])
            for read in READS
        )
    ]


def decide(values):
    """The number of the class of the numbers that READS makes."""
    for layer in LAYERS:
        values = list(values)
        sums = [sum(w * v for w, v in zip(weight, values)) + bias for weight, bias in layer]
        values = [1 if s >= 0 else -1 for s in sums]
    return int(sums[0] >= 0) if len(sums) == 1 else sums.index(max(sums))
'''
    return {".py": text.encode()}


def run(plan: Plan, folder: Path) -> tuple[np.ndarray, str]:
    """The classes that the program gives to the rows, and what ran it; training rows by their columns."""
    space: dict[str, Any] = {}
    exec(compile((folder / f"{plan.stem}.py").read_bytes(), f"{plan.stem}.py", "exec"), space)
    found = [space["decide"](int(v) if v == int(v) else Fraction(v) for v in row) for row in plan.rows.tolist()]
    for k, row in enumerate(plan.rows[: plan.trained].tolist()):
        label = space["predict"](_as_columns(plan, row))
        found[k] = list(plan.classes).index(label)
    return np.array(found), "Python"


def _reads(plan: Plan) -> list[tuple[str, ...]]:
    scaling = plan.scaling or ((Fraction(0), Fraction(1)),) * len(plan.features)
    return [
        ("number", name, str(offset), str(scale)) if word is None else ("word", *word)
        for name, word, (offset, scale) in zip(plan.features, plan.words, scaling, strict=True)
    ]


def _as_columns(plan: Plan, values: list[float]) -> dict[str, object]:
    row: dict[str, object] = {}
    for read, value in zip(_reads(plan), values, strict=True):
        if read[0] == "number":
            row[read[1]] = Fraction(value) / Fraction(read[3]) + Fraction(read[2])
        elif value:
            row[read[1]] = read[2]
    return row
