"""Auto: a descent and a race of the two searches that measurements found best for a problem of this kind and budget."""

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
from tpsolve.search.local._long_steps import descend_far

TABLE, PROOFS = "auto.json", "proof.json"
UNKNOWN = "anneal"
"""What serves where nothing was measured: blocks."""
MAX_LISTED = 2**18
"""Samples, times their possible targets, times units above, up to which all are tried: a few milliseconds."""
BESIDE = "beam"
"""What looks around the end of the descent. It ends by itself."""
BESIDE_SHARE = 0.5
"""Of the time, that this may take at most."""
RACE_SECONDS = 0.01
"""With less time left there is no race: annealing has no time to cool."""
SHARES = (0.4, 0.5)
"""Of what time is left, that the first of the race gets, and then the other one; the better one gets the rest."""
MAX_TARGETS = 24
"""Of a layer problem, up to which they can be enumerated."""
SECONDS = 4.0
"""Of a sample, that stand for a budget with only steps where a proof is looked for."""
MAX_ASSIGNMENTS = 1024
"""Of each sample, up to which all are called where the budget does not limit calls."""


@dataclass(frozen=True)
class Auto(Solver):
    """Takes a solver by the kind of problem, its size and the budget, so that you need not.

    With a budget in seconds, a layer problem goes through three stages. A descent by long steps flips many targets at
    once. A beam search looks around its end. Then `anneal` and `tabu` race: each gets a share of the time, and the one
    that improved most gets the rest. All go on from the best targets of the others. The table `auto.json` beside this
    file says how many restarts each has, and which begins. It holds measurements on drawn problems and on layers of
    trained networks, by loss, size, number of samples, seconds of a call and kind of device. `benchmarks/auto.py`
    writes it and says from which rows. The nearest entry of the same loss counts; sizes, samples and seconds are
    compared on logarithmic scales. A loss that was not measured takes the entries of the hinge. `stats["taken"]` is the
    race as a text. Where all targets can be tried in a few milliseconds, `enumerate` does so, and proves the optimum.

    With a budget that has steps, the one that begins by the table has all of it, and steps are its steps. Without
    seconds the longest time measured counts.

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
        first, other = _racers(problem, budget)
        if budget.seconds is None or budget.steps is not None:
            return first
        few = problem.n_vars <= MAX_TARGETS and problem.n_samples * problem.n_units << problem.n_vars <= MAX_LISTED
        return "enumerate" if few else f"portfolio({first}, {other})"

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        text = self.choose(problem, budget)
        report.stats["taken"] = text
        if isinstance(problem, LayerProblem) and not self.proof and text.startswith("portfolio"):
            _race(problem, _racers(problem, budget), generator, report)
            return
        solver = find_solver(text)
        solver.check(problem)
        report.run(solver, generator)


def _racers(problem: LayerProblem, budget: Budget) -> tuple[str, str]:
    """Who begins the race, and who follows, by the nearest entry of the table."""
    rows = table()["rows"]
    loss = problem.loss if problem.loss in {row["loss"] for row in rows} else "hinge"
    rows = [row for row in rows if row["loss"] == loss]
    seconds = max(row["seconds"] for row in rows) if budget.seconds is None else budget.seconds
    here = {"n": problem.n_vars, "m": problem.n_units, "samples": problem.n_samples, "seconds": seconds}

    def distance(row: dict[str, Any]) -> tuple[bool, float]:
        apart = sum(abs(math.log(here[name] / row[name])) for name in here)
        return row["device"] != problem.device.type, apart

    nearest = min(rows, key=distance)
    return nearest["solver"], nearest["other"]


def _race(problem: LayerProblem, racers: tuple[str, str], generator: torch.Generator, report: Report) -> None:
    """A descent, a look around its end, and the race."""

    def go(text: str, share: float) -> float:
        before = float(report.objective.sum())
        report.run(find_solver(text), generator, share, report.incumbent)
        return before - float(report.objective.sum())

    descend_far(problem, report)
    go(BESIDE, BESIDE_SHARE)
    if report.seconds_left < RACE_SECONDS:
        go("tabu", 1.0)
        return
    gains = [go(text, share) for text, share in zip(racers, SHARES, strict=True)]
    go(racers[gains[1] > gains[0]], 1.0)


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
    """The measured table: `rows` of loss, n, m, samples, seconds, device, solver and other; the rest is provenance.

    That of proofs has the mean seconds of the solver named, and the best `other` one than `enumerate`.
    """
    return json.loads(resources.files("tpsolve.search.combined").joinpath(name).read_text(encoding="utf-8"))
