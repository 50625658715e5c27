"""The network target problem as clauses: which targets may be, and what they cost.

Literals are whole numbers as in DIMACS: v says that variable v is true, -v that it is false. The clauses
are a relaxation: they hold for the targets of every network, but allow columns of hidden targets that are
not separable. Circuits, added as they are found, forbid those.

Every unit above the first hidden layer is a truth table, one variable for each input pattern b in
{0, 1}^n. Pattern number b has bit j set where unit j below outputs +1.
"""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from tpsolve.problems import NetworkProblem
from tpsolve.search.network._error_measure import always_paid, error_measure

Clause = list[int]
MAX_COUNTED = 1000
"""Costs up to which `totalizer` counts with fewer than a million clauses."""
_LOOK_EVERY = 1000
"""Clauses between two looks at the clock."""


class StoppedError(Exception):
    """The clock said stop while clauses were made."""


def while_time(items: Iterable[Any], stop: Callable[[], bool]) -> Iterator[Any]:
    """The items, with a look at the clock now and then.

    Raises:
        StoppedError: `stop` said so.
    """
    for number, item in enumerate(items):
        if number % _LOOK_EVERY == _LOOK_EVERY - 1 and stop():
            raise StoppedError
        yield item


def never() -> bool:
    """For those who have time."""
    return False


