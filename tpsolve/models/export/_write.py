"""Exports: written to a folder of their own, compared with the model there, and only then put in their place."""

import tempfile
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tpsolve._check_arguments import check_count
from tpsolve._storage._write_whole import write_whole
from tpsolve.errors import ArgumentError, ExportError
from tpsolve.models._grid import check_rows
from tpsolve.models._norms_into_weights import rounded
from tpsolve.models.export import _c, _json, _onnx, _onnx_float32, _python, _qonnx, _verilog
from tpsolve.models.export._plan import Plan
from tpsolve.tables import TableSchema

LANGUAGES: dict[str, ModuleType] = {".c": _c, ".json": _json, ".onnx": _onnx, ".py": _python, ".v": _verilog}
EXACT_LANGUAGES = (".py", ".json")
"""Those that read numbers of any digits."""
MAX_ROWS = 1000
"""Of the training rows, at most so many are compared; of random ones, and of pairs at each boundary, as many."""
MAX_PAIRS = 20_000
"""Rows of all pairs together; a tenth of it where inputs are not whole."""
MIN_ROWS = 20
"""Of each kind, however large the network is."""


def export(
    model: Any, path: str | PathLike[str], rows: np.ndarray | None, bits: int | None, qonnx: bool, float32: bool
) -> tuple[tuple[Path, ...], int, str, tuple[int, int]]:
    """Write `model` as the suffix of `path` says; see `Model.export`.

    Returns:
        The files, on how many rows they were compared, what ran them, and on how many of how many rows the network of
        weights of `bits` bits gives another class than the model: (others, rows).
    """
    path = Path(path)
    if path.suffix not in LANGUAGES:
        raise ArgumentError("path", path, f"a name that ends in {', '.join(LANGUAGES)}", "It says the language.")
    if not path.stem.isprintable() or '"' in path.stem:
        raise ArgumentError("path", repr(path.name), "a name without quotes and signs that can't be printed")
    for name, wanted in (("qonnx", qonnx), ("float32", float32)):
        if wanted and path.suffix != ".onnx":
            raise ArgumentError(name, f"a file {path.suffix}", "one that ends in .onnx")
    if qonnx and float32:
        raise ArgumentError("float32", "qonnx as well", "one of them", "A graph of QONNX is in float32 anyway.")
    language: Any = _qonnx if qonnx else _onnx_float32 if float32 else LANGUAGES[path.suffix]
    if bits is not None:
        check_count("bits", bits, 2)
        if bits > 32:
            raise ArgumentError("bits", bits, "at most 32")
        reach = np.maximum(np.abs(model.grid.low), np.abs(model.grid.high))
        narrow = rounded(model.layers, reach, bits, whole=model.grid.whole)
        model, exact = replace(model, layers=narrow, proof=None), model.layers
    numbers = sum(weight.size for weight, _ in model.layers.weights)
    most = max(MIN_ROWS, min(language.MAX_WORK // numbers, language.MAX_NUMBERS // len(model.features)) // 3)
    # Where numbers are not whole, sums are those of fractions, which take their time.
    most = min(most, MAX_PAIRS) if model.grid.whole else min(most // 4, MAX_PAIRS // 10)
    most = max(most, MIN_ROWS)
    # Ports of a module have no bits for values beyond those of training.
    beyond = not model.shape and path.suffix != ".v"
    drawn = check_rows(model.layers, model.grid, min(MAX_ROWS, most), most, beyond=beyond)
    trained = 0
    if rows is not None:
        distinct = np.unique(rows, axis=0)
        step = -(-len(distinct) // min(MAX_ROWS, most))
        trained = len(distinct[::step])
        drawn = np.concatenate([distinct[::step], drawn])
    plan = Plan(
        layers=model.layers,
        features=model.features,
        classes=model.classes,
        grid=model.grid,
        scaling=model.scaling,
        words=_words(model.schema) if model.schema is not None else (None,) * len(model.features),
        rules=model.rules if model.is_readable else [],
        target=model.target,
        title=repr(model),
        facts={
            "training": {"rows": model.count, "errors": model.objective, "bound": model.bound},
            "reading": None if model.schema is None else model.schema.to_json(),
        },
        stem=path.stem,
        rows=drawn,
        trained=trained,
        expected=model.layers.classes(drawn),
        shape=model.shape,
    )
    others = (0, 0)
    if bits is not None:
        typical = drawn[: trained or most]
        others = int((exact.classes(typical) != plan.expected[: len(typical)]).sum()), len(typical)
    written = language.write(plan)
    with tempfile.TemporaryDirectory() as folder:
        for suffix, content in written.items():
            (Path(folder) / f"{path.stem}{suffix}").write_bytes(content)
        ran = language.run(plan, Path(folder))
    files = tuple(path.with_name(f"{path.stem}{suffix}") for suffix in written)
    rounds = language in (_onnx, _onnx_float32)
    told = language.compared(plan) if rounds else np.ones(len(drawn), dtype=bool)
    if ran is not None:
        _compare(plan, told, *ran)
    for file, content in zip(files, written.values(), strict=True):
        write_whole(file, lambda stream, content=content: stream.write(content))
    by = "" if ran is None else ran[1]
    if by and not told.all():
        by += f"; {int((~told).sum()):,} rows beside boundaries, which {language.UNSURE} can't decide, were left out"
    return files, int(told.sum()), by, others


def _words(schema: TableSchema) -> tuple[tuple[str, str] | None, ...]:
    found: list[tuple[str, str] | None] = []
    for column in schema.columns:
        plain = column.kind == "words" and not column.indicator and not column.fill
        found += [(column.name, word) for word in column.words] if plain else [None] * len(column.features)
    return tuple(found)


def _compare(plan: Plan, told: np.ndarray, found: np.ndarray, by: str) -> None:
    """Raise ExportError for the first row of another class among the rows `told (N,)`."""
    if len(found) != len(plan.rows):
        raise ExportError("model", f"{len(found)} classes from {by}", f"{len(plan.rows)}", "Please report this.")
    wrong = np.flatnonzero(told & (found != plan.expected))
    if len(wrong) == 0:
        return
    row = plan.rows[wrong[0]]
    classes = plan.classes
    shown = ", ".join(f"{name} = {value!r}" for name, value in zip(plan.features, row.tolist(), strict=True))
    weight, bias = plan.layers.weights[0]
    near = float(np.abs(weight @ row + bias).min())
    raise ExportError(
        "model",
        f"class {classes[found[wrong[0]]]!r} from {by} at {shown}, one of {len(wrong)} such rows of {len(found)}",
        f"{classes[plan.expected[wrong[0]]]!r}, the model's",
        f"The nearest boundary is {near:.3g} away there, in the units of its sum.",
    )
