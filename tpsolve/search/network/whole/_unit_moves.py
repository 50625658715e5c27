"""The move: what every change of one weight of a unit costs, together with every shift of its bias.

With all other units held, an output +1 of the unit at point i is worth w_i: the cost with +1 less the cost with -1. A
change of weight q by s moves z_i to z_i + s x_iq, and the unit outputs +1 where that is at least a threshold t. Its
cost is the sum of w_i over these points. So one table of sums gives the costs of all changes and all thresholds.

The sum of an output unit itself may cost something too, where it lacks a margin. Then the table adds up what each point
costs with its sum moved by k, rather than w_i [z_i >= k], and the rest stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding

MAX_THRESHOLDS = 512
"""Sums of more whole values are sorted."""
MAX_TABLE = 2**22
"""Numbers in a table of places that is made once; larger ones are computed for each move."""
USES, STRIDE = 64, 29
"""How often random numbers are used, each time from another place: multiples of STRIDE, up to USES."""


@dataclass(frozen=True)
class Shortfall:
    """What the sum z of an output unit costs at each point where it lacks a margin.

    Args:
        margin: wanted beyond the threshold: z >= margin for an output +1, and z <= -1 - margin for -1.
        up, down: `(M,)`, what each step that is lacking costs where +1 is wanted, and where -1 is.
    """

    margin: int
    up: Tensor
    down: Tensor

    def at(self, z: Tensor) -> Tensor:
        """Of sums `z (..., M)`, of the same shape."""
        return self.up * (self.margin - z).clamp(min=0) + self.down * (self.margin + 1 + z).clamp(min=0)

    def shifted(self, z: Tensor, order: Tensor, shift: Tensor) -> Tensor:
        """Of all points with sums `z - shift`, in all: `(..., T)`.

        Args:
            z: `(..., M)`, falling.
            order: the points that they are of.
            shift: `(..., T)`.
        """
        rising, places = z.flip(-1).contiguous(), order.flip(-1)
        up, down = self.up[places], self.down[places]
        wanted, most = self.margin + shift, shift - self.margin - 1
        below = torch.searchsorted(rising, wanted.contiguous())
        beyond = torch.searchsorted(rising, most.contiguous(), right=True)
        short = wanted * _running(up).gather(-1, below) - _running(up * rising).gather(-1, below)
        total, moment = _running(down), _running(down * rising)
        over = moment[..., -1:] - moment.gather(-1, beyond) - most * (total[..., -1:] - total.gather(-1, beyond))
        return short + over


@dataclass(frozen=True)
class Unit:
    """One unit of R networks, all else held.

    Args:
        below: `(M, n)` or `(R, M, n)`, what it reads.
        z: `(R, M)`, its pre-activations, the bias included.
        worth: `(R, M)`, the cost with its output +1 less the cost with -1.
        weight, bias: `(R, n)` and `(R,)`.
        shortfall: of an output unit whose sums should have a margin; None: sums themselves cost nothing.
    """

    below: Tensor
    z: Tensor
    worth: Tensor
    weight: Tensor
    bias: Tensor
    shortfall: Shortfall | None = None

    def present(self) -> Tensor:
        """Worth of the points with output +1, and what sums cost: `(R,)`."""
        found = (self.worth * (self.z >= 0)).sum(1)
        return found if self.shortfall is None else found + self.shortfall.at(self.z).sum(1)


@dataclass(frozen=True)
class Changes:
    """Changes of single weights, each with each bias.

    Args:
        worth: `(R, n, V, T)`, of the points with output +1 after the change, and what sums then cost; +inf: not on
            offer. Changes of the bias alone are on offer beside the first weight only, and no change at all is not.
        bias: of the unit after the change, of a shape that expands to that of `worth`.
        present: `(R,)`, the worth before.
    """

    worth: Tensor
    bias: Tensor
    present: Tensor


@dataclass(frozen=True)
class TwoValues:
    """Inputs that each have at most two values, whole ones.

    Args:
        is_high: of shape `(M, n + 1)` or `(R, M, n + 1)`: 1.0 where an input has the higher of its values, then 1.0.
        low, high: `(n,)`.
    """

    is_high: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, inputs: Tensor) -> "TwoValues | None":
        """Those of `inputs (M, n)`; None: an input has more values, or some that are not whole."""
        low, high = inputs.amin(0), inputs.amax(0)
        is_high = inputs == high
        whole = bool((low == low.round()).all() and (high == high.round()).all())
        if not whole or not bool((is_high | (inputs == low)).all()):
            return None
        return cls(torch.nn.functional.pad(is_high.to(inputs), (0, 1), value=1.0), low, high)

    @classmethod
    def of_spins(cls, outputs: Tensor) -> "TwoValues":
        """Those of a layer of units, `(R, M, n)` in {-1, +1}."""
        one = torch.ones_like(outputs[0, 0])
        return cls(torch.nn.functional.pad((outputs + 1) / 2, (0, 1), value=1.0), -one, one)


class Window:
    """The thresholds from -window to window, and where each change of a weight looks for them in a table of sums.

    Args:
        two: the inputs of the units; only their `low` and `high` are read.
        values: `(V,)`, those of weights, rising.
        window: thresholds on either side of the present one.
    """

    def __init__(self, two: TwoValues, values: Tensor, window: int) -> None:
        self._low, self._high, self._values = two.low, two.high, values
        size = torch.maximum(two.low.abs(), two.high.abs())
        reach = window + int((values[-1] - values[0]) * size.max())
        self.is_narrow = 2 * reach + 1 <= MAX_THRESHOLDS
        self._reach = reach
        self.thresholds = torch.arange(-window, window + 1, device=values.device, dtype=values.dtype)
        before = torch.arange(-reach - 1, reach + 1, device=values.device, dtype=values.dtype)
        # No sum is beyond the last one: it is the place of changes that are none.
        before[-1] = torch.inf
        self._before = before
        n, count = len(two.low), len(values)
        self._tables: list[Tensor] | None = None
        if self.is_narrow and n * count**2 * (2 * window + 1) <= MAX_TABLE:
            rows = values.expand(n, -1)
            self._tables = [places.flatten(0, 1) for places in self._places(rows, values)]
            self._first = count * torch.arange(n, device=values.device)

    def _places(self, weight: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Where changes of weights `(n, ...)` to `values` look for each threshold: `(n, ..., V * T)`.

        In the sums over points whose input is high, and in those where it is low.
        """
        change = values - weight[..., None]
        ends = [
            (self.thresholds - (change * value.reshape(-1, *[1] * weight.dim()))[..., None] + self._reach).long()
            for value in (self._high, self._low)
        ]
        none = (change == 0)[..., None] & (self.thresholds == self.thresholds)
        none[0] &= self.thresholds == 0
        return ends[0].masked_fill(none, len(self._before) - 1).flatten(-2), ends[1].flatten(-2)

    def changes(self, unit: Unit, two: TwoValues, biases: Tensor | None, kept: Tensor | None = None) -> Changes:
        """All changes of weights to the values with all thresholds, by one product of matrices. z must be whole.

        S_k, the worth of the points with z_i >= k and what sums cost that are k lower, and its part over the points
        whose input q is high, for all k and q, are what all costs are made of.

        Args:
            biases: `(B,)`, the biases that are allowed; None: all whole ones.
            kept: the numbers of some values; None: all of them.
        """
        # 1 where z >= k and else 0, times the worth.
        part = (unit.z[:, None] - self._before[:, None]).clamp_(0, 1).mul_(unit.worth[:, None])
        if unit.shortfall is not None:
            part[:, :-1] += unit.shortfall.at(unit.z[:, None] - 1 - self._before[:-1, None])
        if two.is_high.dim() == 2:
            sums = (part.flatten(0, 1) @ two.is_high).unflatten(0, part.shape[:2]).mT
        else:
            sums = (part @ two.is_high).mT
        high, total = sums[:, :-1], sums[:, -1:]
        low = total - high
        high[..., -1] = torch.inf
        values = self._values if kept is None else self._values[kept]
        if self._tables is None or kept is not None:
            places = [places.transpose(0, 1) for places in self._places(unit.weight.T, values)]
        else:
            row = torch.bucketize(unit.weight.contiguous(), self._values) + self._first
            places = [embedding(row, table) for table in self._tables]
        worth = high.gather(2, places[0]).add_(low.gather(2, places[1]))
        worth = worth.unflatten(2, (len(values), len(self.thresholds)))
        bias = unit.bias[:, None] - self.thresholds
        if biases is not None:
            worth = torch.where(torch.isin(bias, biases)[:, None, None], worth, torch.inf)
        return Changes(worth, bias[:, None, None], total[:, 0, self._reach])


