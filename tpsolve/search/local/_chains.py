"""The chains of a local search: which are under way, the best of each, and their random numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve.problems import State


@dataclass(frozen=True)
class Turn:
    """A round of a search: its `number` from 0, and whether it is the last and `fills_time`, all that is left."""

    number: int = 0
    fills_time: bool = False


FIRST = Turn()


class Chains:
    """B = copies x samples searches side by side: all samples of the first copy, all of the second, ...

    Random numbers are drawn for each copy, and shared by all samples (common random numbers). So what
    becomes of a sample depends neither on the samples beside it nor on those that have left, and a draw
    costs next to nothing. Samples that are equal in all respects end equal; for independent searches of
    one sample, use restarts.

    Args:
        state: the start of every chain.
        copies: of each sample.
        generator: the source of all randomness.
        seconds: now, since the call began.
        spent: the share of the time allowed that is spent by now; 0 where only steps are limited.
        turn: the round of the search.
        timed: whether that share is of seconds alone.
    """

    copies: int
    generator: torch.Generator
    spent: Callable[[], float]
    turn: Turn
    timed: bool
    samples: int
    step: int
    """Steps finished."""
    rows: Tensor
    """`(B,)`: which chain of the full batch each one under way is."""
    alive: Tensor
    """`(B,)`: not finished; a finished one may be carried along, without effect."""
    value: Tensor
    """`(B,)`: the best objective of each, in the problem's dtype."""
    improved_at: Tensor
    """`(B,)`: the number of steps after which that was found."""
    incumbent: Tensor
    """`(samples,)`: the best of all copies."""

    def __init__(
        self,
        state: State,
        copies: int,
        generator: torch.Generator,
        seconds: float,
        spent: Callable[[], float],
        turn: Turn = FIRST,
        *,
        timed: bool = False,
    ) -> None:
        self.copies, self.generator, self.spent, self.turn, self.timed = copies, generator, spent, turn, timed
        device = state.targets.device
        self.samples = len(state.targets) // copies
        self.step = 0
        self.rows = torch.arange(len(state.targets), device=device)
        self.alive = torch.ones_like(self.rows, dtype=torch.bool)
        self.value = state.objective.clone()
        self.improved_at = torch.zeros_like(self.rows)
        self.incumbent = self.value.reshape(copies, self.samples).amin(0)
        self._targets = state.targets.clone()
        self._found_at = torch.full_like(self.value, seconds, dtype=torch.float64)
        self._all = self._targets.clone(), self.value.clone(), self._found_at.clone()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sample(self) -> Tensor:
        """`(B,)`: the sample of each chain."""
        return self.rows % self.samples

    def draw(self, count: int) -> Tensor:
        """Uniform numbers in [0, 1) for each copy: `(copies, count)`."""
        shape, generator = (self.copies, count), self.generator
        drawn = torch.rand(shape, generator=generator, device=generator.device)
        return drawn.to(self.rows.device, self.value.dtype)

    def uniform(self, count: int) -> Tensor:
        """Uniform numbers in [0, 1) for each chain, those of its copy: `(B, count)`."""
        drawn = self.draw(count)
        return drawn.expand(len(self), -1) if self.copies == 1 else drawn[self.rows // self.samples]

    def spread(self, drawn: Tensor) -> Tensor:
        """Of `drawn (u, copies)` the numbers of each chain's copy, `(u, B)`; a new tensor."""
        return drawn.index_select(1, self.rows // self.samples)

    def advance(self, state: State, unfinished: Tensor, seconds: float) -> None:
        """Count a step and keep what it improved; `unfinished (B,)` says which chains may still improve."""
        self.step += 1
        better = self.alive & (state.objective < self.value)
        if bool(better.any()):
            self.value = torch.where(better, state.objective, self.value)
            if self._targets.stride() != state.targets.stride():
                self._targets = torch.empty_like(state.targets).copy_(self._targets)
            # In place: fresh memory costs more than the copy.
            rows = better.nonzero()[:, 0]
            self._targets.index_copy_(0, rows, state.targets.index_select(0, rows))
            self.improved_at.masked_fill_(better, self.step)
            self._found_at.masked_fill_(better, seconds)
            self.incumbent = self.incumbent.scatter_reduce(0, self.sample, self.value, "amin")
        self.alive &= unfinished

    def finish(self, samples: Tensor) -> None:
        """End all chains of `samples (samples,)` bool."""
        self.alive &= ~samples[self.sample]

    def select(self, keep: Tensor) -> None:
        """Go on with only the chains `keep (B,)`."""
        self._store()
        for name in ("rows", "alive", "value", "improved_at", "_targets", "_found_at"):
            setattr(self, name, getattr(self, name)[keep])

    def best(self) -> tuple[Tensor, Tensor]:
        """The best targets of each sample, `(samples, n)`, and when they were found, `(samples,)`."""
        self._store()
        targets, value, found_at = self._all
        winner = value.reshape(self.copies, self.samples).argmin(0)
        pick = winner * self.samples + torch.arange(self.samples, device=winner.device)
        return targets[pick], found_at[pick]

    def _store(self) -> None:
        for full, part in zip(self._all, (self._targets, self.value, self._found_at), strict=True):
            full[self.rows] = part
