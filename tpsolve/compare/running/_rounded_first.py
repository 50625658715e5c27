"""Solves of network problems of exact numbers: of what float64 makes of them first, which is quicker, then a check."""

import time
from dataclasses import replace

import torch

from tpsolve._result import Budget, Progress, Result
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.search import Solver, make_proof, solve
from tpsolve.search._base import Callback
from tpsolve.search.network.circuits._prove import has_proof
from tpsolve.search.proofs._check_proof import holds_unrounded

MAX_UNROUNDED = 10.0
"""Seconds in which a proof of rounded numbers is checked for those before rounding."""
LEAST_ANEW = 5.0
"""Seconds that a search in exact arithmetic gets at least, or all of its budget if that is less."""
ANEW = "float64 rounds the numbers, and the answer for rounded ones was not shown to hold: searched again in fractions"


def solve_any(
    problem: Problem, solver: Solver, *, budget: Budget, generator: torch.Generator, callback: Callback
) -> Result:
    """What `solve` returns, sooner where numbers are rounded: objective and bound are those of the exact numbers.

    A solver that proves bounds of exact numbers gets the rounded ones first. Its proof is then checked in fractions. If
    it does not hold, the search begins anew in exact arithmetic, in the time that is left and at least `LEAST_ANEW`
    seconds. A budget in steps has no rounded numbers, so that equal seeds give equal results.
    """
    if not isinstance(problem, NetworkProblem) or problem.exact is None or not (solver.exact and solver.unrounded):
        return solve(problem, solver, budget=budget, generator=generator, callback=callback)
    plain = problem.weight is None and problem.weight_set is None and budget.steps is None
    rounded = problem.rounded() if plain else problem
    if not plain or budget.seconds is None or len(rounded.inputs) < len(problem.inputs):
        return solve(problem, solver, budget=budget, generator=generator, callback=callback)
    began, stopped = time.monotonic(), False

    def listen(progress: Progress) -> bool:
        nonlocal stopped
        stopped = bool(callback(progress)) or stopped
        return stopped

    first = solve(rounded, solver, budget=budget, generator=generator, callback=listen)
    if stopped or _holds(problem, rounded, first):
        return first if not stopped else replace(first, bound=problem.lower_bound())
    spent = time.monotonic() - began
    left = max(budget.seconds - spent, min(budget.seconds, LEAST_ANEW))
    second = solve(problem, solver, budget=Budget(seconds=left), generator=generator, callback=listen)
    value = problem.objective(first.targets)
    targets = torch.where((value < second.objective)[..., None], first.targets, second.targets)
    stats = {**second.stats, "seconds": spent + second.stats["seconds"]}
    stats |= {name: spent + second.stats[name] for name in ("found_at", "proved_at")}
    stats["notes"] = {**second.stats["notes"], 0: ANEW}
    trace = tuple(replace(one, seconds=spent + one.seconds) for one in second.trace)
    objective = torch.minimum(value, second.objective)
    return replace(second, targets=targets, objective=objective, trace=trace, stats=stats)


def _holds(problem: NetworkProblem, rounded: NetworkProblem, result: Result) -> bool:
    """Whether weights, circuits and bound of a result for rounded numbers are shown to hold for the exact ones."""
    if not has_proof(rounded, result.stats.get("solver")):
        return False
    labels = [problem.classes[k] for k in problem.index.tolist()]
    samples = problem.samples.cpu().numpy()
    return bool(holds_unrounded(make_proof(rounded, result), samples, labels, problem.exact_rows(), MAX_UNROUNDED))
