"""All combinations of columns: compared one by one if they are few, else branch and bound over balls of columns."""

import math

import torch
from torch import Tensor

from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search.network.columns._output_tables import OutputTables, code_sums, codes
from tpsolve.search.network.columns._pattern_tree import BRANCHES, build_tree

_BATCH = 2**22
_MAX_OPEN = 2**22
"""Open combinations above which the search goes on with those nearest to a decision instead."""
_FEW = 2**27
"""Signs of the last column in all combinations, up to which they are compared one by one: a tenth of a second."""
_CHEAP_TABLES = 200
"""Up to so many output tables, all are looked at for every combination; else only for single columns."""


class Scan:
    """All combinations of h of the `patterns (K, M)`; finds and proves the fewest errors.

    A combination is h nodes of the tree, `(h,)`, with leaves in rising order: the units' order means nothing.
    """

    def __init__(self, problem: NetworkProblem, patterns: Tensor, tables: OutputTables, report: Report) -> None:
        self.problem, self.patterns, self.tables, self.report = problem, patterns, tables, report
        self.units = problem.layers[0]
        gain = problem.counts[:, 1] - problem.counts[:, 0]
        weight = gain.abs()
        self.total = float(weight.sum())
        self.least = float((problem.counts.sum(1) - weight).sum()) / 2
        self.whole = bool((problem.counts == problem.counts.round()).all()) and self.total < 2**22
        self.gain = gain.float() if self.whole else gain
        # Sums of at most M terms, each rounded; whole numbers don't round.
        self.slack = 0.0 if self.whole else len(gain) * 2.0**-49 * self.total + float(problem.rounding().max())
        self.grain = 1.0 if self.whole else max(self.total / 256, 1e-300)
        self.weight = weight
        # Combinations and their bounds, by the bound in units of `grain`.
        self.open: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def run(self) -> None:
        """Scan until nothing is open, or the report says stop."""
        others = math.comb(len(self.patterns) + self.units - 2, self.units - 1)
        if others * 2 ** (self.units - 1) * self.patterns.numel() <= _FEW:
            self._compare_all()
        else:
            self._branch()

    def _compare_all(self) -> None:
        """Columns of all units but the last, with every column of that one."""
        every = torch.arange(len(self.patterns), device=self.patterns.device)
        rest = every.new_zeros(1, 0)
        if self.units > 1:
            # The same one twice too: there may be fewer columns than units.
            rest = torch.combinations(every, self.units - 1, with_replacement=True)
        size = max(1, _BATCH // (2 ** (self.units - 1) * len(every)))
        for part in rest.split(size):
            free = self._free(self.patterns[part], self.patterns[None])
            later = part[:, -1:] <= every if self.units > 1 else every[None] >= 0
            # Fewer errors than the goal: least + (total - gain) / 2.
            enough = self.total - 2 * (self.goal - self.least)
            row, last = (later & (free > enough)).nonzero(as_tuple=True)
            combinations = torch.cat([part[row], last[:, None]], dim=1)
            for some in combinations.split(max(1, _BATCH // self.patterns.shape[1])) if len(row) else ():
                self._errors(self.patterns[some])
            if self.report.step():
                return
        self.report.prove(float(self.report.objective.min()) - self.slack)

    def _branch(self) -> None:
        self.tree = build_tree(self.patterns, self.weight)
        root = torch.zeros(1, self.units, dtype=torch.int64, device=self.patterns.device)
        self._judge(root, torch.full((1,), -math.inf, dtype=self.gain.dtype, device=root.device))
        while self.open:
            nodes, bound = self._next()
            for unit, part in self._widest(nodes):
                self._split(nodes[part], bound[part], unit)
            self._drop_hopeless()
            proven = min(self.open) * self.grain if self.open else math.inf
            self.report.prove(min(proven, float(self.report.objective.min())) - self.slack)
            if self.report.step():
                return
        self.report.prove(float(self.report.objective.min()) - self.slack)

    @property
    def goal(self) -> float:
        """Combinations with at least this bound are of no use."""
        best = float(self.report.objective.min())
        return best - (0.5 if self.whole else self.slack)

    def _next(self) -> tuple[Tensor, Tensor]:
        crowded = sum(len(bound) for batches in self.open.values() for _, bound in batches) > _MAX_OPEN
        key = max(self.open) if crowded else min(self.open)
        size = max(1, _BATCH // (max(BRANCHES, 2 ** (self.units - 1)) * self.patterns.shape[1]))
        taken, count = [], 0
        while self.open[key] and count < size:
            taken.append(self.open[key].pop())
            count += len(taken[-1][1])
        nodes, bound = (torch.cat(part) for part in zip(*taken, strict=True))
        if count > size:
            self.open[key].append((nodes[size:], bound[size:]))
        if not self.open[key]:
            del self.open[key]
        return nodes[:size], bound[:size]

    def _widest(self, nodes: Tensor) -> list[tuple[int, Tensor]]:
        widest = self.tree.radius[nodes].argmax(1)
        parts = [(unit, (widest == unit).nonzero()[:, 0]) for unit in range(self.units)]
        return [(unit, part) for unit, part in parts if len(part)]

    def _split(self, nodes: Tensor, bound: Tensor, unit: int) -> None:
        """Replace node `unit` of each combination by its children, and keep what may be of use."""
        tree, rest = self.tree, [k for k in range(self.units) if k != unit]
        number = torch.arange(BRANCHES, device=nodes.device)
        parent = nodes[:, unit]
        child = tree.child[parent, None] + number
        valid = number < tree.children[parent, None]
        child = torch.where(valid, child, parent[:, None])
        if unit > 0:
            valid &= tree.first[nodes[:, unit - 1], None] < tree.last[child]
        if unit + 1 < self.units:
            valid &= tree.first[child] < tree.last[nodes[:, unit + 1], None]
        free = self._free(self.patterns[tree.centre[nodes[:, rest]]], self.patterns[tree.centre[child]])
        radius = tree.radius[nodes[:, rest]].sum(1, keepdim=True) + tree.radius[child]
        low = self.least + (self.total - free.double()) / 2 - radius
        low = torch.maximum(low, bound[:, None].double())
        row, place = (valid & (low < self.goal)).nonzero(as_tuple=True)
        fresh = nodes[row]
        fresh[:, unit] = child[row, place]
        self._judge(fresh, low[row, place].to(self.gain.dtype))

    def _free(self, rest: Tensor, last: Tensor) -> Tensor:
        """`(T, K)`: the gain of columns `rest (T, h - 1, M)` with each of `last (T or 1, K, M)`, were the output any
        function of them.
        """
        half = torch.arange(2 ** rest.shape[1], device=rest.device)
        split = torch.where(codes(rest)[:, None] == half[:, None], self.gain, 0.0)  # (T, half, M)
        change = split @ last.to(split.dtype).mT  # (T, half, K)
        return torch.maximum(change.abs(), split.sum(-1, keepdim=True).abs()).sum(1)

    def _errors(self, columns: Tensor) -> Tensor:
        """`(T,)` errors of networks of `columns (T, h, M)`, each with its best output unit; the best is offered."""
        code = codes(columns)
        score, table = self.tables.best(code_sums(code, self.gain[None], 2**self.units))
        errors = self.least + (self.total - score.double()) / 2
        best = int(errors.argmin())
        if float(errors[best]) < self.goal:
            outputs = self.tables.signs[table[best]][code[best]]
            targets = self.problem.pack(columns[best].T, outputs[:, None])
            self.report.offer(targets.expand(len(self.report.objective), -1))
        return errors

    def _judge(self, nodes: Tensor, bound: Tensor) -> None:
        """Try the centres as networks, and keep open what may still hold better ones."""
        radius = self.tree.radius[nodes].sum(1)
        looked = torch.ones_like(radius, dtype=torch.bool) if len(self.tables.signs) <= _CHEAP_TABLES else radius == 0
        rows = looked.nonzero()[:, 0]
        for part in rows.split(max(1, _BATCH // self.patterns.shape[1])) if len(rows) else ():
            errors = self._errors(self.patterns[self.tree.centre[nodes[part]]])
            bound[part] = torch.maximum(bound[part], (errors - radius[part]).to(bound.dtype))
        kept = (bound < self.goal) & (radius > 0)
        nodes, bound = nodes[kept], bound[kept]
        key = (bound.double() / self.grain).floor().clamp(min=-(2**40))
        for value in key.unique().tolist():
            here = key == value
            self.open.setdefault(int(value), []).append((nodes[here], bound[here]))

    def _drop_hopeless(self) -> None:
        for key in [key for key in self.open if key * self.grain >= self.goal]:
            del self.open[key]
