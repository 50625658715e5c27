"""HillClimb: flip one target at a time for as long as that lowers the objective."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve.errors import ArgumentError
from tpsolve.problems import State
from tpsolve.search.local._chains import Chains
from tpsolve.search.local._loop import LocalSolver, Memory, flip_downhill, least_gain, steepest_flip


@dataclass(frozen=True)
class HillClimb(LocalSolver):
    """Descent by single flips to targets that no single flip improves; one flip of each chain a step.

    Of a program problem a flip is a move: one symbol set to another of its values.

    Args:
        restarts: further descents of each sample from random targets.
        improvement: "steepest" takes the best flip; "first" an improving flip drawn at random, as a
            scan of the targets in random order would meet it.
    """

    improvement: str = "steepest"

    name = "hill-climb"
    one_step = "one flip in every chain: the target of minimum d, if d < 0"
    step_cost = "C n m"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.improvement not in ("steepest", "first"):
            raise ArgumentError("improvement", repr(self.improvement), "'steepest' or 'first'")

    def step(self, state: State, memory: Memory, chains: Chains) -> Tensor:
        if self.improvement == "steepest":
            return steepest_flip(state)
        delta = state.flip_delta()
        improving = delta < -least_gain(state)
        units = torch.where(improving, chains.uniform(delta.shape[1]), -1.0).argmax(1)
        return flip_downhill(state, units, improving.any(1))
