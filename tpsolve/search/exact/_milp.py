"""Milp: exact search of layer problems with HiGHS, a mixed-integer linear solver in floating point."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.problems import LayerProblem, Problem
from tpsolve.problems.layer._layer_energy import LayerEnergy
from tpsolve.search._base import Report, Solver
from tpsolve.search.exact._linear_model import linear_model
from tpsolve.search.exact._sample_model import Exclusion, SampleModel, exclusions, first_touch, sample_model
from tpsolve.search.local._loop import descend

GAP = 1e-6
"""HiGHS ends where its bound is so near to its objective, both in the unit of the program's prices."""
PRICE_TOLERANCE = 1e-7
"""Reduced costs may have the wrong sign by as much: each makes a bound too high by that times its column's range."""


@dataclass(frozen=True)
class Milp(Solver):
    """Exact targets, sample by sample, by HiGHS, the branch and bound of `scipy.optimize.milp`.

    The losses enter as in `CpSat`, with refinement and with exclusion of what can't be better than known targets, but
    in floating point. The bound reported is HiGHS's own, less what its tolerances are worth. It holds up to HiGHS's
    arithmetic. Unlike that of `CpSat` it is no proof in exact arithmetic.

    A steepest descent gives the first incumbent, which HiGHS can't be told of. One step is one node of each sample's
    tree. HiGHS can't be interrupted within a sample: a callback and Ctrl-C are heard between samples, and between the
    refinements of one.
    """

    name = "milp"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem,)
    one_step = "one node of the tree of a sample"
    exact = True
    module: ClassVar[str | None] = "scipy.optimize"

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, LayerProblem)
        energy = problem.energy64
        descend(problem, report)
        for row, share in report.each_sample():
            self._solve_sample(energy.select(row), row, share, report)

    def _solve_sample(self, energy: LayerEnergy, row: Tensor, budget: Budget, report: Report) -> None:
        touch, known = first_touch(energy), [report.targets[row].to(energy.weight)]
        least = float(energy.favourable(energy.pre(known[0]), known[0]))
        rounding = float(report.problem.rounding()[row])
        seconds_end = math.inf if budget.seconds is None else report.seconds + budget.seconds
        nodes = 0
        while True:
            model = sample_model(energy, touch)
            excluded = [one for targets in known for one in exclusions(model, energy, targets)]
            seconds = None if budget.seconds is None else max(1e-3, seconds_end - report.seconds)
            left = None if budget.steps is None else max(1, budget.steps - nodes)
            answer = _run(model, excluded, seconds, left)
            # A tree that closes at its root has been a step too.
            nodes += max(1, answer.nodes)
            report.steps = max(report.steps, nodes)
            targets = None
            if answer.targets is not None:
                targets = torch.as_tensor(answer.targets, device=energy.weight.device)[None]
                report.offer(targets, row)
            bound, best = min(answer.bound, least - rounding), float(report.objective[row])
            if bound > best + 2 * rounding:
                report.note(
                    row, f"HiGHS is wrong here: it claims the bound {bound!r}, but known targets reach {best!r}."
                )
                return
            report.prove(bound, row)
            if answer.failure:
                report.note(row, answer.failure)
            if targets is None:
                return
            spent = report.seconds >= seconds_end or (budget.steps is not None and nodes >= budget.steps)
            if not answer.finished or spent or report.pulse() or math.isfinite(report.proved_at[row]):
                return
            touch.add(energy, targets)
            known.append(targets)
            least = min(least, float(energy.favourable(energy.pre(targets), targets)))


@dataclass(frozen=True)
class _Answer:
    """The targets found, if any; a bound on E; nodes visited; whether the tree was finished; why it failed, if so."""

    targets: np.ndarray | None
    bound: float
    nodes: int
    finished: bool
    failure: str = ""


def _run(model: SampleModel, excluded: list[Exclusion], seconds: float | None, nodes: int | None) -> _Answer:
    """HiGHS's answer; nothing may be left besides what is excluded."""
    from scipy.optimize import milp

    linear = linear_model(model, excluded)
    options = {"mip_rel_gap": 0.0}
    if seconds is not None:
        options["time_limit"] = seconds
    if nodes is not None:
        options["node_limit"] = nodes
    constraints = (linear.left, linear.low, linear.high) if len(linear.left) else ()
    solve = partial(milp, integrality=linear.whole, bounds=(0, linear.upper), constraints=constraints)
    # Presolve of HiGHS 1.12 loses optima of large numbers, and these models are no faster with it. Status 4 is a
    # numerical failure: in another unit of cost, or with presolve, HiGHS goes another way.
    for unit, presolve in ((1.0, False), (2.0, False), (1.0, True), (2.0, True)):
        answer = solve(unit * linear.price, options={**options, "presolve": presolve})
        if answer.status != 4:
            break
    if answer.status == 2:
        return _Answer(None, math.inf, 0, True)
    if answer.status not in (0, 1):
        # 0: finished, 1: a limit was reached.
        return _Answer(None, -math.inf, 0, False, f"HiGHS failed with status {answer.status}: {answer.message}")
    bound = -math.inf
    if answer.mip_dual_bound is not None and math.isfinite(answer.mip_dual_bound):
        bound = linear.energy(answer.mip_dual_bound / unit)
        bound -= linear.factor / unit * (GAP + PRICE_TOLERANCE * float(linear.upper.sum()))
    targets = None if answer.x is None else np.where(answer.x[: model.n] > 0.5, 1.0, -1.0)
    return _Answer(targets, bound, int(answer.mip_node_count or 0), answer.status == 0)
