"""A model as JSON: names, and weights as exact fractions."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tpsolve.models.export._plan import Plan

MAX_WORK, MAX_NUMBERS = 10_000_000, 10_000_000
"""Weights times rows of a comparison, and numbers in all rows: what takes a second or two."""
SUFFIXES = (".json",)
FORMAT = "tpsolve-network"
_MEANING = (
    "A unit outputs 1 if weights . inputs + bias >= 0, else -1; the first layer reads the features, each other one the "
    "layer below. One output unit: class 1 if it outputs 1, else class 0. Several: the class of the largest sum, the "
    "first of equal ones."
)


def write(plan: Plan) -> dict[str, bytes]:
    """The files by their suffixes."""
    scaling = plan.scaling or [(Fraction(0), Fraction(1))] * len(plan.features)
    data = {
        "format": FORMAT,
        "version": 1,
        "meaning": _MEANING,
        "features": [
            {"name": name, "offset": str(offset), "scale": str(scale)}
            for name, (offset, scale) in zip(plan.features, scaling, strict=True)
        ],
        "inputs": "(value - offset) * scale of each feature",
        "target": plan.target,
        "classes": list(plan.classes),
        "layers": [
            [{"weights": [str(Fraction(w)) for w in unit[:-1]], "bias": str(Fraction(unit[-1]))} for unit in layer]
            for layer in plan.layers.exact()
        ],
        "rules": plan.rules,
        **plan.facts,
    }
    return {".json": (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()}


def run(plan: Plan, folder: Path) -> tuple[np.ndarray, str]:
    """The classes that the file gives to the rows, in fractions, and what read it."""
    data = json.loads((folder / f"{plan.stem}.json").read_text(encoding="utf-8"))
    layers = [
        [([_number(w) for w in unit["weights"]], _number(unit["bias"])) for unit in layer] for layer in data["layers"]
    ]
    return np.array([_named(layers, row) for row in plan.rows.tolist()]), "fractions"


def _number(text: str) -> int | Fraction:
    return Fraction(text) if "/" in text else int(text)


def _named(layers: Any, row: list[float]) -> int:
    values, sums = [int(v) if v == int(v) else Fraction(v) for v in row], []
    for layer in layers:
        sums = [sum((w * v for w, v in zip(weight, values, strict=True)), bias) for weight, bias in layer]
        values = [1 if s >= 0 else -1 for s in sums]
    return int(sums[0] >= 0) if len(sums) == 1 else sums.index(max(sums))
