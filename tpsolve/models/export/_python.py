"""A model as a Python function that imports the standard library only."""

from pathlib import Path

import numpy as np

from tpsolve.models.export._plan import Plan

SUFFIXES = (".py",)


def write(plan: Plan) -> dict[str, bytes]:
    """The files by their suffixes."""
    lines = "\n".join(line.replace("\\", "\\\\").replace('"""', "'''") for line in plan.about)
    layers = ",\n    ".join(repr(layer) for layer in plan.layers.whole())
    text = f'''"""{lines}
"""

from fractions import Fraction

FEATURES = {ascii(list(plan.features))}
CLASSES = {ascii(list(plan.classes))}
# Of each layer the units, of each unit its weights and its bias.
LAYERS = [
    {layers},
]


def predict(row):
    """The class of one row, a dict from the names in FEATURES to numbers; exact, whatever the numbers."""
    unknown = [name for name in row if name not in FEATURES]
    missing = [name for name in FEATURES if name not in row]
    if unknown or missing:
        raise KeyError(f"unknown: {{unknown}}, missing: {{missing}}")
    values = [Fraction(row[name]) for name in FEATURES]
    for layer in LAYERS:
        sums = [sum(w * v for w, v in zip(weight, values)) + bias for weight, bias in layer]
        values = [1 if s >= 0 else -1 for s in sums]
    return CLASSES[int(sums[0] >= 0) if len(sums) == 1 else sums.index(max(sums))]
'''
    return {".py": text.encode()}


def run(plan: Plan, folder: Path) -> tuple[np.ndarray, str]:
    """The classes that the program gives to the rows, and what ran it."""
    space: dict[str, object] = {}
    exec(compile((folder / f"{plan.stem}.py").read_bytes(), f"{plan.stem}.py", "exec"), space)
    predict, classes = space["predict"], list(plan.classes)
    assert callable(predict)
    names = plan.features
    found = [predict(dict(zip(names, row, strict=True))) for row in plan.rows.tolist()]
    return np.array([classes.index(label) for label in found]), "Python"
