"""What is known of a network problem that is solved by cubes: the best network, the bound, and cubes that are left."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from tpsolve._result import Budget, Progress, Result
from tpsolve.errors import NotAcceptedError, TooLargeError
from tpsolve.problems import NetworkProblem
from tpsolve.search._naming import find_solver
from tpsolve.search._solve import solve
from tpsolve.search.network._error_measure import always_paid
from tpsolve.search.network.circuits._formula import NetworkFormula
from tpsolve.search.network.circuits._pool import CircuitPool
from tpsolve.search.network.cubes._cube import MAX_TABLES, Cube, CubeOutcome, tables
from tpsolve.search.network.cubes._split import hold_all

FIRST_SECONDS = 2.0
"""Of a cube; its halves get twice as much, so that in the end most of the time goes to cubes that close."""
MAX_LOSSES = 3
"""Processes that a cube may cost, halves with it, before it is left as it is."""
_LOCAL, _LOCAL_SHARE = 5.0, 0.1
"""Seconds of the local search for a first network, and at most this share of all."""
_HALVING_SHARE = 0.05
"""Of all seconds, at most, for cubes that are halved before the first is dealt out."""
_DRAWN = 3_000
_MANY_FEATURES = 8
"""With more, no circuits are drawn."""


class Conquest:
    """Cubes of one problem: first one for each truth table of the unit above the first hidden layer, then halves.

    Where these are too few for all who could work on one, they are halved before the first is dealt out.

    All cubes together hold all networks. So the least of their bounds is a bound, and the circuits of all prove it.

    Args:
        problem: without a `weight_set`; one that `circuits` takes.
        seconds: of the whole search.
        engine: of python-sat.
        generator: of the first network, and of circuits.
        first_seconds: of the first cubes.
        min_cubes: how many there are at least when the first is dealt out, if halving them all takes no more than a
            twentieth of the time.
        parts: into how many a cube is divided that takes long, at least.
        best: `(*batch, n_vars)` targets of a network that is known; None: a local search looks for one.

    Attributes:
        waiting: cubes that nobody has begun; whoever takes one hands in what became of it.
        bounds: of those that are begun or waiting.
        cubes, divided, lost: counts of outcomes, of those that were divided, and of processes.
        conflicts, spent: of all cubes together; seconds.

    Raises:
        NotAcceptedError, TooLargeError, MissingLibraryError: the problem is none that `circuits` takes.
    """

    def __init__(
        self,
        problem: NetworkProblem,
        seconds: float,
        engine: str,
        generator: torch.Generator,
        first_seconds: float = FIRST_SECONDS,
        min_cubes: int = 1,
        parts: int = 2,
        best: Tensor | None = None,
    ) -> None:
        find_solver(f"circuits:engine={engine}").check(problem)
        self._began = time.perf_counter()
        self._shape = problem.batch_shape
        self.problem, self.engine = problem.flatten(), engine
        self._seed = generator.initial_seed() % 2**63
        if best is None:
            self.best = self._first_network(min(_LOCAL, _LOCAL_SHARE * seconds), generator)
        else:
            self.best = best.reshape(-1, self.problem.n_vars)[0]
        self.objective = self._errors(self.best)
        self.circuits = self._drawn(generator)
        self._closed: list[Fraction] = []
        self._left: list[Fraction] = []
        self._paid = always_paid(self.problem)
        self.cubes = self.divided = self.lost = self.conflicts = 0
        self.spent = 0.0
        self.trace: list[Progress] = []
        self.waiting: deque[Cube] = deque()
        self.bounds: dict[tuple[int, ...], Fraction] = {}
        whole = Cube(self.problem, (), self.best, self.circuits, self._paid, first_seconds, engine, parts=parts)
        cubes, until = self._first_cubes(), self.seconds + _HALVING_SHARE * seconds
        if len(cubes) < min_cubes and self.objective > self._paid:
            cubes = whole.halved(cubes, min_cubes, lambda: self.seconds > until)
        for literals in cubes:
            self._add(replace(whole, literals=literals))

    @property
    def bound(self) -> Fraction:
        """Errors that every network makes at least."""
        return min([self.objective, *self._closed, *self._left, *self.bounds.values()])

    @property
    def closed(self) -> bool:
        """Whether the best network is proved to be one."""
        return self.bound >= self.objective

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._began

    def take(self, outcome: CubeOutcome) -> None:
        """Take what became of a cube, and divide the cube if it is not closed."""
        cube = outcome.cube
        self.cubes += 1
        self.conflicts, self.spent = self.conflicts + outcome.conflicts, self.spent + outcome.seconds
        del self.bounds[cube.literals]
        # Here, since a network that another machine sends is a claim.
        objective = self._errors(outcome.best)
        if objective < self.objective:
            self.best, self.objective = outcome.best, objective
            self.waiting = self._renewed(self.waiting)
        known = torch.cat([self.circuits, outcome.circuits])
        self.circuits = torch.from_numpy(torch.unique(known, dim=0).numpy())
        if outcome.closed:
            self._closed.append(outcome.bound)
        else:
            self._divide(outcome)
        self.trace.append(Progress(self.conflicts, self.seconds, float(self.objective), float(self.bound)))

    def result(self) -> Result:
        """What `solve` would return; `make_proof` makes a proof of it."""
        targets = self.best.reshape(*self._shape, self.problem.n_vars)
        objective = torch.full(self._shape, float(self.objective), dtype=torch.float64)
        bound = torch.full(self._shape, float(self.bound), dtype=torch.float64)
        inf = torch.full(self._shape, torch.inf, dtype=torch.float64)
        found = next((p.seconds for p in self.trace if p.objective <= float(self.objective)), 0.0)
        proved = next((p.seconds for p in self.trace if p.bound >= float(self.objective)), torch.inf)
        stats = {"solver": "cubes", "engine": self.engine, "proved_by": "circuits", "circuits": self.circuits}
        stats |= {"steps": self.conflicts, "seconds": self.seconds, "cubes": self.cubes, "divided": self.divided}
        stats |= {"lost": self.lost, "cube_seconds": self.spent, "notes": {}, "missing": torch.zeros(self._shape) > 0}
        stats |= {"found_at": torch.full_like(inf, found), "proved_at": torch.full_like(inf, proved)}
        return Result(targets, objective, bound, tuple(self.trace), stats, tolerance=torch.zeros_like(inf))

    def _divide(self, outcome: CubeOutcome) -> None:
        cube, bound = outcome.cube, max(outcome.bound, outcome.cube.bound)
        self.lost += bool(outcome.lost)
        losses = cube.losses + bool(outcome.lost)
        if bound >= self.objective:
            self._closed.append(bound)
        elif losses >= MAX_LOSSES:
            self._left.append(bound)
        else:
            self.divided += bool(outcome.divide)
            # What is known to take long comes first, so that nobody waits for it in the end.
            for half in outcome.divide if hold_all(outcome.divide) else [()]:
                changed = {"literals": (*cube.literals, *half), "bound": bound, "losses": losses, "best": self.best}
                part = replace(cube, **changed, circuits=outcome.circuits, seconds=2 * cube.seconds)
                self.waiting.appendleft(part)
                self.bounds[part.literals] = part.bound

    def _add(self, cube: Cube) -> None:
        self.waiting.append(cube)
        self.bounds[cube.literals] = cube.bound

    def _renewed(self, waiting: deque[Cube]) -> deque[Cube]:
        cubes = [replace(cube, best=self.best) for cube in waiting]
        waiting.clear()
        waiting.extend(cubes)
        return waiting

    def _errors(self, targets: Tensor) -> Fraction:
        return Fraction(self.problem.objective(targets[None])[0].item())

    def _first_network(self, seconds: float, generator: torch.Generator) -> Tensor:
        for name in ("refit-search", "line-search"):
            try:
                return solve(self.problem, name, budget=Budget(seconds=seconds), generator=generator).targets[0]
            except (NotAcceptedError, TooLargeError):
                continue
        return self.problem.start[0]

    def _first_cubes(self) -> Sequence[tuple[int, ...]]:
        gate = NetworkFormula(self.problem).gates[0][0].tolist()
        inputs = self.problem.layers[0]
        if inputs > MAX_TABLES:
            return [()]
        return [
            tuple(value if bit else -value for value, bit in zip(gate, table, strict=True)) for table in tables(inputs)
        ]

    def _drawn(self, generator: torch.Generator) -> Tensor:
        points, features = self.problem.inputs.shape
        if features > _MANY_FEATURES:
            return torch.zeros(0, features + 2, dtype=torch.int32)
        pool = CircuitPool(self.problem.inputs, min(_DRAWN, 2 * points**2), generator)
        return torch.from_numpy((pool.samples + 1) * pool.signs).to(torch.int32)
