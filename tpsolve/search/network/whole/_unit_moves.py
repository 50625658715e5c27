"""The move: what every change of one weight of a unit costs, together with every shift of its bias.

With all other units held, an output +1 of the unit at point i is worth w_i: the cost with +1 less the cost with -1. A
change of weight q by s moves z_i to z_i + s x_iq, and the unit outputs +1 where that is at least a threshold t. Its
cost is the sum of w_i over these points. So one table of sums gives the costs of all changes and all thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_THRESHOLDS = 512
"""Sums of more whole values are sorted."""


@dataclass(frozen=True)
class Unit:
    """One unit of R networks, all else held.

    Args:
        below: `(M, n)` or `(R, M, n)`, what it reads.
        z: `(R, M)`, its pre-activations, the bias included.
        worth: `(R, M)`, the cost with its output +1 less the cost with -1.
        weight, bias: `(R, n)` and `(R,)`.
    """

    below: Tensor
    z: Tensor
    worth: Tensor
    weight: Tensor
    bias: Tensor

    def present(self) -> Tensor:
        """Worth of the points with output +1: `(R,)`."""
        return (self.worth * (self.z >= 0)).sum(1)


@dataclass(frozen=True)
class Changes:
    """Changes of single weights, each with each bias.

    Args:
        worth: `(R, n, V, T)`, of the points with output +1 after the change; +inf: not on offer.
        bias: of the unit after the change, of a shape that expands to that of `worth`.
    """

    worth: Tensor
    bias: Tensor


@dataclass(frozen=True)
class TwoValues:
    """Inputs that each have at most two values, whole ones.

    Args:
        is_high: like the inputs, 1.0 where an input has the higher of its values.
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
        return cls(is_high.to(inputs), low, high) if whole and bool((is_high | (inputs == low)).all()) else None

    @classmethod
    def of_spins(cls, outputs: Tensor) -> "TwoValues":
        """Those of a layer of units, `(R, M, n)` in {-1, +1}."""
        one = torch.ones_like(outputs[0, 0])
        return cls((outputs + 1) / 2, -one, one)


def counted_changes(unit: Unit, two: TwoValues, values: Tensor, window: int, biases: Tensor | None) -> Changes | None:
    """All changes of weights to `values (V,)` with all thresholds from -window to window, by one product of matrices.

    S_k, the worth of the points with z_i >= k, and its part over the points whose input q is high, for all k and q, are
    what all costs are made of. z must be whole.

    Args:
        biases: `(B,)`, the biases that are allowed; None: all whole ones.

    Returns:
        The changes, T thresholds each; None: too many values of k.
    """
    change = values - unit.weight[..., None]
    size = torch.maximum(two.low.abs(), two.high.abs())
    reach = window + int((change.abs().amax(2) * size).max())
    first, last = max(-reach, int(unit.z.min())), min(reach, int(unit.z.max()) + 1)
    first, last = min(first, last), max(first, last)
    if last - first >= MAX_THRESHOLDS:
        return None
    k = torch.arange(first, last + 1, device=unit.z.device, dtype=unit.z.dtype)
    high, low = _sums(unit, two.is_high, k)
    thresholds = torch.arange(-window, window + 1, device=unit.z.device, dtype=unit.z.dtype)
    worth = 0.0
    # Below the smallest z all points count, and above the largest none.
    for sums, value in ((high, two.high), (low, two.low)):
        place = thresholds - change[..., None] * value[:, None, None] - first
        place = place.clamp(0, len(k) - 1).long().flatten(2)
        worth = worth + sums.gather(2, place)
    bias = unit.bias[:, None] - thresholds
    worth = torch.as_tensor(worth).unflatten(2, (len(values), len(thresholds)))
    if biases is not None:
        worth = torch.where(torch.isin(bias, biases)[:, None, None], worth, torch.inf)
    return Changes(worth, bias[:, None, None])


