"""The state of an exact search: bounds, circuits found, and the masters that work on them side by side."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.errors import ContradictionError
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search._cp_sat_run import POLL_SECONDS
from tpsolve.search._naming import find_solver
from tpsolve.search.network.circuits._cp_sat_master import CpSatMaster
from tpsolve.search.network.circuits._formula import Clause, NetworkFormula, common_measure
from tpsolve.search.network.circuits._pool import CircuitPool
from tpsolve.search.network.circuits._sat_master import SatMaster
from tpsolve.spins import from_bits, sign
from tpsolve.units import LeastSquares

Master = SatMaster | CpSatMaster
MANY_FEATURES = 8
"""With more, a line search from a surrogate gradient's network finds fewer errors than a search of columns does."""
SPRINT, SPRINT_SECONDS = 100, 0.03
"""Conflicts or seconds of the first master before a second one and the local search begin: tiny problems end sooner."""
EASY = 3000
"""Conflicts of a master after which all circuits are drawn."""
_LOCAL_STEPS = 50
"""Of each local search at the start of a budget in steps, where no clock may be read."""
_LEAST_PATIENCE = 0.15
_PATIENCE = 2
"""Local search ends after so many seconds at least, and so many times those of its last gain."""


class CircuitSearch:
    """Costs are whole numbers here: multiples of the weights' common measure, above what is always paid.

    Attributes:
        lower: every network costs at least this; proved.
        upper: the best network found costs this.
    """

    def __init__(self, problem: NetworkProblem, report: Report, generator: torch.Generator, drawn: int, cuts: int):
        self.problem, self.report, self._cuts = problem, report, cuts
        self.formula = NetworkFormula(problem)
        # A circuit of many points forbids next to nothing, and takes long to work out.
        drawn, points = 0 if has_many_features(problem) else drawn, len(problem.inputs)
        # How many circuits to draw, and after how many conflicts: tiny and easy problems need few, planar ones too.
        most = max(4, problem.inputs.shape[1] ** 2) * points**2 // 2
        self._draws = [(SPRINT, min(drawn, 2 * points**2)), (EASY, min(drawn, most))]
        self.pool = CircuitPool(problem.inputs, min(drawn, 16 * points), generator)
        self.measure = common_measure(problem)
        self.costs = [(literal, int(cost / self.measure)) for literal, cost in self.formula.costs]
        self.lower, self.upper = 0, 0
        self.masters: list[Master] = []
        self.added = list(range(len(self.pool)))
        self._used, self._lock, self._ended, self._generator = set(self.added), threading.RLock(), False, generator
        self._told: dict[Master, int] = {}
        self.offer(problem.start)

    @property
    def closed(self) -> bool:
        """Whether the bounds meet."""
        return self.lower >= self.upper

    def clauses(self) -> Iterator[Clause]:
        """The formula, and all circuits so far on every unit."""
        yield from self.formula.clauses
        yield from self._cut(self.added)

    def signed_circuits(self) -> Tensor:
        """`(C, p + 2)` int32: of each circuit used, sample numbers from 1 times their signs, filled up with 0."""
        rows = np.array(self.added, dtype=np.int64)
        return torch.from_numpy((self.pool.samples[rows] + 1) * self.pool.signs[rows])

    def offer(self, targets: Tensor) -> None:
        """Keep `targets (..., n_vars)` of a network if they are the best so far."""
        with self._lock:
            self.report.offer(targets.reshape(1, -1).expand(len(self.report.objective), -1))
            above = Fraction(self.report.objective[0].item()) - self.formula.base
            self.upper = round(above / self.measure)

    def replace(self, targets: Tensor) -> None:
        """Return `targets (n_vars,)`, as good as the best so far, instead of those."""
        if self.problem.objective(targets[None])[0] != self.report.objective[0]:
            raise ContradictionError("circuits: targets that are preferred are not optimal")
        self.report.targets[:] = targets

    def race(self, make: list[Callable[[], Master]], local: float, steps: int | None) -> None:
        """Let masters work until the bounds meet.

        The first one rises from below. A second one, if any, comes down from the best network that `local`
        seconds of local search have found meanwhile. One alone waits for a short local search.
        """
        first = self._made(make[0])
        if steps is not None:
            self.improve(local / 4, _LOCAL_STEPS)
            self._work(first, True, steps, self._pulse)
            return
        self._work(first, True, SPRINT, lambda: self._pulse() or self.report.seconds > SPRINT_SECONDS)
        if self.halted():
            return
        self._draw(SPRINT)
        if len(make) == 1:
            self.improve(local / 4, None)
            self._work(first, True, None, self._pulse)
            return

        def descend() -> None:
            self.improve(local, None)
            if not self.halted():
                self._work(self._made(make[1]), False, None, lambda: self._ended)

        tasks = [lambda: self._work(first, True, None, lambda: self._ended), descend]
        with ThreadPoolExecutor(len(tasks)) as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                # Callbacks and Ctrl-C belong to this thread.
                while not self._pulse():
                    done, running = wait(futures, POLL_SECONDS, FIRST_EXCEPTION)
                    if not running or any(future.exception() for future in done):
                        break
            finally:
                self._ended = True
        for future in futures:
            future.result()

    def improve(self, seconds: float, steps: int | None) -> None:
        """Local search for so long, or with `steps` for so many: `local_searches`, which share the seconds equally."""
        names = local_searches(self.problem)
        for name in names:
            if (seconds > 0 or steps is not None) and not self.halted():
                budget = Budget(seconds / len(names)) if steps is None else Budget(steps=steps)
                find_solver(name).run(self.problem, budget, self._generator, _Relay(self, budget))

    def halted(self) -> bool:
        """Whether the search is over: closed, out of time, or told to stop."""
        return self._ended or self.closed or self.report.seconds_left <= 0

    def _pulse(self) -> bool:
        with self._lock:
            self._ended = self.report.pulse() or self._ended
        return self._ended

    def _made(self, make: Callable[[], Master]) -> Master:
        """A new master, which knows all circuits so far."""
        with self._lock:
            master = make()
            self.masters.append(master)
            self._told[master] = len(self.added)
        return master

    def _tell(self, master: Master) -> None:
        """Give a master the circuits that it does not know."""
        with self._lock:
            fresh, self._told[master] = self.added[self._told[master] :], len(self.added)
        master.add(self._cut(fresh))

    def _work(self, master: Master, rising: bool, steps: int | None, ended: Callable[[], bool]) -> None:
        rise, best = 0, self.upper
        while not self.closed and not ended():
            with self._lock:
                self._draw(master.conflicts)
                rise = rise if self.upper == best else 0
                best = self.upper
                # Each limit that is refuted doubles the next rise: the last refutation is the dearest.
                limit = min(self.lower + rise, best - 1) if rising else best - 1
            self._tell(master)
            left = None if steps is None else steps - master.conflicts
            answer = master.solve(limit, left, lambda limit=limit: ended() or not self.lower <= limit < self.upper)
            if steps is not None:
                self.report.steps = master.conflicts
            if isinstance(answer, np.ndarray):
                self._examine(answer)
            elif answer is False:
                self._refuted(limit)
                rise = 2 * rise + 1
            elif steps is not None and master.conflicts >= steps:
                return

    def _refuted(self, limit: int) -> None:
        with self._lock:
            self.lower = max(self.lower, limit + 1)
            self.report.prove(float(self.formula.base + self.lower * self.measure))

    def _examine(self, model: np.ndarray) -> None:
        """Cut off what is not separable of a model, or keep its targets."""
        with self._lock:
            if not self._separate(model):
                self.offer(self.targets_of(model))
                if self.report.objective[0] == torch.inf or self.upper > self._cost(model):
                    raise ContradictionError("circuits: targets without a conflict are no network's")
            elif self.problem.layers[1:] != (1,):
                # Local search took care of the others.
                self.offer(self._projected(model))

    def _separate(self, model: np.ndarray) -> list[int]:
        """New circuits that forbid the first layer's columns of `model`; none: all are separable."""
        columns = np.unique(np.where(model[self.formula.hidden[0]], 1, -1), axis=1)
        found = self.pool.violated(columns, self._cuts)
        self._use(found)
        return found

    def _draw(self, conflicts: int) -> None:
        """Draw the circuits that are due after so many conflicts."""
        while self._draws and conflicts >= self._draws[0][0]:
            before, wanted = len(self.pool), self._draws.pop(0)[1]
            if wanted > before:
                self.pool.draw(wanted - before)
                self._use(range(before, len(self.pool)))

    def _use(self, rows: Iterable[int]) -> None:
        """Add circuits that the masters don't have yet."""
        fresh = [row for row in rows if row not in self._used]
        self._used.update(fresh)
        self.added += fresh

    def _cut(self, rows: list[int]) -> Iterator[Clause]:
        yield from self.formula.circuits(self.pool.samples[rows], self.pool.signs[rows])

    def _cost(self, model: np.ndarray) -> int:
        return sum(cost for literal, cost in self.costs if model[abs(literal)] == (literal > 0))

    def targets_of(self, model: np.ndarray) -> Tensor:
        """The hidden targets of a model, and what its output gates make of them."""
        columns = [torch.from_numpy(model[variables]) for variables in self.formula.hidden]
        powers = 1 << torch.arange(columns[-1].shape[1])
        patterns = (columns[-1] * powers).sum(dim=1)
        columns.append(torch.from_numpy(model[self.formula.gates[-1]])[:, patterns].T)
        return self.problem.pack(*(from_bits(bits, torch.float64).to(self.problem.device) for bits in columns))

    def _projected(self, model: np.ndarray) -> Tensor:
        """Targets of a network whose units are fitted, layer by layer, to those of a model."""
        wanted = self.problem.columns(self.targets_of(model))
        h, columns = self.problem.inputs, []
        for target in wanted:
            fit = LeastSquares().fit(h, target)
            h = sign(h @ fit.weight.T.double() + fit.bias.double())
            columns.append(h)
        return self.problem.pack(*columns)

    def optima(self, master: Master, most: int) -> tuple[Tensor, bool]:
        """Up to `most` optimal targets `(K, n_vars)`, distinct up to symmetry; whether these are all there are."""
        found: list[Tensor] = []
        while len(found) < most:
            model = self.separable_model(master, None)
            if not isinstance(model, np.ndarray):
                return torch.stack(found), model is False
            found.append(self.targets_of(model))
            master.add(self._all_images(model))
        return torch.stack(found), False

    def separable_model(self, master: Master, steps: int | None) -> np.ndarray | bool | None:
        """A model at the best cost whose first layer is separable; False: there is none; None: out of budget.

        For one master, alone, after the race.

        Args:
            steps: the most conflicts of the master, from its first; None: no limit.
        """
        while True:
            self._tell(master)
            left = None if steps is None else steps - master.conflicts
            answer = master.solve(self.upper, left, self.interrupted)
            if not isinstance(answer, np.ndarray) or not self._separate(answer):
                return answer

    def interrupted(self) -> bool:
        """Whether time is up, or the callback has asked to stop; it is told of the search."""
        self.report.pulse()
        return self.report.asked or self.report.seconds_left <= 0

    def _all_images(self, model: np.ndarray) -> Iterator[Clause]:
        """Not these hidden columns of the first layer, in any order, negated or not, with these names."""
        first = self.formula.hidden[0]
        values = model[first]
        names = [v if model[v] else -v for v in self.formula.outputs[self.formula.outputs > 0].tolist()]
        for order in permutations(range(first.shape[1])):
            for flips in product((False, True), repeat=first.shape[1]):
                literals = [
                    [v if bit ^ flips[k] else -v for v, bit in zip(first[:, j].tolist(), values[:, k], strict=True)]
                    for k, j in enumerate(order)
                ]
                yield [-literal for column in literals for literal in column] + [-name for name in names]


