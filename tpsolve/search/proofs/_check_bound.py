"""Refutes that a network makes fewer errors than a bound; nothing here is shared with the search that proved it.

The clauses are written from their definition:

- x[i, j]: hidden unit j outputs +1 at distinct point i. No unit gives a circuit its signs, or their negation.
- Each unit above is a truth table over the units below, tied to its output at each point. No table has patterns
  a + b = c + d with 1 at a and b and 0 at c and d.
- The table of a layer's first unit rises in every input and no input is stronger than an earlier one, since the
  units below may be negated and permuted.
- A point costs the weight of its samples whose label its outputs don't name; costs sum up to less than the bound.

There is one case for each table that the unit above the first hidden layer may have, and each is refuted on its
own: 17 cases for 4 units. Two things more hold in a case without loss of generality:

- Units below that its table treats alike may be permuted, so their columns are in lexicographic order.
- If nothing else reads the units below, each of them matters. One that doesn't can be +1 at all points, and be
  joined to the table by "and", or -1 and "or".
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import combinations, pairwise, permutations
from pathlib import Path
from typing import Any

from tpsolve.errors import UnknownNameError
from tpsolve.search.proofs._clausal import is_refutation
from tpsolve.search.proofs._recount import OutOfTimeError

ENGINES = ("cadical195", "glucose4", "cp-sat")
CLAUSAL = {"clausal": "glucose4", "clausal-cadical": "cadical195"}
"""In place of an engine: each lemma that this one logs is checked, so that the engine need not be trusted."""
MAX_SPLIT = 5
"""Inputs of a table up to which there is a case for each: 119 tables. With more there is one case."""
Clause = list[int]
Table = tuple[int, ...]


def refutes(formula: "Formula", limit: int, engine: str, seconds: float) -> bool | None:
    """Whether the engine proves that costs of at most `limit` are impossible; None: no answer within `seconds`.

    Raises:
        UnknownNameError: no such engine.
    """
    if engine in CLAUSAL:
        return _clausal(formula, limit, CLAUSAL[engine], seconds)
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, (*ENGINES, *CLAUSAL))
    return (_cp_sat if engine == "cp-sat" else _sat)(formula, limit, engine, seconds)


class Formula:
    """Clauses over variables from 1.

    Args:
        widths: units of the hidden layers.
        classes: labels in sorted order.
        costs: at each distinct point the weight of each label; `below` times that is whole.
        learned: clauses that circuits give; variable 1 + units * i + j says that unit j outputs +1 at point i.

    Attributes:
        clauses: what holds always.
        cases: clauses of each case; one of the cases holds.
        costs: literals and the whole numbers that they add if they are true.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        classes: tuple[Any, ...],
        costs: list[dict[Any, Fraction]],
        below: int,
        learned: Iterable[Clause],
    ) -> None:
        self.count = 0
        self.clauses: list[Clause] = []
        self.costs: list[tuple[int, int]] = []
        outputs = len(classes) if len(classes) > 2 else 1
        # The variables of the first layer are the first ones, point by point.
        columns = [[self.new(width) for _ in costs] for width in (*widths, outputs)]
        self.clauses += learned
        firsts: list[list[int]] = []
        for inputs, units in pairwise(columns):
            for unit in range(len(units[0])):
                gate = self._gate(len(inputs[0]), first=unit == 0)
                for values, row in zip(inputs, units, strict=True):
                    self._tie(gate, values, row[unit], rises=unit == 0)
                if unit == 0:
                    firsts.append(gate)
        self.cases = self._split(firsts[0], columns[0], alone=len(columns[1][0]) == 1)
        for cost, row in zip(costs, columns[-1], strict=True):
            self._charge({label: int(w * below) for label, w in cost.items()}, row, classes)

    def new(self, count: int) -> list[int]:
        """Fresh variables."""
        self.count += count
        return list(range(self.count - count + 1, self.count + 1))

    def _gate(self, inputs: int, *, first: bool) -> list[int]:
        gate = self.new(2**inputs)
        if first:
            self.clauses += [[-gate[a], gate[b]] for a, b in _rising(inputs)]
        sums = defaultdict(list)
        for a, b in combinations(range(2**inputs), 2):
            sums[tuple((a >> j & 1) + (b >> j & 1) for j in range(inputs))].append((a, b))
        for pairs in sums.values() if not first or inputs > 5 else ():
            for (a, b), (c, d) in permutations(pairs, 2):
                self.clauses.append([-gate[a], -gate[b], gate[c], gate[d]])
        return gate

    def _tie(self, gate: list[int], inputs: list[int], output: int, *, rises: bool) -> None:
        for b, value in enumerate(gate):
            # true: some input is -1 that pattern b has at +1; false: one is +1 that it has at -1.
            less = [-x for j, x in enumerate(inputs) if b >> j & 1]
            more = [x for j, x in enumerate(inputs) if not b >> j & 1]
            self.clauses.append([*more, *([] if rises else less), -output, value])
            self.clauses.append([*less, *([] if rises else more), output, -value])

    def _split(self, gate: list[int], columns: list[list[int]], *, alone: bool) -> list[list[Clause]]:
        inputs = len(columns[0])
        if inputs > MAX_SPLIT:
            return [[]]
        ordered = [list(self._ordered(columns, j)) for j in range(inputs - 1)]
        cases: list[list[Clause]] = []
        for table in tables(inputs):
            if not alone or all(_matters(table, j) for j in range(inputs)):
                cases.append([[value if bit else -value] for value, bit in zip(gate, table, strict=True)])
                cases[-1] += [c for j in range(inputs - 1) if _alike(table, j) for c in ordered[j]]
        return cases

    def _ordered(self, columns: list[list[int]], j: int) -> Iterator[Clause]:
        """Where columns j and j + 1 first differ, j is +1."""
        before: Clause = []
        for row in columns:
            first, second = row[j], row[j + 1]
            yield [*before, first, -second]
            (same,) = self.new(1)
            yield from ([*before, first, same], [*before, -second, same])
            before = [-same]

    def _charge(self, cost: dict[Any, int], row: list[int], classes: tuple[Any, ...]) -> None:
        ranked = sorted((label for label in cost if cost[label]), key=lambda label: -cost[label])
        if not ranked:
            return
        following = [*(cost[label] for label in ranked[1:]), 0]
        if len(row) == 1:
            # One of the two classes is always named.
            if cost[ranked[0]] > following[0]:
                output = row[0] if classes.index(ranked[0]) == 1 else -row[0]
                self.costs.append((-output, cost[ranked[0]] - following[0]))
            return
        # Named by falling weight: not one of the first k costs what lies between number k and k + 1.
        names: list[int] = []
        for label, less in zip(ranked, following, strict=True):
            (named,) = self.new(1)
            names.append(named)
            for unit, output in enumerate(row):
                self.clauses.append([-named, output if unit == classes.index(label) else -output])
            if cost[label] > less:
                (none,) = self.new(1)
                self.clauses.append([none, *names])
                self.costs.append((none, cost[label] - less))


