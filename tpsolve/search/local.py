"""The one loop of all local solvers: B samples times their restarts advance together, one flip a step."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tpsolve.problems import BlockProblem, FlipProblem, LayerProblem, Problem, State
from tpsolve.result import Budget
from tpsolve.search.base import Report, Solver
from tpsolve.spins import check_count, random_spins

REFRESH_STEPS = 512
"""Steps after which a state is recomputed from its targets, which ends the drift of floating point."""


@dataclass(frozen=True)
class LocalSolver(Solver):
    """A local search: an algorithm supplies `step`, this loop starts, remembers the best, and ends.

    Args:
        restarts: further searches of each sample from random targets, run beside the first, which
            begins at the problem's `start` (random without one).
    """

    restarts: int = 0

    accepts = (LayerProblem, BlockProblem)
    stochastic = True

    def __post_init__(self):
        check_count("restarts", self.restarts, 0)

    def init(self, state: State, generator: torch.Generator) -> Any:
        """What the algorithm remembers between steps; by default nothing."""
        return None

    @abstractmethod
    def step(self, state: State, memory: Any, generator: torch.Generator) -> Tensor:
        """Advance every sample of `state` in place; `(B,)` bool: which may still improve."""

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, FlipProblem)
        copies, (samples,) = 1 + self.restarts, problem.batch_shape
        first = self._starts(problem, copies, generator)
        state = problem.repeat(copies).state(first)
        # The best of each copy; `rows` says which of them the samples still under search are.
        best, value = state.targets.clone(), state.objective.clone()
        found_at = torch.full_like(value, report.seconds, dtype=torch.float64)
        rows = torch.arange(len(value), device=problem.device)
        memory = self.init(state, generator)
        stopped, steps = False, 0
        while not stopped and len(rows):
            active = self.step(state, memory, generator)
            steps += 1
            if steps % REFRESH_STEPS == 0:
                state.refresh()
            better = state.objective < value[rows]
            kept = rows[better]
            best[kept], value[kept] = state.targets[better], state.objective[better]
            found_at[kept] = report.seconds
            stopped = report.step(value.reshape(copies, samples).amin(0))
            # Finished samples leave once they are half of those carried along.
            if 2 * int(active.sum()) <= len(rows):
                state, rows = state.select(active), rows[active]
                memory = self.select(memory, active)
        winner = value.reshape(copies, samples).argmin(0)
        pick = winner * samples + torch.arange(samples, device=problem.device)
        report.offer(best[pick], found_at=found_at[pick])

    def select(self, memory: Any, keep: Tensor) -> Any:
        """The memory of the samples with `keep`."""
        return memory

    def _starts(self, problem: Problem, copies: int, generator: torch.Generator) -> Tensor:
        (samples,) = problem.batch_shape
        fresh = copies if problem.start is None else copies - 1
        shape = (fresh * samples, problem.n_vars)
        drawn = random_spins(shape, generator, device=problem.device, dtype=problem.dtype)
        return drawn if problem.start is None else torch.cat([problem.start, drawn])


def steepest_flip(state: State) -> Tensor:
    """Flip the best target of every sample that a flip improves; `(B,)` bool: which these were."""
    least, units = state.flip_delta().min(1)
    return flip_downhill(state, units, least < -least_gain(state)[:, 0])


def flip_downhill(state: State, units: Tensor, where: Tensor) -> Tensor:
    """Flip `units (B,)` of the samples `where (B,)`, and back where that lowers nothing; which are lower now.

    Pre-activations that cancel can make rounding look like a gain: without the second look a descent
    could go round in circles.
    """
    before = state.objective.clone()
    state.flip(units, where)
    lower = where & (state.objective < before)
    if bool((where & ~lower).any()):
        state.flip(units, where & ~lower)
    return lower


def descend(problem: FlipProblem, report: Report) -> None:
    """Offer the end of a steepest descent from `start` (from all +1 without one): a first incumbent."""
    state = problem.state(report.targets if problem.start is None else problem.start)
    while bool(steepest_flip(state).any()) and report.seconds_left > 0:
        pass
    report.offer(state.targets)


def least_gain(state: State) -> Tensor:
    """By how much a flip must lower the objective to count, `(B, 1)`: what rounding alone can feign."""
    return (8 * torch.finfo(state.objective.dtype).eps * (1 + state.objective.abs()))[:, None]


def draw(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1) of this shape, drawn on the generator's device and moved beside `like`."""
    return torch.rand(shape, generator=generator, device=generator.device).to(like.device)
