"""How long does a proof take, and building its model? `CpSat`, 2 workers, single hinge problems of random weights."""

import statistics
import time

import torch

from benchmarks.record import save
from tpsolve import Budget, solve
from tpsolve.problems import make_instance
from tpsolve.search import CpSat
from tpsolve.search.exact._cp_sat import IntegerModel
from tpsolve.search.exact._sample_model import first_touch, sample_model

SIZES = ((64, 10, 21), (32, 32, 11), (64, 64, 9))
"""(n targets, m units above, problems)."""


def measure(n: int, m: int, count: int) -> dict[str, object]:
    """Medians over `count` problems of one sample each."""
    seconds, build, optimal, objectives = [], [], 0, []
    for seed in range(count):
        problem = make_instance("random", n=n, m=m, samples=1, seed=seed).problem
        assert problem.start is not None
        energy = problem.energy64
        started = time.perf_counter()
        IntegerModel(sample_model(energy, first_touch(energy))).build(problem.start[0])
        build.append(time.perf_counter() - started)
        generator = torch.Generator().manual_seed(seed)
        result = solve(problem, CpSat(workers=2), budget=Budget(seconds=60), generator=generator)
        seconds.append(result.stats["seconds"])
        optimal += int(result.optimal.sum())
        objectives.append(result.objective.item())
    return {
        "n": n,
        "m": m,
        "problems": count,
        "proved_optimal": optimal,
        "median_seconds": statistics.median(seconds),
        "slowest_seconds": max(seconds),
        "build_seconds": statistics.median(build),
        "build_share": statistics.median(build) / statistics.median(seconds),
        "mean_objective": statistics.mean(objectives),
    }


if __name__ == "__main__":
    save("cp_sat", [measure(*size) for size in SIZES])
