"""From multipliers on many samples to multipliers on a circuit, for many units at once (Caratheodory).

Samples are put into groups, the groups are reduced to a vertex by exchanges, the members of those
that fall to 0 are dropped, and so on until every group holds one sample (Maalouf, Jubran and Feldman,
"Fast and accurate least-mean-squares solvers", 2019, section 2).
"""

import torch
from torch import Tensor

from tpsolve.units.separability._tableau import Tableau

_ZERO = 1e-9


def purify(points: Tensor, targets: Tensor, multipliers: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Supports of at most d + 1 samples each, `(c, d + 1)` int64, filled up with -1.

    In floating point: whether they are circuits remains to be proved.

    Args:
        points: `(N, d)` float64, or `(c, N, d)`: each unit its own.
        targets, multipliers: `(N, c)`; for each unit the sum of multiplier * target * point is near 0.
        generator: shuffles the samples, so that other draws give other circuits; None: no shuffling.
    """
    rows, size = points.shape[-2:]
    most = max(1, int((multipliers > 0).sum(dim=0).max()))
    keys = multipliers
    if generator is not None:
        noise = torch.rand(multipliers.shape, generator=generator, device=generator.device, dtype=points.dtype)
        keys = torch.where(multipliers > 0, noise.to(points.device), -1.0)
    samples = keys.topk(min(most, rows), dim=0).indices.T
    mass = multipliers.T.gather(1, samples)
    signs = targets.T.gather(1, samples)
    while True:
        groups = min(mass.shape[1], 2 * (size + 1))
        samples, signs, mass = (_pad(v, groups) for v in (samples, signs, mass))
        members = mass.shape[1] // groups
        chosen = points[samples] if points.dim() == 2 else _rows_of_each(points, samples)
        vectors = torch.cat([chosen * (mass * signs)[:, :, None], mass[:, :, None]], dim=2)
        vectors = vectors.view(len(mass), groups, members, size + 1).sum(dim=2)
        mass = mass * _vertex(vectors).repeat_interleave(members, dim=1)
        mass = mass / mass.amax(dim=1, keepdim=True).clamp(min=1e-300)
        mass = torch.where(mass > _ZERO, mass, 0.0)
        # Those that are left come first, in the order that they had.
        most = max(1, int((mass > 0).sum(dim=1).max()))
        order = (mass > 0).to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
        samples, signs, mass = (v.gather(1, order) for v in (samples, signs, mass))
        if members == 1:
            return torch.where(mass > 0, samples, -1)[:, : size + 1]


def sharpen(points: Tensor, targets: Tensor, support: Tensor) -> Tensor:
    """`support (c, s)` of purify without the samples whose multiplier was only rounding.

    Multipliers that only nearly cancel leave such samples behind; here those of the support are solved anew.
    """
    signs = torch.where(support >= 0, targets.T.gather(1, support.clamp(min=0)), 0.0)
    columns = torch.cat([points[support.clamp(min=0)] * signs[:, :, None], signs.abs()[:, :, None]], dim=2).mT
    goal = torch.zeros_like(columns[:, :, :1])
    goal[:, -1] = 1.0
    multipliers = torch.linalg.pinv(columns, rtol=_ZERO) @ goal
    kept = multipliers[:, :, 0] > _ZERO * multipliers.amax(dim=1)
    return torch.where(kept, support, -1)


def _vertex(vectors: Tensor) -> Tensor:
    """Factors `(c, K)` >= 0, a vertex of those that keep the sum of factor * `vectors (c, K, r)`; all 1 keep it."""
    # In turned coordinates the first ones show the whole rank, whatever the vectors.
    turned = vectors @ _rotation(vectors)
    scale = torch.linalg.vector_norm(turned, dim=2)
    unit = torch.where(scale > 0, scale, 1.0)
    tableau = Tableau((turned / unit[:, :, None]).mT, scale)
    while bool(tableau.step().any()):
        pass
    return tableau.values() / unit


def _rotation(vectors: Tensor) -> Tensor:
    size, generator = vectors.shape[2], torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=vectors.dtype))[0].to(vectors.device)


def _rows_of_each(points: Tensor, samples: Tensor) -> Tensor:
    return points.gather(1, samples[:, :, None].expand(-1, -1, points.shape[2]))


def _pad(values: Tensor, groups: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, -values.shape[1] % groups))
