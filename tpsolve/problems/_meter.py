"""Counts the passes that a search spends on each sample."""

import contextlib
import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor


class Meter:
    """Passes that the samples of a search have spent, and how many they may spend.

    Parts and copies of a batch write to the same numbers, so that all chains of a sample share what it may spend.

    Args:
        samples: of the search.
        most: passes that each may spend; +inf: any number.
    """

    rows: Tensor
    """`(R,)` int64: the sample that each row of a part is of."""
    spent: Tensor
    """`(samples,)` int64."""
    most: Tensor
    """`(samples,)` float64."""
    _limits: list[bool]
    """One entry: whether `most` is finite somewhere. Looking at it costs less than looking at `most`."""

    def __init__(self, samples: int, device: torch.device, most: float = math.inf) -> None:
        self.rows = torch.arange(samples, device=device)
        self.spent = torch.zeros_like(self.rows)
        self.most = torch.full((samples,), float(most), device=device, dtype=torch.float64)
        self._limits = [math.isfinite(most)]

    @property
    def limits(self) -> bool:
        """Whether some sample may not spend any number of passes."""
        return self._limits[0]

    @property
    def left(self) -> Tensor:
        """Passes that each sample may still spend, `(samples,)` float64."""
        return self.most - self.spent

    @property
    def share(self) -> Tensor:
        """Passes that each row `(R,)` may still spend if all rows of its sample spend as many."""
        beside = torch.bincount(self.rows, minlength=len(self.spent))[self.rows]
        return (self.left[self.rows] / beside).floor()

    def spend(self, passes: int | Tensor, rows: Tensor | None = None) -> None:
        """Count `passes` of each row, or `(R,)`; `rows`: of which, bool or indices, by default of all."""
        samples = self.rows if rows is None else self.rows[rows]
        counts = torch.as_tensor(passes, device=samples.device, dtype=torch.int64).expand_as(samples)
        self.spent.index_add_(0, samples, counts)

    def select(self, keep: Tensor) -> Self:
        """Of the rows that `keep` (bool or indices) picks."""
        return self._of(self.rows[keep])

    def repeat(self, copies: int) -> Self:
        """Of `copies` times the rows."""
        return self._of(self.rows.repeat(copies))

    @contextlib.contextmanager
    def limited(self, passes: int | None) -> Iterator[None]:
        """Let each sample spend at most `passes` more inside, within what it may."""
        before, limits = self.most.clone(), self.limits
        if passes is not None:
            self.most.copy_(torch.minimum(before, self.spent + float(passes)))
            self._limits[0] = True
        try:
            yield
        finally:
            self.most.copy_(before)
            self._limits[0] = limits

    def _of(self, rows: Tensor) -> Self:
        other = type(self).__new__(type(self))
        other.rows, other.spent, other.most, other._limits = rows, self.spent, self.most, self._limits
        return other
