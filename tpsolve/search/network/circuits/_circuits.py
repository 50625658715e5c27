"""Circuits: exact training of small networks, targets in a clausal master and circuits of the inputs as cuts."""

import importlib
import importlib.util
import math
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, MissingLibraryError, NotAcceptedError, TooLargeError, UnknownNameError
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search._naming import find_solver
from tpsolve.search.network._error_measure import error_measure
from tpsolve.search.network.circuits._cp_sat_master import CpSatMaster
from tpsolve.search.network.circuits._formula import MAX_COUNTED, StoppedError, trivial_cost
from tpsolve.search.network.circuits._optima import Optima
from tpsolve.search.network.circuits._parts import Parts
from tpsolve.search.network.circuits._prefer import PREFERENCES, check_preference, fewest_units, smallest, widest
from tpsolve.search.network.circuits._race import Maker, Race
from tpsolve.search.network.circuits._sat_master import SatMaster
from tpsolve.search.network.circuits._search_state import Master, SearchState
from tpsolve.search.network.packing._packing import Packing, packable
from tpsolve.search.network.seekers._seekers import is_large, local_searches, settles_columns, taken
from tpsolve.search.network.separating._conflict_finder import ConflictFinder
from tpsolve.search.network.separating._separating_master import SeparatingMaster

SAT_ENGINES = ("glucose4", "minisat22", "cadical195", "maplechrono")
MAX_FIRST = 8
"""Inputs of a truth table that may be taken as monotone: that of the first unit of a layer."""
MAX_OTHER = 6
"""Inputs of any other truth table."""
MAX_CLAUSES = 5_000_000
MAX_TOTAL = 2**20
MAX_WORKERS = 4
"""By default: more do little."""
MIN_PARTED = 30
"""Fewer points are not divided."""
MANY_FEATURES = 8
"""With more, no circuits are drawn."""
_MOST, _LONGEST = 0.9, 30.0
"""Of the seconds, and seconds, of the first round on large tables of few features, where bounds stay far apart."""
PROVERS = ("sweep", "dichotomies")
"""Solvers that run beside the masters, if they take the problem."""


