"""GuidedRandom: many flips at once, drawn where the gradient asks for them, kept if the true loss falls."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.problems import FlipProblem, State
from tpsolve.search.local._chains import Chains
from tpsolve.search.local._loop import LocalSolver, Memory


@dataclass(frozen=True)
class GuidedRandom(LocalSolver):
    """Random sets of flips, biased by the gradient, each taken if the objective falls; one set a step.

    Flip j is drawn with probability k softmax_j(t_j g_j / spread). Here g is the gradient at the current targets, and
    spread is the standard deviation of t g. The expected number of flips k is drawn anew at each step between 1 and n /
    4, small numbers more often. A step costs a gradient and two evaluations, and no flip deltas. Source: the guided
    random search of targets in Nabergall, Deep learning with hard thresholds (2018).

    Of a program problem the gradient is that of the cost of leaving the present symbols, which needs no call; a set
    of flips gives some symbols other values. One call of each chain a step.

    Args:
        restarts: further searches of each sample from random targets.
        patience: steps without a new best after which a chain ends.
    """

    patience: int = 100

    name = "guided-random"
    one_step = "one set of flips in every chain, drawn by softmax(t g), kept if the objective falls"
    step_cost = "C n m"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("patience", self.patience, 1)

    def passes_of_step(self, at: FlipProblem | State) -> int:
        # There and, if that is no better, back.
        return at.gradient_passes + 2

    def step(self, state: State, memory: Memory, chains: Chains) -> Tensor:
        before, objective, n = state.targets.clone(), state.objective.clone(), state.targets.shape[1]
        promise = before * state.gradient()
        spread = promise.std(1, keepdim=True, correction=0).clamp(min=torch.finfo(promise.dtype).tiny)
        expected = max(1.0, n / 4) ** chains.uniform(1)
        chance = expected * (promise / spread).softmax(1)
        drawn, up = chains.uniform(n), before > 0
        candidate = state.draw(torch.where(up, 1 - chance, chance), torch.where(up, 1 - drawn, drawn))
        state.move(candidate)
        lower = state.objective < objective
        if not bool(lower.all()):
            state.move(torch.where(lower[:, None], candidate, before))
        return chains.step + 1 - chains.improved_at < self.patience
