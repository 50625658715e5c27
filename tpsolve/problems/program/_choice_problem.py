"""The target problem of choices in a network: their classes are symbols, and what lies above is run in batches."""

from typing import Any, NoReturn, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tpsolve._storage._archive import digest
from tpsolve.errors import NotAcceptedError
from tpsolve.problems.block._block_problem import BlockProblem
from tpsolve.problems.program._program_calls import Key
from tpsolve.problems.program._program_problem import ProgramProblem

ROWS_AT_ONCE = 2**12
"""Assignments for which the inputs of a block are laid out at once."""


class ChoiceProblem(ProgramProblem):
    """A `ProgramProblem` whose program is a block, for n choices of K classes in each sample.

    E(s) is the objective of `inner` at the spins of s: +1 for the class of a choice, -1 for its others. A call is a
    forward pass, of many assignments together. Nothing is remembered from one search to the next. Leaving the present
    classes costs nothing; the logits only say which assignments are asked for first.

    Args:
        inner: of n K spins a sample.
        logits: `(B, n, K)`, finite.

    Raises:
        NotFiniteError: a logit is NaN or infinite.
    """

    inner: BlockProblem

    def __init__(self, inner: BlockProblem, logits: Tensor):
        samples = list(range(len(logits)))
        super().__init__(_not_called, samples, logits, symbols=logits.shape[2], stay=0.0, loss=_not_called)
        self.inner = inner

    def answers(self, targets: Tensor) -> NoReturn:
        """Not possible: of a block only the objective is asked.

        Raises:
            NotAcceptedError: always.
        """
        raise NotAcceptedError("problem", "a block above choices", "a program, which gives answers")

    def least(self, cost: Tensor) -> Tensor:
        return self.inner.lower_bound()[self._samples]

    def rounding(self) -> Tensor:
        return self.inner.rounding()[self._samples]

    def to(self, device: torch.device | str) -> Self:
        other = super().to(device)
        other.inner = self.inner.to(device)
        return other

    @property
    def fingerprint(self) -> str:
        """A hash of the logits and of what the block's problem hashes."""
        return digest([super().fingerprint, self.inner.fingerprint], {})

    def __repr__(self) -> str:
        return f"ChoiceProblem({self.inner!r}, choices={self.n_vars}, classes={self.cost.shape[2]})"

    @property
    def _samples(self) -> Tensor:
        """The samples `(B,)` of `inner` that these are: what the labels count."""
        return torch.tensor(self.labels, dtype=torch.int64, device=self.device)

    def _losses(self, keys: list[Key], rows: list[int], allowed: list[bool]) -> np.ndarray:
        if not keys:
            return np.empty(0)
        hot = functional.one_hot(torch.tensor(keys, device=self.device), self.cost.shape[2]).flatten(1)
        samples = self._samples[torch.tensor(rows, device=self.device)]
        parts = zip(hot.split(ROWS_AT_ONCE), samples.split(ROWS_AT_ONCE), strict=True)
        return torch.cat([self.inner.select(sample).objective(2 * part - 1) for part, sample in parts]).cpu().numpy()


def _not_called(*symbols: Any) -> NoReturn:
    """Stands where a program and its loss stand in other problems."""
    raise AssertionError("a block answers in the place of a program")
