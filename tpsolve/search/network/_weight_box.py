"""WeightBox: the usual model of small networks, whole weights in a box, by CP-SAT."""

import itertools
import math
import os
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from tpsolve._check_arguments import check_count
from tpsolve._plain import is_real
from tpsolve._result import Budget, Progress
from tpsolve.errors import ArgumentError, NotAcceptedError, TooLargeError, TpsolveError
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.problems.network._whole_numbers import Weights
from tpsolve.search._base import NUMBER_SECONDS, Report, Solver
from tpsolve.search._cp_sat_run import run_cp_sat
from tpsolve.search._naming import find_solver
from tpsolve.search._solve import solve
from tpsolve.search.network._whole_costs import feature_costs, step_costs, whole_costs

_MAX_ROW = 2**29
_ROUNDING = 1e-3


@dataclass(frozen=True)
class WeightBox(Solver):
    """Whole weights from -max_weight to max_weight, inputs times `scale` and rounded, in CP-SAT: the usual model.

    A problem with a `weight_set` is solved as it is posed: the box is that set, and what CP-SAT proves is the bound.
    Its inputs must be whole.

    Without a `weight_set` it solves another problem than the one posed, as a baseline. Real weights can reach fewer
    errors, and where the inputs times `scale` aren't whole, its units may not even be separable. So it proves nothing
    there. `stats["notes"]` says what CP-SAT proved inside the box.

    Any number of layers and classes is allowed. One step is one conflict. A budget in steps is spent by one worker.

    Args:
        max_weight: the largest absolute weight that is allowed; biases may be as large as the weighted sums. Not used
            with a `weight_set`.
        scale: what inputs are multiplied by before they are rounded. Not used with a `weight_set`.
        workers: threads; None: one a core.
        search_seconds: in which `integer-search` first looks for weights, from which CP-SAT begins; only with a
            `weight_set` and a budget in seconds.
        real_seconds: in which `circuits` first proves a bound for all real weights, which holds for those of a set;
            only with a `weight_set` and a budget in seconds.
    """

    max_weight: int = 20
    scale: int = 100
    workers: int | None = None
    search_seconds: float = 0.0
    real_seconds: float = 0.0

    name = "weight-box"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one conflict in the search"
    stochastic = True
    whole = True
    module: ClassVar[str | None] = "ortools.sat.python.cp_model"

    def __post_init__(self) -> None:
        check_count("max_weight", self.max_weight, 1)
        check_count("scale", self.scale, 1)
        if self.workers is not None:
            check_count("workers", self.workers, 1)
        for name in ("search_seconds", "real_seconds"):
            value = getattr(self, name)
            if not (is_real(value) and 0 <= value < math.inf):
                raise ArgumentError(name, value, "a finite number of at least 0")

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, NetworkProblem)
        if problem.weight_set is not None:
            if problem.exact is not None:
                mend = "Take integer-search, or round the numbers to the digits that matter."
                raise NotAcceptedError("problem", "numbers that float64 rounds", f"others for {self.name}", mend)
            if not problem.has_whole_inputs:
                mend = "Take integer-search, or put the inputs into whole steps."
                raise NotAcceptedError("problem", "inputs that are not whole", f"whole inputs for {self.name}", mend)
            whole_costs(problem)
        # CP-SAT 9.15 has given wrong answers to conditional rows with larger numbers (see `CpSat`).
        box = _Box.of(problem, self)
        largest = 2 * box.largest * (float((problem.inputs * box.scale).abs().sum(1).max()) + 1)
        largest = max(largest, 2.0 * box.largest * max(problem.widths), 2.0 * max(map(abs, problem.bias_set or [0])))
        if largest >= _MAX_ROW:
            mend = "Standardise the features, or lower scale."
            raise TooLargeError("problem", f"weighted sums up to {largest:.3g}", f"sums below {_MAX_ROW}", mend)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        if report.pulse():
            return
        if problem.weight_set is not None and self.search_seconds and budget.seconds is not None:
            share = min(1.0, self.search_seconds / max(1e-9, report.seconds_left))
            report.run(find_solver("integer-search"), generator, share=share)
            if report.stopped:
                return
        if problem.weight_set is not None and self.real_seconds and budget.seconds is not None:
            self._prove_real(problem, generator, report)
            if report.pulse():
                return
        self.search_box(problem, budget, generator, report)

    def _prove_real(self, problem: NetworkProblem, generator: torch.Generator, report: Report) -> None:
        """Prove what the errors are at least for all real weights; a penalty only adds to them."""
        labels = [problem.classes[k] for k in problem.index.tolist()]
        real = NetworkProblem(problem.samples, labels, problem.widths, problem.weight)
        seconds = min(self.real_seconds, report.seconds_left)
        solver, least = find_solver("circuits"), problem.lower_bound().max().item()
        try:
            solver.check(real)
        except TpsolveError as error:
            report.note(torch.zeros(1, dtype=torch.int64), f"no bound for real weights: {error}")
            return
        if seconds > 0:

            def stop(progress: Progress) -> bool:
                return report.pulse()

            bound = solve(real, solver, budget=Budget(seconds=seconds), generator=generator, callback=stop).bound.item()
            if bound > least:
                report.prove(bound)

    def search_box(
        self,
        problem: NetworkProblem,
        budget: Budget,
        generator: torch.Generator,
        report: Report,
        max_nonzero: int | None = None,
    ) -> None:
        """Let CP-SAT search, from the weights of the report if it has some.

        Args:
            max_nonzero: how many weights other than 0 are allowed; what is proved is proved of such networks alone.
        """
        from ortools.sat.python import cp_model

        row = torch.zeros(1, dtype=torch.int64)
        made = self._model(problem, report, max_nonzero)
        # CP-SAT looks at the clock only once it has read the model, which takes about as long.
        if made is None or report.seconds_left < report.seconds:
            report.note(row, f"a model of {len(problem.inputs)} points: no time was left to solve it")
            return
        model, outputs, units = made
        if problem.weight_set is not None and "weights" in report.stats:
            _hint(model, problem, outputs, units, report.stats["weights"])
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
        values = [[[1.0 if solver.boolean_value(h) else -1.0 for h in point] for point in layer] for layer in outputs]
        targets = problem.pack(*(torch.tensor(layer, device=problem.device) for layer in values))
        if problem.weight_set is not None:
            read = [
                ([[solver.value(w) for w in weight] for weight, _ in layer], [solver.value(b) for _, b in layer])
                for layer in units
            ]
            weights = problem.check_weights(read)
            report.offer(targets.expand(len(report.objective), -1), weights=weights)
            # Costs are whole multiples, and CP-SAT's bound is one but for rounding.
            least = math.ceil(solver.best_objective_bound - _ROUNDING)
            report.prove(least * float(problem.least_difference().max()))
            return
        report.offer(targets.expand(len(report.objective), -1))
        real = bool(torch.isfinite(problem.select(row).objective(targets[None])).all())
        report.note(
            row,
            f"Whole weights up to {self.max_weight} on inputs times {self.scale}, rounded: "
            f"{solver.objective_value:g} errors, at least {solver.best_objective_bound:g} there ({answer.lower()}). "
            + ("Real weights may do better." if real else "Rounding misled it: no weights give these targets."),
        )

    def _model(
        self, problem: NetworkProblem, report: Report, max_nonzero: int | None = None
    ) -> tuple[Any, list[list[list[Any]]], list[list[tuple[list[Any], Any]]]] | None:
        """The model, the output of every unit (layers of points of units), and the weights and bias of each unit of
        each layer; None: the time was too short.
        """
        from ortools.sat.python import cp_model

        if report.seconds_left < NUMBER_SECONDS * problem.inputs.numel() * problem.layers[0]:
            return None
        model, outputs, units = cp_model.CpModel(), [], []
        box = _Box.of(problem, self)
        below = (problem.inputs * box.scale).round().long().tolist()
        reach = max(sum(map(abs, row)) for row in below)
        for number, width in enumerate(problem.layers):
            layer: list[list[Any]] = []
            for _ in below:
                if report.seconds_left <= 0:
                    return None
                layer.append([model.new_bool_var("") for _ in range(width)])
            own: list[tuple[list[Any], Any]] = []
            # Of each unit at each point; in the end those of the output units.
            sums: list[list[Any]] = []
            allowed = problem.rules.allowed(number, len(below[0]), torch.tensor(box.values))
            may = (
                [box.values] * len(below[0])
                if allowed is None
                else [[v for v, good in zip(box.values, row, strict=True) if good] for row in allowed.tolist()]
            )
            limits = problem.rules.limits(number, len(below[0]))
            for unit in range(width):
                size = box.largest * reach + 1
                biases = cp_model.Domain(-size, size)
                if problem.bias_set is not None:
                    biases = cp_model.Domain.from_values(list(problem.bias_set))
                bias = model.new_int_var_from_domain(biases, "")
                weights = [model.new_int_var_from_domain(cp_model.Domain.from_values(values), "") for values in may]
                used = {k: _used(model, weights[k]) for k in sorted({k for group, _ in limits for k in group})}
                for group, most in limits:
                    model.add(sum(used[k] for k in group) <= most)
                own.append((weights, bias))
                sums.append([])
                for row, point in zip(below, layer, strict=True):
                    if report.seconds_left <= 0:
                        return None
                    terms = weights if number == 0 else _signed(model, weights, row, box.largest)
                    factors = row if number == 0 else [1] * len(row)
                    z = cp_model.LinearExpr.weighted_sum(terms, factors) + bias
                    sums[-1].append(z)
                    model.add(z >= box.margin).only_enforce_if(point[unit])
                    model.add(z <= -1).only_enforce_if(~point[unit])
            outputs.append(layer)
            units.append(own)
            if problem.weight_set is not None and number < len(problem.widths):
                # Units of a hidden layer can change places.
                for (_, first), (_, second) in itertools.pairwise(own):
                    model.add(first == second if problem.rules.shared_bias else first <= second)
            below, reach = layer, width
        right, worth = [], []
        all_counts, price = (problem.counts.tolist(), 0) if problem.weight_set is None else whole_costs(problem)
        for point, counts in zip(outputs[-1], all_counts, strict=True):
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
        total, paid, prices = sum(map(sum, all_counts)), [], []
        first = feature_costs(problem)
        for number, (weights, _) in ((number, unit) for number, layer in enumerate(units) for unit in layer):
            for weight, more in zip(weights, first if number == 0 else itertools.repeat(0), strict=False):
                if price + more or max_nonzero is not None:
                    paid.append(_used(model, weight))
                    prices.append(price + more)
        if max_nonzero is not None:
            model.add(sum(paid) <= max_nonzero)
        cost = total - cp_model.LinearExpr.weighted_sum(right, worth) + cp_model.LinearExpr.weighted_sum(paid, prices)
        if problem.margin is not None:
            short, steps = _short(model, problem, sums)
            cost += cp_model.LinearExpr.weighted_sum(short, steps)
        if problem.weight_set is not None:
            known = report.bound.min().item() / float(problem.least_difference().max())
            model.add(cost >= math.ceil(known - _ROUNDING))
        model.minimize(cost)
        return model, outputs, units


