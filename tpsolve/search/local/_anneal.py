"""Anneal: sweeps of single flips that may go uphill, ever less so as the temperature falls."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.errors import ArgumentError
from tpsolve.problems import FlipProblem, ProgramProblem, State
from tpsolve.search.local._chains import Chains
from tpsolve.search.local._loop import LocalSolver, Memory, least_gain

SCHEDULES = ("geometric", "linear", "tempering")
SWEEPS = 64
"""Of the first round, where none are given."""
MAX_INIT_SHARE = 0.25
"""Of the time and the passes, that may go into the scale of the temperatures of all chains."""


@dataclass(frozen=True)
class Anneal(LocalSolver):
    """Sweeps over all targets that take a flip of delta d with probability min(1, exp(-d / T)); T falls.

    The temperature T of a chain is a multiple of the mean size of its flip deltas at the start; deltas of 0 do not
    count. T falls from `hot` to `cold` times that mean. The last sweep is at T = 0 and takes only flips that improve.
    If the time is too short for the sweeps, T falls with the time spent instead, and a sweep ends where the time ends.
    One step is one sweep of each chain.

    With a budget in seconds and no `sweeps`, longer rounds follow from random targets: each has twice the sweeps of the
    one before, and the last takes what time is left. Sources: Kirkpatrick, Gelatt and Vecchi (Science, 1983); for the
    exchanges between temperatures, Hukushima and Nemoto (Journal of the Physical Society of Japan, 1996).

    Of a program problem a sweep offers every value of every symbol, and calls no move that costs too much by itself.
    T falls with the calls that are spent too.

    Args:
        restarts: further searches of each sample from random targets.
        sweeps: over all targets, at least 1; None: 64, with further rounds while there is time.
        schedule: "geometric" or "linear" in time; "tempering": the chains of a sample stand at fixed temperatures, a
            geometric series, and neighbours may exchange theirs.
        hot: the first temperature, as a multiple of the mean flip delta.
        cold: the last one, not above `hot`.
    """

    restarts: int = 7
    sweeps: int | None = None
    schedule: str = "geometric"
    hot: float = 0.3
    cold: float = 0.03

    name = "anneal"
    one_step = "one sweep in every chain: each target may flip, with probability min(1, exp(-d / T))"
    step_cost = "C n m"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sweeps is not None:
            check_count("sweeps", self.sweeps, 1)
        if self.schedule not in SCHEDULES:
            raise ArgumentError("schedule", repr(self.schedule), "one of " + ", ".join(map(repr, SCHEDULES)))
        for name in ("hot", "cold"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ArgumentError(name, repr(value), "a finite number of at least 0")
        if self.cold > self.hot:
            raise ArgumentError("cold", self.cold, f"at most hot = {self.hot}")

    @property
    def endless(self) -> bool:
        return self.sweeps is None

    def init(self, problem: FlipProblem, state: State, chains: Chains) -> Memory:
        first = state.select(chains.rows < chains.samples)
        with _sparing(first):
            # Of a block, some flips are not on offer.
            size = first.flip_delta().abs().nan_to_num(posinf=0.0)
        # Calls are dear, and so may time be: then the first copy speaks for all.
        if not isinstance(problem, ProgramProblem) and chains.spent() * self.copies < MAX_INIT_SHARE:
            size = state.flip_delta().abs().nan_to_num(posinf=0.0)
        scale = size.sum(1) / (size > 0).sum(1).clamp(min=1)
        scale = scale.repeat(len(chains) // len(scale))
        if self.schedule != "tempering":
            return {"scale": scale}
        shared = scale.reshape(self.copies, -1).mean(0).repeat(self.copies)
        return {
            "scale": shared,
            "level": torch.arange(self.copies, device=scale.device).repeat_interleave(chains.samples),
        }

    def passes_of_step(self, at: FlipProblem | State) -> int:
        # A sweep ends where they end.
        return 1

    def probe(self, state: State) -> None:
        # A sweep looks at the clock itself.
        state.refresh()

    def step(self, state: State, memory: Memory, chains: Chains) -> Tensor:
        # Also where the time left is that of less than two sweeps.
        last = chains.step + 1 >= self._sweeps(chains) or (
            chains.step > 0 and chains.spent() * (1 + 2 / chains.step) > 1
        )
        gain = least_gain(state)[:, 0]
        drawn = chains.draw(state.targets.shape[1]).neg_().log1p_().T.contiguous()
        temperature = self._temperature(memory, chains, last)
        before = chains.spent()

        def limit(units: slice) -> Tensor | None:
            nonlocal temperature, before
            spent = chains.spent()
            # What follows takes as long as the last target did, and keeping what was found as long again.
            if spent + (2 * (spent - before) if chains.timed else 0.0) >= 1:
                return None
            before = spent
            if spent > 0:
                temperature = self._temperature(memory, chains, last)
            return chains.spread(drawn[units]).mul_(-temperature).sub_(gain)

        state.sweep(limit)
        if self.schedule == "tempering" and not last:
            self._exchange(state, memory, chains, temperature)
        return torch.full_like(chains.alive, not last)

    def _sweeps(self, chains: Chains) -> float:
        """Of this round, if there is time for them."""
        if self.sweeps is not None:
            return self.sweeps
        return math.inf if chains.turn.fills_time else SWEEPS * 2**chains.turn.number

    def _temperature(self, memory: Memory, chains: Chains, last: bool) -> Tensor:
        """Of each chain `(B,)`, by the sweeps done or the time spent, whichever is further."""
        scale = memory["scale"]
        if last:
            return torch.zeros_like(scale)
        if self.schedule == "tempering":
            return scale * self._cooled(memory["level"] / max(1, self.copies - 1))
        return scale * self._cooled(min(1.0, max(chains.step / max(1, self._sweeps(chains) - 1), chains.spent())))

    def _cooled(self, share: Tensor | float) -> Tensor | float:
        """The temperature after this share of the way from hot to cold, in units of the scale."""
        if self.schedule == "linear" or self.cold == 0:
            return self.hot + (self.cold - self.hot) * share
        return self.hot * (self.cold / self.hot) ** share

    def _exchange(self, state: State, memory: Memory, chains: Chains, temperature: Tensor) -> None:
        """Let chains of a sample at neighbouring temperatures exchange them, as detailed balance allows.

        The chains of a sample are all here or none, copy by copy.
        """
        level = memory["level"].reshape(self.copies, -1)
        order = level.argsort(0)
        energy, coldness = (x.reshape(self.copies, -1).gather(0, order) for x in (state.objective, 1 / temperature))
        first = chains.step % 2
        pairs = (self.copies - first) // 2
        lower, upper = (slice(first + i, first + i + 2 * pairs, 2) for i in (0, 1))
        gain = (coldness[lower] - coldness[upper]) * (energy[lower] - energy[upper])
        swap = gain >= chains.draw(pairs)[:1].T.log()
        a, b = order[lower], order[upper]
        order[lower], order[upper] = torch.where(swap, b, a), torch.where(swap, a, b)
        memory["level"] = order.argsort(0).reshape(-1)


def _sparing(state: State) -> AbstractContextManager[None]:
    """Inside, a look at flips takes no more than its share of the passes, for sweeps shall follow."""
    if state.meter is None or not bool(torch.isfinite(state.meter.left).all()):
        return nullcontext()
    left = int(state.meter.left.min())
    most = max(state.look_passes, int(MAX_INIT_SHARE * left))
    return state.meter.limited(most if most < left else 0)
