"""The one loop of all local solvers: B samples times their restarts advance together, one step at a time."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._gap import is_closed
from tpsolve._result import Budget
from tpsolve.problems import BlockProblem, FlipProblem, LayerProblem, Problem, ProgramProblem, State
from tpsolve.search._base import Report, Solver
from tpsolve.search.local._chains import Chains, Turn

REFRESH_STEPS = 512
"""Steps after which a state is recomputed from its targets, which ends the drift of floating point."""

MAX_GROWTH = 6
"""A round is the last one, and takes the time that is left, where that is less than so many times the last round's."""
MIN_STEPS = 3
"""For which there must be time, else there are fewer chains."""
LATE_SHARE, LATE_SECONDS = 0.05, 0.1
"""The share of a budget, or the seconds, by which a step may end late."""

Memory = dict[str, Tensor]
"""What an algorithm remembers between steps: tensors of one row a chain."""


@dataclass(frozen=True)
class ChainSolver(Solver):
    """A search by chains: an algorithm supplies `step`, this loop starts, remembers the best, and ends.

    Samples whose best meets the proven bound leave the batch, as do those that `step` calls finished, and those that
    have no calls left, or too few passes for a step. All chains of a sample share its passes. Where a budget in seconds
    or passes is too short for three steps of all chains, fewer are run. Of a
    program problem the flips are moves: one symbol set to another of its values. The best assignment that was asked
    counts, also where no chain went there; where all were asked it is proved optimal.

    An algorithm that is `endless` goes on in rounds, each from random targets, until the time is up.
    """

    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, BlockProblem, ProgramProblem)
    stochastic = True
    counts_passes = True

    @property
    @abstractmethod
    def copies(self) -> int:
        """How many chains each sample has."""

    @property
    def endless(self) -> bool:
        """Whether, with a budget in seconds, rounds from random targets follow until it is spent; by default not."""
        return False

    def begin(self, problem: FlipProblem, report: Report, generator: torch.Generator) -> Tensor:
        """Spins `(copies * B, n)` to start from: the report's `start`, and random ones of each further copy.

        Random ones are the same for all samples, for the reason that `Chains` gives.
        """
        fresh = self.copies if report.start is None else self.copies - 1
        targets = problem.random_targets(fresh, generator)
        return problem.encode(targets if report.start is None else torch.cat([report.start, targets]))

    def init(self, problem: FlipProblem, state: State, chains: Chains) -> Memory:
        """What the algorithm remembers between steps, by default nothing; `problem` has a sample a chain."""
        return {}

    def with_copies(self, copies: int) -> Self:
        """The same search with so many chains of each sample, at least 1 and fewer than `copies`; by default itself."""
        return self

    def passes_of_step(self, at: FlipProblem | State) -> int:
        """Passes that a chain must have left for a step; a step takes no more, or no more than the chain has."""
        return at.look_passes

    def probe(self, state: State) -> None:
        """Work that takes about as long as a step of these chains."""
        state.flip_delta()

    @abstractmethod
    def step(self, state: State, memory: Memory, chains: Chains) -> Tensor:
        """Advance every chain of `state` in place; `(B,)` bool: which may still improve."""

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, FlipProblem)
        search = self._fitting(problem, report)
        starts, turn = search.begin(problem, report, generator), Turn()
        while True:
            began = report.seconds
            over = search._round(problem, generator, report, starts, turn)
            closed = bool((report.closed | report.called_out).all())
            if over or closed or budget.seconds is None or not self.endless or report.seconds_left <= 0:
                return
            longer = MAX_GROWTH * (report.seconds - began)
            turn = Turn(turn.number + 1, fills_time=report.seconds_left < longer)
            starts = problem.encode(problem.random_targets(search.copies, generator))

    def _fitting(self, problem: FlipProblem, report: Report) -> Self:
        """The same search with as many chains as there is time for."""
        if report.budget.passes is not None and not isinstance(problem, ProgramProblem):
            # To try would cost passes.
            enough = 1 + MIN_STEPS * self.passes_of_step(problem)
            fitting = max(1, int(float(report.passes_left.min()) // enough))
            return self if fitting >= self.copies else self.with_copies(fitting)
        program = isinstance(problem, ProgramProblem)
        # To ask a program costs calls.
        if report.budget.seconds is None or self.copies == 1 or (program and report.budget.calls is not None):
            return self
        # The first time some things are computed once and for all; a program is asked then, and remembered.
        for _ in range(1 if program else 2):
            began = report.seconds
            self.probe(problem.state(problem.encode(report.targets)))
            fitting = report.seconds_left / max(MIN_STEPS * (report.seconds - began), 1e-9)
            if fitting >= self.copies:
                return self
        return self.with_copies(max(1, int(fitting)))

    def _round(
        self, problem: FlipProblem, generator: torch.Generator, report: Report, starts: Tensor, turn: Turn
    ) -> bool:
        """Run all chains from `starts` to their ends, and offer the best; True: the whole search is over."""
        budget = report.budget
        if not report.affords(self.copies, f"a beginning of {self.name}"):
            return True
        repeated = problem.repeat(self.copies)
        timed = budget.seconds is not None and budget.calls is None and budget.passes is None
        state = repeated.state(starts)
        chains = Chains(state, self.copies, generator, report.seconds, report.share_spent(), turn, timed=timed)
        memory, stopped = self.init(repeated, state, chains), False
        # What a state of a program problem has of this much has no objective.
        limit = problem.penalty() if isinstance(problem, ProgramProblem) else None
        chains.finish(report.closed | report.called_out | self._poor(state, chains))
        if budget.passes is not None:
            state, memory = self._drop(state, memory, chains)
        margin = 0.0 if budget.seconds is None else max(LATE_SHARE * budget.seconds, LATE_SECONDS)
        while not stopped and len(chains):
            began = report.seconds
            unfinished = self.step(state, memory, chains)
            if (chains.step + 1) % REFRESH_STEPS == 0 and bool(state.affords(1).all()):
                state.refresh()
            chains.advance(state, unfinished, report.seconds)
            found = chains.incumbent
            if limit is not None:
                found = torch.where(found < limit, found, torch.inf)
            closed = is_closed(found.double(), report.bound, report.tolerance)
            chains.finish(closed | report.called_out | self._poor(state, chains))
            stopped = report.step(found)
            # Another step would end too late.
            stopped |= report.seconds_left + margin < report.seconds - began
            # Finished chains leave once they are half of those carried along, or at once where they would take passes.
            if 2 * int(chains.alive.sum()) <= len(chains) or budget.passes is not None:
                state, memory = self._drop(state, memory, chains)
        targets, found_at = chains.best()
        report.offer(problem.decode(targets), found_at=found_at)
        if isinstance(problem, ProgramProblem):
            report.offer(problem.best_asked())
            whole = problem.fully_asked(report.objective).nonzero()[:, 0]
            report.prove((report.objective - problem.rounding())[whole], whole)
        return stopped

    def _poor(self, state: State, chains: Chains) -> Tensor:
        """The samples `(samples,)` whose chains have too few passes left for a step."""
        poor = torch.zeros(chains.samples, device=chains.rows.device, dtype=torch.bool)
        if state.meter is not None and state.meter.limits:
            poor[chains.sample[~state.affords(self.passes_of_step(state))]] = True
        return poor

    @staticmethod
    def _drop(state: State, memory: Memory, chains: Chains) -> tuple[State, Memory]:
        """Go on with the chains that are not finished."""
        alive = chains.alive
        if bool(alive.all()):
            return state, memory
        chains.select(alive)
        return state.select(alive), {name: values[alive] for name, values in memory.items()}


@dataclass(frozen=True)
class LocalSolver(ChainSolver):
    """A local search whose chains know nothing of each other.

    Args:
        restarts: further searches of each sample from random targets, run beside the first, which
            begins at the problem's `start` (random without one).
    """

    restarts: int = 0

    def __post_init__(self) -> None:
        check_count("restarts", self.restarts, 0)

    @property
    def copies(self) -> int:
        return 1 + self.restarts

    def with_copies(self, copies: int) -> Self:
        return replace(self, restarts=copies - 1)


def steepest_flip(state: State) -> Tensor:
    """Flip the best target of every chain that a flip improves; `(B,)` bool: which these were."""
    delta = state.flip_delta()
    units = least_index(delta)
    least = delta.gather(1, units[:, None])
    return flip_downhill(state, units, (least < -least_gain(state))[:, 0])


def flip_downhill(state: State, units: Tensor, where: Tensor) -> Tensor:
    """Flip `units (B,)` of the chains `where (B,)`, and back where that lowers nothing; which are lower now.

    Pre-activations that cancel can make rounding look like a gain: without the second look a descent
    could go round in circles.
    """
    before, back = state.objective.clone(), state.inverse(units)
    state.flip(units, where)
    lower = where & (state.objective < before)
    if bool((where & ~lower).any()):
        state.flip(back, where & ~lower)
    return lower


def descend(problem: FlipProblem, report: Report) -> None:
    """Offer the end of a steepest descent from the report's `start` (all +1 without one): a first incumbent."""
    state = problem.state(report.targets if report.start is None else report.start)
    while bool(steepest_flip(state).any()) and report.seconds_left > 0:
        pass
    report.offer(state.targets)


def least_index(score: Tensor) -> Tensor:
    """The first index of the minimum of each row of `score (B, n)`: `(B,)` int64.

    As `argmin`, which takes ten times as long as the minimum itself: first the minimum of each run of
    32, then within the run that holds it.
    """
    rows, n = score.shape
    if n % 32 or n < 128:
        return score.argmin(1)
    runs = score.view(rows, n // 32, 32)
    run = runs.amin(2).argmin(1)
    return 32 * run + runs[torch.arange(rows, device=score.device), run].argmin(1)


def least_gain(state: State) -> Tensor:
    """By how much a flip must lower the objective to count, `(B, 1)`: more than rounding can feign."""
    return (8 * torch.finfo(state.objective.dtype).eps * (1 + state.objective.abs()))[:, None]
