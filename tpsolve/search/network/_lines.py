"""The best point on lines through a unit's weights, compared by one cumulative sum over all columns on them."""

import torch
from torch import Tensor


def best_on_lines(w: Tensor, z: Tensor, directions: Tensor, slope: Tensor, residual: Tensor, noise: Tensor) -> Tensor:
    """Weights `(R, n)` of length 1 on the lines w + t d whose outputs are worth most; w where no line is sound.

    Along a line the output of each point changes once, at t = -z / slope; sorted, these places split the
    line into M + 1 columns.

    Args:
        w: `(R, n)`, where the lines meet.
        z: `(R, M)`, pre-activations at w.
        directions: `(R, L, n)`.
        slope: `(R, L, M)`, change of z along each.
        residual: `(R, M)`, what the output +1 of a point is worth, above -1.
        noise: `(R, L, M + 1)`, added to twice the worth of each column, so that ties are broken.
    """
    where = torch.where(slope == 0, torch.inf, -z[:, None] / slope)
    place, order = where.sort(dim=-1)
    gain = residual[:, None] * slope.sign()
    before = -gain.sum(-1, keepdim=True)
    level = torch.cat([before, before + 2 * gain.float().gather(2, order).cumsum(-1)], dim=-1)
    ends = torch.nn.functional.pad(place, (1, 1))
    ends[..., 0], ends[..., -1] = place[..., 0] - 1, torch.inf
    gap = ends[..., 1:] - ends[..., :-1]
    middle = torch.where(torch.isfinite(ends[..., 1:]), ends[..., :-1] + gap / 2, ends[..., :-1] + 1)
    sound = torch.isfinite(middle) & (gap > 1e-9 * (1 + middle.abs()))
    level = torch.where(sound, level + noise, -torch.inf).flatten(1)
    best = level.argmax(1)
    rows = torch.arange(len(w), device=w.device)
    t = middle.flatten(1)[rows, best]
    moved = w + t[:, None] * directions[rows, best // gap.shape[-1]]
    moved = torch.where(torch.isfinite(level[rows, best])[:, None], moved, w)
    return moved / moved.norm(dim=1, keepdim=True)
