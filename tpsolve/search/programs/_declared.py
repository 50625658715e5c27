"""Declared: the most probable symbols that satisfy constraints, by CP-SAT."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError
from tpsolve.problems import Problem, ProgramProblem
from tpsolve.search._base import Report, Solver
from tpsolve.search._cp_sat_run import run_cp_sat
from tpsolve.search.programs._target_sets import weighted_set

COST_BITS = 29
"""Costs are scaled so that they sum up to less than 2^29; see `SWITCH_BITS` of `CpSat`."""


@dataclass(frozen=True)
class Declared(Solver):
    """The symbols of least cost that satisfy the problem's constraints, sample by sample, by CP-SAT (Google OR-tools).

    Costs are rounded to whole numbers, and the bound is loosened by the worst rounding error. While it falls short of
    the answer's own cost, that answer is excluded and the rest is searched for anything that could still be better. So
    a finished search proves the optimum, or that no symbols satisfy the constraints. Where the problem has a program
    too, answers that it contradicts are excluded likewise. One step is one answer of CP-SAT.

    Args:
        solutions: how many of the best assignments make the target set, weighted by their probability.
        noise: scale of Gumbel noise on the logits of single values; with it the target is drawn near the network's
            belief (perturb and MAP), and nothing is proved. 0: none.
        workers: threads of CP-SAT.
    """

    solutions: int = 1
    noise: float = 0.0
    workers: int = 1

    name = "declared"
    accepts: ClassVar[tuple[type[Problem], ...]] = (ProgramProblem,)
    one_step = "one answer of CP-SAT"
    exact = True
    stochastic = True
    module: ClassVar[str | None] = "ortools.sat.python.cp_model"

    def __post_init__(self) -> None:
        check_count("solutions", self.solutions, 1)
        check_count("workers", self.workers, 1)
        if isinstance(self.noise, bool) or not isinstance(self.noise, int | float) or not 0 <= self.noise < math.inf:
            raise ArgumentError("noise", self.noise, "a finite number of at least 0")

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, ProgramProblem)
        if problem.constraints is None:
            raise NotAcceptedError("problem", "a program without constraints", "constraints=", "Or take k-best.")

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, ProgramProblem)
        cost = problem.cost
        if self.noise:
            drawn = torch.rand(cost.shape, generator=generator, dtype=torch.float64, device=generator.device)
            noisy = problem.logits - self.noise * torch.log(-torch.log(drawn.clamp(min=1e-300))).to(problem.device)
            cost = noisy.amax(2, keepdim=True) - noisy
        sets: list[list[Tensor]] = [[] for _ in range(len(cost))]
        limit = min((v for v in (budget.steps, budget.calls) if v is not None), default=None)
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))
        for row, share in report.each_sample():
            steps = limit or 1_000_000
            ends = math.inf if share.seconds is None else report.seconds + share.seconds
            _Sample(problem, report, row, cost[row][0].cpu(), self, seed).search(sets[int(row)], steps, ends)
        for b, known in enumerate(torch.isfinite(report.objective).tolist()):
            if known and not sets[b]:
                # An earlier part of a composite has closed the sample.
                sets[b].append(report.targets[b])
        width = max(1, *map(len, sets))
        targets = torch.stack(
            [torch.stack((found + [problem.present[b]] * width)[:width]) for b, found in enumerate(sets)]
        )
        log_p = problem.log_probability(targets.transpose(0, 1))
        there = torch.tensor([[k < len(found) for found in sets] for k in range(width)], device=problem.device)
        report.target_set = weighted_set(targets.transpose(0, 1), log_p.masked_fill(~there, -torch.inf))


class _Sample:
    """The search of one sample: its model, with an objective, and the answers that are excluded so far."""

    def __init__(self, problem: ProgramProblem, report: Report, row: Tensor, cost: Tensor, solver: Declared, seed: int):
        self.problem, self.report, self.row, self.solver, self.seed = problem, report, row, solver, seed
        assert problem.constraints is not None
        sample = int(row)
        self.model = problem.constraints.model(problem.kinds(sample), problem.labels[sample])
        self.native = self.model.native.clone()
        self.literals = [
            [self.native.get_bool_var_from_proto_index(literal.index) for literal in literals]
            for literals in self.model.values
        ]
        present = range(problem.n_vars) if problem.mask is None else problem.mask[sample].nonzero()[:, 0].tolist()
        self.columns = list(present)
        costs = [cost[j, : len(row)].tolist() for j, row in zip(self.columns, self.literals, strict=True)]
        total = sum(max((c for c in each if math.isfinite(c)), default=0.0) for each in costs)
        self.unit = max(total, 1e-300) / 2**COST_BITS
        terms: list[Any] = []
        for each, literals in zip(costs, self.literals, strict=True):
            for value, literal in zip(each, literals, strict=True):
                if math.isfinite(value):
                    terms.append(round(value / self.unit) * literal)
                else:
                    self.native.add_bool_and([~literal])
        self.native.minimize(sum(terms))
        self.slack = (len(self.columns) / 2 + 1) * self.unit

    def search(self, found: list[Tensor], steps: int, ends: float) -> None:
        """Fill `found` with the best assignments, and prove what is proved."""
        from ortools.sat.python import cp_model

        proves = self.solver.noise == 0
        for _ in range(steps):
            native = cp_model.CpSolver()
            native.parameters.num_workers, native.parameters.random_seed = self.solver.workers, self.seed
            if math.isfinite(ends):
                native.parameters.max_time_in_seconds = max(1e-3, ends - self.report.seconds)
            status, bound = run_cp_sat(native, self.native, lambda _: self.report.pulse())
            if status == "MODEL_INVALID":
                raise ArgumentError("constraints", "a model that CP-SAT refuses", "constraints that it takes")
            if status == "INFEASIBLE":
                # Of all that is not excluded; what was is known.
                if proves:
                    self._prove(math.inf)
                return
            if status == "OPTIMAL":
                bound = native.objective_value
            if proves and math.isfinite(bound):
                self._prove(self.problem.stay * (bound * self.unit - self.slack))
            if status not in ("OPTIMAL", "FEASIBLE"):
                return
            self._take(native, found)
            self.report.steps = max(self.report.steps, 1)
            done = len(found) >= self.solver.solutions
            closed = bool((self.report.objective[self.row] <= self.report.bound[self.row]).all())
            if self.report.pulse() or self.report.seconds >= ends or (done and (closed or not proves)):
                return

    def _take(self, native: Any, found: list[Tensor]) -> None:
        values = torch.zeros(self.problem.n_vars, dtype=torch.int64)
        chosen = []
        for j, literals in zip(self.columns, self.literals, strict=True):
            value = next(v for v, literal in enumerate(literals) if native.boolean_value(literal))
            values[j] = value
            chosen.append(literals[value])
        targets = self.problem.symbols_of(values.to(self.problem.device))
        self.report.offer(targets[None], self.row)
        part = self.problem.select(self.row)
        if self.problem.program is not None:
            part.spend(1)
        if bool(torch.isfinite(part.objective(targets[None]))[0]):
            found.append(targets)
        self.native.add_bool_or([~literal for literal in chosen])

    def _prove(self, bound: float) -> None:
        best = float(self.report.objective[self.row][0])
        self.report.prove(min(bound - float(self.problem.rounding()[self.row][0]), best), self.row)