@dataclass(frozen=True)
class Circuits(Solver):
    """Exact training of small networks: the fewest errors that any real weights reach.

    A master proposes targets of all units with few errors. Circuits are sets of points whose signs no hyperplane gives.
    They forbid the columns that no weights give. The page docs/exact.md says how the search goes and what it proves.

    It takes any number of classes and features. Two things are limited. A hidden layer has at most 8 units where one
    unit reads it, and at most 6 where several do, since units above are truth tables. The weights of the samples are
    multiples of one number, at most 2^20 of them in all.

    One step is one conflict of the master. A budget in steps is spent by one worker, so that equal seeds give equal
    results. `stats` holds the circuits of the proof, the engine, and in `refuted_by` that of the master which proved
    the last bound. With `solutions` > 1 it also holds the optimal
    targets found. With a preference it holds three more entries: `preferred` is the margin, the number of units or the
    largest weight; `preference_proved` says whether that is proved to be the best; `weights`, for `prefer="weights"`,
    holds the whole weights of all layers, for `NetworkProblem.network`.

    Args:
        engine: the master: a SAT engine of python-sat (glucose4, minisat22, cadical195, maplechrono), or cp-sat; auto:
            glucose4 if python-sat is installed and at most 1,000 errors need be counted (with weights: multiples of
            their common measure), else cp-sat.
        workers: threads; None: one a core, at most 4. With `engine` auto and python-sat a second master looks at
            hyperplanes while it searches; with an engine of your choice a second one comes down from the best network.
        max_drawn: the maximum number of circuits drawn at random; with more than 8 features none are drawn.
        max_cuts: the maximum number of circuits added for one column at a time.
        local_seconds: seconds of the first round of local search, which ends sooner if it has found nothing better for
            long; a twentieth of the limit if that is more, at most a fifth, or a half where classes are more than two.
            For large tables it is a third of the limit; where these have two classes and at most 8 features, nine
            tenths, but at most 30 seconds. Longer rounds follow. 0: no local search.
        solutions: how many optimal target sets to list, up to symmetry.
        prefer: which optimal targets to return, decided in the time that is left once the optimum is proved. "any";
            "margin": those whose minimum margin of a unit of the first hidden layer is largest; "units": those of the
            fewest units, the others being -1 at all points and without effect; "weights", where all inputs are whole
            numbers: those whose units of the first hidden layer have the smallest maximum of their whole weights,
            biases aside.
    """

    engine: str = "auto"
    workers: int | None = None
    max_drawn: int = 12_000
    max_cuts: int = 20
    local_seconds: float = 2.0
    solutions: int = 1
    prefer: str = "any"

    name = "circuits"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one conflict of the master"
    exact = True
    unrounded = True
    stochastic = True

    def __post_init__(self) -> None:
        for argument, least in (("max_drawn", 0), ("max_cuts", 1), ("solutions", 1)):
            check_count(argument, getattr(self, argument), least)
        if self.workers is not None:
            check_count("workers", self.workers, 1)
        if (
            isinstance(self.local_seconds, bool)
            or not isinstance(self.local_seconds, int | float)
            or not 0 <= self.local_seconds < math.inf
        ):
            raise ArgumentError("local_seconds", self.local_seconds, "a number of seconds")
        if self.engine not in ("auto", "cp-sat", *SAT_ENGINES):
            raise UnknownNameError("engine", str(self.engine), ("auto", "cp-sat", *SAT_ENGINES))
        if self.prefer not in PREFERENCES:
            raise UnknownNameError("prefer", str(self.prefer), PREFERENCES)
        if self.prefer != "any" and self.solutions > 1:
            raise ArgumentError("prefer", self.prefer, "any, where several solutions are listed")

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, NetworkProblem)
        for layer, (inputs, units) in enumerate(pairwise(problem.layers)):
            most = MAX_FIRST if units == 1 else MAX_OTHER
            if inputs > most:
                raise TooLargeError(
                    "problem",
                    f"{inputs} units in hidden layer {layer + 1}: truth tables of 2^{inputs} entries",
                    f"at most {most} where {units} read them, for {self.name}",
                    "Use ColumnSearch() for good networks without a proof.",
                )
        for name in local_searches(problem)[int(is_large(problem))]:
            find_solver(name).check(problem)
        check_preference(problem, self.prefer)
        clauses = _clauses(problem)
        needed = self.engine != "auto" or self.solutions > 1 or self.prefer != "any"
        if clauses > MAX_CLAUSES and needed:
            raise TooLargeError(
                "problem",
                f"{len(problem.inputs)} points: about {clauses:.2g} clauses",
                f"at most {MAX_CLAUSES:.2g} for {self.name}",
                "Use fewer samples or units, or ColumnSearch() for good networks without a proof.",
            )
        if needed and not _countable(problem):
            raise NotAcceptedError(
                "problem",
                "weights with no common measure",
                f"weights that are multiples of one number, at most {MAX_TOTAL} of them, for {self.name}",
                "Round the weights, to three digits for example.",
            )
        if self.engine in SAT_ENGINES and (cost := trivial_cost(problem)) > MAX_COUNTED:
            raise TooLargeError(
                "problem",
                f"up to {cost} errors, or common measures of the weights, to count",
                f"at most {MAX_COUNTED} for engine={self.engine}",
                "Use engine=cp-sat, or round the weights to fewer digits.",
            )
        if self.engine in SAT_ENGINES and not sat_installed():
            raise MissingLibraryError(f"engine={self.engine}", "python-sat", "python-sat")
        # Loaded here, where it is not charged to the budget.
        sat = self.engine != "cp-sat" and sat_installed()
        importlib.import_module("pysat.solvers" if sat else "ortools.sat.python.cp_model")

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        engine = self.engine
        if engine == "auto":
            engine = "glucose4" if sat_installed() and trivial_cost(problem) <= MAX_COUNTED else "cp-sat"
        # A circuit of many points forbids next to nothing, and takes long to work out.
        drawn = 0 if problem.inputs.shape[1] > MANY_FEATURES else self.max_drawn
        state = SearchState(problem, report, generator, max_drawn=drawn, max_cuts=self.max_cuts)
        cores = min(MAX_WORKERS, os.cpu_count() or 1) if self.workers is None else self.workers
        # The others prove what they prove of float64 numbers.
        alone = self.engine != "auto" or problem.exact is not None
        # Of those that look at all columns one is enough.
        names = PROVERS[:1] if is_large(problem) else PROVERS
        provers = [name for name in names if taken(name, problem)][:1] if not alone else []
        parts = None if alone else self._parts(problem, state, generator)
        own = torch.Generator().manual_seed((generator.initial_seed() + 4) % 2**63)
        packing = None if alone or not packable(problem) else Packing(problem, state, own)
        race = Race(problem, report, state, generator, cores, provers, parts, packing, forced=alone)
        opened = ExitStack()
        try:

            def make(name: str, workers: int, stop: Callable[[], bool]) -> Master:
                model = state.formula.count, state.clauses(), state.costs, state.upper
                kind = partial(CpSatMaster, workers=workers) if name == "cp-sat" else partial(SatMaster, name)
                return opened.enter_context(kind(*model, stop=stop))

            def make_separating(stop: Callable[[], bool]) -> Master:
                finder = ConflictFinder(problem.inputs.cpu().numpy(), problem.exact)
                model = state.clauses(), state.costs, state.upper
                return opened.enter_context(SeparatingMaster(state.formula, *model, finder, state.keep, stop))

            second = engine if engine == "cp-sat" else "minisat22" if engine == "glucose4" else "glucose4"
            planned: list[tuple[Maker, bool]] = [(partial(make, engine, 1), True)]
            if self.engine == "auto" and engine == "glucose4":
                planned.append((make_separating, True))
            elif cores > 1:
                planned.append((partial(make, second, cores - 1), False))
            if not alone and not (_countable(problem) and _clauses(problem) <= MAX_CLAUSES):
                planned = []
                report.note(torch.tensor(0), "no masters: weights without a common measure, or too many points")
            seconds = budget.seconds or 0.0
            # Of more classes, what has begun goes on longer: a search that begins again loses its other networks.
            most = 1 / 5 if len(problem.classes) == 2 else 1 / 2
            local = min(max(self.local_seconds, seconds / 20), most * seconds)
            if is_large(problem) and local > 0:
                local = min(_MOST * seconds, _LONGEST) if settles_columns(problem) else seconds / 3
            race.run(planned, local if budget.steps is None else self.local_seconds, budget.steps)
            try:
                if state.closed:
                    self._choose(lambda: race.master(planned[0][0]), problem, report, state, budget.steps)
            except StoppedError:
                report.note(torch.tensor(0), "no time was left to look for other optimal networks")
            report.steps = sum(master.conflicts for master in race.masters)
        finally:
            race.afterwards(opened.close)
        report.stats["engine"], report.stats["circuits"] = engine, state.signed_circuits()
        report.stats["proved_by"], report.stats["refuted_by"] = state.proved_by, state.refuted_by or engine
        if parts is not None and state.proved_by == "parts":
            report.stats["parts"] = parts.best
        if packing is not None and state.proved_by == "packing":
            report.stats["circuits"], report.stats["shares"] = packing.evidence()

    def _choose(
        self,
        master: Callable[[], Master],
        problem: NetworkProblem,
        report: Report,
        state: SearchState,
        steps: int | None,
    ) -> None:
        """Look among the optimal networks for others, or for the preferred one."""
        if self.solutions > 1:
            optima = Optima(problem, report, state, master(), None)
            report.stats["solutions"], report.stats["all_solutions"] = optima.listed(self.solutions)
        if self.prefer != "any":
            decide = {"margin": widest, "units": fewest_units, "weights": smallest}[self.prefer]
            preferred = decide(Optima(problem, report, state, master(), steps))
            state.replace(preferred.targets)
            report.stats["preferred"], report.stats["preference_proved"] = preferred.value, preferred.proved
            if preferred.weights is not None:
                report.stats["weights"] = preferred.weights

    def _parts(self, problem: NetworkProblem, state: SearchState, generator: torch.Generator) -> Parts | None:
        countable = sat_installed() and _countable(problem)
        if len(problem.inputs) < MIN_PARTED or (not countable and problem.widths[0] > 1):
            return None
        own = torch.Generator().manual_seed((generator.initial_seed() + 3) % 2**63)
        return Parts(problem, state, countable, own)


def _clauses(problem: NetworkProblem) -> int:
    return sum(len(problem.inputs) * units * 2**inputs for inputs, units in pairwise(problem.layers))


def _countable(problem: NetworkProblem) -> bool:
    """Whether the weights are not too many multiples of one number."""
    return problem.counts.sum().item() / error_measure(problem) <= MAX_TOTAL


def sat_installed() -> bool:
    """Whether python-sat is there."""
    return importlib.util.find_spec("pysat") is not None