def tables(inputs: int) -> list[Table]:
    """Truth tables that rise in each input and have no input stronger than an earlier; bit j of b is input j."""
    if inputs == 0:
        return [(0,), (1,)]
    halves = tables(inputs - 1)
    rising = list(_rising(inputs))
    both = (low + high for low in halves for high in halves)
    return [table for table in both if all(table[a] <= table[b] for a, b in rising)]


def _rising(inputs: int) -> Iterator[tuple[int, int]]:
    """Patterns a, b: an input of a rises, or changes places with an earlier one, and gives b."""
    for a in range(2**inputs):
        for j in range(inputs):
            if not a >> j & 1:
                yield a, a | 1 << j
                if j + 1 < inputs and a >> j + 1 & 1:
                    yield a, a ^ 3 << j


def _matters(table: Table, j: int) -> bool:
    return any(table[b] != table[b ^ 1 << j] for b in range(len(table)))


def _alike(table: Table, j: int) -> bool:
    """Whether inputs j and j + 1 may change places."""
    return all(table[b] == table[b ^ 3 << j] for b in range(len(table)) if b >> j & 3 in (1, 2))


# --- engines ----------------------------------------------------------------------------------------------------------


def _cp_sat(formula: Formula, limit: int, engine: str, seconds: float) -> bool | None:
    from ortools.sat.python import cp_model

    until = time.monotonic() + seconds
    for case in formula.cases:
        native = cp_model.CpModel()
        positive = [native.new_bool_var("") for _ in range(formula.count)]
        # Python's index -v is the last but v - 1.
        literals = [native.new_constant(0), *positive, *(v.negated() for v in reversed(positive))]
        for clause in (*formula.clauses, *case):
            native.add_bool_or([literals[v] for v in clause])
        native.add(sum(cost * literals[v] for v, cost in formula.costs) <= limit)
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = max(until - time.monotonic(), 0.0)
        answer = solver.solve(native)
        if answer != cp_model.INFEASIBLE:
            return None if answer == cp_model.UNKNOWN else False
    return True