def _sums(unit: Unit, is_high: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The worth of points with z_i >= k whose input q is high, `(R, n, K)`, and of those where it is low."""
    # Points above all k count for each of them, and those below or without worth for none: few others are left.
    above = torch.where(unit.z >= k[-1], unit.worth, 0.0)
    between = (unit.z >= k[0]) & (unit.z < k[-1]) & (unit.worth != 0)
    size = int(between.sum(1).max())
    if 2 * size > unit.z.shape[1]:
        z, worth, rows, always = unit.z, torch.where(between, unit.worth, 0.0), is_high, above[:, None]
    else:
        place = between.byte().topk(size, dim=1).indices
        z, worth, always = unit.z.gather(1, place), unit.worth.gather(1, place), above[:, None]
        worth = torch.where(between.gather(1, place), worth, 0.0)
        rows = (
            is_high[place]
            if is_high.dim() == 2
            else is_high.gather(1, place[..., None].expand(-1, -1, is_high.shape[2]))
        )
    part = (z[:, None] >= k[:, None]) * worth[:, None]
    high = (part @ rows + always @ is_high).mT
    return high, (part.sum(2) + above.sum(1, keepdim=True))[:, None] - high


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
    worth = unit.worth[:, None, None].expand_as(z).gather(3, order).cumsum(-1)
    worth = torch.nn.functional.pad(worth, (1, 0))
    old = unit.bias[:, None, None, None]
    if biases is not None:
        # The points whose z falls below 0 as the bias falls from the old one.
        falling = (biases - old).expand(*z.shape[:-1], -1).contiguous()
        count = torch.searchsorted((-z).contiguous(), falling, right=True)
        return Changes(worth.gather(3, count), biases)
    step = torch.ones_like(z[..., :1])
    ends = torch.cat([z[..., :1] + 2 * step, z, z[..., -1:] - (0 if whole else 2) * step], dim=-1)
    shift = ends[..., :-1] if whole else (ends[..., :-1] + ends[..., 1:]) / 2
    distinct = ends[..., :-1] > ends[..., 1:]
    distinct[..., -1] = True
    return Changes(torch.where(distinct, worth, torch.inf), old - shift)


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


def best_move(
    unit: Unit, changes: Changes, values: Tensor, penalty: float, features: Tensor, generator: torch.Generator
) -> Move:
    """The change that costs least, one of them at random where several do; leaving all as it is, is none.

    Args:
        changes: of the weights `features (n,)`; those of `unit` are in that order too.
        values: `(V,)`, of `changes`.
        penalty: what a weight other than 0 costs.
    """
    rows, n, count, thresholds = changes.worth.shape
    price = penalty * (values != 0)
    same = unit.weight[..., None] == values
    paid = price - penalty * (unit.weight != 0)[..., None]
    cost = changes.worth + paid[..., None] - unit.present()[:, None, None, None]
    # A bias alone is changed once, not once beside each weight.
    same = same[..., None] & ((torch.arange(n, device=same.device) > 0)[:, None, None] | _kept(unit, changes))
    cost = torch.where(same, torch.inf, cost).reshape(rows, -1)
    least = cost.amin(1)
    near = 1e-6 * unit.worth.abs().sum(1)
    good = cost <= (least + near)[:, None]
    count_good, each = good.sum(1), torch.arange(rows, device=cost.device)
    drawn = torch.rand(rows, generator=generator, device=generator.device).to(cost.device)
    nth = (drawn * count_good).long().clamp(max=count_good - 1)
    chosen = good.nonzero()[:, 1][count_good.cumsum(0) - count_good + nth]
    bias = changes.bias.expand(rows, n, count, thresholds).reshape(rows, -1)[each, chosen]
    feature, value = chosen // (count * thresholds), values[chosen // thresholds % count]
    return Move(least, features[feature], value, bias)


def _kept(unit: Unit, changes: Changes) -> Tensor:
    return changes.bias == unit.bias[:, None, None, None]


def as_values(numbers: Sequence[int] | None, like: Tensor) -> Tensor | None:
    """A set of whole numbers as a tensor; None: no set."""
    return None if numbers is None else torch.tensor(numbers).to(like)