def sorted_changes(unit: Unit, values: Tensor, biases: Tensor | None, *, whole: bool) -> Changes:
    """All changes of weights to `values (V,)` with all thresholds, by sorted sums; inputs may be any numbers.

    Args:
        biases: `(B,)`, the biases that are allowed, rising; None: all, or with `whole` all whole ones.

    Returns:
        The changes with M + 1 thresholds each, or B: those between two equal pre-activations are not on offer.
    """
    change = (values - unit.weight[..., None])[..., None]
    inputs = unit.below.mT if unit.below.dim() == 3 else unit.below.T[None]
    z, order = (unit.z[:, None, None] + change * inputs[:, :, None]).sort(dim=-1, descending=True)
    worth = _running(unit.worth[:, None, None].expand_as(z).gather(3, order))
    old = unit.bias[:, None, None, None]
    same = (change == 0).expand(-1, -1, -1, 1)
    if biases is not None:
        # The points whose z falls below 0 as the bias falls from the old one.
        falling = (biases - old).expand(*z.shape[:-1], -1).contiguous()
        count = torch.searchsorted((-z).contiguous(), falling, right=True)
        worth = worth.gather(3, count)
        if unit.shortfall is not None:
            worth += unit.shortfall.shifted(z, order, -falling)
        return _offered(unit, worth, biases.expand(1, 1, 1, -1), same)
    step = torch.ones_like(z[..., :1])
    ends = torch.cat([z[..., :1] + 2 * step, z, z[..., -1:] - (0 if whole else 2) * step], dim=-1)
    shift = ends[..., :-1] if whole else (ends[..., :-1] + ends[..., 1:]) / 2
    distinct = ends[..., :-1] > ends[..., 1:]
    distinct[..., -1] = True
    if unit.shortfall is not None:
        worth += unit.shortfall.shifted(z, order, shift)
    return _offered(unit, torch.where(distinct, worth, torch.inf), old - shift, same)


