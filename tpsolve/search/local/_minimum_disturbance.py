"""MinimumDisturbance: trial flips of the least confident units, until the layer above is right."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.problems import FlipProblem, LayerProblem, Problem, ProgramProblem, State
from tpsolve.problems.layer._layer_state import LayerState
from tpsolve.problems.program._program_state import ProgramState
from tpsolve.search.local._chains import Chains
from tpsolve.search.local._loop import ChainSolver, Memory


@dataclass(frozen=True)
class MinimumDisturbance(ChainSolver):
    """MADALINE rule II: flip the least confident units first, keep what lowers the objective, stop when met.

    Confidence is the problem's `stay_weight`, which should be |z| of the units sought. Without it all units are equally
    confident, and they are tried in their order. Single units are tried first, then pairs that are neighbours in
    confidence, then threes, up to `max_group`. A sample ends as soon as every unit above gives the output that is
    wanted of it, however much loss is left. So it seeks the smallest disturbance, not the minimum of the objective. One
    step is one trial of each sample. It needs `start`. Of a program problem the trials are moves of single symbols, the
    cheapest first, until the loss is 0.
    Source: Winter and Widrow, MADALINE rule II (IEEE International Conference on Neural Networks, 1988).

    Args:
        max_group: the maximum number of units that are flipped together, at least 1.
    """

    max_group: int = 3

    name = "minimum-disturbance"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, ProgramProblem)
    one_step = "one trial in every sample: the least confident units flip"
    step_cost = "C m"
    stochastic = False
    needs_start = True

    def __post_init__(self) -> None:
        check_count("max_group", self.max_group, 1)

    @property
    def copies(self) -> int:
        return 1

    def init(self, problem: FlipProblem, state: State, chains: Chains) -> Memory:
        assert isinstance(problem, LayerProblem | ProgramProblem)
        weight = problem.stay_weight
        confidence = torch.zeros_like(state.targets) if weight is None else weight
        return {"order": torch.argsort(confidence, dim=1, stable=True)}

    def step(self, state: State, memory: Memory, chains: Chains) -> Tensor:
        assert isinstance(state, LayerState | ProgramState)
        wanting = chains.alive & ~state.met()
        n = state.targets.shape[1]
        first, size = chains.step, 1
        while first > n - size and size < min(self.max_group, n):
            first, size = first - (n - size + 1), size + 1
        units = memory["order"][:, first : first + size].unbind(1)
        before = state.objective.clone()
        back = []
        for flipped in units:
            back.append(state.inverse(flipped))
            state.flip(flipped, wanting)
        worse = wanting & ~(state.objective < before)
        for flipped in reversed(back):
            state.flip(flipped, worse)
        tried = first + size >= n and size == min(self.max_group, n)
        return wanting & (not tried)
