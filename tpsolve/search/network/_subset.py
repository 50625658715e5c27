"""A first network of a large problem, from a local search on some of its points."""

from collections.abc import Callable

import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.errors import ArgumentError
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search._naming import find_solver


def from_subset(
    problem: NetworkProblem,
    solver: str,
    count: int,
    seconds: float,
    generator: torch.Generator,
    stop: Callable[[], bool],
) -> Tensor | None:
    """Targets `(n_vars,)` of all points, from the weights that `solver` finds for about `count` of them.

    None: float64 does not hold the weights, or `stop` was True.

    Args:
        seconds: of the solver.
        stop: called now and then; True ends the solver.
    """
    chosen = torch.randperm(len(problem.inputs), generator=generator)[:count].to(problem.device)
    # One point of each class, so that the network has the same outputs.
    present = [k for k in range(problem.counts.shape[1]) if bool((problem.counts[:, k] > 0).any())]
    heads = torch.stack([problem.counts[:, k].argmax() for k in present])
    points = torch.cat([chosen, heads]).unique()
    row, label = problem.counts[points].nonzero(as_tuple=True)
    weight = problem.counts[points][row, label]
    some = NetworkProblem(problem.inputs[points][row], label, problem.widths, weight).flatten()
    if some.layers != problem.layers:
        return None
    report = Report(some, Budget(seconds=seconds), lambda _: stop())
    find_solver(solver).run(some, report.budget, generator, report)
    if stop():
        return None
    try:
        return problem.from_weights(some.weights(report.targets[:1]))
    except ArgumentError:
        return None
