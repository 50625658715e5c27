"""CpSat: exact search of layer problems with Google's CP-SAT, in certified integer arithmetic."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.problems import LayerProblem, Problem
from tpsolve.problems.layer._layer_energy import LayerEnergy
from tpsolve.search._base import Report, Solver
from tpsolve.search._cp_sat_run import run_cp_sat
from tpsolve.search.exact._sample_model import Exclusion, Row, SampleModel, exclusions, first_touch, sample_model
from tpsolve.search.local._loop import descend

OBJECTIVE_BITS = ROW_BITS = 46
"""A model without switches is scaled so that its objective stays below 2^46, exact as a float and fine
enough to close almost any gap at once, and each row likewise. Larger rows would fit CP-SAT's 64-bit
integers, but leave its linear relaxation so imprecise that searches stall."""
SWITCH_BITS = 29
"""With switches, objective and rows stay below 2^29. CP-SAT 9.15 computes conditional rows in places
with 32-bit sums, and with 64-bit products of coefficient and bound; larger numbers have given wrong
proofs (https://github.com/google/or-tools/issues/5293)."""


@dataclass(frozen=True)
class CpSat(Solver):
    """Exact targets, sample by sample, by CP-SAT (Google OR-tools), from the end of a steepest descent.

    Piecewise-linear losses enter as they are. The soft hinge, logistic, squared and cross-entropy losses enter as lines
    that lie certainly below them. Real weights are scaled by a power of two and rounded to integers, and each row is
    loosened by its own maximum rounding error. So the minimum of the model is a lower bound for the real problem. The
    best targets known are excluded, with all others that can't cost less, and CP-SAT searches the rest for anything
    that could be better. What it finds refines the lines, is excluded too, and the search goes on until nothing is
    left.

    One step is one conflict of each sample's search. A budget in steps is spent by one worker, so that equal seeds give
    equal results.

    Args:
        workers: threads; None: one a core.
    """

    workers: int | None = None

    name = "cp-sat"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem,)
    one_step = "one conflict in the search of a sample"
    exact = True
    stochastic = True
    module: ClassVar[str | None] = "ortools.sat.python.cp_model"

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_count("workers", self.workers, 1)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, LayerProblem)
        energy = problem.energy64
        descend(problem, report)
        for row, share in report.each_sample():
            self._solve_sample(energy.select(row), row, share, generator, report)

    def _solve_sample(
        self, energy: LayerEnergy, row: Tensor, budget: Budget, generator: torch.Generator, report: Report
    ) -> None:
        touch, known = first_touch(energy), [report.targets[row].to(energy.weight)]
        least = float(energy.favourable(energy.pre(known[0]), known[0]))
        rounding, tolerance = float(report.problem.rounding()[row]), float(report.tolerance[row])
        seconds_end = math.inf if budget.seconds is None else report.seconds + budget.seconds
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))
        conflicts = 0
        while True:
            sample = sample_model(energy, touch)
            model = IntegerModel(sample)
            best = float(report.objective[row])
            excluded = [one for targets in known for one in exclusions(sample, energy, targets)]
            built, bits = model.build(report.targets[row[0]], excluded, best)
            solver = self._solver(budget, seed, conflicts, max(1e-3, seconds_end - report.seconds))
            solver.parameters.absolute_gap_limit = model.close_enough(tolerance)
            pulse = partial(self._pulse, report, row, model, least - rounding)
            answer, told = run_cp_sat(solver, built, pulse)
            conflicts += solver.num_conflicts
            report.steps = max(report.steps, conflicts)
            if answer == "INFEASIBLE":
                # Nothing else costs as little as the best.
                report.prove(min(best, least) - rounding, row)
                return
            if answer not in ("OPTIMAL", "FEASIBLE", "UNKNOWN"):
                report.note(row, f"CP-SAT answered {answer} to a model that has solutions. {built.validate()}".strip())
                return
            if answer == "UNKNOWN":
                report.prove(min(model.bound(told), least - rounding), row)
                return
            found = torch.tensor([[1.0 if solver.boolean_value(bit) else -1.0 for bit in bits]], dtype=torch.float64)
            found = found.to(energy.weight.device)
            report.offer(found, row)
            rest = model.bound(solver.best_objective_bound)
            report.prove(min(rest, least - rounding), row)
            spent = report.seconds >= seconds_end or (budget.steps is not None and conflicts >= budget.steps)
            if report.stopped or spent or answer != "OPTIMAL" or math.isfinite(report.proved_at[row]):
                return
            touch.add(energy, found)
            known.append(found)
            least = min(least, float(energy.favourable(energy.pre(found), found)))

    @staticmethod
    def _pulse(report: Report, row: Tensor, model: "IntegerModel", least: float, integer_bound: float) -> bool:
        known = report.bound.clone()
        known[row] = known[row].clamp(min=min(model.bound(integer_bound), least))
        return report.pulse(bound=known)

    def _solver(self, budget: Budget, seed: int, conflicts: int, seconds: float) -> Any:
        from ortools.sat.python import cp_model

        solver = cp_model.CpSolver()
        parameters = solver.parameters
        parameters.num_workers = self.workers or os.cpu_count() or 1
        parameters.random_seed = seed
        parameters.relative_gap_limit = 0.0
        # Presolve is where 9.15 sums in 32 bits (see SWITCH_BITS), and these models are no faster with it.
        parameters.cp_model_presolve = False
        # Without presolve this one has declared models infeasible that are not.
        parameters.auto_detect_greater_than_at_least_one_of = False
        # Ctrl-C belongs to Python; `run_cp_sat` listens for it.
        parameters.catch_sigint_signal = False
        if budget.seconds is not None:
            parameters.max_time_in_seconds = seconds
        if budget.steps is not None:
            parameters.max_number_of_conflicts = max(1, budget.steps - conflicts)
            # Several race each other; and 9.15 aborts when they are made to take turns (interleave_search).
            parameters.num_workers = 1
        return solver


