"""ForwardBackward: exact inference through a program that reads its symbols one after another."""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tpsolve._result import Budget, TargetSet
from tpsolve.errors import NotAcceptedError
from tpsolve.problems import Problem, ProgramProblem
from tpsolve.search._base import Report, Solver


@dataclass(frozen=True)
class ForwardBackward(Solver):
    """The cheapest consistent symbols, and the probability of every value given the label, for a `Fold`.

    The states that the fold can be in after each symbol, and from which it can still give the label, make a trellis.
    The cheapest way through it is proved optimal; a label without a way is proved infeasible. The shares of the target
    set are the sums over all ways, so that the layer loss is -log P(label) exactly. The work grows with states times
    values times symbols, not with the number of assignments. No call of the whole program is made but to check the
    answer. All samples are one step, which no budget cuts short.

    Sources: Viterbi, Error bounds for convolutional codes (IEEE Trans. Inf. Theory 1967), for the cheapest way; Baum,
    Petrie, Soules and Weiss (Ann. Math. Statist. 1970) for the sums.
    """

    name = "forward-backward"
    accepts: ClassVar[tuple[type[Problem], ...]] = (ProgramProblem,)
    one_step = "all samples"
    exact = True

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, ProgramProblem)
        if problem.fold is None:
            got = "a program that is no Fold, or a Fold with constraints or a loss of its own"
            raise NotAcceptedError("problem", got, "a Fold and its labels", "Take weighted-draws, or marginal.")

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, ProgramProblem)
        fold = problem.fold
        assert fold is not None
        read = [
            list(range(problem.n_vars)) if problem.mask is None else problem.mask[b].nonzero()[:, 0].tolist()
            for b in range(problem.batch_shape[0])
        ]
        every = [
            (-1, 1) if is_spin else tuple(range(size))
            for size, is_spin in zip(problem.sizes.tolist(), problem.is_spin.tolist(), strict=True)
        ]
        by_length: dict[int, list[tuple[int, Any]]] = defaultdict(list)
        impossible: list[int] = []
        for b, units in enumerate(read):
            layers = fold.trellis(problem.labels[b], [every[j] for j in units], problem.is_equal)
            if layers is None:
                impossible.append(b)
            else:
                by_length[len(units)].append((b, layers))
        log_p = torch.log_softmax(problem.logits, 2).cpu()
        values = problem.values_of(problem.present).cpu()
        shares = torch.zeros_like(log_p)
        entropy, bound = torch.zeros(len(log_p), dtype=torch.float64), torch.full((len(log_p),), -math.inf)
        bound = bound.double()
        for group in by_length.values():
            rows = torch.tensor([b for b, _ in group])
            units = torch.tensor([read[b] for b, _ in group], dtype=torch.int64)
            joined = _joined([layers for _, layers in group])
            cheapest, cost = _cheapest(joined, problem.cost.cpu(), rows, units)
            share, group_entropy = _sums(joined, log_p, rows, units)
            possible = torch.isfinite(cost)
            bound[rows] = torch.where(possible, cost, math.inf)
            kept = rows[possible]
            values[kept[:, None], units[possible]] = cheapest[possible]
            shares[rows] = torch.where(possible[:, None, None], share, 0.0)
            entropy[rows] = torch.where(possible, group_entropy, 0.0)
        bound[impossible] = math.inf
        there = torch.isfinite(bound)
        # What does not exist is the unit's only value.
        if problem.mask is not None:
            shares = (
                shares + (~problem.mask.cpu()[..., None] & (torch.arange(shares.shape[2]) == 0)) * there[:, None, None]
            )
        targets = problem.symbols_of(values.to(problem.device))
        kept = there.nonzero()[:, 0].to(problem.device)
        if len(kept):
            report.offer(targets[kept], kept)
        lower = problem.least(bound.to(problem.device)) - problem.rounding()
        lower = torch.where(there.to(problem.device), lower, math.inf)
        report.prove(torch.minimum(lower, report.objective))
        report.target_set = TargetSet(
            targets[:, None],
            there.double()[:, None].to(problem.device),
            shares.to(problem.device),
            entropy.to(problem.device),
        )
        report.step()


