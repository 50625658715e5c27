"""Where the values of the training rows lie, and rows on which two programs for one network are compared."""

from dataclasses import dataclass

import numpy as np

from tpsolve.models._layers import Layers

_PARTS = (1000.0, 200.0, 100.0, 20.0, 10.0, 4.0, 2.0, 1.0)


@dataclass(frozen=True)
class Grid:
    """The values of each feature in training.

    Args:
        low, high: `(n,)`, the smallest and the largest.
        parts: `(n,)`, a whole number k such that all values are multiples of 1 / k, such as 1 or 10; 0: none was found.
        signs: `(n,)` bool, whether -1 and +1 were the only values.
    """

    low: np.ndarray
    high: np.ndarray
    parts: np.ndarray
    signs: np.ndarray

    @property
    def whole(self) -> bool:
        """Whether all values of all features were whole numbers."""
        return bool((self.parts == 1).all())


def grid_of(X: np.ndarray) -> Grid:
    """The grid of the rows `X (N, n)`."""
    parts = np.zeros(X.shape[1])
    small = (np.abs(X) < 2.0**40).all(axis=0)
    for count in _PARTS:
        with np.errstate(over="ignore"):
            parts[small & (np.round(X * count) / count == X).all(axis=0)] = count
    parts[(np.round(X) == X).all(axis=0)] = 1.0
    return Grid(X.min(axis=0), X.max(axis=0), parts, (np.abs(X) == 1).all(axis=0) & (X == -1).any(axis=0))


def check_rows(
    layers: Layers, grid: Grid, count: int, most: int = 10**9, *, beyond: bool = True, seed: int = 0
) -> np.ndarray:
    """Rows `(N, n)` on which programs of `layers` are compared: random ones of the grid, and pairs beside boundaries.

    A pair lies on both sides of the boundary of a unit of the first layer, as near to each other as floats can be;
    where all features are whole, as near as whole numbers on a line are.

    Args:
        count: of random rows, and of pairs for each unit.
        most: rows of all pairs together; units in equal distances are taken where they are more.
        beyond: whether some rows leave the range of the grid.
    """
    generator = np.random.default_rng(seed)
    rows = _random(grid, 2 * count, generator, beyond=beyond)
    found = [rows[:count]]
    # Nearer than that, floats differ only about 0.
    finest = 0.0 if grid.whole else np.maximum(np.abs(grid.low), np.abs(grid.high)) * 2.0**-53
    # Between two values there are none: half of such features change at a time.
    two = grid.signs | ((grid.parts == 1) & (grid.high <= grid.low + 1))
    weight, bias = layers.weights[0]
    units = range(0, len(bias), max(1, round(2 * len(bias) / most)))
    pairs = int(min(count, max(1, most // (2 * len(units)))))
    for k in units:
        unit = Layers(((weight[k : k + 1], bias[k : k + 1]),))
        a, b = rows[:count], rows[count:]
        side = unit.classes(a)
        differ = side != unit.classes(b)
        a, b, side = a[differ][:pairs], b[differ][:pairs], side[differ][:pairs]
        for _ in range(1100):
            middle = _middle(a, b)
            if grid.whole:
                middle = np.round(middle)
            differ = (a != b) & two
            middle = np.where(two, _half(a, b, differ), middle)
            open_ = ~((middle == a) | (middle == b) | (np.abs(b - a) <= finest)).all(axis=1)
            open_ |= differ.sum(axis=1) > 1
            if not open_.any():
                break
            same = unit.classes(middle) == side
            a = np.where((open_ & same)[:, None], middle, a)
            b = np.where((open_ & ~same)[:, None], middle, b)
        found += [a, b]
    return np.concatenate(found)


def _middle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.where(np.isfinite(b - a), a + (b - a) / 2, a / 2 + b / 2)


def _half(a: np.ndarray, b: np.ndarray, differ: np.ndarray) -> np.ndarray:
    """`a (N, n)` with half of those values of `b` where they `differ (N, n)`."""
    rank = differ.cumsum(axis=1)
    return np.where(differ & (2 * rank <= rank[:, -1:]), b, a)


def _random(grid: Grid, count: int, generator: np.random.Generator, *, beyond: bool) -> np.ndarray:
    """A tenth of the rows may leave the range of training by up to a tenth, but for features with two values."""
    with np.errstate(over="ignore"):
        room = np.minimum(grid.high - grid.low, 1e308)
    share = generator.uniform(size=(count, len(room)))
    wide = generator.uniform(size=(count, 1)) < (0.1 if beyond else 0.0)
    parts = np.where(grid.parts > 0, grid.parts, 1.0)
    share = np.where(wide & ((room > 1 / parts) | (grid.parts == 0)), 1.2 * share - 0.1, share)
    share = np.where(grid.signs, np.round(share).clip(0, 1), share)
    rows = grid.low + share * room
    with np.errstate(over="ignore"):
        rows = np.where(grid.parts > 0, np.round(rows * parts) / parts, rows)
    # Values of 32 bits stay such.
    short = (grid.parts == 1) & (grid.low >= -(2.0**31)) & (grid.high < 2.0**31)
    return np.where(short, np.clip(rows, -(2.0**31), 2.0**31 - 1), rows)
