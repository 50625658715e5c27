"""From multipliers on many samples to multipliers on a circuit, for many units at once (Caratheodory).

Samples are put into groups, the groups are reduced to a vertex by pivots, the members of those that
fall to 0 are dropped, and so on until every group holds one sample (Maalouf, Jubran and Feldman,
"Fast and accurate least-mean-squares solvers", 2019, section 2).
"""

import torch
from torch import Tensor

_PIVOT = 1e-9
_ZERO = 1e-9


def purify(points: Tensor, targets: Tensor, multipliers: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Supports of at most d + 1 samples each, `(c, d + 1)` int64, in rising order, filled up with -1.

    In floating point: whether they are circuits remains to be proved.

    Args:
        points: `(N, d)` float64.
        targets, multipliers: `(N, c)`; for each unit the sum of multiplier * target * point is near 0.
        generator: shuffles the samples, so that other draws give other circuits; None: no shuffling.
    """
    rows, size = points.shape
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
        vectors = points[samples] * (mass * signs)[:, :, None]
        vectors = torch.cat([vectors, mass[:, :, None]], dim=2)
        vectors = vectors.view(len(mass), groups, members, size + 1).sum(dim=2)
        kept = _vertex(vectors)
        mass = mass * kept.repeat_interleave(members, dim=1)
        mass = mass / mass.amax(dim=1, keepdim=True).clamp(min=1e-300)
        mass = torch.where(mass > _ZERO, mass, 0.0)
        most = max(1, int((mass > 0).sum(dim=1).max()))
        order = mass.topk(most, dim=1).indices if generator is None else _present_first(mass, most)
        samples, signs, mass = (v.gather(1, order) for v in (samples, signs, mass))
        if members == 1:
            break
    support = torch.where(mass > 0, samples, rows).sort(dim=1).values[:, : size + 1]
    return torch.where(support < rows, support, -1)


def _present_first(mass: Tensor, most: int) -> Tensor:
    return (mass > 0).to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]


def _pad(values: Tensor, groups: int) -> Tensor:
    missing = -values.shape[1] % groups
    return torch.nn.functional.pad(values, (0, missing))


def _vertex(vectors: Tensor) -> Tensor:
    """Factors `(c, K)` >= 0, a vertex of those that keep the sum of factor * `vectors (c, K, r)`; all 1 keeps it."""
    scale = torch.linalg.vector_norm(vectors, dim=2)
    present = scale > 0
    table = (vectors / torch.where(present, scale, 1.0)[:, :, None]).transpose(1, 2).contiguous()
    value = torch.where(present, scale, 0.0)
    basis = _eliminate(table)
    units = torch.arange(len(table), device=table.device)
    basic = torch.zeros(present.shape, dtype=torch.bool, device=table.device)
    basic[units[:, None].expand_as(basis)[basis >= 0], basis[basis >= 0]] = True
    for _ in range(table.shape[2]):
        free = torch.where(basic | (value <= 0), torch.inf, value)
        amount, column = free.min(dim=1)
        moving = torch.isfinite(amount)
        if not bool(moving.any()):
            break
        _push(table, value, basis, basic, units, column, torch.where(moving, amount, 0.0), moving)
    return torch.where(present, value / torch.where(present, scale, 1.0), 0.0)


def _eliminate(table: Tensor) -> Tensor:
    """Gauss-Jordan on `table (c, r, K)` in place; the basic column of each row, -1 for a redundant row."""
    units, rows, _ = table.shape
    basis = torch.full((units, rows), -1, dtype=torch.int64, device=table.device)
    used = torch.zeros(units, table.shape[2], dtype=torch.bool, device=table.device)
    every = torch.arange(units, device=table.device)
    for r in range(rows):
        size, column = torch.where(used, 0.0, table[:, r].abs()).max(dim=1)
        fine = size > _PIVOT
        _pivot(table, torch.full_like(column, r), column, fine)
        basis[:, r] = torch.where(fine, column, -1)
        used[every, column] |= fine
    return basis


def _push(
    table: Tensor,
    value: Tensor,
    basis: Tensor,
    basic: Tensor,
    units: Tensor,
    column: Tensor,
    amount: Tensor,
    moving: Tensor,
) -> None:
    # Take the free column down to 0, or exchange it for the basic one that comes down first, in
    # whichever direction the pivot is larger.
    entries = table.gather(2, column[:, None, None].expand(-1, table.shape[1], 1))[:, :, 0]
    held = torch.where(basis >= 0, value.gather(1, basis.clamp(min=0)), torch.inf)
    down, down_row = torch.where(entries < -_PIVOT, held / -entries, torch.inf).min(dim=1)
    up, up_row = torch.where(entries > _PIVOT, held / entries, torch.inf).min(dim=1)
    drop = moving & (amount <= down)
    size = entries.abs()
    go_up = torch.isfinite(up) & (size.gather(1, up_row[:, None])[:, 0] > size.gather(1, down_row[:, None])[:, 0])
    row = torch.where(go_up, up_row, down_row)
    change = torch.where(drop, -amount, torch.where(go_up, up, -down))
    change = torch.where(moving, change, 0.0)
    moved = torch.where(basis >= 0, held - entries * change[:, None], 0.0).clamp(min=0)
    value.scatter_add_(1, basis.clamp(min=0), torch.where(basis >= 0, moved - value.gather(1, basis.clamp(min=0)), 0.0))
    value[units, column] += change
    exchange = moving & ~drop
    leaving = basis[units, row]
    value[units[drop], column[drop]] = 0.0
    value[units[exchange], leaving[exchange]] = 0.0
    basic[units[exchange], leaving[exchange]] = False
    basic[units[exchange], column[exchange]] = True
    basis[units[exchange], row[exchange]] = column[exchange]
    _pivot(table, row, column, exchange)


def _pivot(table: Tensor, row: Tensor, column: Tensor, where: Tensor) -> None:
    """Make `column (c,)` the unit vector of `row (c,)` in each `table (c, r, K)` with `where`."""
    units = torch.arange(len(table), device=table.device)
    line, entries = table[units, row], table[units, :, column]
    pivot = entries[units, row]
    line = line / torch.where(where, pivot, 1.0)[:, None]
    entries = torch.where(where[:, None], entries, 0.0)
    # The row itself becomes `line`: take off all of it but that.
    entries[units, row] = torch.where(where, pivot - 1.0, 0.0)
    table.baddbmm_(entries[:, :, None], line[:, None, :], alpha=-1)
