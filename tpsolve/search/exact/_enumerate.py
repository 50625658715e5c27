"""Enumerate: all 2^n targets, the oracle that the other exact solvers are tested against."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.errors import TooLargeError
from tpsolve.problems import BlockProblem, LayerProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.spins import from_bits

MAX_TARGETS = 24
BLOCK_ELEMENTS = 2**22
"""The maximum number of float64 numbers in one temporary of a block: 32 MB."""


@dataclass(frozen=True)
class Enumerate(Solver):
    """Every one of the 2^n targets, in blocks on tensors; n at most 24; one block a step.

    A finished enumeration proves its optimum, and an unfinished one proves nothing. It computes in float64. Below a
    block it proves the minimum that the block's own forward passes give, within `problem.rounding()`.
    """

    name = "enumerate"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, BlockProblem)
    one_step = "one block of target vectors"
    exact = True

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if problem.n_vars > MAX_TARGETS:
            raise TooLargeError(
                "problem",
                f"{problem.n_vars} targets",
                f"at most {MAX_TARGETS} for {self.name}",
                "Use CpSat() for an exact answer, HillClimb() for a quick one.",
            )

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        n, (samples,) = problem.n_vars, problem.batch_shape
        best = torch.full((samples,), torch.inf, device=problem.device, dtype=torch.float64)
        least, index, found_at = best.clone(), torch.zeros_like(best, dtype=torch.int64), torch.zeros_like(best)
        width = problem.n_units if isinstance(problem, LayerProblem) else n
        block = max(1, min(2**n, BLOCK_ELEMENTS // (samples * width)))
        for first in range(0, 2**n, block):
            numbers = torch.arange(first, min(first + block, 2**n), device=problem.device)
            values, floor = _values(problem, _spins(numbers, n))
            low, position = values.min(0)
            least = torch.minimum(least, low if floor is None else floor.amin(0))
            better = low < best
            best[better], index[better], found_at[better] = low[better], numbers[position[better]], report.seconds
            if report.step(best) and first + block < 2**n:
                report.offer(_spins(index, n), found_at=found_at)
                return
        report.offer(_spins(index, n), found_at=found_at)
        known = torch.isfinite(best)
        report.prove((least - problem.rounding())[known], known.nonzero()[:, 0])


def _values(problem: Problem, targets: Tensor) -> tuple[Tensor, Tensor | None]:
    """The objective `(K, B)` of `targets (K, n)`, and what it is at least where rounding may matter to a jump."""
    samples = problem.batch_shape[0]
    if not isinstance(problem, LayerProblem):
        return problem.objective(targets[:, None].expand(-1, samples, -1)), None
    energy = problem.energy64
    z = energy.pre(targets)[:, None, :].expand(-1, samples, -1)
    values = energy.total(z, targets[:, None, :])
    # Only the zero-one loss jumps, and only where sums round.
    jumps = energy.loss.name == "zero-one" and bool(energy.blur().any())
    return values, energy.favourable(z, targets[:, None, :]) if jumps else None


def _spins(numbers: Tensor, n: int) -> Tensor:
    """Targets `(K, n)` whose bits are those of `numbers (K,)`."""
    bits = (numbers[:, None] >> torch.arange(n, device=numbers.device)) & 1
    return from_bits(bits, torch.float64)