class NetworkFormula:
    """Variables and clauses of a problem.

    Args:
        problem: whose targets they describe.
        stop: asked now and then; True ends it with a `StoppedError`.

    Attributes:
        hidden: for each hidden layer its targets, `(M, units)` variables.
        gates: for each layer above the first hidden one its truth tables, `(units, 2^n)` variables.
        outputs: `(M, classes)` variables: true only if the outputs at the point name the class; 0 where no
            sample has it.
        costs: literals and what each of them, if true, adds to the objective.
        paying: the point of each of these literals.
        base: what contradictory labels add always.
    """

    def __init__(self, problem: NetworkProblem, stop: Callable[[], bool] = never) -> None:
        self._stop = stop
        self.count = 0
        self.clauses: list[Clause] = []
        points = len(problem.inputs)
        self.hidden = [self.new(points, width) for width in problem.widths]
        sizes = zip(problem.layers[1:], problem.layers, strict=False)
        self.gates = [self.new(units, 2**inputs) for units, inputs in sizes]
        for layer, gates in enumerate(self.gates):
            # Negating and permuting the units below changes nothing else: the first gate may be monotone and regular.
            self.monotone(gates[0], problem.layers[layer])
            for gate in gates[1:]:
                self.threshold(gate, problem.layers[layer])
            self.order_equals(gates[0], self.hidden[layer])
        for layer, gates in enumerate(self.gates[:-1]):
            for unit, gate in enumerate(gates):
                rows = zip(self.hidden[layer].tolist(), self.hidden[layer + 1][:, unit].tolist(), strict=True)
                for below, above in while_time(rows, stop):
                    self.wire(gate, below, [-above], 1, monotone=unit == 0)
                    self.wire(gate, below, [above], -1, monotone=unit == 0)
        self.paying: list[int] = []
        self.outputs, self.costs, self.base = self._label(problem)

    def new(self, *shape: int) -> np.ndarray:
        """Fresh variables of this shape."""
        first = self.count + 1
        self.count += int(np.prod(shape))
        return np.arange(first, self.count + 1).reshape(shape)

    def monotone(self, gate: np.ndarray, inputs: int) -> None:
        """A truth table that rises in each input, and for which an earlier input is at least as strong as a later.

        Every threshold function is such a table after negating and permuting inputs (Muroga, "Threshold
        Logic and Its Applications", 1971, chapter 3). From 6 inputs on that is not enough: see `threshold`.
        """
        for b in range(2**inputs):
            for j in range(inputs):
                if not b >> j & 1:
                    self.clauses.append([int(-gate[b]), int(gate[b | 1 << j])])
            for j in range(inputs - 1):
                if b >> j & 3 == 2:
                    self.clauses.append([int(-gate[b]), int(gate[b ^ 3 << j])])
        if inputs >= 6:
            self.threshold(gate, inputs)

    def threshold(self, gate: np.ndarray, inputs: int) -> None:
        """No patterns a + b = c + d with gate(a) = gate(b) = 1 and gate(c) = gate(d) = 0.

        Weights w would give w.a + w.b > w.c + w.d. Up to 8 inputs nothing else is needed (Muroga, 1971, chapter 7).
        """
        for first, second in while_time(asummable(inputs), self._stop):
            values = [int(gate[b]) for b in (*first, *second)]
            self.clauses.append([-values[0], -values[1], values[2], values[3]])
            self.clauses.append([values[0], values[1], -values[2], -values[3]])

    def wire(self, gate: np.ndarray, below: list[int], unless: Clause, value: int, *, monotone: bool) -> None:
        """Unless a literal of `unless` holds, the gate has this `value` (+1 or -1) where the inputs are `below`."""
        for b in range(len(gate)):
            # A monotone gate that is 0 here is 0 at all patterns below, and 1 at all above where it is 1.
            clause = [
                -x if b >> j & 1 else x for j, x in enumerate(below) if not monotone or (b >> j & 1) == (value < 0)
            ]
            self.clauses.append([*unless, *clause, int(value * gate[b])])

    def order_equals(self, gate: np.ndarray, columns: np.ndarray) -> None:
        """Where neighbours are equally strong in `gate`, their `columns` are in lexicographic order."""
        points, inputs = columns.shape
        for j in range(inputs - 1):
            # stronger: some pattern tells the two apart.
            patterns = [b for b in range(len(gate)) if b >> j & 3 == 1]
            tells = self.new(len(patterns))
            for variable, b in zip(tells.tolist(), patterns, strict=True):
                self.clauses += [[-variable, int(gate[b])], [-variable, int(-gate[b ^ 3 << j])]]
            stronger, *equal = self.new(points + 1).tolist()
            self.clauses.append([-stronger, *tells.tolist()])
            # equal[i]: the columns agree above point i. If neither stronger nor different before, first >= second.
            self.clauses.append([equal[0]])
            for i, (first, second) in while_time(enumerate(columns[:, j : j + 2].tolist()), self._stop):
                self.clauses.append([stronger, -equal[i], first, -second])
                if i + 1 < points:
                    self.clauses += [[-equal[i], first, equal[i + 1]], [-equal[i], -second, equal[i + 1]]]

    def circuit(self, samples: Iterable[int], signs: Iterable[int]) -> Iterator[Clause]:
        """No unit of the first layer gives all of `samples` these `signs`, nor the negated ones."""
        return self.circuits(np.array([list(samples)]), np.array([list(signs)]))

    def circuits(self, samples: np.ndarray, signs: np.ndarray) -> Iterator[Clause]:
        """As `circuit`, for each row of `samples` and `signs` `(C, k)`, filled up with sign 0."""
        literals = (self.hidden[0][samples] * signs[..., None]).transpose(0, 2, 1).reshape(-1, samples.shape[1])
        # In parts: many lists at once would set off the garbage collector, which takes longer than all of this.
        for part in np.array_split(literals, len(literals) // 256 + 1):
            for row in part.tolist():
                clause = row if 0 not in row else [literal for literal in row if literal]
                yield clause
                yield [-literal for literal in clause]

    def _label(self, problem: NetworkProblem) -> tuple[np.ndarray, list[tuple[int, Fraction]], Fraction]:
        counts = [[Fraction(value) for value in row] for row in problem.counts.tolist()]
        outputs, costs = np.zeros(problem.counts.shape, dtype=int), []
        units = self.gates[-1]
        for i, below in while_time(enumerate(self.hidden[-1].tolist()), self._stop):
            ranked = sorted((c for c, weight in enumerate(counts[i]) if weight), key=lambda c: (-counts[i][c], c))
            names: Clause = []
            for place, c in enumerate(ranked):
                outputs[i, c] = named = int(self.new(1)[0])
                names.append(named)
                for unit, gate in enumerate(units):
                    fires = c == unit if len(units) > 1 else c == 1
                    self.wire(gate, below, [-named], 1 if fires else -1, monotone=unit == 0)
                # Two classes with one unit: if not the one, then the other.
                if len(names) == 2 and len(units) == 1:
                    self.clauses.append(names)
                    continue
                price = counts[i][c] - sum(counts[i][following] for following in ranked[place + 1 : place + 2])
                if price:
                    costs.append((self._none_of(names), price))
                    self.paying.append(i)
        return outputs, costs, always_paid(problem)

    def _none_of(self, names: Clause) -> int:
        if len(names) == 1:
            return -names[0]
        none = int(self.new(1)[0])
        self.clauses.append([none, *names])
        return none


def trivial_cost(problem: NetworkProblem) -> int:
    """What the best constant network costs above what is always paid, in multiples of `error_measure`."""
    extra = Fraction(problem.counts.amax(1).sum().item()) - Fraction(problem.counts.sum(0).max().item())
    return round(extra / error_measure(problem))


def asummable(inputs: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of pairs of patterns with equal sums, each once."""
    sums: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for a, b in combinations(range(2**inputs), 2):
        key = tuple((a >> j & 1) + (b >> j & 1) for j in range(inputs))
        sums.setdefault(key, []).append((a, b))
    for pairs in sums.values():
        yield from combinations(pairs, 2)


def totalizer(
    count: int, costs: list[tuple[int, int]], max_sum: int, stop: Callable[[], bool] = never
) -> tuple[list[Clause], dict[int, int], int]:
    """Clauses, for each sum up to the first above `max_sum` a variable that is true if it is reached, and their count.

    A tree whose nodes add up the costs of their literals (Joshi, Martins and Manquinho, "Generalized totalizer
    encoding for pseudo-Boolean constraints", 2015). One direction only: a false variable says that the sum
    is less. Variables above `count` are new. `stop` is asked now and then; True ends it with a `StoppedError`.
    """
    return added_up(count, [{cost: literal} for literal, cost in costs], max_sum, stop)


def added_up(
    count: int, nodes: list[dict[int, int]], max_sum: int, stop: Callable[[], bool] = never
) -> tuple[list[Clause], dict[int, int], int]:
    """As `totalizer`, of nodes that have a variable for each sum already."""
    clauses: list[Clause] = []
    while len(nodes) > 1:
        merged = []
        for left, right in zip(nodes[::2], nodes[1::2], strict=False):
            pairs = [(a, b) for a in (0, *left) for b in (0, *right) if a or b]
            sums = sorted({min(a + b, max_sum + 1) for a, b in pairs})
            node = {value: count + 1 + k for k, value in enumerate(sums)}
            count += len(node)
            for a, b in while_time(pairs, stop):
                parts = [-side[part] for side, part in ((left, a), (right, b)) if part]
                clauses.append([*parts, node[min(a + b, max_sum + 1)]])
            clauses += [[-node[high], node[low]] for low, high in pairwise(sums)]
            merged.append(node)
        nodes = merged + nodes[2 * len(merged) :]
    return clauses, nodes[0] if nodes else {}, count
