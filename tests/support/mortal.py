"""Solvers whose process dies while they search, or that take much memory, for comparisons with several workers."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import torch

from tpsolve import Budget, LayerProblem
from tpsolve.problems import Problem
from tpsolve.search import Report, Solver

VARIABLE = "TPSOLVE_TEST_DEATHS"
"""The environment variable that names the folder in which each start is noted."""


@dataclass(frozen=True)
class Mortal(Solver):
    """Kills its process the first `deaths` times that it begins on an instance of so many targets."""

    name = "mortal"
    accepts = (LayerProblem,)
    one_step = "one death"

    deaths: int = 0

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        path = Path(os.environ[VARIABLE]) / f"{self.deaths}-{problem.n_vars}"
        with path.open("a") as stream:
            stream.write("begun\n")
        if path.read_text().count("\n") <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        report.offer(torch.ones(*problem.batch_shape, problem.n_vars))


@dataclass(frozen=True)
class Eater(Solver):
    """Takes so many GiB of addresses; `native`: torch asks for them."""

    name = "greedy-eater"
    accepts = (LayerProblem,)
    one_step = "one meal"

    gib: float = 1.0
    native: bool = False

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        size = int(self.gib * 2**30)
        meal = torch.empty(size, dtype=torch.uint8) if self.native else bytearray(size)
        report.offer(torch.ones(*problem.batch_shape, problem.n_vars))
        del meal
