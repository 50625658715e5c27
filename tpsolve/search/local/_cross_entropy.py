"""CrossEntropy: a population of targets drawn from probabilities that move towards the best of it."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.errors import ArgumentError
from tpsolve.problems import FlipProblem, State
from tpsolve.search.local._chains import Chains
from tpsolve.search.local._loop import ChainSolver, Memory

CERTAIN = 0.02
"""A sample ends when each target is drawn as -1 or as +1 with at most this probability."""


@dataclass(frozen=True)
class CrossEntropy(ChainSolver):
    """The cross-entropy method: targets drawn independently, their probabilities moved to the means of an elite.

    It needs only objectives, no flips and no gradient. It begins near the start: each activation is drawn with
    probability 0.8. One step is one population. Source: Rubinstein (Methodology and Computing in Applied Probability,
    1999). The loss of the same name is something else.

    Of a program problem the values of the symbols are drawn, the present one with probability 0.8 at first. One call
    of each member of the population a step.

    Args:
        population: targets drawn of each sample, at least 2.
        elite: share of the population that counts, above 0 and at most 0.5.
        rate: how far the probabilities move, above 0 and at most 1.
    """

    population: int = 64
    elite: float = 0.125
    rate: float = 0.5

    name = "cross-entropy-method"
    one_step = "one population of every sample; its probabilities move towards the best of it"
    step_cost = "C n m"

    def __post_init__(self) -> None:
        check_count("population", self.population, 2)
        for name, most in (("elite", 0.5), ("rate", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
                raise ArgumentError(name, repr(value), f"a number above 0 and at most {most}")

    @property
    def copies(self) -> int:
        return self.population

    def with_copies(self, copies: int) -> Self:
        return replace(self, population=max(2, copies))

    def passes_of_step(self, at: FlipProblem | State) -> int:
        return 1

    def probe(self, state: State) -> None:
        # A step draws and evaluates.
        state.move(torch.rand_like(state.targets).sub_(0.5).sign_())

    def init(self, problem: FlipProblem, state: State, chains: Chains) -> Memory:
        # The first copy of each sample stands at its start.
        return {"chance": state.near(0.8)[: chains.samples].repeat(self.copies, 1)}

    def step(self, state: State, memory: Memory, chains: Chains) -> Tensor:
        n, copies = state.targets.shape[1], self.copies
        if chains.step:
            count = max(1, round(self.elite * copies))
            best = state.objective.reshape(copies, -1).topk(count, dim=0, largest=False).indices
            targets = state.targets.reshape(copies, -1, n)
            mean = targets.gather(0, best[:, :, None].expand(-1, -1, n)).mean(0)
            chance = torch.lerp(memory["chance"], (0.5 * mean + 0.5).repeat(copies, 1), self.rate)
            memory["chance"] = chance
        state.move(state.draw(memory["chance"], chains.uniform(n)))
        doubt = 0.5 - (memory["chance"] - 0.5).abs()
        return doubt.amax(1) > CERTAIN
