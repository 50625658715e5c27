"""Named tables for small networks: points, labels, and nothing that ever changes under one name."""

import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tpsolve.errors import ArgumentError, FileFormatError, FolderError, UnknownNameError
from tpsolve.tables._text_files import read_rows

VERSION = 1
"""Raised if a name ever stands for other numbers than before."""

MAX_NUMBERS = 10_000_000
"""The maximum size of a table that is made, 80 MB: a slip such as parity-40 would fill the memory."""

Table = tuple[np.ndarray, np.ndarray]
"""Inputs `(N, p)` float64 and labels `(N,)`."""


def random(p: int, n: int, seed: int = 0) -> Table:
    """Uniform points on a grid of 0.01 in [-1, 1]^p with labels by coin flips: the worst case."""
    _check_size(p, n)
    rng = np.random.default_rng(seed)
    inputs = np.round(rng.uniform(-1, 1, (n, p)), 2)
    return inputs, rng.choice([-1, 1], n)


def parity(k: int) -> Table:
    """All vectors of {-1, +1}^k, labelled by their product."""
    _check_size(k, 2 ** min(k, 64))
    inputs = np.array(list(itertools.product([-1.0, 1.0], repeat=k)))
    return inputs, inputs.prod(1).astype(int)


def xor_blobs(n: int, seed: int = 0) -> Table:
    """N points in four normal blobs at the corners of a square, opposite ones of one label."""
    _check_size(2, n)
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 2, (n, 2)) * 2 - 1
    return np.round(corner + rng.normal(0, 0.4, (n, 2)), 2), corner.prod(1)


def checkerboard(k: int) -> Table:
    """The points of a k x k grid, labelled as the fields of a chess board: XOR for k = 2."""
    _check_size(2, k**2)
    inputs = np.array(list(itertools.product(range(k), repeat=2)), dtype=float)
    return inputs, inputs.sum(1).astype(int) % 2


def monks(k: int) -> Table:
    """All 432 robots of the MONK's problem 1, 2 or 3, without noise: six attributes one-hot.

    1: head and body of one shape, or a red jacket. 2: exactly two attributes have their first value.
    3: a green jacket and a sword, or a jacket that isn't blue on a body that isn't an octagon.
    Source: Thrun and others, "The MONK's problems", 1991.
    """
    if k > 3:
        raise ArgumentError("name", f"'monks-{k}'", "monks-1, monks-2 or monks-3")
    sizes = (3, 3, 2, 3, 4, 2)
    robots = np.array(list(itertools.product(*map(range, sizes))))
    head, body, _, holding, jacket, _ = robots.T
    rules = {
        1: (head == body) | (jacket == 0),
        2: (robots == 0).sum(1) == 2,
        3: ((jacket == 2) & (holding == 0)) | ((jacket != 3) & (body != 2)),
    }
    return np.hstack([np.eye(size)[values] for size, values in zip(sizes, robots.T, strict=True)]), rules[k].astype(int)


def iris() -> Table:
    """Fisher's iris, three species: 150 points of 4 features."""
    return _sklearn("iris")


def iris_two() -> Table:
    """Fisher's iris, versicolor against virginica: 100 points of 4 features."""
    inputs, labels = _sklearn("iris")
    return inputs[labels > 0], labels[labels > 0]


def wine() -> Table:
    """Three cultivars of wine: 178 points of 13 features."""
    return _sklearn("wine")


def digits() -> Table:
    """Ten scanned digits of 8 x 8 pixels: 1,797 points of 64 features."""
    return _sklearn("digits")


def breast_cancer(components: int | None = None) -> Table:
    """Breast cancer of Wisconsin: 569 points of 30 features, or their first principal components.

    The components are those of standardised features, rounded to 1e-6 with the sign that makes the
    largest loading positive, so that every machine gets the same numbers.
    """
    inputs, labels = _sklearn("breast_cancer")
    if components is None:
        return inputs, labels
    if components > inputs.shape[1]:
        most = inputs.shape[1]
        raise ArgumentError(
            "name", f"'breast-cancer-pc{components}'", f"at most {most} components, as of {most} features"
        )
    scaled = (inputs - inputs.mean(0)) / inputs.std(0)
    axes = np.linalg.svd(scaled, full_matrices=False)[2][:components]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    return np.round(scaled @ axes.T, 6), labels


TABLES: dict[str, Callable[..., Table]] = {
    "random-P-N": random,
    "parity-K": parity,
    "xor-blobs-N": xor_blobs,
    "checkerboard-K": checkerboard,
    "monks-K": monks,
    "iris": iris,
    "iris-two": iris_two,
    "wine": wine,
    "digits": digits,
    "breast-cancer": breast_cancer,
    "breast-cancer-pcK": breast_cancer,
}
"""Capital letters stand for numbers, as in random-2-40; `seed` follows as in random-2-40-s1, by default 0."""


def make_table(name: str, data: str | os.PathLike[str] | None = None) -> Table:
    """The table of this name: one of `TABLES`, or `data/NAME` for a numeric table of the data folder.

    Args:
        data: the data folder; None: the environment variable TPSOLVE_DATA.

    Raises:
        UnknownNameError: no table has this name.
        ArgumentError: a number below 1, or a table of more than `MAX_NUMBERS` inputs.
        FolderError, FileFormatError: the data folder is not given, or has no such numeric table.
    """
    if name.startswith("data/"):
        return _read(name.removeprefix("data/"), data)
    for pattern, make in TABLES.items():
        numbers = re.sub(r"[A-Z]", r"(\\d+)", re.escape(pattern).replace(r"\-", "-"))
        seeded = r"(?:-s(\d+))?" if make in (random, xor_blobs) else ""
        if found := re.fullmatch(numbers + seeded, name):
            values = [int(v) for v in found.groups() if v is not None]
            given = len(re.findall(r"[A-Z]", pattern))
            if any(v < 1 for v in values[:given]):
                raise ArgumentError("name", repr(name), "numbers of at least 1")
            return make(*values)
    raise UnknownNameError("name", name, TABLES)


def _check_size(features: int, points: int) -> None:
    if features * points > MAX_NUMBERS:
        expected = f"at most {MAX_NUMBERS:,} numbers"
        raise ArgumentError("name", f"a table of {features:,} features and {points:,} points", expected)


def _sklearn(name: str) -> Table:
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")(return_X_y=True)


def _read(name: str, data: str | os.PathLike[str] | None) -> Table:
    folder = data or os.environ.get("TPSOLVE_DATA")
    if not folder:
        raise FolderError("data: no folder given. Pass data=, or set the environment variable TPSOLVE_DATA.")
    plain = Path(folder) / "tabular" / f"{name}.csv"
    packed = plain.with_suffix(".csv.xz")
    if not re.fullmatch(r"\w+", name) or not (plain.exists() or packed.exists()):
        raise FolderError(f"data: there is no table {name!r} in {Path(folder) / 'tabular'}.")
    path = plain if plain.exists() else packed
    header, rows, _ = read_rows(path)
    if "target" not in header or len(header) == header.count("target") + header.count("split"):
        raise FileFormatError(f"{path}: has the columns {', '.join(header)}, expected target and features.")
    table = dict(zip(header, zip(*rows, strict=True), strict=True))
    try:
        inputs = np.array(
            [[float(value) for value in table[name]] for name in header if name not in ("target", "split")]
        )
    except ValueError as error:
        raise FileFormatError(f"{path}: not a table of numbers alone ({error}).") from error
    return np.ascontiguousarray(inputs.T), np.array(table["target"])
