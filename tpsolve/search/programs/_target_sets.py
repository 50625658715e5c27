"""What solvers of program problems make of many assignments of a sample: the cheapest, and weighted sets."""

import torch
from torch import Tensor

from tpsolve._result import TargetSet
from tpsolve.search._base import Report


def offer_cheapest(report: Report, targets: Tensor) -> Tensor:
    """Offer the best of `targets (C, B, n)` of each sample; the objectives of all, `(C, B)`."""
    value = report.problem.objective(targets)
    report.spend(len(targets))
    place = value.argmin(0)
    report.offer(targets[place, torch.arange(len(place), device=place.device)])
    return value


def weighted_set(targets: Tensor, log_weight: Tensor) -> TargetSet:
    """The set of `targets (C, B, n)` with weights proportional to exp of `log_weight (C, B)`; -inf: not in it.

    Targets that were drawn several times stand in it once, with their weights summed.
    """
    count, samples, n = targets.shape
    weights = torch.softmax(log_weight, 0).nan_to_num(0.0)
    code = torch.unique(targets.reshape(-1, n), dim=0, return_inverse=True)[1].reshape(count, samples)
    code, order = torch.sort(code, dim=0)
    fresh = torch.ones_like(code, dtype=torch.bool)
    fresh[1:] = code[1:] != code[:-1]
    group = fresh.cumsum(0) - 1
    summed = torch.zeros_like(weights).scatter_add_(0, group, weights.gather(0, order))
    first = torch.zeros_like(order).scatter_(0, group, order)
    kept = int(group.amax()) + 1
    picked = targets.gather(0, first[:kept, :, None].expand(-1, -1, n))
    return TargetSet(picked.transpose(0, 1), summed[:kept].T)
