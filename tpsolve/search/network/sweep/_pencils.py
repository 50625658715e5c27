"""The best hyperplane for weighted points, exactly: pencils of hyperplanes that turn around some of the points."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from flint import fmpz_mat

_UNIT = 2.0**-53
_FINE = 2**22
"""Whole coordinates below that: different angles differ by more than rounding."""
_ANGLE = 2.0**-48
"""More than what the computation of an angle rounds."""
_LAST = 9.0
"""For rows on all hyperplanes of a pencil: behind all angles."""
_ELEMENTS = 2**19


class StoppedError(Exception):
    """`stop` said so."""


@dataclass(frozen=True)
class Cut:
    """A dichotomy, and how much gain it has.

    Args:
        question: which of the gains.
        value: the base, and the gain of the points at +1, as computed.
        signs: `(M,)` int8 in {-1, +1}, a dichotomy.
    """

    question: int
    value: float
    signs: np.ndarray


class Pencils:
    """Looks for the dichotomy of M rows with the most gain at +1.

    The rows are vectors; a dichotomy is what signs a linear function gives them. Each one is the choice of sides of the
    rows that lie on a hyperplane through d - 1 independent ones, where the others have theirs. A pencil is all
    hyperplanes through d - 2 independent rows. It turns around them, and the other rows, sorted by angle, change sides
    one after the other. So cumulative sums give all hyperplanes of a pencil. Rows on the hyperplane choose the better
    side. If there are d - 1 of them they are free to do so. If there are more, or if rounding can't tell the angles of
    some rows apart, that is a bound: exact arithmetic looks at such a hyperplane only if its bound beats the best
    dichotomy. What more than d - 1 rows on a hyperplane can do is the same question in one dimension less.

    Every set of d - 1 rows has a part of d - 2 that an even number of the first half of all rows belongs to, or all of
    them: other pencils are not needed.

    Args:
        rows: `(M, d)` float64 of rank d, taken as the exact numbers that they are.
        stop: asked every few milliseconds; True ends the search with a `StoppedError`.
    """

    def __init__(self, rows: np.ndarray, stop: Callable[[], bool] | None = None) -> None:
        self._stop = stop
        self._count, self._d = rows.shape
        self._given = rows
        exponent = np.frexp(np.abs(rows).max(axis=0))[1]
        # Scaling a column by a power of two changes no side.
        self._rows = np.ldexp(rows, -exponent)
        ratios = [[v.as_integer_ratio() for v in row] for row in rows.tolist()]
        common = [max(below for _, below in column) for column in zip(*ratios, strict=True)]
        self.exact = [[above * (c // below) for (above, below), c in zip(row, common, strict=True)] for row in ratios]
        largest = [max(abs(row[k]) for row in self.exact) for k in range(self._d)]
        # No coordinate of a row in a pencil, nor a term of it, is larger.
        size = math.factorial(self._d - 1) * math.prod(sorted(largest)[1:])
        # Then all sides and angles are computed from whole numbers without rounding.
        self.whole = size < _FINE
        if self.whole:
            self._rows = np.array(self.exact, dtype=np.float64)
        self._norm = np.abs(self._rows).sum(axis=1)

    def best(
        self,
        gains: np.ndarray,
        bases: np.ndarray,
        known: float | np.longdouble = -math.inf,
        tell: Callable[[Cut], None] | None = None,
    ) -> Cut | None:
        """The dichotomy with the largest base and gain over all questions; None: none has more than `known`.

        Args:
            gains: `(Q, M)` int64 or a floating type.
            bases: `(Q,)` of the same type.
            known: the value of a dichotomy known before.
            tell: told of each dichotomy that is the best so far.
        """
        search = _Search(self, gains, bases, known, tell)
        if self._d == 1:
            # All linear functions are multiples of the coordinate.
            search.take_exact([], [], list(range(self._count)), self._stop)
            return search.found
        for chosen in self._centres():
            search.turn(chosen)
            if self._stop is not None and self._stop():
                raise StoppedError
        search.resolve(self._stop)
        return search.found

    def _centres(self) -> Iterator[np.ndarray]:
        """Sets of d - 2 rows, `(B, d - 2)` at a time."""
        size, half = self._d - 2, self._count // 2
        at_once = max(1, _ELEMENTS // self._count)
        if size == 0:
            yield np.zeros((1, 0), dtype=np.int64)
            return
        block: list[tuple[int, ...]] = []
        for chosen in combinations(range(self._count), size):
            block.append(chosen)
            if len(block) == 4 * at_once:
                yield from self._needed(block, half, at_once)
                block = []
        yield from self._needed(block, half, at_once)

    def _needed(self, block: list[tuple[int, ...]], half: int, at_once: int) -> Iterator[np.ndarray]:
        chosen = np.array(block, dtype=np.int64).reshape(len(block), self._d - 2)
        first = (chosen < half).sum(axis=1)
        chosen = chosen[(first % 2 == 0) | (first == self._d - 2)]
        for start in range(0, len(chosen), at_once):
            yield chosen[start : start + at_once]

    def coordinates(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Two linear functions of all rows that are 0 on the rows `chosen (B, d - 2)`: `u`, `v` `(B, M)`, and how far
        off they are at most, `(B, M)`; and of which of the sets the functions may be dependent, `(B,)` bool.
        """
        d = self._d
        minors = _minors(self._rows[chosen])
        pairs = list(combinations(range(d), 2))
        # Of all rows but those in columns i and j.
        plucker = {pair: minors[tuple(k for k in range(d) if k not in pair)] for pair in pairs}
        table = np.stack([plucker[pair] for pair in pairs])
        largest = np.abs(table).argmax(axis=0)
        normals = np.zeros((len(pairs), 2, d, len(chosen)))
        for number, (i, j) in enumerate(pairs):
            for which, dropped in enumerate((i, j)):
                for k in range(d):
                    if k != dropped:
                        pair = (min(k, dropped), max(k, dropped))
                        place = k - (k > dropped)
                        normals[number, which, k] = (-1) ** place * plucker[pair]
        picked = normals[largest, :, :, np.arange(len(chosen))]
        u, v = picked[:, 0] @ self._rows.T, picked[:, 1] @ self._rows.T
        most = self._norm[chosen].prod(axis=1)
        error = np.zeros_like(u) if self.whole else 4 * (d + 1) ** 2 * _UNIT * most[:, None] * self._norm + 2.0**-900
        floor = 0.0 if self.whole else 4 * (d + 1) ** 2 * _UNIT * most + 2.0**-900
        return u, v, error, np.abs(table).max(axis=0) <= floor

    def exact_coordinates(self, chosen: tuple[int, ...]) -> list[tuple[int, int]] | None:
        """As `coordinates`, in whole numbers, for all rows; None: the rows `chosen` are dependent."""
        d = self._d
        around = [self.exact[i] for i in chosen]
        minors = {
            pair: _determinant([[row[k] for k in range(d) if k not in pair] for row in around])
            for pair in combinations(range(d), 2)
        }
        i, j = max(minors, key=lambda pair: abs(minors[pair]))
        if minors[i, j] == 0:
            return None
        first, second = (
            [
                0 if k == dropped else (-1) ** (k - (k > dropped)) * minors[min(k, dropped), max(k, dropped)]
                for k in range(d)
            ]
            for dropped in (i, j)
        )
        return [
            (sum(a * b for a, b in zip(first, row, strict=True)), sum(a * b for a, b in zip(second, row, strict=True)))
            for row in self.exact
        ]

    def spanned(self, rows: list[int]) -> np.ndarray:
        """Some rows in as many coordinates as they span: the others follow from these."""
        picked = fmpz_mat([[self.exact[i][k] for i in rows] for k in range(self._d)][::-1]).transpose()
        reduced, _, rank = picked.rref()
        pivots = [next(j for j in range(self._d) if reduced[i, j] != 0) for i in range(rank)]
        kept = sorted(self._d - 1 - j for j in pivots)
        return self._given[np.ix_(rows, kept)]


