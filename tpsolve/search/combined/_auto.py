"""Auto: the solver that measurements found best for a problem of this kind, size and budget."""

import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar

import torch

from tpsolve._result import Budget
from tpsolve.problems import BlockProblem, LayerProblem, NetworkProblem, Problem, ProgramProblem
from tpsolve.search._base import Report, Solver
from tpsolve.search._naming import find_solver

TABLE = "auto.json"
UNKNOWN = "anneal"
"""What serves where nothing was measured: blocks, and losses that are not in the table."""
MAX_ASSIGNMENTS = 1024
"""Of each sample, up to which all are called where the budget does not limit calls."""


@dataclass(frozen=True)
class Auto(Solver):
    """The solver that did best on the measured problem most like this one, within the same time.

    The table `auto.json` beside this file holds measurements on layers harvested from trained networks: the best solver
    by loss, size, seconds a sample and kind of device. `benchmarks/auto.py` writes it and says from which rows. The
    nearest entry of the same loss counts; sizes and seconds are compared on logarithmic scales. Another loss takes the
    entries of the hinge if it is a sum over units. A budget with only steps counts as the longest time measured. Steps
    are those of the solver taken.

    A program problem is solved by `marginal` where each sample has no more assignments than calls (1024 without a
    limit). Else `declared` takes it if it has constraints, and `k-best` if not. `k-best` shares the calls with `tabu`
    where the loss says how wrong an answer is. No measurement chose these. A network problem is solved by `circuits`.
    """

    name = "auto"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, BlockProblem, NetworkProblem, ProgramProblem)
    one_step = "one of the solver that it takes"
    stochastic = True
    compared = False

    def choose(self, problem: Problem, budget: Budget) -> str:
        """The text of the solver that `run` would take, for a flat batch."""
        if isinstance(problem, NetworkProblem):
            return "circuits"
        if isinstance(problem, ProgramProblem):
            if max(problem.count_assignments()) <= (budget.calls or MAX_ASSIGNMENTS):
                return "marginal"
            if problem.constraints is not None:
                return "declared"
            return "k-best" if problem.loss == "equal" else "portfolio(k-best, tabu)"
        if not isinstance(problem, LayerProblem):
            return UNKNOWN
        rows = table()["rows"]
        losses = {row["loss"] for row in rows}
        loss = problem.loss if problem.loss in losses else "hinge"
        rows = [row for row in rows if row["loss"] == loss]
        if not rows:
            return UNKNOWN
        seconds = max(row["seconds"] for row in rows)
        if budget.seconds is not None:
            seconds = budget.seconds / problem.n_samples
        here = {"n": problem.n_vars, "m": problem.n_units, "seconds": seconds}

        def distance(row: dict[str, Any]) -> tuple[bool, float]:
            apart = sum(abs(math.log(here[name] / row[name])) for name in here)
            return row["device"] != problem.device.type, apart

        return min(rows, key=distance)["solver"]

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        solver = find_solver(self.choose(problem, budget))
        solver.check(problem)
        report.run(solver, generator)


def table() -> dict[str, Any]:
    """The measured table: `rows` of loss, n, m, seconds a sample, device, solver; the rest is their provenance."""
    return json.loads(resources.files("tpsolve.search.combined").joinpath(TABLE).read_text())
