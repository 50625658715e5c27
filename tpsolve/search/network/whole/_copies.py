"""Copies of a network with whole weights, side by side: what they cost, and the best change of one unit of each."""

import torch
from torch import Tensor

from tpsolve.problems import NetworkProblem
from tpsolve.problems.network._labels import decode
from tpsolve.search.network.whole._unit_moves import (
    Move,
    TwoValues,
    Unit,
    as_values,
    best_move,
    counted_changes,
    sorted_changes,
)
from tpsolve.spins import sign

NEAR = 0.2
"""What a wrong output unit counts, beside an error, where several outputs name a class."""
MAX_SORTED = 2**17
"""Pre-activations that one move sorts; of more inputs or values it looks at some, drawn anew each time."""
MAX_COUNTED = 2**21
"""Changes that one move compares otherwise; of more values it looks at some."""

Layers = list[tuple[Tensor, Tensor]]
"""Of each layer the weights `(R, units, n)` and the biases `(R, units)` of R networks."""


class Copies:
    """R networks for one problem, in float32 where that holds every sum, else float64.

    Args:
        problem: of one sample, with a `weight_set`.
        window: thresholds on either side of the present one that a move compares, where sums are whole.
    """

    def __init__(self, problem: NetworkProblem, generator: torch.Generator, window: int) -> None:
        assert problem.weight_set is not None
        self.problem, self.generator, self.window = problem, generator, window
        self.dtype = torch.float32 if self._is_small() else torch.float64
        self.inputs = problem.inputs.to(self.dtype)
        self.values = torch.tensor(problem.weight_set).to(self.inputs)
        self.biases = as_values(problem.bias_set, self.inputs)
        self.counts = problem.counts.to(self.dtype)
        self.total = self.counts.sum(1)
        self.two_values = TwoValues.of(self.inputs)
        self.units = [(d, j) for d, units in enumerate(problem.layers) for j in range(units)]

    def _is_small(self) -> bool:
        """Whether float32 holds all sums of weights, and of samples, without rounding."""
        problem = self.problem
        assert problem.weight_set is not None
        reach = max(float(problem.inputs.abs().sum(1).max()), *map(float, problem.widths))
        size = 2 * max(map(abs, problem.weight_set)) * reach + max(map(abs, problem.bias_set or [1]))
        whole = problem.has_whole_inputs and bool((problem.counts == problem.counts.round()).all())
        return whole and max(size, float(problem.counts.sum())) < 2**23

    def without_inputs(self, count: int) -> Layers:
        """Networks of which no unit reads an input, and each unit above reads one of those below.

        Where weights have a price, a unit that is read gains inputs one by one, each of which must pay.
        """
        layers: Layers = []
        bias = 0.0 if self.biases is None else float(self.biases[self.biases.abs().argmin()])
        for units, n in zip(self.problem.layers, (self.inputs.shape[1], *self.problem.widths), strict=True):
            weight = self.inputs.new_zeros(count, units, n)
            if layers:
                each = torch.arange(units, device=weight.device)
                weight[:, each, each % n] = float(self.values[self.values.abs().argmax()])
            layers.append((weight, self.inputs.new_full((count, units), bias)))
        return layers

    def outputs(self, layers: Layers) -> Tensor:
        """`(R, M, outputs)` in {-1, +1}."""
        return self._up(layers, self.inputs)

    def costs(self, outputs: Tensor) -> Tensor:
        """Errors of `outputs (R, M, outputs)` at each point `(R, M)`, and a little for each wrong one of several."""
        if outputs.shape[-1] == 1:
            return torch.where(outputs[..., 0] > 0, self.counts[:, 0], self.counts[:, 1])
        named = decode(outputs)
        right = self.counts.expand(*named.shape, -1).gather(-1, named.clamp(min=0)[..., None])[..., 0]
        costs = self.total - torch.where(named >= 0, right, 0.0)
        wrong = (outputs != self.problem.wanted.to(outputs)).to(outputs).mean(-1)
        return costs + NEAR * self.total * wrong

    def paid(self, layers: Layers) -> Tensor:
        """The penalty of each network `(R,)`."""
        if not self.problem.penalty:
            return torch.zeros_like(layers[0][1][:, 0])
        return self.problem.penalty * torch.stack([(w != 0).sum((1, 2)) for w, _ in layers]).sum(0)

    def cost(self, layers: Layers) -> Tensor:
        """What the search lowers, `(R,)`: `costs` of all points, and the penalty."""
        return self.costs(self.outputs(layers)).sum(1) + self.paid(layers)

    def objective(self, layers: Layers) -> Tensor:
        """The problem's own, `(R,)`, but for rounding."""
        return self.problem.errors(self.outputs(layers)).to(self.dtype) + self.paid(layers)

    def sums(self, layers: Layers) -> Tensor:
        """Pre-activations of the first layer, `(R, M, units)`."""
        weight, bias = layers[0]
        return torch.matmul(self.inputs, weight.mT) + bias[:, None]

    def move(self, layers: Layers, sums: Tensor, d: int, j: int) -> Tensor:
        """Make the best change of unit `j` of layer `d` of each network, in place, where it costs no more.

        Args:
            sums: those of `layers`; kept up to date.

        Returns:
            By how much the cost changes, `(R,)`.
        """
        below = self.inputs
        for number in range(d):
            below = sign(sums) if number == 0 else self._through(below, *layers[number])
        unit = self.unit(layers, sums, d, j, below)
        move = self._best(unit, self.two_values if d == 0 else TwoValues.of_spins(below), d)
        rows = (move.cost <= 0).nonzero()[:, 0]
        weight, bias = layers[d]
        feature = move.feature[rows]
        if d == 0:
            change = (move.value[rows] - weight[rows, j, feature])[:, None] * self.inputs[:, feature].T
            sums[rows, :, j] += change + (move.bias[rows] - bias[rows, j])[:, None]
        weight[rows, j, feature] = move.value[rows]
        bias[rows, j] = move.bias[rows]
        if d == 0 and not self.problem.has_whole_inputs:
            sums[:, :, j] = torch.matmul(self.inputs, weight[:, j].T).T + bias[:, j, None]
        return torch.where(move.cost <= 0, move.cost, 0.0)

    def unit(self, layers: Layers, sums: Tensor, d: int, j: int, below: Tensor) -> Unit:
        """Unit `j` of layer `d`, which reads `below`."""
        weight, bias = layers[d]
        z = sums if d == 0 else torch.matmul(below, weight.mT) + bias[:, None]
        outputs = sign(z)
        worth = 0.0
        for value in (-1.0, 1.0):
            outputs[..., j] = value
            worth = self.costs(self._up(layers[d + 1 :], outputs)) - worth
        return Unit(below, z[..., j], torch.as_tensor(worth), weight[:, j], bias[:, j])

    def _best(self, unit: Unit, two: TwoValues | None, d: int) -> Move:
        """The best of all changes, or where these are too many, of some that are drawn."""
        features = torch.arange(unit.weight.shape[1], device=unit.weight.device)
        whole = d > 0 or self.problem.has_whole_inputs
        if two is not None:
            kept = self._drawn(len(self.values), MAX_COUNTED // (unit.weight.numel() * (2 * self.window + 1)))
            values = self.values[kept]
            changes = counted_changes(unit, two, values, self.window, self.biases)
            if changes is not None:
                return best_move(unit, changes, values, self.problem.penalty, features, self.generator)
        each = unit.z.numel() if self.biases is None else len(unit.z) * max(unit.z.shape[1], len(self.biases))
        kept = self._drawn(len(self.values), MAX_SORTED // each)
        values = self.values[kept]
        features = self._drawn(len(features), MAX_SORTED // (each * len(values)))
        some = Unit(unit.below[..., features], unit.z, unit.worth, unit.weight[:, features], unit.bias)
        changes = sorted_changes(some, values, self.biases, whole=whole)
        return best_move(some, changes, values, self.problem.penalty, features, self.generator)

    def _drawn(self, count: int, most: int) -> Tensor:
        """The numbers below `count`, rising; if these are more than `most`, so many of them at random, at least one."""
        if count <= most:
            return torch.arange(count, device=self.inputs.device)
        drawn = torch.rand(count, generator=self.generator, device=self.generator.device)
        return drawn.argsort()[: max(1, most)].sort().values.to(self.inputs.device)

    def _up(self, layers: Layers, below: Tensor) -> Tensor:
        """Outputs `(R, M, outputs)` of the `layers` that read `below`."""
        for weight, bias in layers:
            below = self._through(below, weight, bias)
        return below

    def _through(self, below: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return sign(torch.matmul(below, weight.mT) + bias[:, None])
