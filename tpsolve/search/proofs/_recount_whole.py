"""Tries all whole weights of a set anew; nothing here is shared with the search that claims a bound.

All columns that a hidden unit can give are listed, each with the fewest weights other than 0 that give it, and all
truth tables of the output unit. Then every set of columns meets every table; a column is left out of a table that would
not do with it, were the outputs of the other units free at each point.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations, product
from typing import Any

import numpy as np

from tpsolve.search.proofs._recount import Costs, OutOfTimeError

MAX_TRIED = 2**25
"""Weights of a unit that are tried, times points."""
MAX_KEPT = 2**26
"""Columns that may be part of a cheaper network, times points."""
_AT_ONCE = 2**20


@dataclass(frozen=True)
class Rules:
    """Of a proof: which weights of the set count.

    Args:
        monotone: of each input -1, 0 or +1, the sign of its weights in the first layer; with it no weight above is
            negative. Empty: no rule.
        max_fan_in: weights other than 0 of each unit; None: any number.
        groups: of inputs, and how many of their weights in a unit of the first layer may be other than 0.
    """

    monotone: Sequence[int] = ()
    max_fan_in: int | None = None
    groups: Sequence[tuple[Sequence[int], int]] = ()

    def limits(self, n: int, *, lowest: bool) -> list[tuple[Sequence[int], int]]:
        """Of a unit that reads `n` outputs, or inputs of the data where it is of the `lowest` layer."""
        every = [] if self.max_fan_in is None else [(range(n), self.max_fan_in)]
        return [*(self.groups if lowest else ()), *every]

    def broken(self, weights: Sequence[Sequence[float]], *, lowest: bool) -> str:
        """What rule the weights of units of one layer break, in words; empty: none."""
        for weight in weights:
            signs = self.monotone if lowest else [1] * len(weight)
            if self.monotone and any(w * sign < 0 for w, sign in zip(weight, signs, strict=True)):
                return "a weight of a sign that is not allowed"
            for group, most in self.limits(len(weight), lowest=lowest):
                if sum(weight[k] != 0 for k in group) > most:
                    return f"more than {most} weights other than 0"
        return ""


Columns = dict[bytes, int]
"""Outputs of a unit in {0, 1} as bits, eight a byte, and the fewest weights other than 0 that give them."""


def whole_weights(
    points: list[list[int]],
    unit: int,
    costs: Costs,
    classes: tuple[Any, ...],
    width: int,
    weight_set: Sequence[int],
    bias_set: Sequence[int] | None,
    penalty: Fraction,
    bound: Fraction,
    until: float,
    rules: Rules = Rules(),
) -> bool | None:
    """Whether all networks of one hidden layer, two classes and weights of a set cost at least `bound`.

    Args:
        points: whole coordinates, `unit` times those of the data.
        costs: of each point the weight of its labels.
        width: hidden units.
        bias_set: None: all biases.
        penalty: of each weight other than 0.
        until: reading of `time.monotonic` at which it gives up.
        rules: which weights count besides.

    Returns:
        None: there are too many weights to try, or costs that float64 does not hold exactly.

    Raises:
        OutOfTimeError: it gave up.
    """
    low, high = classes
    gains = [cost.get(high, Fraction(0)) - cost.get(low, Fraction(0)) for cost in costs]
    most = sum((cost.get(high, Fraction(0)) for cost in costs), Fraction(0)) - bound
    below = math.lcm(most.denominator, penalty.denominator, *(g.denominator for g in gains))
    size = (sum(abs(g) for g in gains) + abs(most) + penalty * width * (len(points[0]) + 1)) * below
    codes = [list(code) for code in product((0, 1), repeat=width)]
    signs = [[2 * bit - 1 for bit in code] for code in codes]
    scaled = None if bias_set is None else [unit * bias for bias in bias_set]
    hidden = _columns(points, weight_set, scaled, until, rules.monotone, rules.limits(len(points[0]), lowest=True))
    raised = [1] * width if rules.monotone else ()
    above = _columns(signs, weight_set, bias_set, until, raised, rules.limits(width, lowest=False))
    if size >= 2**50 or not hidden or not above:
        return None
    prices = np.array([float(count * penalty * below) for count in hidden.values()])
    tables, table_prices = (
        _unpacked(list(above), len(codes)),
        np.array([float(c * penalty * below) for c in above.values()]),
    )
    value, limit = np.array([float(g * below) for g in gains]), float(most * below)
    cheapest = (width - 1) * prices.min() + table_prices
    listed, kept = list(hidden), list[np.ndarray]()
    step = max(1, _AT_ONCE // len(points))
    for first in range(0, len(listed), step):
        part = _unpacked(listed[first : first + step], len(points))
        most_of = [_most(part, value, tables, [code[unit] for code in codes]) - cheapest for unit in range(width)]
        best = np.max(most_of, axis=(0, 2)) - prices[first : first + step]
        kept.append(first + np.flatnonzero(best > limit))
    good = np.concatenate(kept)
    if len(good) * len(points) > MAX_KEPT:
        return None
    outputs, prices = _unpacked([listed[k] for k in good.tolist()], len(points)), prices[good]
    most_of = [
        _most(outputs, value, tables, [code[unit] for code in codes]) - prices[:, None] - cheapest
        for unit in range(width)
    ]
    seen: set[bytes] = set()
    for number, (table, price) in enumerate(zip(tables, table_prices, strict=True)):
        # Units may be exchanged: of tables that differ in their order one is enough.
        cube = table.reshape([2] * width)
        same = [cube.transpose(order).tobytes() for order in permutations(range(width))]
        if not seen.isdisjoint(same):
            continue
        seen.update(same)
        rows = [np.flatnonzero(most[:, number] > limit) for most in most_of]
        for others in product(*(part.tolist() for part in rows[:-2])):
            fixed = float(prices[list(others)].sum()) + price
            # Of the points where the units chosen give each code: what an output 1 gains, and the table's other part.
            parts = [
                (value * np.all(outputs[list(others)] == np.array(code)[:, None], axis=0), cube[code])
                for code in product((0, 1), repeat=max(0, width - 2))
            ]
            last = rows[-1]
            # A single unit is the last one, beside one that is always 0.
            before = rows[-2] if width > 1 else np.zeros(1, dtype=np.int64)
            step = max(1, _AT_ONCE // max(1, len(last), len(points)))
            for first in range(0, len(before) if len(last) else 0, step):
                if time.monotonic() > until:
                    raise OutOfTimeError
                chosen = before[first : first + step]
                own = outputs[chosen] if width > 1 else np.zeros((1, len(points)))
                paid = (prices[chosen] if width > 1 else np.zeros(1))[:, None] + prices[last] + fixed
                gain = np.zeros((len(own), len(last)))
                for part, square in parts:
                    corner = square if width > 1 else np.stack([square, square])
                    both, above = (own * part) @ outputs[last].T, outputs[last] @ part
                    one = (own @ part)[:, None]
                    gain += corner[1, 1] * both + corner[1, 0] * (one - both) + corner[0, 1] * (above - both)
                    gain += corner[0, 0] * (part.sum() - one - above + both)
                if (gain - paid > limit).any():
                    return False
    return True


def _unpacked(columns: list[bytes], length: int) -> np.ndarray:
    """The bits of columns `(N, length)` float64."""
    packed = np.frombuffer(b"".join(columns), dtype=np.uint8).reshape(len(columns), (length + 7) // 8)
    return np.unpackbits(packed, axis=1, count=length).astype(np.float64)


def _most(outputs: np.ndarray, value: np.ndarray, tables: np.ndarray, bits: list[int]) -> np.ndarray:
    """The most that each column `(N, M)` gains with each table, `(N, tables)`, where other units may output anything.

    Args:
        value: `(M,)`, what an output 1 of the network gains at each point.
        bits: what the unit of the column outputs in each code.
    """
    ends = []
    for bit in (0, 1):
        own = tables[:, [k for k, b in enumerate(bits) if b == bit]]
        # Of the outputs that the table can give, the better one at each point.
        low, high = own.min(axis=1, keepdims=True), own.max(axis=1, keepdims=True)
        ends.append(np.where(low > 0, value, np.where(high > 0, np.maximum(value, 0), 0)))
    return ends[0].sum(1) + outputs @ (ends[1] - ends[0]).T


def _columns(
    points: list[list[int]],
    weight_set: Sequence[int],
    biases: Sequence[int] | None,
    until: float,
    signs: Sequence[int],
    limits: Sequence[tuple[Sequence[int], int]],
) -> Columns | None:
    """All that a unit outputs at `points`, +1 where weights . x + bias >= 0; None: there are too many weights.

    Sums that int64 does not hold are whole numbers of Python.
    """
    n = len(points[0])
    largest = max(map(abs, weight_set)) * max(sum(map(abs, row)) for row in points)
    allowed = [[w for w in weight_set if w * sign >= 0] for sign in signs or [0] * n]
    tried = sum(math.log2(max(1, len(values))) for values in allowed)
    if tried + math.log2(len(points)) > math.log2(MAX_TRIED):
        return None
    kind = np.int64 if largest < 2**62 else object
    table = np.array(points, dtype=kind).T
    found: Columns = {}
    for number, weight in enumerate(product(*allowed)):
        if number % 1000 == 0 and time.monotonic() > until:
            raise OutOfTimeError
        if any(sum(weight[k] != 0 for k in group) > most for group, most in limits):
            continue
        sums, count = np.array(weight, dtype=kind) @ table, sum(w != 0 for w in weight)
        levels = np.unique(sums)
        thresholds = [*levels.tolist(), int(levels[-1]) + 1]
        if biases is not None:
            # Of all biases those that give different columns.
            thresholds = sorted({thresholds[int(np.searchsorted(levels, -bias))] for bias in biases})
        for threshold in thresholds:
            column = np.packbits(sums >= threshold).tobytes()
            found[column] = min(count, found.get(column, count))
    return found
