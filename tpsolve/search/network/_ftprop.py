"""Ftprop: feasible target propagation on the full batch, Algorithm 1 of Friesen and Domingos (2018)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, UnknownNameError
from tpsolve.problems import LayerProblem, NetworkProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search._naming import check_proposals
from tpsolve.search._solve import solve
from tpsolve.search.network._standardise import Standardised
from tpsolve.units import LEARNERS, UnitLearner, Units, find_learner

FIT = Budget(steps=30)
"""Of a learner for one layer: a search needs many weights, not the best ones."""
HELD = 1e6
"""The cost of another target for a unit whose weights don't move in this step."""
FLOOR = 1e-4
"""Importance of a target that makes no difference, beside a mean of 1: ties go to what is there."""


@dataclass(frozen=True)
class Ftprop(Solver):
    """Targets and weights layer by layer from the top down, until all targets are met or the budget ends.

    To bring a layer nearer to its targets, its weights are fitted to what the layer below outputs. Where that falls
    short, a solver proposes better targets for a few units of the layer below, with the weights above fixed. That layer
    is brought nearer to them in the same way, and the weights above are fitted again. The change is undone if more
    targets are missed than before. The importance of a proposed target is what the layer above loses without it, times
    a random factor for each sample. The factor changes every time, so that no proposal is made forever. A network that
    has not improved for a while is drawn anew.

    Any number of layers and classes is allowed. It proves nothing beyond the problem's own bound. What it finds is
    feasible: every unit's targets are separable, in exact arithmetic. No errors means that all targets are met.

    One step is one proposal for the layer below the outputs. Source: Friesen and Domingos (2018), section 3.1. Two
    things are ours: units move a few at a time, and the random factors.

    Args:
        proposals: the solver of the targets, such as "hill-climb" or "tabu".
        learner: of the weights of single units, a name of `tpsolve.units.LEARNERS`.
        max_moving: the maximum number of units of a layer that change at a time; how many is drawn.
        max_tries: the maximum number of proposals for each layer but the uppermost, each time that targets arrive for
            the layer above.
        patience: proposals without fewer errors after which a network is drawn anew; hard tables want 200.
    """

    proposals: str = "hill-climb"
    learner: str = "logistic"
    max_moving: int = 2
    max_tries: int = 3
    patience: int = 30

    name = "ftprop"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one proposal for the layer below the outputs"
    stochastic = True

    def __post_init__(self) -> None:
        for setting in ("max_moving", "max_tries", "patience"):
            check_count(setting, getattr(self, setting), 1)
        if self.learner not in LEARNERS:
            raise UnknownNameError("learner", str(self.learner), LEARNERS)
        if self.learner == "separability":
            raise ArgumentError("learner", "separability", "a learner that gives weights to targets not separable too")

    def check(self, problem: Problem) -> None:
        super().check(problem)
        check_proposals(self.proposals)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        standard = Standardised(problem, report)
        search = _Search(self, problem, standard.inputs, generator, report)
        while not report.stopped:
            network, since = search.draw(), 0
            while since <= self.patience:
                standard.offer(search.errors(network), [(layer.weight, layer.bias) for layer in network.units])
                if report.step():
                    break
                network, better = search.improve(network)
                since = 0 if better else since + 1
        standard.finish()


@dataclass(frozen=True)
class _Network:
    """Weights of every layer, and what each layer outputs at every point; the inputs first."""

    units: tuple[Units, ...]
    outputs: tuple[Tensor, ...]

    def with_layer(self, d: int, fitted: Units) -> "_Network":
        """The same with other units in layer `d`, and what follows from them."""
        units, outputs = (*self.units[:d], fitted, *self.units[d + 1 :]), list(self.outputs[: d + 1])
        for layer in units[d:]:
            outputs.append(layer.predict(outputs[-1]))
        return _Network(units, tuple(outputs))