@dataclass(frozen=True)
class _Edges:
    """The transitions of one place in the reading order, of all samples: `(E,)` int64 each."""

    sample: Tensor
    before: Tensor
    value: Tensor
    after: Tensor
    states: int


def _joined(trellises: list[list[Any]]) -> list[_Edges]:
    """Side by side, their states numbered through; the last layer leads to one state a sample."""
    joined: list[_Edges] = []
    for place in range(len(trellises[0])):
        layers = [layers[place] for layers in trellises]
        following = [layers[place + 1].states if place + 1 < len(layers) else 1 for layers in trellises]
        starts = np.cumsum([0, *(layer.states for layer in layers)])
        ends = np.cumsum([0, *following])
        joined.append(
            _Edges(
                torch.from_numpy(np.repeat(np.arange(len(layers)), [len(layer.value) for layer in layers])),
                torch.from_numpy(np.concatenate([la.before + s for la, s in zip(layers, starts, strict=False)])),
                torch.from_numpy(np.concatenate([layer.value for layer in layers])),
                torch.from_numpy(np.concatenate([la.after + e for la, e in zip(layers, ends, strict=False)])),
                int(starts[-1]),
            )
        )
    return joined


def _cheapest(edges: list[_Edges], cost: Tensor, rows: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """The value numbers `(R, n)` of the cheapest way of each sample, and its cost `(R,)`; +inf without any."""
    to_go, of_edge = [torch.zeros(len(rows), dtype=torch.float64)], []
    for place in range(len(edges) - 1, -1, -1):
        layer = edges[place]
        each = cost[rows[layer.sample], units[layer.sample, place], layer.value] + to_go[-1][layer.after]
        best = torch.full((layer.states,), math.inf, dtype=torch.float64)
        to_go.append(best.scatter_reduce(0, layer.before, each, "amin"))
        of_edge.append(each)
    state = torch.arange(len(rows))
    values = torch.zeros_like(units)
    for place, layer in enumerate(edges):
        each, to_go_here = of_edge[-1 - place], to_go[-1 - place]
        good = (layer.before == state[layer.sample]) & (each == to_go_here[layer.before])
        chosen = torch.zeros(len(rows), dtype=torch.int64)
        chosen[layer.sample[good]] = good.nonzero()[:, 0]
        values[:, place], state = layer.value[chosen], layer.after[chosen]
    return values, to_go[-1]


def _sums(edges: list[_Edges], log_p: Tensor, rows: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """The probability of each value given the label, `(R, n, K)`, and the entropy of the ways given it, `(R,)`."""
    weight = [log_p[rows[e.sample], units[e.sample, place], e.value] for place, e in enumerate(edges)]
    after = [torch.zeros(len(rows), dtype=torch.float64)]
    for place in range(len(edges) - 1, -1, -1):
        layer = edges[place]
        after.append(_log_sum(weight[place] + after[-1][layer.after], layer.before, layer.states))
    total = after[-1]
    before = torch.zeros(len(rows), dtype=torch.float64)
    shares = torch.zeros(len(rows), *log_p.shape[1:], dtype=torch.float64)
    for place, layer in enumerate(edges):
        way = before[layer.before] + weight[place] + after[-2 - place][layer.after]
        share = torch.exp(way - total[layer.sample]).nan_to_num(0.0)
        shares.index_put_((layer.sample, units[layer.sample, place], layer.value), share, accumulate=True)
        before = _log_sum(before[layer.before] + weight[place], layer.after, len(after[-2 - place]))
    mean = (shares * log_p[rows].masked_fill(shares == 0, 0.0)).sum((1, 2))
    return shares, total - mean


def _log_sum(value: Tensor, index: Tensor, size: int) -> Tensor:
    """Log sum exp of the `value (E,)` of equal `index`, `(size,)`."""
    largest = torch.full((size,), -math.inf, dtype=torch.float64).scatter_reduce(0, index, value, "amax")
    largest = largest.masked_fill(torch.isinf(largest), 0.0)
    summed = torch.zeros(size, dtype=torch.float64).index_add(0, index, torch.exp(value - largest[index]))
    return largest + torch.log(summed)
