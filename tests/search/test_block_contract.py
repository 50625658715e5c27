"""What every registered solver of block problems promises, against brute force through the module itself."""

import math
from functools import cache
from typing import Any

import pytest
import torch
from support.blocks import ARCHITECTURES, make_block, make_block_problem
from support.zoo import one_worker
from torch import Tensor, nn

from tpsolve import SOLVERS, BlockProblem, Budget, Result, Status, solve
from tpsolve.search import LocalSolver, Solver
from tpsolve.spins import random_spins
from tpsolve.testing._laws import require_valid

pytestmark = pytest.mark.rounding

BLOCK_SOLVERS = tuple(kind for kind in SOLVERS.values() if issubclass(BlockProblem, kind.accepts))
SEED = 3
SMALL = tuple(name for name, (shape, _) in ARCHITECTURES.items() if math.prod(shape) <= 12)
"""Blocks whose optimum brute force finds."""

each_solver = pytest.mark.parametrize("kind", BLOCK_SOLVERS, ids=lambda kind: kind.name)


@cache
def problem_of(name: str, dtype: torch.dtype = torch.float64) -> BlockProblem:
    return make_block_problem(name, samples=4, dtype=dtype, seed=SEED)


@cache
def optimum(name: str) -> Tensor:
    """The least cross-entropy over all targets, from the module itself."""
    shape = ARCHITECTURES[name][0]
    every = 2.0 * torch.cartesian_prod(*[torch.arange(2)] * math.prod(shape)).double() - 1
    z = make_block(name, seed=SEED)(every.reshape(-1, *shape)).detach()
    return (z.logsumexp(1)[:, None] - z[:, problem_of(name).targets]).amin(0)


def assert_valid(problem: BlockProblem, result: Result, least: Tensor | None = None) -> None:
    require_valid(problem, result)
    if least is not None:
        assert (result.bound <= least + 1e-12).all(), "a bound never exceeds the optimum"
        assert (result.objective >= least - 1e-9).all()


@each_solver
@pytest.mark.parametrize("name", SMALL)
def test_result_is_valid(kind: type[Solver], name: str):
    problem = problem_of(name)
    result = solve(problem, one_worker(kind), budget=Budget(steps=300))
    assert_valid(problem, result, optimum(name))
    if kind.exact:
        torch.testing.assert_close(result.objective, optimum(name))
        assert result.status == [Status.OPTIMAL] * 4
    if issubclass(kind, LocalSolver):
        assert (result.objective <= problem.objective(problem.start) + 1e-12).all()


@pytest.mark.slow
@each_solver
@pytest.mark.parametrize("name", ["pooling", "frozen-norm"])
def test_float32_and_few_candidates(kind: type[Solver], name: str):
    problem = make_block_problem(name, dtype=torch.float32, candidates=3, stay=0.125)
    try:
        kind().check(problem)
    except ValueError:  # 32 targets are too many to enumerate
        assert kind.exact
        return
    assert_valid(problem, solve(problem, one_worker(kind), budget=Budget(steps=10)))


class Fragile(nn.Module):
    """A linear layer that raises for marked samples."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, h: Tensor, mark: Tensor) -> Tensor:
        if bool(mark.any()):
            raise FloatingPointError("off")
        return self.linear(h)


@each_solver
@pytest.mark.slow
def test_failing_sample_is_unknown_and_the_others_are_searched(kind: type[Solver]):
    torch.manual_seed(2)
    block, start = Fragile().double(), random_spins((3, 5), torch.Generator().manual_seed(1), dtype=torch.float64)
    marks: Any = torch.tensor([False, True, False])
    problem = BlockProblem(block, [0, 1, 2], start, context=(marks,))
    result = solve(problem, one_worker(kind), budget=Budget(steps=40))
    assert [status is Status.UNKNOWN for status in result.status] == [False, True, False]
    assert "off" in result.stats["notes"][1]
    assert torch.isfinite(result.objective[[0, 2]]).all()
    assert torch.equal(result.targets[1], start[1])
    if kind.exact:
        assert [result.status[0], result.status[2]] == [Status.OPTIMAL] * 2


class Counted(torch.autograd.Function):
    """The identity, which counts the samples that pass it, forward and backward."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, counts: dict[str, int]) -> Tensor:
        ctx.counts = counts
        counts[f"forward {h.dtype}"] = counts.get(f"forward {h.dtype}", 0) + len(h)
        return h.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,) = grads
        ctx.counts[f"backward {g.dtype}"] = ctx.counts.get(f"backward {g.dtype}", 0) + len(g)
        return g, None


class Counting(nn.Module):
    """A block that counts its passes, in a table that all its copies share."""

    def __init__(self, counts: dict[str, int]) -> None:
        super().__init__()
        self.counts, self.layers = counts, nn.Sequential(nn.Linear(40, 6), nn.Tanh(), nn.Linear(6, 3))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Counting":
        other = Counting(self.counts)
        other.load_state_dict(self.state_dict())
        return other

    def forward(self, h: Tensor) -> Tensor:
        return self.layers(Counted.apply(h, self.counts))


@pytest.mark.parametrize("passes", [3, 31, 32, 100])
def test_enumeration_takes_a_pass_for_each_targets_and_proves_only_a_whole_one(passes: int):
    problem = problem_of("linear")
    result = solve(problem, "enumerate", budget=Budget(passes=passes))
    assert result.stats["passes"].tolist() == [min(passes, 32)] * 4
    assert all((status is Status.OPTIMAL) == (passes >= 32) for status in result.status)


@pytest.mark.parametrize("kind", [kind for kind in BLOCK_SOLVERS if not kind.exact], ids=lambda kind: kind.name)
@pytest.mark.parametrize("passes", [1, 2, 3, 7, 40])
def test_passes_are_kept_and_told_as_the_block_counts_them(kind: type[Solver], passes: int):
    counts: dict[str, int] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        block = Counting(counts)
    samples = 4
    start = random_spins((samples, 40), torch.Generator().manual_seed(1))
    problem = BlockProblem(block, [0, 1, 2, 0], start, candidates=5)
    counts.clear()
    result = solve(problem, one_worker(kind), budget=Budget(passes=passes))
    # The search runs in float32; the judge in float64, but for the one pass that tells the size of its rounding.
    taken = -samples + counts.get("forward torch.float32", 0) + counts.get("backward torch.float32", 0)
    assert_valid(problem, result)
    told = int(result.stats["passes"].sum())
    assert taken <= samples * passes
    assert (result.stats["passes"] <= passes).all()
    if kind.name in ("random", "keep"):
        # What they offer is evaluated by the judge alone.
        assert (taken, told) == (0, samples)
    else:
        assert taken == told
