"""A descent by long steps: many flips at once, as many of the best ones as lower the objective most."""

import torch

from tpsolve.problems import LayerProblem
from tpsolve.problems.layer._layer_state import LayerState
from tpsolve.search._base import Report
from tpsolve.search.local._loop import least_gain

GROWTH = 2
"""A step tries up to so many times the flips of the step before."""


def descend_far(problem: LayerProblem, report: Report) -> None:
    """Offer the end of a descent from the report's `start` (all +1 without one) to targets that no flip improves.

    Each step tries the best 1, 2, 4, ... of the flips that improve, for each sample by itself, and takes the number
    that lowers the objective most. So it gets as far as a steepest descent in a fraction of its steps. It ends early
    where the time does.
    """
    state = problem.state(report.targets if report.start is None else report.start)
    flips, lasted = state.targets.shape[1], 0.0
    # A step that ends too late is not begun.
    while flips and not report.pulse(state.objective) and report.seconds_left >= lasted / 2:
        began = report.seconds
        flips = long_step(state, GROWTH * flips)
        lasted = report.seconds - began
    report.offer(state.targets)


def long_step(state: LayerState, most: int) -> int:
    """Take the best of the sets of 1, 2, 4, ... flips, at most `most`, in every sample; the flips of the largest."""
    samples, n = state.targets.shape
    delta, gain = state.flip_delta(), least_gain(state)
    improving = (delta < -gain).sum(1)
    most = min(most, int(improving.max()))
    if not most:
        return 0
    sizes = torch.tensor(sorted({*(1 << k for k in range(most.bit_length())), most}), device=delta.device)
    order = delta.topk(most, 1, largest=False, sorted=True).indices
    place = torch.full_like(order, n).new_full((samples, n), n)
    place.scatter_(1, order, torch.arange(most, device=order.device).expand_as(order))
    # Of each size and sample: no flip that does not improve.
    taken = torch.minimum(sizes[:, None], improving)
    tried = torch.where(place < taken[:, :, None], -state.targets, state.targets)
    value, best = state.energy.total(state.energy.pre(tried), tried).min(0)
    lower = value < state.objective - gain[:, 0]
    chosen = tried[best, torch.arange(samples, device=best.device)]
    state.move(torch.where(lower[:, None], chosen, state.targets))
    return int((taken[best, torch.arange(samples, device=best.device)] * lower).max())
