"""Branch: exact search of layer problems by branching on targets, many nodes at once, with bounds of single units."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.losses import ClassLoss
from tpsolve.problems import LayerProblem, Problem
from tpsolve.problems.layer._layer_energy import LayerEnergy
from tpsolve.search._base import Report, Solver
from tpsolve.search.local._loop import descend

NODE_NUMBERS = 2**18
"""Nodes that are split together, times units above: tens of milliseconds."""


@dataclass(frozen=True)
class Branch(Solver):
    """Exact targets, sample by sample: one target after the other is decided, the one of most influence first.

    Where some targets are decided, each unit's pre-activation lies in an interval. A node costs at least the sum of the
    smallest losses over these intervals, as though each unit could choose the rest for itself, and the stay penalties
    that are paid already. Nodes that can't be better than the incumbent are dropped; the others are split in two, the
    deepest first, thousands at once on tensors. Any loss is taken as it is, convex or not. So this is the solver of
    saturated losses, of the zero-one loss, and of few units above.

    It computes in float64. The bound is that of the nodes that are left, less `problem.rounding()`. One step is one
    batch of nodes of a sample. It begins from the end of a steepest descent.
    """

    name = "branch"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem,)
    one_step = "one batch of nodes of a sample"
    exact = True

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, LayerProblem)
        descend(problem, report)
        for row, share in report.each_sample():
            _solve_sample(_Bounds(problem.energy64.select(row)), row, share, report)


class _Bounds:
    """What the one sample of `energy` (float64, B = 1) costs at least where its first targets, by influence, are set.

    Attributes:
        order: the targets that matter, `(k,)`, those of most influence first.
        columns: `(k, u)`, what each of them adds to the u sums that the losses read.
        start: `(u,)`, these sums without any target.
        radius: `(k + 1, u)`, how far the targets that are not set yet can move them.
        paid: `(k, 2)`, the stay penalty of each target at +1 and at -1.
        free: `(n,)`, values of the targets that don't matter.
    """

    def __init__(self, energy: LayerEnergy) -> None:
        self._loss = energy.loss
        rows, self.start = energy.weight, energy.bias
        if isinstance(energy.loss, ClassLoss):
            label = int(energy.targets[0])
            self._side, self._c = energy.targets[:1], energy.unit_weight[0, :1]
            rows, self.start = rows - rows[label], self.start - self.start[label]
            influence = self._c * rows.abs().amax(0)
        else:
            used = energy.unit_weight[0] > 0
            self._side, self._c = energy.targets[0, used], energy.unit_weight[0, used]
            blur = energy.blur()[used] if energy.loss.name == "zero-one" else torch.zeros_like(self._c)
            rows, self.start = rows[used], self.start[used]
            influence = self._c @ rows.abs()
        stay = torch.zeros_like(influence) if energy.stay is None else energy.stay[0]
        influence = influence + stay.abs()
        self.order = influence.argsort(descending=True)[: int((influence > 0).sum())]
        self.columns = rows.T[self.order].contiguous()
        size = self.columns.abs()
        self.radius = torch.cat([size.flip(0).cumsum(0).flip(0), torch.zeros_like(self.start)[None]])
        if not isinstance(energy.loss, ClassLoss):
            # A pre-activation so near to 0 that its sign may be rounding counts as the target likes it.
            self.radius = self.radius + blur
        penalty = stay[self.order]
        self.paid = torch.stack([(-penalty).clamp(min=0), penalty.clamp(min=0)], dim=1)
        self.free = torch.where(stay < 0, -1.0, 1.0)

    def least(self, sums: Tensor, depth: int) -> Tensor:
        """The smallest loss, `(K,)`, of nodes at `depth` whose sums are `sums (K, u)`."""
        radius = self.radius[depth]
        if isinstance(self._loss, ClassLoss):
            return self._c * self._loss.minimum(sums - radius, self._side.expand(len(sums)))
        return self._loss.minimum(sums - radius, sums + radius, self._side) @ self._c

    def targets(self, signs: Tensor) -> Tensor:
        """Targets `(1, n)` of the `signs (k,)` of those that matter."""
        found = self.free.clone()
        found[self.order] = signs.to(found)
        return found[None]


@dataclass(frozen=True)
class _Nodes:
    """K nodes of one depth, those that cost the least first.

    Args:
        depth: targets set.
        sums: `(K, u)`, what the losses read, of the targets set.
        signs: `(K, depth)` int8, these targets.
        paid: `(K,)`, their stay penalties.
        cost: `(K,)`, what each node costs at least.
    """

    depth: int
    sums: Tensor
    signs: Tensor
    paid: Tensor
    cost: Tensor

    @property
    def least(self) -> float:
        """The lowest cost."""
        return float(self.cost[0])

    def __getitem__(self, rows: slice | Tensor) -> "_Nodes":
        return _Nodes(self.depth, self.sums[rows], self.signs[rows], self.paid[rows], self.cost[rows])

    def split(self, bounds: _Bounds) -> "_Nodes":
        """Both children of each."""
        column, paid = bounds.columns[self.depth], bounds.paid[self.depth]
        plus = self.signs.new_ones(len(self.signs), 1)
        sums = torch.cat([self.sums + column, self.sums - column])
        signs = torch.cat([torch.cat([self.signs, sign], 1) for sign in (plus, -plus)])
        penalty = torch.cat([self.paid + paid[0], self.paid + paid[1]])
        cost, order = (bounds.least(sums, self.depth + 1) + penalty).sort()
        return _Nodes(self.depth + 1, sums[order], signs[order], penalty[order], cost)


def _solve_sample(bounds: _Bounds, row: Tensor, budget: Budget, report: Report) -> None:
    rounding = float(report.problem.rounding()[row])
    end = math.inf if budget.seconds is None else report.seconds + budget.seconds
    size = max(1, NODE_NUMBERS // max(1, bounds.columns.shape[1]))
    sums = bounds.start[None]
    paid = torch.zeros_like(sums[:, :1]).sum(1)
    open_nodes = [_Nodes(0, sums, paid.new_zeros((1, 0), dtype=torch.int8), paid, bounds.least(sums, 0))]
    # Of whole targets that were offered: an objective may be above it by rounding, or by a zero-one loss near 0.
    least, steps = math.inf, 0
    while True:
        best = float(report.objective[row])
        open_nodes = [nodes for nodes in open_nodes if nodes.least < best]
        report.prove(min([best, least, *(nodes.least for nodes in open_nodes)]) - rounding, row)
        steps += 1
        report.steps = max(report.steps, steps)
        if report.pulse() or not open_nodes or report.seconds >= end or steps == budget.steps:
            return
        nodes = open_nodes.pop()
        if len(nodes.cost) > size:
            open_nodes.append(nodes[size:])
        if nodes.depth < len(bounds.order):
            nodes = nodes[:size].split(bounds)
            nodes = nodes[: int((nodes.cost < best).sum())]
        if len(nodes.cost) and nodes.depth == len(bounds.order):
            report.offer(bounds.targets(nodes.signs[0]), row)
            least = min(least, nodes.least)
        elif len(nodes.cost):
            open_nodes.append(nodes)