class _Search:
    """One call of `Pencils.best`."""

    def __init__(
        self,
        pencils: Pencils,
        gains: np.ndarray,
        bases: np.ndarray,
        known: float | np.longdouble,
        tell: Callable[[Cut], None] | None,
    ) -> None:
        self.pencils, self.gains, self.bases = pencils, gains, bases
        self.better = np.maximum(gains, 0)
        self.value = known
        self._tell = tell
        self.found: Cut | None = None
        # Hyperplanes that are to be looked at in exact arithmetic: bound, centre, rows that may lie on them.
        self.crowded: list[tuple[float, tuple[int, ...], tuple[int, ...]]] = []
        self.seen: set[tuple[int, ...]] = set()

    def turn(self, chosen: np.ndarray) -> None:
        """All hyperplanes through each of the sets of rows `chosen (B, d - 2)`."""
        u, v, error, dependent = self.pencils.coordinates(chosen)
        if self.pencils.whole:
            keep = ~dependent
            chosen, u, v, error, dependent = chosen[keep], u[keep], v[keep], error[keep], dependent[keep]
            if not len(chosen):
                return
        else:
            # No coordinate line is that of two points, but for rounding.
            c, s = 0.8191520442889918, 0.5735764363510461
            u, v, error = c * u + s * v, c * v - s * u, 1.5 * error + 4 * _UNIT * (np.abs(u) + np.abs(v))
        side = np.where((v > 0) | ((v == 0) & (u > 0)), 1, -1).astype(np.int8)
        length = np.maximum(np.abs(u), np.abs(v))
        flat = length <= 4 * error
        angle = np.arctan2(v * side, u * side)
        spread = 2 * error / np.where(flat, 1.0, length) + _ANGLE
        if not self.pencils.whole:
            # On which side of the first hyperplane it is, rounding can't tell.
            flat |= (angle < spread) | (angle > math.pi - spread)
        flat[dependent] = True
        angle[flat] = _LAST
        order = angle.argsort(axis=1)
        angle = np.take_along_axis(angle, order, axis=1)
        side = np.take_along_axis(side, order, axis=1)
        usual = angle < _LAST
        if self.pencils.whole:
            fresh = np.ones_like(usual)
            fresh[:, 1:] = angle[:, 1:] - angle[:, :-1] > 2 * _ANGLE
        else:
            spread = np.take_along_axis(spread, order, axis=1)
            fresh = np.ones_like(usual)
            fresh[:, 1:] = angle[:, 1:] - spread[:, 1:] > np.maximum.accumulate(angle + spread, axis=1)[:, :-1]
        place = np.arange(angle.shape[1])
        # Of each event, its first row and the row after its last.
        start = np.maximum.accumulate(np.where(fresh, place, 0), axis=1)
        after = np.where(np.roll(fresh, -1, axis=1) | (place == angle.shape[1] - 1), place + 1, angle.shape[1])
        end = np.minimum.accumulate(after[:, ::-1], axis=1)[:, ::-1]
        counted = usual.sum(axis=1)
        end = np.minimum(end, counted[:, None])
        event = fresh & usual
        simple = event & (end - start == 1) & (counted == angle.shape[1] - chosen.shape[1])[:, None]
        for question in range(len(self.gains)):
            self._look(question, chosen, order, side, usual, start, end, event, simple)
        # A set whose rows may be dependent has no angles at all: exact arithmetic looks at it.
        every = tuple(range(order.shape[1]))
        self.crowded += [(math.inf, tuple(chosen[row].tolist()), every) for row in np.flatnonzero(counted == 0)]

    def _look(
        self,
        question: int,
        chosen: np.ndarray,
        order: np.ndarray,
        side: np.ndarray,
        usual: np.ndarray,
        start: np.ndarray,
        end: np.ndarray,
        event: np.ndarray,
        simple: np.ndarray,
    ) -> None:
        gain = np.where(usual, self.gains[question][order], 0)
        plus, minus, free = (
            np.concatenate([np.zeros_like(gain[:, :1]), part.cumsum(axis=1)], axis=1)
            for part in (np.where(side > 0, gain, 0), np.where(side < 0, gain, 0), np.maximum(gain, 0))
        )
        on_all = self.better[question].sum() - free[:, -1:]
        at = [np.take_along_axis(part, where, axis=1) for part in (plus, minus, free) for where in (start, end)]
        shared = self.bases[question] + on_all + at[5] - at[4]
        values = (shared + plus[:, -1:] - at[1] + at[2], shared + minus[:, -1:] - at[3] + at[0])
        for orientation, value in zip((1, -1), values, strict=True):
            sound = np.where(simple, value, self._lowest(value))
            top = np.unravel_index(sound.argmax(), sound.shape)
            if simple[top] and sound[top] > self.value:
                self._take(question, orientation, chosen[top[0]], order[top[0]], side[top[0]], start[top], end[top])
            row, column = (event & ~simple & (value > self.value)).nonzero()
            for r, c in zip(row.tolist(), column.tolist(), strict=True):
                first, last = int(start[r, c]), int(end[r, c])
                self._keep(float(value[r, c]), chosen[r], order[r], usual[r], first, last)

    def _lowest(self, value: np.ndarray) -> float:
        return np.iinfo(value.dtype).min if value.dtype.kind == "i" else -math.inf

    def _take(
        self,
        question: int,
        orientation: int,
        chosen: np.ndarray,
        order: np.ndarray,
        side: np.ndarray,
        start: int,
        end: int,
    ) -> None:
        signs = np.empty(len(order), dtype=np.int8)
        turned = side.copy()
        turned[:start] *= -1
        signs[order] = orientation * turned
        free = np.concatenate([chosen, order[start:end]])
        signs[free] = np.where(self.gains[question][free] > 0, 1, -1)
        self._offer(question, signs)

    def _offer(self, question: int, signs: np.ndarray) -> None:
        value = self.bases[question] + self.gains[question][signs > 0].sum()
        if value > self.value:
            self.value = value
            self.found = Cut(question, value, signs)
            if self._tell is not None:
                self._tell(self.found)

    def _keep(
        self, bound: float, chosen: np.ndarray, order: np.ndarray, usual: np.ndarray, first: int, last: int
    ) -> None:
        on = np.concatenate([order[first:last], order[~usual]]).tolist()
        self.crowded.append((bound, tuple(chosen.tolist()), tuple(sorted(on))))

    def resolve(self, stop: Callable[[], bool] | None) -> None:
        """Look at the hyperplanes that are not simple and may be better, in exact arithmetic."""
        self.crowded.sort(key=lambda one: -one[0])
        looked: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        for number, (bound, chosen, on) in enumerate(self.crowded):
            if bound <= self.value:
                return
            if stop is not None and number % 16 == 0 and stop():
                raise StoppedError
            if (chosen, on) not in looked:
                looked.add((chosen, on))
                self._exactly(chosen, on, stop)

    def _exactly(self, chosen: tuple[int, ...], rows: tuple[int, ...], stop: Callable[[], bool] | None) -> None:
        places = self.pencils.exact_coordinates(chosen)
        if places is None:
            return
        every = range(len(places))
        waiting = [i for i in rows if places[i] != (0, 0)]
        while waiting:
            u, v = places[waiting[0]]
            distance = [u * b - v * a for a, b in places]
            on = [i for i in every if distance[i] == 0]
            waiting = [i for i in waiting if distance[i] != 0]
            if tuple(on) not in self.seen:
                self.seen.add(tuple(on))
                sides = ([i for i in every if distance[i] > 0], [i for i in every if distance[i] < 0])
                self.take_exact(*sides, on, stop)

    def take_exact(
        self, plus: list[int], minus: list[int], on: list[int], stop: Callable[[], bool] | None = None
    ) -> None:
        """The best that rows `on` a hyperplane can do, where `plus` and `minus` have their sides."""
        for question, gain in enumerate(self.gains):
            for ahead, behind in ((plus, minus), (minus, plus)):
                fixed = self.bases[question] + gain[ahead].sum()
                if fixed + np.maximum(gain[on], 0).sum() <= self.value:
                    continue
                signs = np.empty(len(gain), dtype=np.int8)
                signs[ahead], signs[behind] = 1, -1
                for own in self._choices(gain[on], on, self.value - fixed, stop):
                    signs[on] = own
                    self._offer(question, signs.copy())

    def _choices(
        self, gain: np.ndarray, on: list[int], known: float, stop: Callable[[], bool] | None
    ) -> Iterator[np.ndarray]:
        """Dichotomies of the rows `on`, one of which has the most gain if that is more than `known`."""
        rows = self.pencils.spanned(on)
        if rows.shape[1] == len(on):
            yield np.where(gain > 0, 1, -1)
        elif rows.shape[1] == 1:
            yield np.where(rows[:, 0] > 0, 1, -1)
            yield np.where(rows[:, 0] > 0, -1, 1)
        else:
            cut = Pencils(rows, stop).best(gain[None], np.zeros(1, dtype=gain.dtype), known)
            if cut is not None:
                yield cut.signs


def count_turns(points: int, features: int) -> int:
    """How often a point changes sides, in all pencils together, at most; where there are many features, as often as
    determinants cost as much, of which a pencil takes all of its columns: two to their power.
    """
    dimensions = min(features, points)
    return math.comb(points, dimensions - 1) * max(points, 2**dimensions // 4)


def _minors(rows: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """Determinants `(B,)` of B matrices `(B, k, d)` in each k of their columns."""
    batch, count, d = rows.shape
    minors: dict[tuple[int, ...], np.ndarray] = {(): np.ones(batch)}
    for row in range(count - 1, -1, -1):
        wider: dict[tuple[int, ...], np.ndarray] = {}
        for chosen in combinations(range(d), count - row):
            terms = [
                (-1) ** place * rows[:, row, column] * minors[chosen[:place] + chosen[place + 1 :]]
                for place, column in enumerate(chosen)
            ]
            wider[chosen] = np.stack(terms).sum(axis=0)
        minors = wider
    return minors


def _determinant(matrix: list[list[int]]) -> int:
    return int(fmpz_mat(matrix).det()) if matrix else 1
