"""Beam: the best few sets of flips of each size, kept side by side."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.errors import NotAcceptedError
from tpsolve.problems import FlipProblem, Problem, State
from tpsolve.search._base import Report
from tpsolve.search.local._chains import Chains
from tpsolve.search.local._loop import ChainSolver, Memory


@dataclass(frozen=True)
class Beam(ChainSolver):
    """Sets of flips of the start, one flip larger at each step: of all extensions of the beam the best `beam_width`.

    No set stands in the beam twice, and no target is flipped twice. One step is one flip of each set.
    Source: Reddy, Speech understanding systems (Carnegie Mellon University, 1977).

    Of a program problem a flip is a move: one symbol set to another of its values, and no symbol is moved twice.
    `max_candidates` then counts moves, those of least cost.

    Args:
        beam_width: sets that are kept of each sample.
        max_children: the maximum number of extensions of one set that are kept; fewer make the beam more diverse.
        patience: steps without a new best after which a sample ends.
        max_candidates: only this many targets may flip, those of the lowest confidence; None: all. Confidence is the
            problem's `stay_weight` and should be |z| of the units sought.
    """

    beam_width: int = 8
    max_children: int = 4
    patience: int = 8
    max_candidates: int | None = None

    name = "beam"
    one_step = "one flip more in every set of the beam; the best `beam_width` sets are kept"
    step_cost = "C n m"

    def __post_init__(self) -> None:
        for name in ("beam_width", "max_children", "patience"):
            check_count(name, getattr(self, name), 1)
        if self.max_candidates is not None:
            check_count("max_candidates", self.max_candidates, 1)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, FlipProblem)
        if self.max_candidates is not None and problem.stay_weight is None:
            raise NotAcceptedError(
                "problem", "no stay_weight", "a problem with stay_weight |z|", "Or leave max_candidates out."
            )

    @property
    def copies(self) -> int:
        return self.beam_width

    def with_copies(self, copies: int) -> Self:
        return replace(self, beam_width=copies)

    def begin(self, problem: FlipProblem, report: Report, generator: torch.Generator) -> Tensor:
        # All from one place; without a start it is drawn, the same for all samples.
        return super().begin(problem, report, generator)[: problem.batch_shape[0]].repeat(self.beam_width, 1)

    def init(self, problem: FlipProblem, state: State, chains: Chains) -> Memory:
        n, device = state.targets.shape[1], state.targets.device
        keys = torch.randint(2**62, (n,), generator=chains.generator, device=chains.generator.device).to(device)
        held = torch.zeros_like(state.targets, dtype=torch.bool)
        if self.max_candidates is not None:
            assert problem.stay_weight is not None
            rank = problem.stay_weight.reshape(len(chains), n).argsort(dim=1, stable=True).argsort(1)
            held = rank >= self.max_candidates
        return {
            "held": held,
            "start": state.targets.clone(),
            # A set is known by the sum of its targets' keys; at first there is one, the empty set.
            "key": torch.zeros_like(chains.rows),
            "empty": chains.rows >= chains.samples,
            "keys": keys.expand(len(chains), n),
        }

    def step(self, state: State, memory: Memory, chains: Chains) -> Tensor:
        width, samples, keys = self.beam_width, len(chains) // self.beam_width, memory["keys"][0]
        held = memory["held"] | state.whole(state.targets != memory["start"])
        delta = state.flip_delta().masked_fill(held, torch.inf)
        best, units = delta.topk(min(self.max_children, delta.shape[1]), dim=1, largest=False)
        value = (best + state.objective[:, None]).masked_fill(memory["empty"][:, None], torch.inf)
        # Of each sample: (width * children, samples), parent by parent.
        key = self._by_sample(memory["key"][:, None] + keys[units])
        value, units = self._by_sample(value), self._by_sample(units)
        parent = torch.arange(width, device=units.device).repeat_interleave(best.shape[1])[:, None].expand_as(units)
        value, order = torch.sort(value, dim=0, stable=True)
        key, units, parent = (x.gather(0, order) for x in (key, units, parent))
        together = torch.sort(key, dim=0, stable=True)
        again = torch.zeros_like(value, dtype=torch.bool)
        again.scatter_(0, together.indices[1:], together.values[1:] == together.values[:-1])
        chosen = torch.sort(value.masked_fill(again, torch.inf), dim=0, stable=True)
        pick = chosen.indices[:width]
        offered = torch.isfinite(chosen.values[:width]).reshape(-1)
        key, units, parent = (x.gather(0, pick).reshape(-1) for x in (key, units, parent))
        state.take(parent * samples + torch.arange(samples, device=units.device).repeat(width))
        state.flip(units, offered)
        memory["key"], memory["empty"] = key, ~offered
        # The first set of a sample is its best.
        latest = chains.improved_at[:samples]
        goes_on = (chains.step + 1 - latest < self.patience) & offered.reshape(width, samples).any(0)
        return goes_on.repeat(width)

    def _by_sample(self, values: Tensor) -> Tensor:
        """`(width * samples, children)` as `(width * children, samples)`."""
        children = values.shape[1]
        return values.reshape(self.beam_width, -1, children).transpose(1, 2).reshape(self.beam_width * children, -1)
