"""What `tpsolve predict` and `tpsolve export` are given: models, networks of runs, and rows in arrays."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tpsolve._storage._archive import read_any_arrays
from tpsolve.errors import ArgumentError, UnknownNameError
from tpsolve.models import load_model
from tpsolve.tables import TableSchema

ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Predictor:
    """Whatever names classes.

    Args:
        classes: the labels.
        target: the name of the column of classes; "": it has none.
        schema: how rows of a table are read; None: it reads arrays.
        index: the numbers of the classes `(N,)` of what `read` gives, and of the rows that it rounds, if it does.
        read: an array as the numbers that `index` takes.
    """

    classes: Sequence[Any]
    target: str
    schema: TableSchema | None
    index: Callable[[np.ndarray, Sequence[Sequence[Fraction]] | None], np.ndarray]
    read: Callable[[np.ndarray], np.ndarray]


def load_predictor(path: Path) -> Predictor:
    """The model at `path`, or the network of a run, from its checkpoint or folder.

    Raises:
        FileFormatError: it holds neither.
    """
    if path.suffix == ".pt" or (os.path.isdir(path) and not (path / "model.npz").exists()):
        return _network(path)
    model = load_model(path)
    return Predictor(model.classes, model.target, model.schema, model.layers.classes, model.read)


def _network(path: Path) -> Predictor:
    """The network of a checkpoint, which computes in float32."""
    import torch

    from tpsolve._plain import plain_array
    from tpsolve.errors import NotFiniteError
    from tpsolve.train import TablePreprocessing, load_network

    network = load_network(path)
    folder = path if os.path.isdir(path) else path.parent
    table = TablePreprocessing.load(folder) if network.table else None

    @torch.no_grad()
    def index(X: np.ndarray, _: object = None) -> np.ndarray:
        parts = torch.from_numpy(X).split(1000)
        return torch.cat([network(part).argmax(1) for part in parts]).numpy()

    def read(X: np.ndarray) -> np.ndarray:
        X = plain_array("FILE", X)
        if not np.isfinite(X).all():
            raise NotFiniteError("FILE", "NaN or infinity", "finite numbers")
        return X

    schema = None if table is None else table.schema
    return Predictor(network.classes, (schema and schema.target) or "", schema, index, read)


def read_arrays(path: Path, target: str | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """The rows in a .npy or .npz file, and of the latter the array `target` of their classes.

    Raises:
        FileFormatError: no such file, or another kind of file.
        TooLargeError: it takes more than the limit of a file.
        UnknownNameError: there is no array `target`.
        ArgumentError: several arrays besides.
    """
    if path.suffix not in ARRAYS:
        expected = "an array, .npy or .npz, as the model reads images or numbers without names"
        raise ArgumentError("FILE", path, expected)
    arrays = read_any_arrays(path)
    labels = None
    if target is not None:
        if target not in arrays or target == "":
            raise UnknownNameError("--target", target, [name for name in arrays if name] or ["an array of an .npz"])
        labels = arrays.pop(target)
    if len(arrays) != 1:
        names = ", ".join(sorted(arrays))
        mend = "Save it alone; --target names the array of the classes."
        raise ArgumentError("FILE", f"{path} with {len(arrays)} arrays ({names})", "one, of the rows", mend)
    (rows,) = arrays.values()
    if labels is not None and (labels.ndim != 1 or rows.ndim < 2 or len(labels) != len(rows)):
        raise ArgumentError("--target", f"classes of shape {labels.shape} for rows of {rows.shape}", "one for each row")
    return rows, labels
