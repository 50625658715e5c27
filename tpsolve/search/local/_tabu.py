"""Tabu: the best flip at every step, uphill too, but none that was made a short while ago."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.errors import ArgumentError
from tpsolve.problems import FlipProblem, State
from tpsolve.search.local._chains import Chains
from tpsolve.search.local._loop import LocalSolver, Memory, least_gain, least_index


@dataclass(frozen=True)
class Tabu(LocalSolver):
    """The flip of minimum flip delta at every step, uphill too; what was flipped stays so for the tenure.

    Equal flip deltas are decided at random. The tenure of each flip is drawn from `tenure` to half as much again, which
    breaks cycles. One step is one flip of each chain. Source: Glover, Tabu search, Part I (ORSA Journal on Computing,
    1989); the random tenure is Taillard's (Parallel Computing, 1991).

    Of a program problem a flip is a move: one symbol set to another of its values. The value that it had is tabu.

    With a budget in seconds and no `patience`, chains that have ended begin again from random targets until the time is
    up.

    Args:
        restarts: further searches of each sample from random targets.
        tenure: steps for which a flipped target may not be flipped back; None: n / 4, at most 20.
        aspiration: whether a flip that beats the best objective of its chain is allowed all the same.
        patience: steps without a new best after which a chain ends; None: 10 n, with new searches while
            there is time.
    """

    tenure: int | None = None
    aspiration: bool = True
    patience: int | None = None

    name = "tabu"
    one_step = "one flip in every chain: the target of minimum d that was not flipped in the last `tenure` steps"
    step_cost = "C n m"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tenure is not None:
            check_count("tenure", self.tenure, 0)
        if self.patience is not None:
            check_count("patience", self.patience, 1)
        if not isinstance(self.aspiration, bool):
            raise ArgumentError("aspiration", repr(self.aspiration), "True or False")

    @property
    def endless(self) -> bool:
        return self.patience is None

    def init(self, problem: FlipProblem, state: State, chains: Chains) -> Memory:
        size = len(chains), max(1, self._tenures(state)[1])
        return {
            "flipped": torch.zeros(size, dtype=torch.int64, device=state.targets.device),
            "free_at": torch.zeros(size, dtype=state.targets.dtype, device=state.targets.device),
        }

    def step(self, state: State, memory: Memory, chains: Chains) -> Tensor:
        n, (shortest, longest) = state.targets.shape[1], self._tenures(state)
        # What rounding can feign is a tie.
        score = state.flip_delta().addcmul_(chains.uniform(n), least_gain(state))
        if longest:
            recent = score.gather(1, memory["flipped"])
            tabu = memory["free_at"] > chains.step
            if self.aspiration:
                tabu &= recent >= (chains.value - state.objective)[:, None]
            masked = recent.masked_fill_(tabu, torch.inf)
            # A target may stand in the list twice; the greater one counts.
            score.scatter_reduce_(1, memory["flipped"], masked, "amax")
        units = least_index(score)
        back = state.inverse(units)
        state.flip(units, torch.ones_like(chains.alive))
        if longest:
            slot = chains.step % longest
            memory["flipped"][:, slot] = back
            tenure = shortest + (chains.uniform(1)[:, 0] * (longest + 1 - shortest)).floor()
            memory["free_at"][:, slot] = chains.step + 1 + tenure
        return chains.step + 1 - chains.improved_at < (10 * n if self.patience is None else self.patience)

    def _tenures(self, state: State) -> tuple[int, int]:
        """The smallest tenure and the largest; some target is always free."""
        n = state.targets.shape[1]
        tenure = min(20, n // 4) if self.tenure is None else min(self.tenure, n - 1)
        return tenure, min(tenure + tenure // 2, n - 1)
