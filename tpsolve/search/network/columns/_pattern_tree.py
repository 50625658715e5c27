"""A tree of balls over sign patterns: near ones share a branch, so that one look can exclude many."""

from dataclasses import dataclass

import torch
from torch import Tensor

BRANCHES = 8
_ELEMENTS = 2**24


@dataclass(frozen=True)
class PatternTree:
    """Nodes `0 .. n - 1`, the root first, each a ball around one of its patterns.

    Args:
        centre: `(n,)` int64, the row of its central pattern.
        radius: `(n,)` float64, the largest weighted distance of its patterns from the central one; 0 for leaves.
        child: `(n,)` int64, its first child; the others follow.
        children: `(n,)` int64, how many; 0 for leaves.
        first, last: `(n,)` int64: the leaves below it are numbered from `first` to `last` - 1.
    """

    centre: Tensor
    radius: Tensor
    child: Tensor
    children: Tensor
    first: Tensor
    last: Tensor


def build_tree(patterns: Tensor, weight: Tensor) -> PatternTree:
    """The tree of `patterns (K, M)` int8 in {-1, +1} under the Hamming distance weighted by `weight (M,)` float64.

    Every node is split around up to `BRANCHES` of its patterns, each the farthest from those before
    (Gonzalez 1985), all nodes of a level at once. Patterns at distance 0 share a leaf.
    """
    device = patterns.device
    alive = torch.arange(len(patterns), device=device)
    home = torch.zeros_like(alive)  # of each pattern that is alive, its node among the open ones
    distance = _distance(patterns, alive, home, weight)
    centre, radius, parent = [alive[:1]], [distance.max()[None]], [home[:0]]
    open_nodes, nodes = alive[:1], 1
    while len(alive) and bool(distance.max() > 0):
        branch, nearest = torch.zeros_like(home), centre[-1][open_nodes - (nodes - len(centre[-1]))][home]
        for number in range(1, BRANCHES):
            fresh = alive[_farthest(distance, home, len(open_nodes))][home]
            nearer = _distance(patterns, alive, fresh, weight)
            moved = nearer < distance
            distance = torch.where(moved, nearer, distance)
            branch, nearest = torch.where(moved, number, branch), torch.where(moved, fresh, nearest)
        key, place = torch.unique(home * BRANCHES + branch, return_inverse=True)
        centre.append(torch.zeros_like(key).scatter_(0, place, nearest))
        level_radius = torch.zeros(len(key), dtype=torch.float64, device=device)
        radius.append(level_radius.scatter_reduce_(0, place, distance, "amax"))
        parent.append(open_nodes[key // BRANCHES])
        is_open = radius[-1] > 0
        kept = is_open[place]
        alive, distance, home = alive[kept], distance[kept], (is_open.long().cumsum(0) - 1)[place][kept]
        open_nodes = nodes + is_open.nonzero()[:, 0]
        nodes += len(key)
    return _with_leaves(torch.cat(centre), torch.cat(radius), parent)


def _with_leaves(centre: Tensor, radius: Tensor, parent: list[Tensor]) -> PatternTree:
    above = torch.cat(parent)
    children = torch.bincount(above, minlength=len(centre))
    child = torch.zeros_like(children)
    number = torch.arange(1, len(centre), device=centre.device)
    child.scatter_reduce_(0, above, number, "amin", include_self=False)
    leaves = (children == 0).long()
    starts = [len(centre)]
    for level in reversed(parent[1:]):
        starts.append(starts[-1] - len(level))
        leaves.index_add_(0, level, leaves[starts[-1] : starts[-2]].clone())
    first = torch.zeros_like(leaves)
    before = leaves.cumsum(0) - leaves
    for level, start in zip(parent[1:], reversed(starts[1:]), strict=True):
        here = slice(start, start + len(level))
        first[here] = first[level] + before[here] - before[child[level]]
    return PatternTree(centre, radius, child, children, first, first + leaves)


def _distance(patterns: Tensor, rows: Tensor, others: Tensor, weight: Tensor) -> Tensor:
    """Weight of the places where `patterns[rows]` and `patterns[others]` differ, `(len(rows),)` float64."""
    size = max(1, _ELEMENTS // patterns.shape[1])
    parts = zip(rows.split(size), others.split(size), strict=True)
    return torch.cat([(patterns[a] != patterns[b]).to(weight.dtype) @ weight for a, b in parts])


def _farthest(distance: Tensor, home: Tensor, nodes: int) -> Tensor:
    """For each node the place of a pattern of it at the largest distance, the first of them: `(nodes,)`."""
    most = distance.new_zeros(nodes).scatter_reduce_(0, home, distance, "amax")
    place = torch.where(distance == most[home], torch.arange(len(home), device=home.device), len(home))
    return place.new_full((nodes,), len(home)).scatter_reduce_(0, home, place, "amin")