class IntegerModel:
    """A `SampleModel` in integers that certainly lies below it.

    Costs are scaled by `scale` and rounded up; a row's spins are rounded and its right side lowered
    by the sum of their errors, and by 1 for each unit of a cost that rounding up could hurt.
    """

    def __init__(self, model: SampleModel) -> None:
        self.model = model
        paid = sum(model.upper[v] for v in model.objective) + np.abs(model.spins).sum()
        objective_bits, row_bits = (SWITCH_BITS, SWITCH_BITS) if model.n_switches else (OBJECTIVE_BITS, ROW_BITS)
        most = min([objective_bits - _bits(paid), *(row_bits - _bits(_size(row, model)) for row in model.rows)])
        self.scale = 2.0 ** _whole_exponent(model, most)
        self._spins = np.rint(self.scale * model.spins)
        # Rounding of the objective's spins, and one unit for each cost that was rounded up.
        self._slack = float(np.abs(self.scale * model.spins - self._spins).sum()) + len(model.objective)
        if self.scale_is_exact():
            self._slack = 0.0

    def scale_is_exact(self) -> bool:
        """Whether scaling leaves no rounding at all: then even costs are whole."""
        return _is_whole(self.scale * self.model.spins) and all(
            not row.rounded and _is_whole(self.scale * row.spins) and _is_whole(self.scale * row.right)
            for row in self.model.rows
        )

    def close_enough(self, tolerance: float) -> float:
        """A gap of the integer objective that is none of E, whose gaps of `tolerance` are closed."""
        return 0.25 * tolerance * self.scale / self.model.factor

    def bound(self, integer_bound: float) -> float:
        """The bound on E that a bound on the integer objective proves."""
        if not math.isfinite(integer_bound):
            return -math.inf
        # CP-SAT reports a whole number as a float; below 2^53 it is that number.
        value = self.model.factor * (integer_bound - self._slack) / self.scale + self.model.constant
        return value - 2.0**-50 * (abs(value) + abs(self.model.constant) + 2.0**-100)

    def build(
        self, hint: Tensor, excluded: Sequence[Exclusion] = (), max_objective: float = math.inf
    ) -> tuple[Any, list[Any]]:
        """The CP-SAT model, and the variables of its n targets (true: +1).

        Args:
            hint: targets `(n,)` to begin from.
            excluded: what is no solution.
            max_objective: solutions whose E certainly exceeds this may be left out.
        """
        from ortools.sat.python import cp_model

        model, built = self.model, cp_model.CpModel()
        bits = [built.new_bool_var(f"t{j}") for j in range(model.n)]
        costs = [
            built.new_int_var(0, math.ceil(self.scale * upper) + 1, f"v{v}") for v, upper in enumerate(model.upper)
        ]
        switches = [built.new_bool_var(f"w{w}") for w in range(model.n_switches)]
        for group in model.choices:
            built.add_exactly_one([switches[w] for w in group])
        for row in model.rows:
            constraint = built.add(self._left(row, bits, costs) >= self._right(row))
            if row.switch is not None:
                constraint.only_enforce_if(switches[row.switch])
        paid = [costs[v] for v in model.objective]
        spins = self._spins.astype(np.int64)
        total = cp_model.LinearExpr.weighted_sum(bits + paid, (2 * spins).tolist() + [1] * len(paid)) - int(spins.sum())
        built.minimize(total)
        if math.isfinite(max_objective):
            # One unit more than rounding can have added.
            built.add(
                total <= math.ceil(self.scale * (max_objective - model.constant) / model.factor + self._slack) + 1
            )
        for one in excluded:
            flips = [~bits[j] if one.targets[j] > 0 else bits[j] for j in one.flips]
            built.add_bool_or([*flips, *(~switches[w] for w in one.switches)])
        for bit, value in zip(bits, hint.tolist(), strict=True):
            built.add_hint(bit, value > 0)
        return built, bits

    def _left(self, row: Row, bits: list[Any], costs: list[Any]) -> Any:
        from ortools.sat.python import cp_model

        spins = np.rint(self.scale * row.spins).astype(np.int64)
        used = np.flatnonzero(spins)
        terms = [bits[j] for j in used] + [costs[v] for v in row.cost]
        factors = (2 * spins[used]).tolist() + list(row.cost.values())
        return cp_model.LinearExpr.weighted_sum(terms, factors) - int(spins.sum())

    def _right(self, row: Row) -> int:
        exact = self.scale * row.spins
        error = float(np.abs(exact - np.rint(exact)).sum())
        right = self.scale * row.right
        if error == 0 and _is_whole(right) and not row.rounded and not any(k < 0 for k in row.cost.values()):
            return int(right) + int(row.strict)
        rounded_up = sum(-k for k in row.cost.values() if k < 0)
        # The numbers of a row were themselves rounded when they were computed.
        error += 2.0**-49 * (abs(right) + float(np.abs(exact).sum()))
        return math.floor(right - error) - rounded_up


def _bits(size: float) -> int:
    """The exponent of the power of two above `size`."""
    return math.frexp(max(float(size), 2.0**-200))[1]


def _size(row: Row, model: SampleModel) -> float:
    """The largest magnitude that the two sides of a row can have together."""
    return np.abs(row.spins).sum() + abs(row.right) + sum(abs(k) * model.upper[v] for v, k in row.cost.items())


def _is_whole(values: Any) -> bool:
    return bool(np.all(np.asarray(values) == np.rint(values)))


def _whole_exponent(model: SampleModel, max_exponent: int) -> int:
    """The smallest power of two that makes every number of the model whole, or `max_exponent` if that is smaller."""
    if any(row.rounded for row in model.rows):
        return max_exponent
    numbers = np.concatenate([model.spins, *(np.append(row.spins, row.right) for row in model.rows)])
    numbers = numbers[numbers != 0]
    if not len(numbers) or not _is_whole(np.ldexp(numbers, max_exponent)):
        return max_exponent
    exponent = max_exponent
    while exponent > 0 and _is_whole(np.ldexp(numbers, exponent - 1)):
        exponent -= 1
    return exponent
