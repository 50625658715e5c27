"""Enumerate: all 2^n targets, the oracle that the other exact solvers are tested against."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.errors import TooLargeError
from tpsolve.problems import BlockProblem, LayerProblem, Problem, ProgramProblem
from tpsolve.search._base import Report, Solver
from tpsolve.search.programs._orders import numbered
from tpsolve.search.programs._target_sets import offer_cheapest
from tpsolve.spins import from_bits

MAX_TARGETS = 24
MAX_ASSIGNMENTS = 2**20
BLOCK_CALLS = 2**16
"""Assignments of a block of a program problem, of all samples together."""
BLOCK_ELEMENTS = 2**22
"""The maximum number of float64 numbers in one temporary of a block: 32 MB."""


@dataclass(frozen=True)
class Enumerate(Solver):
    """Every one of the 2^n targets, in blocks on tensors; n at most 24; one block a step.

    A finished enumeration proves its optimum, and an unfinished one proves nothing. It computes in float64. Below a
    block it proves the minimum that the block's own forward passes give, within `problem.rounding()`. Each target
    vector takes a pass. One that ends early has spent one of them on the start, and is no worse than it.

    Of a program problem it calls every assignment of every sample, at most 2^20, beginning with the cheapest. A sample
    is proved, or proved infeasible, once all of its own are called.
    """

    name = "enumerate"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, BlockProblem, ProgramProblem)
    one_step = "one block of target vectors, or of assignments"
    exact = True
    counts_passes = True

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if isinstance(problem, ProgramProblem):
            most = max(problem.count_assignments())
            if most > MAX_ASSIGNMENTS:
                raise TooLargeError(
                    "problem",
                    f"{most} assignments of a sample",
                    f"at most 2^20 for {self.name}",
                    "Use k-best, which calls the cheapest first.",
                )
        elif problem.n_vars > MAX_TARGETS:
            raise TooLargeError(
                "problem",
                f"{problem.n_vars} targets",
                f"at most {MAX_TARGETS} for {self.name}",
                "Use CpSat() for an exact answer, HillClimb() for a quick one.",
            )

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        if isinstance(problem, ProgramProblem):
            _run_program(problem, budget, report)
            return
        n, (samples,) = problem.n_vars, problem.batch_shape
        best = torch.full((samples,), torch.inf, device=problem.device, dtype=torch.float64)
        least, index, found_at = best.clone(), torch.zeros_like(best, dtype=torch.int64), torch.zeros_like(best)
        width = problem.n_units if isinstance(problem, LayerProblem) else n
        block = max(1, min(2**n, BLOCK_ELEMENTS // (samples * width)))
        if report.start is not None:
            report.offer(report.start)
        last = int(min(2**n, float(report.passes_left.min())))
        if last < 2**n and report.start is not None:
            report.spend(1)
            last -= 1
        for first in range(0, last, block):
            numbers = torch.arange(first, min(first + block, last), device=problem.device)
            report.spend(len(numbers))
            values, floor = _values(problem, _spins(numbers, n))
            low, position = values.min(0)
            least = torch.minimum(least, low if floor is None else floor.amin(0))
            better = low < best
            best[better], index[better], found_at[better] = low[better], numbers[position[better]], report.seconds
            if report.step(best) and first + block < last:
                last = first + block
                break
        if last > 0:
            report.offer(_spins(index, n), found_at=found_at)
        if last < 2**n:
            return
        known = torch.isfinite(best)
        report.prove((least - problem.rounding())[known], known.nonzero()[:, 0])


def _run_program(problem: ProgramProblem, budget: Budget, report: Report) -> None:
    counts = torch.tensor(problem.count_assignments(), device=problem.device)
    last = int(counts.max()) if budget.calls is None else min(int(counts.max()), budget.calls)
    block = max(1, BLOCK_CALLS // len(counts))
    for first in range(0, last, block):
        numbers = torch.arange(first, min(first + block, last), device=problem.device)
        # Numbers beyond a sample's own are its first assignment, which is known.
        called = len(
            offer_cheapest(
                report, problem.symbols_of(numbered(problem.cost, numbers[:, None] * (numbers[:, None] < counts)))
            )
        )
        rows = (counts <= first + called).nonzero()[:, 0]
        report.prove((report.objective - problem.rounding())[rows], rows)
        if report.step():
            return


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