def local_searches(problem: NetworkProblem) -> list[str]:
    """The solvers that look for a first network: column search where it applies, then line search of many features."""
    first = ["column-search"] if problem.layers[1:] == (1,) else []
    return [*first, "line-search"] if has_many_features(problem) else first


def has_many_features(problem: NetworkProblem) -> bool:
    """More than `MANY_FEATURES`."""
    return problem.inputs.shape[1] > MANY_FEATURES


class _Relay(Report):
    """The report that a local search beside other workers sees; it ends when a gain is long ago."""

    def __init__(self, search: CircuitSearch, budget: Budget):
        super().__init__(search.problem, budget, None)
        self._search = search
        self._gained = math.inf

    def offer(self, targets: Tensor, rows: Tensor | None = None, found_at: Tensor | None = None) -> None:
        before = self._search.upper
        self._search.offer(targets[0])
        if self._search.upper < before or math.isinf(self._gained):
            self._gained = self.seconds

    def pulse(self, objective: Tensor | None = None, bound: Tensor | None = None) -> bool:
        patience = max(_LEAST_PATIENCE, _PATIENCE * self._gained)
        tired = self.budget.steps is None and self.seconds > min(patience, self.budget.seconds or math.inf)
        self.stopped = self.stopped or tired or self._search.halted()
        return self.stopped
