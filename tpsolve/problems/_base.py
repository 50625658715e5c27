"""What every target problem offers to a solver."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from os import PathLike
from typing import Self

import torch
from torch import Tensor

from tpsolve._gap import closing_tolerance
from tpsolve._result import facts_table
from tpsolve.problems._meter import Meter

Limit = Callable[[slice], Tensor | None]
"""For a run of u targets, by how much the flip of each may change the objective: `(u, B)`; None: sweep no further."""


class State(ABC):
    """Targets of B samples under single flips, with their objectives kept up to date.

    Values are in the problem's dtype and drift as floats do; `Problem.objective` is the judge.
    """

    targets: Tensor
    """`(B, n)` in {-1, +1}; changed in place by `flip`."""
    objective: Tensor
    """`(B,)`."""
    meter: Meter | None = None
    """Where passes are counted; None: nowhere, and they have no limit."""
    look_passes: int = 1
    """Passes of a sample without which `flip_delta` offers nothing; it spends no more than the sample has."""
    gradient_passes: int = 2
    """Passes of `gradient`. One of `move` and `refresh` is 1."""

    @abstractmethod
    def flip_delta(self) -> Tensor:
        """Change of the objective if one target were negated, for all n at once: `(B, n)`, never NaN.

        +inf: a flip that is not on offer, because it was not tried or has no objective.
        The caller may write to it; the next call may use its memory again.
        """

    @abstractmethod
    def flip(self, units: Tensor, where: Tensor) -> None:
        """Negate target `units[b]` of each sample b with `where[b]`; `units (B,)` int64, `where (B,)` bool."""

    def sweep(self, max_delta: Limit) -> None:
        """Offer each target in turn a flip, taken where it changes the objective by at most `max_delta`."""
        every = torch.ones_like(self.objective, dtype=torch.bool)
        for unit in range(self.targets.shape[1]):
            limit = max_delta(slice(unit, unit + 1))
            if limit is None:
                return
            units = torch.full_like(every, unit, dtype=torch.int64)
            before, back = self.objective.clone(), self.inverse(units)
            self.flip(units, every)
            self.flip(back, self.objective - before > limit[0])

    def inverse(self, units: Tensor) -> Tensor:
        """The flips that undo those of `units (B,)`, asked before these are made: `(B,)`, by default the same."""
        return units

    def spend(self, passes: int | Tensor, rows: Tensor | None = None) -> None:
        """Count `passes` of each sample, or of those that `rows` (bool or indices) picks."""
        if self.meter is not None:
            self.meter.spend(passes, rows)

    def affords(self, passes: int) -> Tensor:
        """Which samples may spend so many passes, `(B,)` bool."""
        if self.meter is None or not self.meter.limits:
            return torch.ones(len(self.targets), device=self.targets.device, dtype=torch.bool)
        return self.meter.share >= passes

    def whole(self, chosen: Tensor) -> Tensor:
        """`chosen (B, n)` bool with all targets that stand for one symbol, where one of them is chosen."""
        return chosen

    def near(self, share: float) -> Tensor:
        """For each target the chance `(B, n)` of +1 that keeps what it stands for with probability `share`."""
        return 0.5 + (share - 0.5) * self.targets

    def draw(self, chance: Tensor, uniform: Tensor) -> Tensor:
        """Targets `(B, n)` that are +1 with the chance `chance (B, n)`, by `uniform (B, n)` numbers in [0, 1]."""
        return torch.where(uniform < chance, 1.0, -1.0).to(self.targets.dtype)

    @abstractmethod
    def gradient(self) -> Tensor:
        """Derivative of the objective in the targets, as though they were real numbers: `(B, n)`."""

    def move(self, targets: Tensor) -> None:
        """Go on from `targets (B, n)`."""
        self.targets = targets.clone()
        self.refresh()

    def take(self, rows: Tensor) -> None:
        """Go on as the samples `rows (B,)` int64, of which some may be named twice and others not at all."""
        vars(self).update(vars(self.select(rows)))

    @abstractmethod
    def refresh(self) -> None:
        """Recompute everything from the targets, which ends the drift of floating point."""

    @abstractmethod
    def select(self, keep: Tensor) -> Self:
        """The state of only the samples with `keep (B,)`."""


class Problem(ABC):
    """A search for targets in {-1, +1}; `batch_shape` independent samples of `n_vars` targets each.

    The problem is the only judge of targets: whatever a solver believes, `solve()` asks `objective`.
    """

    batch_shape: tuple[int, ...]
    n_vars: int
    device: torch.device
    dtype: torch.dtype
    start: Tensor | None
    """Where a search may begin, such as the current activations: `(*batch, *target_shape)` in {-1, +1}."""

    @property
    def target_shape(self) -> tuple[int, ...]:
        """The axes that the targets of one sample have, n in all: `(n,)`, or those of an activation map."""
        return (self.n_vars,)

    def _facts(self) -> dict[str, object]:
        """What a notebook shows of the problem."""
        return {
            "samples": math.prod(self.batch_shape),
            "targets of a sample": self.n_vars,
            "start": "none" if self.start is None else "given",
            "dtype, device": f"{self.dtype}, {self.device}",
        }

    def _repr_html_(self) -> str:
        """For notebooks: what the problem is, a line each."""
        return facts_table(type(self).__name__, self._facts())

    @abstractmethod
    def objective(self, targets: Tensor) -> Tensor:
        """`(..., *batch)` float64 of `targets (..., *batch, *target_shape)`; +inf where there is none."""

    def failures(self, targets: Tensor) -> dict[int, str]:
        """Why the objective of `targets (*batch, *target_shape)` could not be computed, by index in the flat batch."""
        return {}

    @abstractmethod
    def lower_bound(self) -> Tensor:
        """A proven lower bound on the objective: `(*batch,)` float64."""

    @abstractmethod
    def rounding(self) -> Tensor:
        """How far `objective` may be from exact arithmetic: `(*batch,)` float64."""

    def least_difference(self) -> Tensor:
        """What two different objectives differ by at least: `(*batch,)` float64; 0: nothing is known."""
        return torch.zeros(self.batch_shape, dtype=torch.float64, device=self.device)

    def tolerance(self) -> Tensor:
        """A gap of at most this, `(*batch,)` float64, leaves no better targets: see `closing_tolerance`."""
        return closing_tolerance(self.rounding(), self.least_difference())

    @abstractmethod
    def flatten(self) -> Self:
        """The same samples in one batch axis, their targets in one axis too."""

    @abstractmethod
    def select(self, keep: Tensor) -> Self:
        """The samples that `keep` (bool or indices) picks from a flat batch; flat."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """The same problem on another device."""

    @abstractmethod
    def save(self, path: str | PathLike[str]) -> None:
        """Write the problem to `path` (.npz, no pickle)."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of everything that defines the problem."""


