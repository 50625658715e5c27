"""Checks a result against its problem: every objective, and every bound that can be enumerated."""

from dataclasses import dataclass

from tpsolve.errors import ShapeError
from tpsolve.problems import LayerProblem
from tpsolve.result import Budget, Result
from tpsolve.search.enumerate import MOST_TARGETS, Enumerate
from tpsolve.search.solve import solve


@dataclass(frozen=True)
class Check:
    """What was found of one sample, in words; `holds`: nothing was refuted."""

    holds: bool
    objective: str
    bound: str
    status: str


def verify_result(problem: LayerProblem, result: Result, largest: int = 20) -> list[Check]:
    """One check a sample of the flat batch.

    The objective is recomputed from the targets. The bound is compared with the true optimum, found
    by enumeration, where the problem has at most `largest` targets (never more than 24); otherwise
    the bound is only known not to exceed the objective, and the check says so.

    Raises:
        ShapeError: the result's shapes are not the problem's.
    """
    shape = problem.batch_shape
    for name, expected in (("targets", (*shape, problem.n_vars)), ("objective", shape), ("bound", shape)):
        arrived = tuple(getattr(result, name).shape)
        if arrived != tuple(expected):
            raise ShapeError(f"result.{name}", f"shape {arrived}", f"{tuple(expected)}, the problem's")
    value = problem.objective(result.targets).reshape(-1)
    slack = problem.rounding().reshape(-1) + 2.0**-50 * value.abs()
    optimum = None
    if problem.n_vars <= min(largest, MOST_TARGETS):
        # An hour: far more than 2^24 targets take.
        optimum = solve(problem, Enumerate(), budget=Budget(seconds=3600)).objective.reshape(-1)
    return [
        _check(*item, None if optimum is None else float(optimum[i]))
        for i, item in enumerate(
            zip(
                result.objective.reshape(-1).tolist(),
                result.bound.reshape(-1).tolist(),
                value.tolist(),
                slack.tolist(),
                result.optimal.reshape(-1).tolist(),
                strict=True,
            )
        )
    ]


def _check(claimed: float, bound: float, value: float, slack: float, optimal: bool, optimum: float | None) -> Check:
    right = abs(claimed - value) <= 2 * slack
    objective = f"{value:.6g} recomputed" if right else f"{value:.6g}, not {claimed:.6g} as claimed"
    if optimum is None:
        below = bound <= value + 2 * slack
        words = f"{bound:.6g} not above the objective" if below else f"{bound:.6g} is above the objective"
        status = "optimal, if the bound holds (too large to enumerate)" if optimal else "feasible"
    else:
        below = bound <= optimum + 2 * slack
        words = f"{bound:.6g} not above the optimum" if below else f"{bound:.6g} is above the optimum {optimum:.6g}"
        status = (
            "optimal, by enumeration"
            if value <= optimum + max(2 * slack, 1e-6 * max(1, abs(value)))
            else (f"feasible; the optimum is {optimum:.6g}")
        )
    holds = right and below
    return Check(holds, objective, words, status if holds else "refuted")
