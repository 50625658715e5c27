"""Enumerate: all 2^n targets, the oracle that the other exact solvers are tested against."""

from dataclasses import dataclass

import torch

from tpsolve.errors import TooLargeError
from tpsolve.problems import LayerProblem, Problem
from tpsolve.result import Budget
from tpsolve.search.base import Report, Solver
from tpsolve.spins import from_bits

MOST_TARGETS = 24
BLOCK_ELEMENTS = 2**22
"""Most float64 numbers in one temporary of a block: 32 MB."""


@dataclass(frozen=True)
class Enumerate(Solver):
    """Every one of the 2^n targets, in blocks on tensors; n at most 24; one block a step.

    A finished enumeration proves its optimum; an unfinished one proves nothing. All in float64.
    """

    name = "enumerate"
    accepts = (LayerProblem,)
    exact = True

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if problem.n_vars > MOST_TARGETS:
            raise TooLargeError(
                "problem",
                f"{problem.n_vars} targets",
                f"at most {MOST_TARGETS} for {self.name}",
                "Use CpSat() for an exact answer, HillClimb() for a quick one.",
            )

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, LayerProblem)
        energy, n = problem.energy64, problem.n_vars
        samples = energy.n_samples
        best = torch.full((samples,), torch.inf, device=problem.device, dtype=torch.float64)
        least, index, found_at = best.clone(), torch.zeros_like(best, dtype=torch.int64), torch.zeros_like(best)
        # Only the zero-one loss jumps, and only where sums round.
        jumps = energy.loss.name == "zero-one" and bool(energy.blur().any())
        block = max(1, min(2**n, BLOCK_ELEMENTS // (samples * problem.n_units)))
        for first in range(0, 2**n, block):
            numbers = torch.arange(first, min(first + block, 2**n), device=problem.device)
            targets = _spins(numbers, n)
            z = energy.pre(targets)[:, None, :].expand(-1, samples, -1)
            low, position = energy.total(z, targets[:, None, :]).min(0)
            if jumps:
                least = torch.minimum(least, energy.favourable(z, targets[:, None, :]).amin(0))
            better = low < best
            best[better], index[better], found_at[better] = low[better], numbers[position[better]], report.seconds
            if report.step(best) and first + block < 2**n:
                report.offer(_spins(index, n), found_at=found_at)
                return
        report.offer(_spins(index, n), found_at=found_at)
        report.prove((least if jumps else best) - problem.rounding())


def _spins(numbers: torch.Tensor, n: int) -> torch.Tensor:
    """Targets `(K, n)` whose bits are those of `numbers (K,)`."""
    bits = (numbers[:, None] >> torch.arange(n, device=numbers.device)) & 1
    return from_bits(bits, torch.float64)