def unshifted_changes(unit: Unit, values: Tensor) -> Changes:
    """All changes of weights to `values (V,)` that leave the bias as it is, by adding up what all points are worth.

    Inputs may be any numbers. The sums of the unit themselves must cost nothing: it is a hidden one.
    """
    change = (values - unit.weight[..., None])[..., None]
    inputs = unit.below.mT if unit.below.dim() == 3 else unit.below.T[None]
    outputs = unit.z[:, None, None] + change * inputs[:, :, None] >= 0
    worth = (unit.worth[:, None, None] * outputs).sum(-1, keepdim=True).masked_fill_(change == 0, torch.inf)
    return Changes(worth, unit.bias[:, None, None, None], unit.present())


def _running(values: Tensor) -> Tensor:
    """Sums of the first 0, 1, ... of `values (..., M)`: `(..., M + 1)`."""
    return torch.nn.functional.pad(values.cumsum(-1), (1, 0))


def _offered(unit: Unit, worth: Tensor, bias: Tensor, same: Tensor) -> Changes:
    worth[:, 1:].masked_fill_(same[:, 1:], torch.inf)
    worth[:, :1].masked_fill_(same[:, :1] & (bias[:, :1] == unit.bias[:, None, None, None]), torch.inf)
    return Changes(worth, bias, unit.present())


@dataclass(frozen=True)
class Move:
    """One change for each of R networks.

    Args:
        cost: `(R,)`, by how much the cost changes; +inf: there is none.
        feature: `(R,)` int64, the weight that changes.
        value, bias: `(R,)`, of that weight and of the unit afterwards.
    """

    cost: Tensor
    feature: Tensor
    value: Tensor
    bias: Tensor


class Ties:
    """Small random numbers that choose among equal costs; they are used again, in other places, for some time.

    Args:
        size: below which they are; costs that differ by less are equal.
    """

    def __init__(self, size: float, generator: torch.Generator) -> None:
        self._size, self._generator = size, generator
        self._pool = torch.empty(0)
        self._left = 0

    def __call__(self, like: Tensor) -> Tensor:
        """Of the shape of `like`."""
        count = like.numel()
        if self._left == 0 or len(self._pool) < count + USES or self._pool.dtype != like.dtype:
            g = self._generator
            drawn = torch.rand(max(count, len(self._pool) - USES) + USES, generator=g, device=g.device)
            self._pool, self._left = (self._size * drawn).to(like), USES
        self._left -= 1
        first = (self._left * STRIDE) % USES
        return self._pool[first : first + count].view(like.shape)


def best_move(changes: Changes, values: Tensor, extra: Tensor | None, features: Tensor, ties: Ties) -> Move:
    """The change that costs least, one of them at random where several do; leaving all as it is, is none.

    Args:
        changes: of the weights `features (n,)`.
        values: `(V,)`, of `changes`.
        extra: `(R, n, V)`, what each change costs besides, +inf where it is not allowed; None: nothing.
    """
    cost, (rows, n, count, thresholds) = changes.worth, changes.worth.shape
    if extra is not None:
        cost = cost + extra[..., None]
    cost = cost.flatten(1)
    drawn = cost + ties(cost)
    # A tenth of the time of argmin.
    places = torch.arange(drawn.shape[1], device=drawn.device)
    chosen = torch.where(drawn == drawn.amin(1, keepdim=True), places, len(places) - 1).amin(1, keepdim=True)
    least = cost.gather(1, chosen)[:, 0] - changes.present
    if changes.bias.numel() == rows * thresholds:
        bias = changes.bias.flatten(1).gather(1, chosen % thresholds)
    else:
        bias = changes.bias.expand(rows, n, count, thresholds).flatten(1).gather(1, chosen)
    chosen = chosen[:, 0]
    feature, value = chosen // (count * thresholds), values[chosen // thresholds % count]
    return Move(least, features[feature], value, bias[:, 0])


def as_values(numbers: Sequence[int] | None, like: Tensor) -> Tensor | None:
    """A set of whole numbers as a tensor; None: no set."""
    return None if numbers is None else torch.tensor(numbers).to(like)
