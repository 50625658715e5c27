"""Auto: the solver that measurements found best for a problem of this kind, size and budget."""

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, ClassVar

import torch

from tpsolve._result import Budget
from tpsolve.errors import ArgumentError
from tpsolve.problems import BlockProblem, LayerProblem, NetworkProblem, Problem, ProgramProblem
from tpsolve.search._base import Report, Solver
from tpsolve.search._naming import find_solver

TABLE, PROOFS = "auto.json", "proof.json"
UNKNOWN = "anneal"
"""What serves where nothing was measured: blocks, and losses that are not in the table."""
MAX_TARGETS = 24
"""Of a layer problem, up to which they can be enumerated."""
SECONDS = 4.0
"""Of a sample, that stand for a budget with only steps where a proof is looked for."""
MAX_ASSIGNMENTS = 1024
"""Of each sample, up to which all are called where the budget does not limit calls."""


@dataclass(frozen=True)
class Auto(Solver):
    """The solver that did best on the measured problem most like this one, within the same time.

    The table `auto.json` beside this file holds measurements on drawn problems and on layers of trained networks: the
    best solver by loss, size, number of samples, seconds of a call and kind of device. `benchmarks/auto.py` writes it
    and says from which rows. The nearest entry of the same loss counts; sizes, samples and seconds are compared on
    logarithmic scales. A loss that was not measured takes the entries of the hinge. A budget with only steps counts as
    the longest time measured. Steps are those of the solver taken; `stats["taken"]` is its text.

    With `proof`, the solver of a layer problem is an exact one. The table `proof.json` says which proves optima
    soonest, by loss and size. `benchmarks/exact_layers.py` writes it and says from which rows. `enumerate` is taken
    only where it would finish within the budget. A budget with only steps counts as 4 s a sample.

    A network problem is solved by `circuits`, and by `integer-search` if it has a `weight_set`. A program problem is
    solved by `forward-backward` where the program is a `Fold`, and by `marginal` where each sample has no more
    assignments than calls (1024 without a limit). Else `declared` takes it if it has constraints, and `k-best` if not.
    `k-best` shares the calls with `tabu` where the loss says how wrong an answer is. No measurement chose these.

    Args:
        proof: whether to look for the optimum of a layer problem and its proof, rather than for good targets soon.
    """

    proof: bool = False

    name = "auto"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem, BlockProblem, NetworkProblem, ProgramProblem)
    one_step = "one of the solver that it takes"
    stochastic = True
    compared = False
    counts_passes = True
    whole = True

    def __post_init__(self) -> None:
        if not isinstance(self.proof, bool):
            raise ArgumentError("proof", self.proof, "True or False")

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if isinstance(problem, LayerProblem):
            # Read here, where it is not charged to the budget.
            table(PROOFS if self.proof else TABLE)

    def choose(self, problem: Problem, budget: Budget) -> str:
        """The text of the solver that `run` would take, for a flat batch."""
        if isinstance(problem, NetworkProblem):
            return "circuits" if problem.weight_set is None else "integer-search"
        if isinstance(problem, ProgramProblem):
            if problem.fold is not None:
                return "forward-backward"
            if max(problem.count_assignments()) <= (budget.calls or MAX_ASSIGNMENTS):
                return "marginal"
            if problem.constraints is not None:
                return "declared"
            return "k-best" if problem.loss == "equal" else "portfolio(k-best, tabu)"
        if not isinstance(problem, LayerProblem):
            return UNKNOWN
        if self.proof:
            return _prover(problem, budget)
        rows = table()["rows"]
        losses = {row["loss"] for row in rows}
        loss = problem.loss if problem.loss in losses else "hinge"
        rows = [row for row in rows if row["loss"] == loss]
        if not rows:
            return UNKNOWN
        seconds = max(row["seconds"] for row in rows) if budget.seconds is None else budget.seconds
        size = {"n": problem.n_vars, "m": problem.n_units, "samples": problem.n_samples}
        here = {**size, "seconds": seconds}

        def distance(row: dict[str, Any]) -> tuple[bool, float]:
            apart = sum(abs(math.log(here[name] / row[name])) for name in here)
            return row["device"] != problem.device.type, apart

        return min(rows, key=distance)["solver"]

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        text = self.choose(problem, budget)
        solver = find_solver(text)
        solver.check(problem)
        report.stats["taken"] = text
        report.run(solver, generator)


def _prover(problem: LayerProblem, budget: Budget) -> str:
    """The exact solver that the nearest entry names, by loss and size."""
    rows = table(PROOFS)["rows"]
    loss = problem.loss if problem.loss in {row["loss"] for row in rows} else "hinge"
    n, m, samples = problem.n_vars, problem.n_units, problem.n_samples

    def distance(row: dict[str, Any]) -> float:
        return abs(math.log(n / row["n"])) + abs(math.log(m / row["m"]))

    row = min((row for row in rows if row["loss"] == loss), key=distance)
    if row["solver"] != "enumerate":
        return row["solver"]
    # It goes through 2^n targets of every sample.
    needed = samples * row["seconds"] * 2.0 ** min(1000, n - row["n"]) * max(1.0, m / row["m"])
    seconds = SECONDS * samples if budget.seconds is None else budget.seconds
    return "enumerate" if n <= MAX_TARGETS and needed < seconds else row["other"]


@cache
def table(name: str = TABLE) -> dict[str, Any]:
    """The measured table: `rows` of loss, n, m, samples, seconds of a call, device, solver; the rest is provenance.

    That of proofs has the mean seconds of the solver named, and the best `other` one than `enumerate`.
    """
    return json.loads(resources.files("tpsolve.search.combined").joinpath(name).read_text(encoding="utf-8"))
