"""All dichotomies of some points: every sign pattern that an affine hyperplane can give them."""

import math
from collections.abc import Callable
from itertools import count

import torch
from flint import fmpz_mat
from torch import Tensor

from tpsolve.errors import ShapeError, TooLargeError
from tpsolve.units._data import group_rows, read_numbers
from tpsolve.units.patterns._orientation import Orientation

MAX_ENTRIES = 2**29
"""Signs in the largest answer given: half a gigabyte."""
MAX_HYPERPLANES = 2**25
"""Hyperplanes through points that are looked at."""
_BLOCK = 2**18


class StoppedError(Exception):
    """`stop` said so."""


def dichotomies(inputs: Tensor, stop: Callable[[], bool] | None = None) -> Tensor:
    """Every separable sign pattern of the points, one of each pair of opposites: `(K, N)` int8 in {-1, +1}.

    Each pattern is +1 on the first point, and none occurs twice. The list is exact, for the float64 numbers that the
    inputs are: a pattern is in it if and only if some weights and bias give every sample a positive margin. The points
    need not lie in general position.

    A cell of the arrangement of hyperplanes that the points form in the space of weights is a dichotomy. Cut by a
    random flag of subspaces, each cell has one highest vertex: the hyperplane through some of the points that decides
    it. So the points are taken p, p - 1, ..., 0 at a time, where p is the dimension that they span. Each choice gives
    its one dichotomy. Where more points lie on the hyperplane than were chosen, their own dichotomies are found in the
    same way.

    Args:
        inputs: `(N, n)` finite.
        stop: asked every few milliseconds; True ends the enumeration.

    Raises:
        TooLargeError: by `dichotomy_count`, more of them than memory or patience holds.
        ArgumentError: as `UnitLearner.fit`.
        StoppedError: `stop` said so.
    """
    group, rows = _checked(inputs)
    for draw in count():
        try:
            found = _Cells(rows, draw, stop).all()
            break
        except _NotGenericError:
            continue
    found *= found[:, group[:1]].clone()
    order, number = _grouped(found, found.new_zeros(len(found)))
    first = torch.ones_like(number, dtype=torch.bool)
    first[1:] = number.diff() > 0
    return found[order[first]][:, group]


def dichotomy_count(points: int, dimension: int) -> int:
    """The maximum number of dichotomies, up to opposites, of so many points that span so many dimensions.

    It is reached in general position (Cover 1965): the sum over i <= dimension of C(points - 1, i).
    """
    return sum(math.comb(points - 1, i) for i in range(dimension + 1))


def check_dichotomies(inputs: Tensor) -> None:
    """Raise what `dichotomies` raises, before any work."""
    _checked(inputs)


