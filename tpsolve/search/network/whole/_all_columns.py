"""AllColumns: networks with whole weights by listing what every unit can output, with a proof."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import torch

from tpsolve._plain import is_real
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search._naming import find_solver
from tpsolve.search.network._whole_costs import whole_costs

MAX_LISTED = 2**27
"""Weights of a unit times points, of which columns are listed."""
MAX_CELLS = 2**27
"""Columns times points."""
MAX_UNITS = 3
_AT_ONCE = 2**24


@dataclass(frozen=True)
class AllColumns(Solver):
    """Every column that a unit of the set can give, and of these every combination that may still be better.

    A column is what a unit outputs at all points. The columns of all weights are listed once, each with its cheapest
    weights. The output unit has few tables of what it makes of its inputs. For each table the columns of the hidden
    units are chosen one by one. A choice is left out where the best that any columns of the other units could add, free
    at each point, is no better than the best network known. The columns of the last two units meet in one product of
    matrices. All costs are whole numbers, and exact. So what is found in the end is the optimum, and its bound.

    It takes network problems with a `weight_set`, two classes, and one hidden layer of up to three units that read few
    inputs: all weights of a unit times points are at most 2^27. Sums of inputs that are not whole, or that float64
    rounds, are compared as fractions. Where float64 holds no bias between two of them, the bound may be below what its
    weights reach. One step is one column that is chosen, or one list of columns for two units.

    Args:
        search_seconds: in which `integer-search` first looks for weights; only where the budget has seconds. The better
            these are, the more choices are left out.
    """

    search_seconds: float = 1.0

    name = "all-columns"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "a column chosen, or all columns of two units"
    whole = True

    def __post_init__(self) -> None:
        if not (is_real(self.search_seconds) and 0 <= self.search_seconds < math.inf):
            raise ArgumentError("search_seconds", self.search_seconds, "a finite number of at least 0")

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, NetworkProblem)
        if problem.weight_set is None:
            mend = 'Give the problem weight_set="ternary", or take circuits or dichotomies.'
            raise NotAcceptedError("problem", "real weights", f"a weight_set for {self.name}", mend)
        if problem.margin is not None:
            raise NotAcceptedError("problem", "a margin", f"none for {self.name}", "Take weight-box.")
        if problem.prices:
            raise NotAcceptedError("problem", "prices of features", f"none for {self.name}", "Take weight-box.")
        if problem.rules.shared_bias:
            raise NotAcceptedError("problem", "a shared bias", f"none for {self.name}", "Take weight-box.")
        if problem.layers[-1] > 1 or len(problem.widths) > 1 or max(problem.widths) > MAX_UNITS:
            got = f"{len(problem.classes)} classes and hidden layers of {problem.widths}"
            expected = f"two classes and one hidden layer of at most {MAX_UNITS} units for {self.name}"
            raise NotAcceptedError("problem", got, expected, "Take weight-box.")
        points, features = problem.inputs.shape
        values = _values(problem, 0, features)
        size = math.log2(points) + sum(math.log2(len(each)) for each in values)
        if size > math.log2(MAX_LISTED):
            got = f"about 2^{size:.0f} weights of a unit times points"
            mend = "Take weight-box, or fewer inputs or values."
            raise TooLargeError("problem", got, f"at most 2^{math.log2(MAX_LISTED):.0f} for {self.name}", mend)
        whole_costs(problem)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        report.offer(problem.start, weights=problem.start_weights)
        if report.pulse():
            return
        if self.search_seconds and budget.seconds is not None:
            share = min(1.0, self.search_seconds / max(1e-9, report.seconds_left))
            report.run(find_solver("integer-search"), generator, share=share)
        if report.pulse():
            return
        self.search_columns(problem, report)

    def search_columns(self, problem: NetworkProblem, report: Report, max_nonzero: int | None = None) -> None:
        """Look at all columns, from the weights of the report if it has some.

        Args:
            max_nonzero: how many weights other than 0 are allowed; what is proved is proved of such networks alone.
        """
        search = _Search(problem, report, max_nonzero)
        try:
            ended = search.run()
        except _TooManyError:
            text = f"units can give more columns than {MAX_CELLS // len(problem.inputs)}, so they were not listed"
            report.note(torch.zeros(1, dtype=torch.int64), text)
            return
        if ended:
            # Costs are whole multiples of it.
            report.prove(search.least * float(problem.least_difference().max()))


class _StoppedError(Exception):
    """The budget is spent, or the callback said stop."""


class _TooManyError(Exception):
    """Columns, for the memory."""


@dataclass(frozen=True)
class _Columns:
    """What a unit can give.

    Args:
        outputs: `(N, M)` in {0, 1}.
        prices: `(N,)`, the least of weights that give them.
        weights: `(N, n)`, such weights.
        biases: `(N,)`; of sums that are compared as fractions see `_Search._of_fractions`.
    """

    outputs: np.ndarray
    prices: np.ndarray
    weights: np.ndarray
    biases: np.ndarray


class _Search:
    """The search for the network that costs least, as whole multiples of the problem's `least_difference`.

    Attributes:
        least: what no network costs less than, once `run` has ended.
    """

    def __init__(self, problem: NetworkProblem, report: Report, max_nonzero: int | None) -> None:
        self._problem, self._report = problem, report
        self._room = math.inf if max_nonzero is None else max_nonzero
        counts, price = whole_costs(problem)
        self._gain = np.array([high - low for low, high in counts], dtype=np.float64)
        self._none = float(sum(high for _, high in counts))
        self._price = float(price)
        known = report.objective.max().item()
        measure = float(problem.least_difference().max())
        # Rounded up: a network that costs just as much is not looked for again.
        self.least = math.ceil(known / measure - 1e-6) if math.isfinite(known) else math.inf
        # `(M, n)` whole numbers of Python, which are the inputs times `_scale`; None: int64 holds all sums.
        self._whole: np.ndarray | None = None
        self._scale = 1
        if problem.exact is not None or not problem.has_whole_inputs:
            rows = problem.inputs.tolist() if problem.exact is None else problem.exact.points()
            fractions = [list(map(Fraction, row)) for row in rows]
            self._scale = math.lcm(*(v.denominator for row in fractions for v in row))
            self._whole = np.array([[int(v * self._scale) for v in row] for row in fractions], dtype=object)

    def run(self) -> bool:
        """Whether all choices were looked at."""
        (width,) = self._problem.widths
        try:
            points = self._problem.inputs.cpu().numpy()
            codes = np.array(list(itertools.product((-1.0, 1.0), repeat=width)))
            above = self._columns(codes, 1)
            tables = list(self._tables(above, width))
            self._hidden = self._columns(points, 0, self._hopes(above, tables, width))
            exact = self._none + np.abs(self._gain).sum() + self._price * (width + 1) * points.shape[1] < 2**23
            self._outputs = self._hidden.outputs.astype(np.float32 if exact else np.float64)
            self._paid = self._hidden.prices * self._price
            self._gain = self._gain.astype(self._outputs.dtype)
            self._cheapest = int(self._hidden.prices.argmin())
            for table in tables:
                room = self._room - float(above.prices[table])
                if room < width * self._hidden.prices.min():
                    continue
                shape = (*[2] * width, len(points))
                values = (above.outputs[table].astype(self._gain.dtype)[:, None] * self._gain).reshape(shape)
                self._table = above.weights[table], above.biases[table]
                self._choose(values, float(above.prices[table] * self._price), room, tuple(range(width)), {})
        except _StoppedError:
            return False
        return True

    def _tables(self, above: _Columns, width: int) -> Iterator[int]:
        """Of tables that differ in the order of the units one, and it is enough."""
        seen: set[bytes] = set()
        for number, outputs in enumerate(above.outputs):
            cube = outputs.reshape([2] * width)
            same = [cube.transpose(order).tobytes() for order in itertools.permutations(range(width))]
            if seen.isdisjoint(same):
                seen.update(same)
                yield number

    def _hopes(self, above: _Columns, tables: list[int], width: int) -> tuple[np.ndarray, np.ndarray]:
        """What a column gains with each table in each place, `column @ slopes + constants`, were other units free."""
        slopes, constants = [], []
        for table in tables:
            values = (above.outputs[table].astype(float)[:, None] * self._gain).reshape(*[2] * width, -1)
            for place in range(width):
                others = tuple(k for k in range(width) if k != place)
                best = values.max(axis=others)
                slopes.append(best[1] - best[0])
                constants.append(best[0].sum() - above.prices[table] * self._price)
        return np.array(slopes).T, np.array(constants)

    def _choose(
        self, values: np.ndarray, paid: float, room: float, units: tuple[int, ...], chosen: dict[int, int]
    ) -> None:
        """Choose the columns of the units that are left, given what each of their outputs gains at each point.

        Args:
            values: `(2, ..., 2, M)`, an axis a unit.
            paid: for the weights of the units that are chosen, and of the output unit.
            room: how many weights other than 0 the units that are left may have.
            units: that are left.
            chosen: the columns of the others.
        """
        self._step()
        if not units:
            self._see(float(values.sum(dtype=np.float64)) - paid, chosen)
            return
        needless = [k for k in range(len(units)) if np.array_equal(values.take(0, k), values.take(1, k))]
        if needless:
            axis = needless[0]
            rest = (*units[:axis], *units[axis + 1 :])
            cheap = paid + float(self._paid[self._cheapest])
            room -= float(self._hidden.prices[self._cheapest])
            self._choose(values.take(0, axis), cheap, room, rest, {**chosen, units[axis]: self._cheapest})
            return
        others = len(units) - 1
        high = values.max(axis=tuple(range(1, len(units)))) if others else values
        gains = self._sums(high) - self._paid - paid - others * self._paid[self._cheapest]
        gains[self._hidden.prices > room - others * self._hidden.prices[self._cheapest]] = -math.inf
        if not others:
            best = int(gains.argmax())
            self._see(float(gains[best]), {**chosen, units[0]: best})
            return
        rows = np.flatnonzero(gains > self._needed())
        rows = rows[np.argsort(-gains[rows], kind="stable")]
        if others == 1:
            self._pairs(values, paid, room, rows, units, chosen)
            return
        for row in rows.tolist():
            if gains[row] <= self._needed():
                return
            rest = np.where(self._outputs[row] > 0, values[1], values[0])
            left = room - float(self._hidden.prices[row])
            self._choose(rest, paid + float(self._paid[row]), left, units[1:], {**chosen, units[0]: row})

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """Of `values (2, M)` of a unit's outputs the sum over the points for each column."""
        return values[0].sum(dtype=np.float64) + self._outputs @ (values[1] - values[0])

    def _pairs(
        self,
        values: np.ndarray,
        paid: float,
        room: float,
        first: np.ndarray,
        units: tuple[int, ...],
        chosen: dict[int, int],
    ) -> None:
        """Choose the columns of two units: that of the first one is of `first`."""
        second_on, first_on = values[0, 1] - values[0, 0], values[1, 0] - values[0, 0]
        both = values[1, 1] - values[1, 0] - second_on
        gains = self._sums(values.max(axis=0)) - self._paid - paid - self._paid[self._cheapest]
        second = np.flatnonzero(gains > self._needed())
        others = self._outputs[second]
        alone = others @ second_on - self._paid[second]
        constant = float(values[0, 0].sum(dtype=np.float64)) - paid
        step = max(1, _AT_ONCE // max(1, len(second), others.shape[1]))
        for start in range(0, len(first) if len(second) else 0, step):
            self._step()
            rows = first[start : start + step]
            own = self._outputs[rows]
            total = (own * both) @ others.T + alone + (own @ first_on - self._paid[rows])[:, None]
            if room < math.inf:
                prices = self._hidden.prices
                total[prices[rows][:, None] + prices[second] > room] = -math.inf
            row, other = divmod(int(total.argmax()), len(second))
            pair = {units[0]: int(rows[row]), units[1]: int(second[other])}
            self._see(constant + float(total[row, other]), {**chosen, **pair})

    def _needed(self) -> float:
        """A network must gain more than that."""
        return self._none - self.least

    def _see(self, gain: float, chosen: dict[int, int]) -> None:
        if gain <= self._needed():
            return
        self.least = round(self._none - gain)
        rows = [chosen[unit] for unit in range(len(chosen))]
        weight, bias = self._table
        network = self._problem.check_weights(
            [
                (self._hidden.weights[rows].tolist(), [self._bias(row) for row in rows]),
                ([weight.tolist()], [int(bias)]),
            ]
        )
        targets = self._problem.from_weights(network)
        self._report.offer(targets.expand(len(self._report.objective), -1), weights=network)

    def _step(self) -> None:
        if self._report.step():
            raise _StoppedError

    def _columns(self, points: np.ndarray, layer: int, hopes: tuple[np.ndarray, np.ndarray] | None = None) -> _Columns:
        """Those of a unit of `layer` at `points (M, n)`, each once.

        Args:
            hopes: those of `_hopes`: columns that can be part of nothing better are left out, but for a cheapest one.
        """
        n, found = points.shape[1], list[_Columns]()
        every = itertools.product(*_values(self._problem, layer, n))
        limits = self._problem.rules.limits(layer, n)
        biases = len(self._problem.bias_set or points) + 1
        step, size = max(1, _AT_ONCE // (len(points) * biases)), 0
        while chunk := list(itertools.islice(every, step)):
            if self._report.pulse():
                raise _StoppedError
            weights = np.array(chunk, dtype=np.int64)
            for group, most in limits:
                weights = weights[(weights[:, list(group)] != 0).sum(1) <= most]
            if len(weights):
                of = self._of_weights if layer or self._whole is None else self._of_fractions
                found.append(of(points, weights, hopes))
                if sum(len(part.prices) for part in found[1:]) > size:
                    found = [_merged(found)]
                    size = len(found[0].prices)
                if max(size, len(found[0].prices)) * len(points) > MAX_CELLS:
                    raise _TooManyError
        every_column = _merged(found)
        bits = np.unpackbits(every_column.outputs, axis=1, count=len(points))
        return _Columns(bits, every_column.prices, every_column.weights, every_column.biases)

    def _of_weights(
        self, points: np.ndarray, weights: np.ndarray, hopes: tuple[np.ndarray, np.ndarray] | None
    ) -> _Columns:
        """The columns of `weights (C, n)` with all biases, packed."""
        sums = weights @ points.T.astype(np.int64)
        low, high = int(sums.min()), int(sums.max()) + 2
        if self._problem.bias_set is not None:
            levels = -np.array(self._problem.bias_set)
            levels = np.broadcast_to(levels, (len(sums), len(levels)))
        elif high - low <= len(points) + 1:
            levels = np.broadcast_to(np.arange(low, high), (len(sums), high - low))
        else:
            levels = np.concatenate([np.sort(sums, axis=1), sums.max(axis=1, keepdims=True) + 1], axis=1)
        outputs = (sums[:, None] >= levels[..., None]).reshape(-1, len(points))
        return self._kept(outputs, weights, -levels.ravel(), hopes)

    def _of_fractions(
        self, points: np.ndarray, weights: np.ndarray, hopes: tuple[np.ndarray, np.ndarray] | None
    ) -> _Columns:
        """As `_of_weights`, of sums that are compared without rounding.

        Where any bias is allowed, k stands for one with which just the k smallest of different sums are below 0.
        """
        assert self._whole is not None
        sums = weights.astype(object) @ self._whole.T
        if (biases := self._problem.bias_set) is not None:
            levels = np.array([-bias * self._scale for bias in biases], dtype=object)
            outputs = (sums[:, None] >= levels[:, None]).astype(bool)
            return self._kept(outputs.reshape(-1, len(points)), weights, np.tile(biases, len(sums)), hopes)
        ranks = np.array([np.unique(row, return_inverse=True)[1] for row in sums])
        levels = np.arange(len(points) + 1)
        outputs = ranks[:, None] >= levels[:, None]
        return self._kept(outputs.reshape(-1, len(points)), weights, np.tile(levels, len(sums)), hopes)

    def _bias(self, row: int) -> float:
        """The bias of a column of a hidden unit, in float64; if it has none that gives the column, one near it."""
        bias = self._hidden.biases[row]
        if self._whole is None or self._problem.bias_set is not None:
            return bias.item()
        sums = sorted(set((self._hidden.weights[row].astype(object) @ self._whole.T).tolist()))
        low = Fraction(sums[bias - 1], self._scale) if bias else None
        high = Fraction(sums[bias], self._scale) if bias < len(sums) else None
        if low is None or high is None:
            # All sums on one side, whatever is rounded.
            end = high if high is not None else low
            assert end is not None
            return float(-end) + (1 if low is None else -1) * (1 + abs(float(end)) * 2**-40)
        middle = float(-(low + high) / 2)
        near = (middle, float(-high), math.nextafter(middle, math.inf), math.nextafter(middle, -math.inf))
        return next((one for one in near if high + Fraction(one) >= 0 > low + Fraction(one)), middle)

    def _kept(
        self,
        outputs: np.ndarray,
        weights: np.ndarray,
        biases: np.ndarray,
        hopes: tuple[np.ndarray, np.ndarray] | None,
    ) -> _Columns:
        """The columns `outputs (C * count, M)` of `weights (C, n)`, packed; none that can be part of nothing better."""
        count = len(outputs) // len(weights)
        prices = np.repeat((weights != 0).sum(1), count)
        kept = np.arange(len(outputs))
        if hopes is not None:
            slopes, constants = hopes
            gains = (outputs.astype(slopes.dtype) @ slopes + constants).max(axis=1) - prices * self._price
            kept = np.flatnonzero((gains > self._needed()) | (kept == prices.argmin()))
        packed = np.packbits(outputs[kept], axis=-1)
        return _merged([_Columns(packed, prices[kept], weights[kept // count], biases[kept])])


def _merged(parts: list[_Columns]) -> _Columns:
    """Each column once, with the cheapest weights that give it."""
    outputs, prices, weights, biases = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("outputs", "prices", "weights", "biases")
    )
    order = np.argsort(prices, kind="stable")
    packed = np.ascontiguousarray(outputs[order]).view(np.dtype((np.void, outputs.shape[1])))[:, 0]
    first = order[np.unique(packed, return_index=True)[1]]
    return _Columns(outputs[first], prices[first], weights[first], biases[first])


def _values(problem: NetworkProblem, layer: int, n: int) -> list[list[int]]:
    """What each of `n` weights of a unit of `layer` may be."""
    values = torch.tensor(problem.weight_set)
    allowed = problem.rules.allowed(layer, n, values)
    return [values.tolist()] * n if allowed is None else [values[row].tolist() for row in allowed]