@dataclass(frozen=True)
class _Box:
    """What the weights may be, what inputs are multiplied by, and the least sum of an output +1; -1 gives -1."""

    values: list[int]
    scale: int
    margin: int

    @classmethod
    def of(cls, problem: NetworkProblem, solver: WeightBox) -> "_Box":
        if problem.weight_set is None:
            return cls(list(range(-solver.max_weight, solver.max_weight + 1)), solver.scale, 1)
        return cls(list(problem.weight_set), 1, 0)

    @property
    def largest(self) -> int:
        return max(map(abs, self.values))


def _used(model: Any, weight: Any) -> Any:
    """A bit that is 1 where the weight is not 0."""
    used = model.new_bool_var("")
    model.add(weight == 0).only_enforce_if(~used)
    return used


def _short(model: Any, problem: NetworkProblem, sums: list[list[Any]]) -> tuple[list[Any], list[int]]:
    """What output units lack of the margin at each point, for each class that has samples there, and what a step costs.

    Args:
        sums: of each output unit at each point.
    """
    assert problem.margin is not None
    short, costs, steps = [], [], step_costs(problem)
    for unit, column in enumerate(sums):
        for z, own in zip(column, steps, strict=True):
            for label, cost in enumerate(own):
                if cost:
                    lacking = model.new_int_var(0, _MAX_ROW, "")
                    has = z if label == (1 if len(sums) == 1 else unit) else -1 - z
                    model.add(lacking >= problem.margin - has)
                    short.append(lacking)
                    costs.append(cost)
    return short, costs