class _Search:
    def __init__(
        self, settings: Ftprop, problem: NetworkProblem, inputs: Tensor, generator: torch.Generator, report: Report
    ) -> None:
        self.settings, self.problem, self.inputs, self.generator = settings, problem, inputs, generator
        self.report = report
        self.learner: UnitLearner = find_learner(settings.learner)()
        self.top = len(problem.layers) - 1
        self.counts = problem.counts.sum(1, keepdim=True).expand_as(problem.wanted)
        self.lasted: dict[int, float] = {}

    def draw(self) -> _Network:
        """Hidden units between random points, in random directions; outputs fitted to what they give."""
        units, outputs = [], [self.inputs]
        for width in self.problem.widths:
            below = outputs[-1]
            weight = self._random(width, below.shape[1]) * 2 - 1
            # Between two points, not through one: rounding would decide its side.
            pairs = below[self._pairs(len(below), width)]
            points = torch.lerp(pairs[0], pairs[1], self._random(width, 1))
            layer = Units(weight, -(weight * points).sum(1))
            units.append(layer)
            outputs.append(layer.predict(below))
        layer = self._fit(outputs[-1], self.problem.wanted, self.counts)
        return _Network((*units, layer), (*outputs, layer.predict(outputs[-1])))

    def errors(self, network: _Network) -> float:
        return float(self.problem.errors(network.outputs[-1]))

    def improve(self, network: _Network) -> tuple[_Network, bool]:
        """After one proposal for the layer below the outputs; whether there are fewer errors now."""
        everything = torch.arange(self.problem.layers[-1], device=self.inputs.device)
        new = self._propose(network, self.top, self.problem.wanted, self.counts, everything)
        before, after = self.errors(network), self.errors(new)
        return (new if after <= before else network), after < before

    def _reach(self, network: _Network, d: int, targets: Tensor, weight: Tensor, moving: Tensor) -> _Network:
        """Bring the units `moving` of layer `d` nearer to `targets (M, units)` of importance `weight`."""
        network = self._refit(network, d, targets, weight, moving)
        for _ in range(self.settings.max_tries if d else 0):
            missed = self._missed(network, d, targets, weight)
            if not missed or self.report.seconds_left <= 0:
                break
            new = self._propose(network, d, targets, weight, moving)
            if self._missed(new, d, targets, weight) <= missed:
                network = new
        return network

    def _propose(self, network: _Network, d: int, targets: Tensor, weight: Tensor, moving: Tensor) -> _Network:
        """Change some units of the layer below layer `d` as a solver proposes, and fit layer `d` to them."""
        below = network.outputs[d]
        chosen = self._choose(below.shape[1], self.settings.max_moving)
        held = torch.ones_like(below).index_fill(1, chosen, 0.0)
        layer = network.units[d]
        bias = layer.bias
        wanted = LayerProblem(layer.weight, targets, bias, unit_weight=weight)
        free = LayerProblem(layer.weight, targets, bias, unit_weight=weight, start=below, stay=HELD, stay_weight=held)
        budget = Budget(steps=4 * self.settings.max_moving)
        proposed = solve(free, self.settings.proposals, budget=budget, generator=self.generator).targets
        importance = wanted.flip_delta(proposed).abs()[:, chosen]
        importance = importance / importance.mean().clamp(min=1e-12)
        importance = importance * -torch.log1p(-self._random(*importance.shape)) + FLOOR
        whole = torch.zeros_like(below).index_copy(1, chosen, importance)
        network = self._reach(network, d - 1, proposed, whole, chosen)
        return self._refit(network, d, targets, weight, moving)

    def _refit(self, network: _Network, d: int, targets: Tensor, weight: Tensor, moving: Tensor) -> _Network:
        # As long as the last fit of this layer took, this one will.
        began, left = self.report.seconds, self.report.seconds_left
        if left <= self.lasted.get(d, 0.0):
            return network
        old = network.units[d]
        new = self._fit(network.outputs[d], targets[:, moving], weight[:, moving])
        self.lasted[d] = self.report.seconds - began
        fitted = Units(old.weight.index_copy(0, moving, new.weight), old.bias.index_copy(0, moving, new.bias))
        return network.with_layer(d, fitted)

    def _fit(self, inputs: Tensor, targets: Tensor, weight: Tensor) -> Units:
        left = self.report.seconds_left
        budget = FIT if math.isinf(left) else Budget(max(1e-3, left), FIT.steps)
        return self.learner.fit(inputs, targets, weight, budget=budget, generator=self.generator)

    def _missed(self, network: _Network, d: int, targets: Tensor, weight: Tensor) -> float:
        return float((weight * (network.outputs[d + 1] != targets)).sum())

    def _random(self, *shape: int) -> Tensor:
        drawn = torch.rand(shape, generator=self.generator, device=self.generator.device, dtype=torch.float64)
        return drawn.to(self.inputs.device)

    def _choose(self, count: int, most: int) -> Tensor:
        """Between one and `most` of `count` units."""
        some = int(self._random(1) * min(most, count)) + 1
        order = torch.randperm(count, generator=self.generator, device=self.generator.device)
        return order[:some].to(self.inputs.device)

    def _pairs(self, count: int, pairs: int) -> Tensor:
        device = self.generator.device
        return torch.randint(count, (2, pairs), generator=self.generator, device=device).to(self.inputs.device)
