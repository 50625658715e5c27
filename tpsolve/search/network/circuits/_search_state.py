"""What an exact search knows so far: bounds, the best network, and the circuits that its masters are told of."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from tpsolve.errors import ContradictionError
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search.network._error_measure import always_paid, error_measure
from tpsolve.search.network.circuits._cp_sat_master import CpSatMaster
from tpsolve.search.network.circuits._formula import (
    Clause,
    NetworkFormula,
    never,
)
from tpsolve.search.network.circuits._pool import CircuitPool
from tpsolve.search.network.circuits._sat_master import SatMaster
from tpsolve.spins import from_bits

Master = SatMaster | CpSatMaster
Evidence = tuple[Tensor, Fraction, str, Tensor]
"""Of a bound on some of the points: these `(k,)` int32, the bound, what proved it, and signed circuits `(C, p + 2)`."""
SPRINT = 100
"""Conflicts of the first master before circuits are drawn in numbers: tiny problems end sooner."""
_QUICK_CHECK = 0.05
"""Seconds of a check that no network waits for."""
EASY = 3000
"""Conflicts of a master after which all circuits are drawn."""


_LATELY, _START = 0.5, 15.0
"""A gain is long ago if it came before this share of the time; the first one may take so many seconds."""
_MUCH = Fraction(2, 3)
"""Of what the best network costs; where disjoint parts cost less, masters are slower if they are told."""


class SearchState:
    """Bounds, best network and circuits of one search; masters and local searches share it, each in a thread.

    Costs are whole numbers here: multiples of the weights' common measure, above what is always paid. The formula and
    the first circuits are made by `prepare`, for those who ask for them: they are dear where points are many.

    Args:
        problem: of the search.
        report: gets every better network and bound.
        generator: of the circuits that are drawn.
        max_drawn: the maximum number of circuits drawn at random.
        max_cuts: the maximum number of circuits added for one column at a time.

    Attributes:
        formula: of the problem, without circuits.
        costs: literals, and what each of them costs if it is true.
        lower: every network costs at least this; proved.
        upper: the best network found costs this.
        spare: seconds before the end at which the search is over, for threads whose steps take long.
        raised_at: by what proved a bound, the seconds at which it last did.
        refuted_by: the engine of the master that last proved a bound.
        proved_by: what proved `lower`: "labels", since they contradict each other, "circuits", or what `prove` said.
    """

    def __init__(
        self, problem: NetworkProblem, report: Report, generator: torch.Generator, max_drawn: int, max_cuts: int
    ) -> None:
        self._problem, self._report, self._max_cuts = problem, report, max_cuts
        self._lock, self._ended, self.spare = threading.RLock(), False, 0.0
        self._building, self._sealed = threading.Lock(), False
        self._formula: NetworkFormula | None = None
        self.costs: list[tuple[int, int]] = []
        self._generator, self._max_drawn = generator, max_drawn
        self._base, self._measure = always_paid(problem), error_measure(problem)
        self.lower, self.upper, self.proved_by, self.refuted_by = 0, 0, "labels", ""
        self._waiting: tuple[float, Tensor] | None = None
        self.raised_at: dict[str, float] = {}
        self._told: dict[Master, int] = {}
        self._own: dict[Master, set[int]] = {}
        self._division: list[tuple[Tensor, int]] = []
        self._divided_cost, self._divided = 0, dict[Master, int]()
        self._known: list[list[int]] = []
        self.offer(problem.start)

    def prepare(self, stop: Callable[[], bool] = never) -> None:
        """Make the formula and the first circuits, once.

        Raises:
            StoppedError: `stop` said so.
        """
        with self._building:
            if self._formula is not None:
                return
            formula = NetworkFormula(self._problem, stop)
            points = len(self._problem.inputs)
            drawn = min(self._max_drawn, 16 * points)
            self._pool = CircuitPool(self._problem.inputs, drawn, self._generator, self._problem.exact)
            # How many circuits to draw, and after how many conflicts: tiny and easy problems need few, planar ones too.
            most = max(4, self._problem.inputs.shape[1] ** 2) * points**2 // 2
            self._draws = [(SPRINT, min(self._max_drawn, 2 * points**2)), (EASY, min(self._max_drawn, most))]
            self._added = list(range(len(self._pool)))
            self._used = set(self._added)
            self.costs = [(literal, int(cost / self._measure)) for literal, cost in formula.costs]
            with self._lock:
                self._formula = formula
                self._take_known()

    @property
    def prepared(self) -> bool:
        """Whether there is a formula."""
        return self._formula is not None

    @property
    def formula(self) -> NetworkFormula:
        """Of the problem, without circuits."""
        self.prepare()
        assert self._formula is not None
        return self._formula

    # --- bounds, and the best network -------------------------------------------------------------------------------

    @property
    def bounds(self) -> tuple[int, int]:
        """`lower` and `upper` of one moment."""
        with self._lock:
            return self.lower, self.upper

    @property
    def closed(self) -> bool:
        """Whether the bounds meet."""
        return self.lower >= self.upper

    def offer(self, targets: Tensor) -> None:
        """Keep `targets (..., n_vars)` of a network if they are the best so far."""
        with self._lock:
            if self._sealed:
                return
            self._report.offer(targets.reshape(1, -1).expand(len(self._report.objective), -1))
            above = Fraction(self._report.objective[0].item()) - self._base
            self.upper = round(above / self._measure)

    def propose(self, targets: Tensor) -> None:
        """As `offer`, by and by: where checks take long, the best that was proposed waits until one may be made."""
        flat = targets.reshape(1, -1)
        with self._lock:
            if self._report.may_judge or self._report.check_seconds < _QUICK_CHECK:
                self.offer(flat)
                self.settle()
                return
            errors = float(self._problem.errors(self._problem.columns(flat)[-1]))
            least = float(self._report.objective[0]) if self._waiting is None else self._waiting[0]
            if errors < least:
                self._waiting = errors, flat.clone()

    def settle(self) -> None:
        """Keep what waits, if it is the best so far."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
            if waiting is not None and waiting[0] < float(self._report.objective[0]):
                self.offer(waiting[1])

    @property
    def best(self) -> Tensor:
        """Targets `(1, n_vars)` of the best network so far, which may wait for its check."""
        with self._lock:
            return self._report.targets[:1].clone() if self._waiting is None else self._waiting[1].clone()

    def refute(self, limit: int, engine: str = "") -> None:
        """Note that no network costs `limit` or less: that is proved, by this engine of a master."""
        with self._lock:
            if limit >= self.lower and not self._sealed:
                self.refuted_by = engine
            self._raise(limit + 1, "circuits")

    def prove(self, bound: Fraction, by: str) -> None:
        """Note that every network makes errors of at least `bound`, which `by` has proved."""
        self._raise(math.ceil((bound - self._base) / self._measure), by)

    @property
    def proved(self) -> Fraction:
        """Errors that every network makes at least."""
        return self._base + self.lower * self._measure

    def _raise(self, lower: int, by: str) -> None:
        with self._lock:
            if lower > self.lower and not self._sealed:
                self.lower, self.proved_by = lower, by
                self.raised_at[by] = self._report.seconds
                self._report.prove(float(self.proved))

    def gains(self, by: str) -> bool:
        """Whether the last gain of what proves bounds is not long ago."""
        seconds = self._report.seconds
        gained = self.raised_at.get(by)
        return seconds < _START if gained is None else gained > _LATELY * seconds

    def replace(self, targets: Tensor) -> None:
        """Return `targets (n_vars,)`, as good as the best so far, instead of those."""
        if self._problem.objective(targets[None])[0] != self._report.objective[0]:
            raise ContradictionError("circuits: targets that are preferred are not optimal")
        self._report.targets[:] = targets

    # --- the end ----------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the search was told to end."""
        return self._ended

    def end(self) -> None:
        """Tell all that work on it to end."""
        self._ended = True

    def seal(self) -> None:
        """Take nothing more, such as what an engine finds that did not hear of the end in time."""
        with self._lock:
            self._sealed = True

    def unseal(self) -> None:
        """Take again what is found: nobody works on it any longer."""
        with self._lock:
            self._sealed = False

    def halted(self) -> bool:
        """Whether the search is over: closed, out of time, or told to end."""
        return self._ended or self.closed or self._report.seconds_left <= self.spare

    def late(self) -> bool:
        """Whether time is up, or the callback has asked to stop."""
        return self._report.asked or self._report.seconds_left <= 0

    def pulse(self) -> bool:
        """Let the report look at the clock and ask the callback, which belong to the main thread; whether it ended."""
        with self._lock:
            self._ended = self._report.pulse() or self._ended
            if self._waiting is not None and self._report.may_judge and not self._ended:
                self.settle()
        return self._ended

    def interrupted(self) -> bool:
        """Whether time is up, or the callback has asked to stop, once the bounds meet; the callback is told."""
        self._report.pulse()
        return self.late()

    # --- circuits, and who knows them -------------------------------------------------------------------------------

    def clauses(self) -> Iterator[Clause]:
        """The formula, and all circuits so far on every unit."""
        yield from self.formula.clauses
        # Others add circuits meanwhile.
        with self._lock:
            known = list(self._added)
        yield from self._cut(known)

    def open_master(self, make: Callable[[Callable[[], bool]], Master], stop: Callable[[], bool] = never) -> Master:
        """A new master, made with `clauses()`, so that it knows all circuits so far."""
        self.prepare(stop)
        known = len(self._added)
        master = make(stop)
        with self._lock:
            self._told[master] = known
        return master

    def tell(self, master: Master) -> None:
        """Give a master the circuits and the bounds of parts that it does not know."""
        with self._lock:
            fresh, self._told[master] = self._added[self._told[master] :], len(self._added)
            own = self._own.pop(master, set())
            is_new, division = self.has_news(master), self._division
            self._divided[master] = self._divided_cost
        master.add(self._cut([row for row in fresh if row not in own]))
        if is_new:
            master.divide(self._in_costs(division))

    def has_news(self, master: Master) -> bool:
        """Whether bounds of parts wait for the master."""
        return self._divided_cost > self._divided.get(master, 0)

    def divide(self, parts: Sequence[Evidence]) -> None:
        """Let masters know what disjoint parts of the points cost at least, if that is much."""
        if any(by not in ("circuits", "labels") for _, _, by, _ in parts):
            return
        division = [(points.long(), self._cost_of_part(points.long(), bound)) for points, bound, _, _ in parts]
        cost = sum(bound for _, bound in division)
        with self._lock:
            if max(_MUCH * self.upper, self._divided_cost + 1) <= cost:
                # What masters conclude from these bounds must follow from the circuits that they know.
                for *_, circuits in parts:
                    self.know(circuits)
                self._division, self._divided_cost = division, cost

    def _cost_of_part(self, points: Tensor, bound: Fraction) -> int:
        return math.ceil((bound - always_paid(self._problem, points)) / self._measure)

    def _in_costs(self, division: list[tuple[Tensor, int]]) -> Iterator[tuple[list[tuple[int, int]], int]]:
        """For each part what it may cost, and what it costs at least; the other points come last."""
        number = np.full(len(self._problem.inputs), len(division))
        for k, (points, _) in enumerate(division):
            number[points.numpy()] = k
        costs: list[list[tuple[int, int]]] = [[] for _ in range(len(division) + 1)]
        for cost, point in zip(self.costs, self.formula.paying, strict=True):
            costs[number[point]].append(cost)
        return ((some, bound) for some, bound in zip(costs, [*(b for _, b in division), 0], strict=True) if some)

    def draw(self, conflicts: int) -> None:
        """Draw the circuits that are due after so many conflicts of a master."""
        with self._lock:
            while self._draws and conflicts >= self._draws[0][0]:
                before, wanted = len(self._pool), self._draws.pop(0)[1]
                if wanted > before:
                    self._pool.draw(wanted - before)
                    self._use(range(before, len(self._pool)))

    def know(self, circuits: Tensor) -> None:
        """Add circuits that others have proved, `(C, p + 2)` as those of `signed_circuits`."""
        with self._lock:
            self._known += [[v for v in row if v] for row in circuits.tolist()]
            if self._formula is not None:
                self._take_known()

    def keep(self, master: Master, circuits: list[tuple[list[int], list[int]]]) -> None:
        """Add circuits, samples and signs, that a master has proved and knows."""
        with self._lock:
            rows = self._pool.include(circuits)
            self._own.setdefault(master, set()).update(set(rows) - self._used)
            self._use(rows)

    def _take_known(self) -> None:
        known, self._known = self._known, []
        self._use(self._pool.include([([abs(v) - 1 for v in row], [v // abs(v) for v in row]) for row in known]))

    def separate(self, model: np.ndarray) -> list[int]:
        """Add circuits that forbid the first layer's columns of `model`; their numbers; none: all are separable."""
        columns = np.unique(np.where(model[self.formula.hidden[0]], 1, -1), axis=1)
        with self._lock:
            found = self._pool.violated(columns, self._max_cuts)
            self._use(found)
        return found

    def signed_circuits(self) -> Tensor:
        """`(C, p + 2)` int32: of each circuit added, sample numbers from 1 times their signs, filled up with 0."""
        if not self.prepared:
            return torch.zeros(0, self._problem.inputs.shape[1] + 2, dtype=torch.int32)
        rows = np.array(self._added, dtype=np.int64)
        return torch.from_numpy((self._pool.samples[rows] + 1) * self._pool.signs[rows])

    def _use(self, rows: Iterable[int]) -> None:
        fresh = [row for row in rows if row not in self._used]
        self._used.update(fresh)
        self._added += fresh

    def _cut(self, rows: list[int]) -> Iterator[Clause]:
        yield from self.formula.circuits(self._pool.samples[rows], self._pool.signs[rows])

    # --- models of the formula --------------------------------------------------------------------------------------

    def cost_of(self, model: np.ndarray) -> int:
        """What a model costs; its targets cost no more."""
        return sum(cost for literal, cost in self.costs if model[abs(literal)] == (literal > 0))

    def targets_of(self, model: np.ndarray) -> Tensor:
        """The hidden targets of a model, and what its output gates make of them, `(n_vars,)`."""
        columns = [torch.from_numpy(model[variables]) for variables in self.formula.hidden]
        powers = 1 << torch.arange(columns[-1].shape[1])
        patterns = (columns[-1] * powers).sum(dim=1)
        columns.append(torch.from_numpy(model[self.formula.gates[-1]])[:, patterns].T)
        return self._problem.pack(*(from_bits(bits, torch.float64).to(self._problem.device) for bits in columns))
