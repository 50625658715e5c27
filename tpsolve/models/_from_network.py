"""Models of networks that torch has trained: dense ones of hard thresholds."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import nn

from tpsolve.errors import ArgumentError, ShapeError
from tpsolve.models._grid import Grid, grid_of
from tpsolve.models._model import Model
from tpsolve.models._new_rows import read_features, read_images
from tpsolve.models._norms_into_weights import BITS, fold, rounded
from tpsolve.tables import TableSchema

_BATCH = 1000


def model_of_network(
    network: nn.Module,
    rows: Any,
    *,
    classes: Sequence[Any],
    labels: Any = None,
    test_rows: Any = None,
    test_labels: Any = None,
    mean: Any = 0.0,
    std: Any = 1.0,
    shape: Sequence[int] = (),
    features: Sequence[str] | None = None,
    target: str = "",
    schema: TableSchema | None = None,
    exact: Sequence[Sequence[Fraction]] | None = None,
    exact_test: Sequence[Sequence[Fraction]] | None = None,
    merged: int = 0,
) -> Model:
    """The model of a dense network of hard thresholds that torch has trained; it reads what came before normalisation.

    Normalisation and batch norm become part of the weights. These are then rounded to whole numbers of 32 bits, an
    error below that of the sums in float32. So the model's class differs from that of torch only where a sum lies
    nearer to a boundary, or two outputs to each other, than float32 can tell. `Model.counts` says on how many rows.

    Args:
        network: `Flatten`, `Linear`, `BatchNorm1d` and `HardThreshold` in a chain, with an output for each class; it
            reads (rows - mean) / std in float32. It is not changed.
        rows: of training, `(N, n)` or `(N, *shape)`, before normalisation.
        classes: the labels of the outputs.
        labels: `(N,)`, the numbers of the classes of the rows; with them training errors are counted.
        test_rows, test_labels: rows that were kept for testing.
        mean, std: numbers, `(n,)`, or `(C,)` for images.
        shape: `(C, H, W)` of images; their values are whole numbers from 0 on. (): rows of a table.
        features: names of the columns; None: they have none.
        target: name of the column of classes.
        schema: how rows of a table become features.
        exact, exact_test: rows of exact numbers that `rows` and `test_rows` round, of which the model's errors are
            then; None: they are exact.
        merged: rows of the table that the network could not tell from others, since float32 rounds; `Model.counts` says
            it.

    Raises:
        NotAcceptedError: the network has another module, which is named.
        ShapeError: rows, names, classes and network don't fit together.
        ValueSetError, NotFiniteError: images whose values are not whole or below 0, or rows that are not finite.
        ArgumentError: a deviation that is not positive.
    """
    shape = tuple(shape)
    first = next((module for module in network.modules() if isinstance(module, nn.Linear)), None)
    n = math.prod(shape) if shape else (0 if first is None else first.in_features)
    names = tuple(features) if features is not None else tuple(f"x{k}" for k in range(n))
    read = _reader(names, shape)
    X = read("rows", rows)
    layers = fold(network, *_normalisation(mean, std, n, shape))
    if layers.weights[0][0].shape[1] != n or X.shape[1] != n or len(names) != n or not len(X):
        read_by = layers.weights[0][0].shape[1]
        got = f"{len(X)} rows of {X.shape[1]} numbers, {len(names)} names, and a network of {read_by}"
        raise ShapeError("rows", got, f"at least one row, and {n} of each")
    if len(layers.weights[-1][1]) != len(classes) or len(classes) < 2:
        raise ShapeError("classes", f"{len(classes)} for {len(layers.weights[-1][1])} outputs", "one, and two at least")
    grid = grid_of(X)
    if shape:
        grid = Grid(np.zeros(n), np.full(n, max(1.0, X.max())), np.ones(n), np.zeros(n, dtype=bool))
    layers = rounded(layers, np.maximum(np.abs(grid.low), np.abs(grid.high)), BITS, whole=grid.whole)
    counts = {"rows": 0, "others": 0}
    errors = 0
    rounds = 0
    for name, given, true, before in (("", X, labels, exact), ("test", test_rows, test_labels, exact_test)):
        if given is None:
            continue
        values = given if not name else read("test_rows", given)
        found = layers.classes(values, before)
        if before is not None and not name:
            rounds = int((found != layers.classes(values)).sum())
        counts["rows"] += len(values)
        counts["others"] += int((found != _torch_classes(network, values, mean, std, shape)).sum())
        if true is None:
            continue
        true = np.asarray(true)
        if true.shape != (len(values),):
            raise ShapeError(f"{name}_labels".lstrip("_"), f"shape {true.shape}", f"({len(values)},)")
        if name:
            counts |= {"test": len(values), "right": int((found == true).sum())}
        else:
            errors = int((found != true).sum())
    return Model(
        layers=layers,
        features=names,
        named=features is not None,
        classes=tuple(classes),
        grid=grid,
        target=target,
        objective=float(errors),
        count=len(X),
        schema=schema,
        rows=X,
        shape=shape,
        counts=counts | ({"merged": merged} if merged else {}),
        rounded=rounds,
    )


def _reader(names: tuple[str, ...], shape: tuple[int, ...]) -> Any:
    def read(argument: str, values: Any) -> np.ndarray:
        if shape:
            return read_images(argument, shape, math.inf, values)
        return read_features(names, False, "", values, None, argument)

    return read


def _normalisation(mean: Any, std: Any, n: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each of the n features, float64; those of a channel for all its pixels."""
    found = []
    for name, value in (("mean", mean), ("std", std)):
        numbers = np.asarray(value, dtype=np.float64)
        if numbers.ndim and shape and numbers.shape != (n,):
            if numbers.shape != shape[:1]:
                raise ShapeError(name, f"shape {numbers.shape}", f"() or ({shape[0]},), one for each channel")
            numbers = np.repeat(numbers, n // shape[0])
        if numbers.shape not in ((), (n,)):
            raise ShapeError(name, f"shape {numbers.shape}", f"() or ({n},)")
        if not np.isfinite(numbers).all() or (name == "std" and not (numbers > 0).all()):
            raise ArgumentError(name, "numbers that are not finite or not positive", "finite and positive ones")
        found.append(np.broadcast_to(numbers, (n,)))
    return found[0], found[1]


@torch.no_grad()
def _torch_classes(network: nn.Module, X: np.ndarray, mean: Any, std: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The number of the largest output at each row `(N,)`, as the network computes it in evaluation mode."""
    mean, std = _normalisation(mean, std, X.shape[1], shape)
    parameter = next(network.parameters())
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        found = []
        for start in range(0, len(X), _BATCH):
            inputs = torch.from_numpy((X[start : start + _BATCH] - mean) / std).to(parameter)
            found.append(network(inputs.reshape(-1, *shape) if shape else inputs).argmax(1).cpu())
    finally:
        for module, mode in modes:
            module.training = mode
    return torch.cat(found).numpy()