def _checked(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct point of each input, and these points as rows of full rank."""
    x = read_numbers("inputs", inputs)
    if x.dim() != 2 or 0 in x.shape:
        raise ShapeError("inputs", f"shape {tuple(x.shape)}", "(samples, features), at least one of each")
    group = group_rows(x)
    points = x.new_empty(int(group.max()) + 1, x.shape[1], dtype=torch.float64)
    points[group] = x.double()
    # A few points may tell at once that the dimensions are too many.
    _check_size(len(points), essential(points[: 2 * points.shape[1]]).shape[1] - 1, len(x))
    rows = essential(points)
    _check_size(len(points), rows.shape[1] - 1, len(x))
    return group, rows


def _check_size(points: int, dimension: int, samples: int) -> None:
    patterns, hyperplanes = dichotomy_count(points, dimension), math.comb(points, dimension)
    if patterns * samples > MAX_ENTRIES or hyperplanes > MAX_HYPERPLANES:
        raise TooLargeError(
            "inputs",
            f"{points} distinct points of {dimension} dimensions: up to {patterns:.3g} dichotomies",
            f"at most {MAX_ENTRIES // samples:.3g} of them and {MAX_HYPERPLANES:.3g} hyperplanes",
            "Use fewer samples or features, or a solver that does not list them, such as Circuits() or ColumnSearch().",
        )


def essential(points: Tensor) -> Tensor:
    """`(x, 1)` in as many coordinates as the points span: the others follow from these."""
    lifted = torch.cat([points, points.new_ones(len(points), 1)], dim=1)
    ratios = [[v.as_integer_ratio() for v in column] for column in lifted.T.tolist()]
    columns = []
    for column in ratios:
        common = max(below for _, below in column)
        columns.append([above * (common // below) for above, below in column])
    reduced, _, rank = fmpz_mat(columns[::-1]).transpose().rref()
    pivots = [next(j for j in range(len(columns)) if reduced[i, j] != 0) for i in range(rank)]
    return lifted[:, sorted(len(columns) - 1 - j for j in pivots)].contiguous()


class _NotGenericError(Exception):
    """The random flag met a vertex; another one is drawn."""


class _Cells:
    """Cells of the central arrangement of `rows (n, d)` that meet the upper side of a random hyperplane.

    The flag is a sequence of d random functionals f_0, f_1, ...; V_k is where the first k of them are 0. Many
    sets of rows are treated side by side; a cell is its signs `(m,)` on a set of m rows, and the set's number.
    """

    def __init__(self, rows: Tensor, draw: int, stop: Callable[[], bool] | None) -> None:
        self.stop = stop
        self.n, self.d = rows.shape
        generator = torch.Generator().manual_seed(draw)
        reach = 2 ** (20 + 4 * min(draw, 6))
        # Whole multiples of entries, so that determinants of whole numbers stay whole; and none beyond float64.
        largest = rows.abs().amax(dim=0).clamp(max=2.0**900)
        flag = torch.randint(-reach, reach, (self.d, self.d), generator=generator).to(rows) * largest
        self.orientation = Orientation(torch.cat([rows, flag]))
        self.flag = torch.arange(self.n, self.n + self.d, device=rows.device)

    def all(self) -> Tensor:
        """`(K, n)` int8; a cell that the hyperplane f_0 = 0 cuts is there with its opposite."""
        return self._upper(torch.arange(self.n, device=self.flag.device)[None], 0)[0]

    def _upper(self, sets: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Cells of each of `sets (G, m)` in V_level that meet f_level > 0."""
        # Those in which f_(level + 1) has no highest value where f_level = 1 reach V_(level + 1), and so on.
        parts = [self._with_highest(sets, k) for k in range(level, self.d)]
        return torch.cat([signs for signs, _ in parts]), torch.cat([owner for _, owner in parts])

    def _with_highest(self, sets: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Cells in V_level that have a highest vertex: f_(level + 1) at its most, where f_level = 1."""
        (groups, m), choose = sets.shape, self.d - 1 - level
        each = math.comb(m, choose)
        size = max(1, _BLOCK // (m + 1))
        cells, owners, vertices, homes = [], [], [], []
        for first in range(0, groups * each, size):
            if self.stop is not None and self.stop():
                raise StoppedError
            number = torch.arange(first, min(first + size, groups * each))
            owner, local = (number // each).to(sets.device), _choices(m, choose, number % each).to(sets.device)
            signs, local, owner, crowded, home = self._vertices(sets, owner, local, level)
            cells.append(signs)
            owners.append(owner)
            vertices.append(crowded)
            homes.append(home)
        if choose > 1:
            signs, owner = self._at_crowded(sets, torch.cat(vertices), torch.cat(homes), level)
            cells.append(signs)
            owners.append(owner)
        return torch.cat(cells), torch.cat(owners)

    def _vertices(self, sets: Tensor, owner: Tensor, local: Tensor, level: int) -> tuple[Tensor, ...]:
        """For the vertices on the rows `local (B, choose)` of their sets: the cells highest at those on no other
        rows, and the signs of those on more, each with the numbers of their sets.
        """
        chosen = sets[owner[:, None], local]
        through = torch.cat([self.flag[:level].expand(len(chosen), -1), chosen], dim=1)
        up = self.orientation.signs(through, self.flag[level : level + 1])
        flat = up[:, 0] == 0
        if bool(flat.any()):
            if bool(self.orientation.independent(through[flat]).any()):
                raise _NotGenericError
            owner, local, through, up = owner[~flat], local[~flat], through[~flat], up[~flat]
        rows = sets[0] if len(sets) == 1 else sets[owner]
        signs = self.orientation.signs(through, rows).mul_(up)
        simple = (signs == 0).sum(dim=1) == local.shape[1]
        crowded, home = signs[~simple], owner[~simple]
        signs, owner, local, through, up = signs[simple], owner[simple], local[simple], through[simple], up[simple]
        for k in range(local.shape[1]):
            # Cramer's rule for the multiplier of the k-th row in f_(level + 1).
            swapped = through.clone()
            swapped[:, level + k] = self.flag[level + 1]
            side = self.orientation.signs(swapped, self.flag[level : level + 1]) * up
            if bool((side == 0).any()):
                raise _NotGenericError
            signs.scatter_(1, local[:, k : k + 1], -side)
        return signs, local, owner, crowded, home

    def _at_crowded(self, sets: Tensor, vertices: Tensor, home: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """The cells highest at vertices, given by their signs, on which more rows lie than span them."""
        order, group = _grouped(vertices, home)
        first = order[torch.cat([group.new_ones(min(1, len(group))), group.diff()]) > 0]
        vertices, home = vertices[first], home[first]
        crowd = (vertices == 0).sum(dim=1)
        cells, owners = [vertices[:0]], [home[:0]]
        for size in crowd.unique().tolist():
            signs, owner = vertices[crowd == size], home[crowd == size]
            place = (signs == 0).nonzero()[:, 1].reshape(-1, size)
            local, which = self._lower(sets[owner[:, None], place], level + 1)
            cells.append(signs[which].scatter_(1, place[which], local))
            owners.append(owner[which])
        return torch.cat(cells), torch.cat(owners)

    def _lower(self, sets: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Cells in V_level that lie in f_level < 0 altogether."""
        upper, owner = self._upper(sets, level)
        # A cell that f_level = 0 cuts is there with its opposite, the others alone.
        order, group = _grouped(upper * upper[:, :1], owner)
        alone = order[torch.bincount(group)[group] == 1]
        return -upper[alone], owner[alone]


def _grouped(patterns: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """An order `(K,)` in which equal rows of `patterns (K, n)` of one owner are neighbours, and there their groups."""
    # A radix sort, 33 signs of three values a word.
    words = [owner]
    for part in patterns.split(33, dim=1):
        words.append(part.to(torch.float64) @ (3.0 ** torch.arange(part.shape[1], device=part.device)).double())
    order = torch.arange(len(patterns), device=patterns.device)
    for word in words:
        order = order[word[order].argsort(stable=True)]
    change = torch.zeros(len(patterns), dtype=torch.bool, device=patterns.device)
    for word in words:
        change[1:] |= word[order].diff() != 0
    return order, change.long().cumsum(dim=0)


def _choices(n: int, k: int, number: Tensor) -> Tensor:
    """The `number`-th (B,) choices of `k` of `n` rows, in the combinatorial number system: `(B, k)` int64, rising."""
    columns = []
    for size in range(k, 0, -1):
        # The largest c with C(c, size) <= number.
        table = torch.tensor([math.comb(c, size) for c in range(n)])
        column = torch.searchsorted(table, number, right=True) - 1
        number = number - table[column]
        columns.append(column)
    return torch.stack(columns[::-1], dim=1) if columns else number.new_zeros(len(number), 0)
