"""WeightBox: the usual model of small networks, whole weights in a box, by CP-SAT: a baseline."""

import os
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.errors import TooLargeError
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.search._base import NUMBER_SECONDS, Report, Solver
from tpsolve.search._cp_sat_run import run_cp_sat

_MAX_ROW = 2**29


@dataclass(frozen=True)
class WeightBox(Solver):
    """Whole weights from -max_weight to max_weight, inputs times `scale` and rounded, in CP-SAT: the usual model.

    It solves another problem than the one posed. Real weights can reach fewer errors, and where the inputs times
    `scale` aren't whole, its units may not even be separable. So it proves nothing here. `stats["notes"]` says what
    CP-SAT proved inside the box. Any number of layers and classes is allowed. One step is one conflict. A budget in
    steps is spent by one worker.

    Args:
        max_weight: the largest absolute weight that is allowed; biases may be as large as the weighted sums.
        scale: what inputs are multiplied by before they are rounded.
        workers: threads; None: one a core.
    """

    max_weight: int = 20
    scale: int = 100
    workers: int | None = None

    name = "weight-box"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one conflict in the search"
    stochastic = True
    module: ClassVar[str | None] = "ortools.sat.python.cp_model"

    def __post_init__(self) -> None:
        check_count("max_weight", self.max_weight, 1)
        check_count("scale", self.scale, 1)
        if self.workers is not None:
            check_count("workers", self.workers, 1)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, NetworkProblem)
        # CP-SAT 9.15 has given wrong answers to conditional rows with larger numbers (see `CpSat`).
        largest = 2 * self.max_weight * (float((problem.inputs * self.scale).abs().sum(1).max()) + 1)
        if largest >= _MAX_ROW:
            mend = "Standardise the features, or lower scale."
            raise TooLargeError("problem", f"weighted sums up to {largest:.3g}", f"sums below {_MAX_ROW}", mend)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        from ortools.sat.python import cp_model

        assert isinstance(problem, NetworkProblem)
        if report.pulse():
            return
        row = torch.zeros(1, dtype=torch.int64)
        made = self._model(problem, report)
        # CP-SAT looks at the clock only once it has read the model, which takes about as long.
        if made is None or report.seconds_left < report.seconds:
            report.note(row, f"a model of {len(problem.inputs)} points: no time was left to solve it")
            return
        model, outputs = made
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1 if budget.steps else self.workers or os.cpu_count() or 1
        solver.parameters.random_seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        solver.parameters.catch_sigint_signal = False
        if budget.seconds is not None:
            solver.parameters.max_time_in_seconds = max(1e-3, report.seconds_left)
        if budget.steps is not None:
            solver.parameters.max_number_of_conflicts = budget.steps
        answer, _ = run_cp_sat(solver, model, lambda _: report.pulse())
        report.steps = solver.num_conflicts
        if answer not in ("OPTIMAL", "FEASIBLE"):
            report.note(row, f"CP-SAT answered {answer} and found no weights in the box")
            return
        values = [[[1.0 if solver.boolean_value(h) else -1.0 for h in units] for units in layer] for layer in outputs]
        targets = problem.pack(*(torch.tensor(layer, device=problem.device) for layer in values))
        report.offer(targets.expand(len(report.objective), -1))
        real = bool(torch.isfinite(problem.select(row).objective(targets[None])).all())
        report.note(
            row,
            f"Whole weights up to {self.max_weight} on inputs times {self.scale}, rounded: "
            f"{solver.objective_value:g} errors, at least {solver.best_objective_bound:g} there ({answer.lower()}). "
            + ("Real weights may do better." if real else "Rounding misled it: no weights give these targets."),
        )

    def _model(self, problem: NetworkProblem, report: Report) -> tuple[Any, list[list[list[Any]]]] | None:
        """The model, and the output of every unit: layers of points of units; None: the time was too short."""
        from ortools.sat.python import cp_model

        if report.seconds_left < NUMBER_SECONDS * problem.inputs.numel() * problem.layers[0]:
            return None
        model, outputs = cp_model.CpModel(), []
        below = (problem.inputs * self.scale).round().long().tolist()
        reach = max(sum(map(abs, row)) for row in below)
        for number, width in enumerate(problem.layers):
            layer: list[list[Any]] = []
            for _ in below:
                if report.seconds_left <= 0:
                    return None
                layer.append([model.new_bool_var("") for _ in range(width)])
            for unit in range(width):
                size = self.max_weight * reach + 1
                bias = model.new_int_var(-size, size, "")
                weights = [model.new_int_var(-self.max_weight, self.max_weight, "") for _ in below[0]]
                for row, point in zip(below, layer, strict=True):
                    if report.seconds_left <= 0:
                        return None
                    terms = weights if number == 0 else self._signed(model, weights, row)
                    factors = row if number == 0 else [1] * len(row)
                    z = cp_model.LinearExpr.weighted_sum(terms, factors) + bias
                    model.add(z >= 1).only_enforce_if(point[unit])
                    model.add(z <= -1).only_enforce_if(~point[unit])
            outputs.append(layer)
            below, reach = layer, width
        right, worth = [], []
        for point, counts in zip(outputs[-1], problem.counts.tolist(), strict=True):
            if report.seconds_left <= 0:
                return None
            for label, count in enumerate(counts):
                if count:
                    named = model.new_bool_var("")
                    wanted = [k == label for k in range(len(point))] if len(point) > 1 else [label == 1]
                    for output, on in zip(point, wanted, strict=True):
                        model.add_implication(named, output if on else ~output)
                    right.append(named)
                    worth.append(count)
        total = float(problem.counts.sum())
        model.minimize(total - cp_model.LinearExpr.weighted_sum(right, worth))
        return model, outputs

    def _signed(self, model: Any, weights: list[Any], below: list[Any]) -> list[Any]:
        """Each weight times the output +-1 that it meets."""
        terms = []
        for weight, output in zip(weights, below, strict=True):
            term = model.new_int_var(-self.max_weight, self.max_weight, "")
            model.add(term == weight).only_enforce_if(output)
            model.add(term == -weight).only_enforce_if(~output)
            terms.append(term)
        return terms