def _hint(model: Any, problem: NetworkProblem, outputs: Any, units: Any, weights: Weights) -> None:
    """Let CP-SAT begin with `weights`, the hidden units in the order of their biases."""
    shown = [(w.tolist(), b.tolist()) for w, b in problem.check_weights(weights)]
    columns = [c.tolist() for c in problem.columns(problem.from_weights(problem.check_weights(weights)))]
    for number in range(len(problem.widths)):
        order = sorted(range(problem.layers[number]), key=shown[number][1].__getitem__)
        weight, bias = shown[number]
        shown[number] = [weight[k] for k in order], [bias[k] for k in order]
        columns[number] = [[row[k] for k in order] for row in columns[number]]
        shown[number + 1] = ([[row[k] for k in order] for row in shown[number + 1][0]], shown[number + 1][1])
    for layer, (weight, bias), points, column in zip(units, shown, outputs, columns, strict=True):
        for (variables, shift), values, own in zip(layer, weight, bias, strict=True):
            model.add_hint(shift, int(own))
            for variable, value in zip(variables, values, strict=True):
                model.add_hint(variable, int(value))
        for point, values in zip(points, column, strict=True):
            for output, value in zip(point, values, strict=True):
                model.add_hint(output, value > 0)


def _signed(model: Any, weights: list[Any], below: list[Any], largest: int) -> list[Any]:
    """Each weight times the output +-1 that it meets."""
    terms = []
    for weight, output in zip(weights, below, strict=True):
        term = model.new_int_var(-largest, largest, "")
        model.add(term == weight).only_enforce_if(output)
        model.add(term == -weight).only_enforce_if(~output)
        terms.append(term)
    return terms
