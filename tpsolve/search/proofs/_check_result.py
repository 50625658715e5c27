"""Checks a result against its problem: every objective, and every bound that can be enumerated."""

from dataclasses import dataclass

import torch

from tpsolve._result import Result
from tpsolve.errors import ArgumentError, NotAcceptedError, ShapeError
from tpsolve.problems import LayerProblem, NetworkProblem, Problem

MAX_ENUMERATED = 24
"""Targets up to which every bound of a layer problem can be compared with the optimum."""
_ELEMENTS = 2**22


@dataclass(frozen=True)
class Check:
    """What was found of one sample, in words; `holds`: nothing was refuted."""

    holds: bool
    objective: str
    bound: str
    status: str


def verify_result(problem: Problem, result: Result, max_enumerated: int = 20) -> list[Check]:
    """One check a sample of the flat batch.

    The objective is recomputed from the targets, and from the weights where the problem has a `weight_set`. The bound
    is compared with the true optimum, found by enumeration, where a layer problem has at most `max_enumerated` targets
    (never more than 24). Otherwise the bound is only known not to exceed the objective, and the check says so. The
    bound of a network problem is checked only where contradictory labels give it; `Proof` and `verify_proof` are for
    the others.

    Raises:
        NotAcceptedError: neither a layer problem nor a network problem.
        ShapeError: the result's shapes are not the problem's.
    """
    if not isinstance(problem, LayerProblem | NetworkProblem):
        raise NotAcceptedError("problem", type(problem).__name__, "a LayerProblem or a NetworkProblem")
    shape = problem.batch_shape
    for name, expected in (("targets", (*shape, problem.n_vars)), ("objective", shape), ("bound", shape)):
        arrived = tuple(getattr(result, name).shape)
        if arrived != tuple(expected):
            raise ShapeError(f"result.{name}", f"shape {arrived}", f"{tuple(expected)}, the problem's")
    value = _objective(problem, result).reshape(-1).tolist()
    known: list[tuple[float, float]] | None = None
    if isinstance(problem, LayerProblem) and problem.n_vars <= min(max_enumerated, MAX_ENUMERATED):
        known = optima(problem.flatten())
    slack = (2 * problem.rounding().reshape(-1)).tolist()
    own = problem.lower_bound().reshape(-1).tolist()
    unchecked = "if the bound holds (too large to enumerate)"
    if isinstance(problem, NetworkProblem):
        unchecked = "if the bound holds (tpsolve exact --save writes proofs that can be checked)"
    checks = []
    for i, claimed in enumerate(result.objective.reshape(-1).tolist()):
        bound = float(result.bound.reshape(-1)[i])
        if known is None:
            status = "feasible"
            if bool(result.optimal.reshape(-1)[i]):
                status = (
                    "optimal, by the problem's own bound" if bound <= own[i] + slack[i] else f"optimal, {unchecked}"
                )
            most, words = value[i], "the objective"
        else:
            (most, proven), words = known[i], "the optimum"
            status = _status(value[i], most, proven, slack[i])
        # Both infinite where no targets were found.
        right = claimed == value[i] or abs(claimed - value[i]) <= slack[i]
        below = bound <= most + slack[i]
        checks.append(
            Check(
                holds=right and below,
                objective=f"{value[i]:.6g} " + ("recomputed" if right else f"recomputed, not {claimed:.6g} as claimed"),
                bound=f"{bound:.6g} " + (f"not above {words}" if below else f"is above {words} {most:.6g}"),
                status=status if right and below else "refuted",
            )
        )
    return checks


def _objective(problem: LayerProblem | NetworkProblem, result: Result) -> torch.Tensor:
    """Of the result's targets; with a `weight_set` the weights that travel with it are judged too."""
    if isinstance(problem, LayerProblem) or problem.weight_set is None:
        return problem.objective(result.targets)
    try:
        return problem.objective(result.targets, result.stats.get("weights"))
    except ArgumentError:  # No weights of the set.
        return torch.full_like(result.objective, torch.inf)


def optima(problem: LayerProblem) -> list[tuple[float, float]]:
    """Of each sample of a flat batch: the minimum objective of all 2^n targets, and its bound in exact arithmetic.

    Shares no code with the solvers.
    """
    energy, n = problem.energy64, problem.n_vars
    (samples,) = problem.batch_shape
    least = torch.full((samples,), torch.inf, dtype=torch.float64, device=problem.device)
    proven = least.clone()
    bits = torch.arange(n, device=problem.device)
    for numbers in torch.arange(2**n, device=problem.device).split(max(1, _ELEMENTS // (samples * problem.n_units))):
        targets = 2.0 * (numbers[:, None, None] >> bits & 1).double() - 1.0  # (K, 1, n)
        z = energy.pre(targets).expand(-1, samples, -1)
        least = torch.minimum(least, energy.total(z, targets).amin(0))
        # A pre-activation so near 0 that its sign may be rounding is taken as the target likes it.
        proven = torch.minimum(proven, energy.favourable(z, targets).amin(0))
    return list(zip(least.tolist(), (proven - problem.rounding()).tolist(), strict=True))


def _status(value: float, optimum: float, bound: float, slack: float) -> str:
    """What enumeration says of an objective: `optimum` is the minimum it found, `bound` what it proved."""
    if value <= bound + slack:
        return "optimal, by enumeration"
    if value <= optimum + slack:
        return "feasible; the minimum found, but for a pre-activation too near 0 to tell"
    return f"feasible; the optimum is {optimum:.6g}"
