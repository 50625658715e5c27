"""Units fitted to what their outputs are worth: hyperplanes that few points are on the wrong side of, many at once."""

from collections.abc import Callable

import torch
from torch import Tensor

_NEWTON = 2
"""Newton steps between two weightings."""
_STAGES = (0.5, 0.125, 0.25, 0.5, 1.0)
"""Shares of the sharpness, one after the other; the first is that of the drawn weights."""
_SHARPNESS = (4.0, 3.0)
"""Its base-2 logarithm: the least, and by how much more it may be."""
_FRESH = 0.2
"""How often a fit begins from nothing."""
_DECAY = (1.0, 5.0)
"""Minus the base-10 logarithm of the price of large weights: the least, and by how much more it may be."""


def refit(w: Tensor, inputs: Tensor, worth: Tensor, random: Callable[..., Tensor], stop: Callable[[], bool]) -> Tensor:
    """Weights `(R, n)` of length 1 of units that are worth much, near those of `w`; `w` where none were found.

    A point on the wrong side counts the less the farther it is: by exp(-a d / D), where d is its distance and D the
    mean distance of all. Under fixed weightings a squared hinge is fitted by Newton steps, and `a` rises from stage to
    stage. So points that can't be had are given up, and the others settle. Weights drawn at random at the start, and
    another `a` and another decay for each unit, lead to another local optimum each time.

    Successive weightings of a convex loss in place of a concave one are due to Mangasarian ("Machine learning via
    polyhedral concave minimization", 1996); perturbed weights to Charon and Hudry ("The noising method", 1993).

    Args:
        w: `(R, n)`, the bias last.
        inputs: `(1 or R, M, n)`, each with a 1 at the end.
        worth: `(R, M)`, what the output +1 of a point is worth, above -1.
        random: uniform numbers of a shape.
        stop: asked between two Newton steps; True ends the work early.
    """
    signs, cost = torch.where(worth > 0, 1.0, -1.0).to(w.dtype), worth.abs()
    cost = cost / (cost.sum(1, keepdim=True) / (cost > 0).sum(1, keepdim=True)).clamp(min=1e-300)
    # The square root of an exponential variable: most weights stay about what they were, and some all but vanish.
    drawn = cost * random(*cost.shape).clamp(min=1e-300).log().neg().sqrt()
    sharpness = 2 ** (_SHARPNESS[0] + _SHARPNESS[1] * random(len(w), 1))
    decay = 10 ** -(_DECAY[0] + _DECAY[1] * random(len(w), 1))
    ridge = decay[..., None] * torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
    found, across = w * (random(len(w), 1) >= _FRESH), inputs.mT
    for number, share in enumerate(_STAGES):
        margin = signs * (inputs @ found[..., None])[..., 0]
        far = (-margin).clamp(min=0) / margin.abs().mean(1, keepdim=True).clamp(min=1e-300)
        weight = torch.exp(-share * sharpness * far) * (cost if number else drawn)
        for _ in range(_NEWTON):
            # The minimum of the squares of the points with a margin below 1, which those of the minimum have too.
            active = across * (weight * (margin < 1))[:, None]
            found = torch.linalg.solve_ex(active @ inputs + ridge, (active @ signs[..., None])[..., 0])[0]
            if stop():
                break
            margin = signs * (inputs @ found[..., None])[..., 0]
    size = found.norm(dim=1, keepdim=True)
    return torch.where(torch.isfinite(size) & (size > 0), found / size.clamp(min=1e-300), w)