class FlipProblem(Problem):
    """A problem in which any one target may be negated, so that local searches can walk.

    Local searches walk among spins. Where targets are more than spins, `encode` makes spins of them; else it leaves
    them as they are.
    """

    stay_weight: Tensor | None
    """Weights of the stay penalty, not negative, by shape as the spins of `start`; None: all 1."""
    meter: Meter | None = None
    """Of a flat batch, where a search counts its passes."""
    look_passes: int = 1
    """Passes of a sample for a look at flips from new targets, at least."""
    gradient_passes: int = 2
    """Passes of a sample for a gradient."""

    @abstractmethod
    def flip_delta(self, targets: Tensor) -> Tensor:
        """Change of the objective when each single target is negated: `(*batch, *target_shape)`."""

    @abstractmethod
    def state(self, targets: Tensor) -> State:
        """The search state of the spins `targets (B, n)`, where B counts the samples of the batch."""

    def encode(self, targets: Tensor) -> Tensor:
        """The spins of targets `(R, n)`, in which a search walks."""
        return targets

    def decode(self, spins: Tensor) -> Tensor:
        """The targets of spins that `encode` made."""
        return spins

    def random_targets(self, copies: int, generator: torch.Generator) -> Tensor:
        """Uniform draws of targets `(copies * B, n)`, flat; each copy's draw is the same for all samples."""
        bits = torch.randint(0, 2, (copies, self.n_vars), generator=generator, device=generator.device)
        return (2 * bits - 1).to(self.device, self.dtype).repeat_interleave(self.batch_shape[0], 0)

    @abstractmethod
    def repeat(self, copies: int) -> Self:
        """A flat batch of `copies` times B samples: all of the first copy, all of the second, ..."""