_PROGRAM = """
import json, sys
from pysat.solvers import Solver
engine, clauses, cases = json.load(sys.stdin)
for case in cases:
    with Solver(name=engine, bootstrap_with=[*clauses, *case]) as solver:
        if solver.solve():
            print("model")
            break
else:
    print("refuted")
"""


def _sat(formula: Formula, limit: int, engine: str, seconds: float) -> bool | None:
    # A process of its own: not every engine can be interrupted.
    task = json.dumps([engine, [*formula.clauses, *_at_most(formula, limit)], formula.cases])
    try:
        command = [sys.executable, "-c", _PROGRAM]
        ran = subprocess.run(command, input=task, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    # An engine that crashed has refuted nothing.
    return {"refuted": True, "model": False}.get(ran.stdout.strip()) if ran.returncode == 0 else None


_LOGGED = """
import json, sys
from pysat.solvers import Solver
engine, clauses, case, log = json.load(sys.stdin)
with Solver(name=engine, bootstrap_with=[*clauses, *case], with_proof=True) as solver:
    if solver.solve():
        print("model")
    else:
        with open(log, "w") as file:
            file.writelines(line + "\\n" for line in solver.get_proof())
        print("refuted")
"""


def _clausal(formula: Formula, limit: int, engine: str, seconds: float) -> bool | None:
    until = time.monotonic() + seconds
    clauses = [*formula.clauses, *_at_most(formula, limit)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.drat"
        for case in formula.cases:
            task, left = json.dumps([engine, clauses, case, str(log)]), max(until - time.monotonic(), 1e-3)
            try:
                command = [sys.executable, "-c", _LOGGED]
                ran = subprocess.run(command, input=task, capture_output=True, text=True, timeout=left)
                if ran.returncode != 0 or ran.stdout.strip() != "refuted":
                    return False if ran.stdout.strip() == "model" else None
                with log.open() as lines:
                    if not is_refutation([*map(list, clauses), *map(list, case)], lines, until):
                        return None
            except (subprocess.TimeoutExpired, OutOfTimeError):
                return None
    return True


def _at_most(formula: Formula, limit: int) -> Iterator[Clause]:
    """A sequential counter: row k holds a variable for each sum from 1 to `limit` that the first k costs may reach."""
    before: list[int] = []
    for literal, cost in formula.costs:
        if cost > limit:
            yield [-literal]
            continue
        after = formula.new(limit)
        for value in range(1, limit + 1):
            if before:
                yield [-before[value - 1], after[value - 1]]
            if value <= cost:
                yield [-literal, after[value - 1]]
            elif before:
                yield [-literal, -before[value - cost - 1], after[value - 1]]
        if before:
            yield [-literal, -before[limit - cost]]
        before = after
