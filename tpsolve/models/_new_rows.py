"""New rows for a model: its own columns by their names, whatever their order; anything else is refused by name."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tpsolve._plain import float64_array, refuse_sparse
from tpsolve.errors import ArgumentError, NotFiniteError, ShapeError, UnknownNameError, ValueSetError


def read_images(argument: str, shape: Sequence[int], largest: float, X: Any) -> np.ndarray:
    """Images `X (N, C, H, W)`, `(N, H, W)` of one channel, or `(N, C * H * W)` as `(N, C * H * W)` float64.

    Values are those before any normalisation: whole numbers from 0 to `largest`.

    Raises:
        ShapeError: another shape.
        ArgumentError: no numbers.
        NotFiniteError: NaN or infinity.
        ValueSetError: a value that is not whole, below 0 or above `largest`.
    """
    refuse_sparse(argument, X)
    if isinstance(X, Mapping):
        raise ArgumentError(argument, "a dict", f"an array of images of shape {tuple(shape)}")
    images, n = float64_array(argument, X), math.prod(shape)
    shapes = [(*shape,), (n,)] + ([(*shape[1:],)] if shape[0] == 1 else [])
    if images.ndim < 2 or images.shape[1:] not in shapes:
        expected = " or ".join(f"(N, {', '.join(map(str, one))})" for one in shapes)
        mend = "Put one image into an array of one: image[None]." if images.shape in shapes else ""
        raise ShapeError(argument, f"shape {images.shape}", expected, mend)
    images = images.reshape(len(images), n)
    if not np.isfinite(images).all():
        row = int(np.argwhere(~np.isfinite(images))[0][0])
        raise NotFiniteError(argument, f"NaN or infinity in image {row}", "finite pixels")
    wrong = (images != np.round(images)) | (images < 0) | (images > largest)
    if wrong.any():
        row, place = (int(k) for k in np.argwhere(wrong)[0])
        top = "" if largest == math.inf else f" to {largest:g}"
        mend = "Give pixels as they were before any normalisation: the model normalises them itself."
        raise ValueSetError(argument, f"{images[row, place]:g} in image {row}", f"whole numbers from 0{top}", mend)
    return images


def read_features(
    features: Sequence[str],
    named: bool,
    target: str,
    X: Any,
    columns: Sequence[str] | None,
    argument: str = "X",
) -> np.ndarray:
    """`X` as `(N, n)` float64 in the order of `features`.

    Args:
        named: whether the model was trained on columns with names; then X must have them too.
        target: the column of classes, which X may have besides.
        columns: the names of the columns of X, where it has none itself.

    Raises:
        UnknownNameError: a column is missing, or the model does not know it.
        ArgumentError: columns without names, for a model that knows them by name; or no numbers.
        ShapeError: another number of columns.
        NotFiniteError: NaN or infinity.
    """
    refuse_sparse(argument, X)
    if type(X).__name__ == "LazyFrame":
        raise ArgumentError(argument, "a LazyFrame", "a DataFrame", "Write .collect().")
    own = list(X) if isinstance(X, Mapping) else getattr(X, "columns", None)
    if own is not None:
        places = _places(features, target, list(map(str, own)))
        values = [np.atleast_1d(float64_array(features[k], X[list(own)[place]])) for k, place in enumerate(places)]
        if len({len(column) for column in values}) > 1:
            raise ShapeError("X", "columns of different lengths", "one value of each column for each row")
        table = np.stack(values, axis=1)
    else:
        table = float64_array(argument, X)
        if table.ndim != 2:
            raise ShapeError(argument, f"shape {table.shape}", "(N, n): one row a sample, one column a feature")
        if columns is None and named:
            mend = "Give a DataFrame, a dict of columns, or columns=[...], the names of the columns of X."
            raise ArgumentError("X", "columns without names", f"the columns {', '.join(features)} by name", mend)
        expected = len(features) if columns is None else len(columns)
        if table.shape[1] != expected:
            raise ShapeError(argument, f"{table.shape[1]} columns", f"{expected}")
        if columns is not None:
            table = table[:, _places(features, target, list(map(str, columns)))]
    if not np.isfinite(table).all():
        row, column = (int(k) for k in np.argwhere(~np.isfinite(table))[0])
        mend = "Fill it in, or drop the row."
        raise NotFiniteError(
            argument, f"{table[row, column]} for {features[column]} in row {row}", "finite numbers", mend
        )
    return table


def _places(features: Sequence[str], target: str, columns: Sequence[str]) -> list[int]:
    """Where each of the features stands among the columns."""
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ArgumentError("X", f"two columns named {twice[0]!r}", "one")
    for name in features:
        if name not in columns:
            raise UnknownNameError("X", f"no column {name}", columns)
    for name in columns:
        if name not in features and name != target:
            raise UnknownNameError("X", name, features)
    return [columns.index(name) for name in features]
