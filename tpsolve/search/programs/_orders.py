"""Assignments of values to units in an order: by number, by cost, or by cost perturbed as a draw needs it."""

import torch
from torch import Tensor


def k_best(cost: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` assignments of least total cost, cheapest first.

    The best of all units are made of the best of some and the best of the rest, so that lists are merged unit by unit.

    Args:
        cost: `(B, n, K)`; +inf where a unit has no such value.

    Returns:
        values `(B, C, n)` int64 and their costs `(B, C)`, with C <= count; +inf where a sample has no more.
    """
    _, units, width = cost.shape
    total, values = torch.sort(cost[:, 0], dim=1, stable=True)
    total, values = total[:, :count], values[:, :count, None]
    for unit in range(1, units):
        sums = (total[:, :, None] + cost[:, None, unit]).flatten(1)
        total, place = _least(sums, count)
        before = values.gather(1, (place // width)[..., None].expand(-1, -1, unit))
        values = torch.cat([before, (place % width)[..., None]], 2)
    return values, total


def numbered(cost: Tensor, numbers: Tensor) -> Tensor:
    """The assignments `(C, B, n)` of each sample with the numbers `numbers (C, B)`, of which 0 is the cheapest.

    Args:
        cost: `(B, n, K)`; +inf where a unit has no such value, which no assignment then has.
    """
    order = cost.argsort(dim=2, stable=True)
    count = torch.isfinite(cost).sum(2)
    values = []
    for unit in range(cost.shape[1]):
        place, numbers = numbers % count[:, unit], numbers // count[:, unit]
        values.append(order[:, unit].expand(len(place), -1, -1).gather(2, place[..., None])[..., 0])
    return torch.stack(values, 2)


def perturbed_best(logits: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` different assignments in the order of log p plus independent Gumbel noise of each assignment.

    The first of them that satisfies a condition is an exact draw from p given that condition, since the largest of
    perturbed log probabilities is a draw. The noise of whole assignments is drawn unit by unit, conditioned on the
    largest that is drawn already. Source: Kool, van Hoof and Welling, Stochastic beams and where to find them (ICML
    2019).

    Args:
        logits: `(B, n, K)`; -inf where a unit has no such value.

    Returns:
        values `(B, C, n)` int64, C <= count, and minus the perturbed log p `(B, C)`; +inf where a sample has no more.
    """
    log_p = torch.log_softmax(logits.double(), 2)
    samples, units, width = log_p.shape
    phi, largest = log_p.new_zeros(samples, 1), _gumbel((samples, 1), generator, log_p)
    values = torch.empty(samples, 1, 0, dtype=torch.int64, device=logits.device)
    for unit in range(units):
        child = phi[:, :, None] + log_p[:, None, unit]  # (B, W, K)
        noisy = child + _gumbel(child.shape, generator, log_p)
        top = noisy.amax(2, keepdim=True)
        # The noise of the children, given that the largest of it is the parent's; in a form that never overflows.
        rest = largest[:, :, None] - noisy + torch.log1p(-torch.exp((noisy - top).clamp(max=0)))
        given = largest[:, :, None] - rest.clamp(min=0) - torch.log1p(torch.exp(-rest.abs()))
        given = torch.where(torch.isfinite(child) & torch.isfinite(largest)[:, :, None], given, -torch.inf)
        order, place = _least(-given.flatten(1), count)
        values = torch.cat(
            [values.gather(1, (place // width)[..., None].expand(-1, -1, unit)), (place % width)[..., None]], 2
        )
        phi, largest = child.flatten(1).gather(1, place), -order
    return values, -largest


def _least(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` least of each row and their places, in rising order."""
    found = values.topk(min(count, values.shape[1]), dim=1, largest=False, sorted=True)
    return found.values, found.indices


def _gumbel(shape: tuple[int, ...] | torch.Size, generator: torch.Generator, like: Tensor) -> Tensor:
    drawn = torch.rand(tuple(shape), generator=generator, device=generator.device, dtype=torch.float64)
    return -torch.log(-torch.log(drawn.clamp(min=1e-300).to(like.device)))
