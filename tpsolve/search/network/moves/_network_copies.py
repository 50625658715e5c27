"""Copies of one network side by side, whose units move one at a time."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.problems import NetworkProblem
from tpsolve.problems.network._labels import decode
from tpsolve.search._base import Report
from tpsolve.search.network._lines import best_on_lines
from tpsolve.spins import sign
from tpsolve.units import Logistic

LINES = 12
"""Directions of one unit at a time, a third of each kind."""
FITTED = 0.25
"""How often one direction of a unit of the first layer leads to the weights of a convex learner."""
FIT = Budget(steps=15)
"""Of that learner."""
ANEW = 0.25
"""How often a copy that stopped improving is drawn anew as a whole."""
NEAR = 0.2
"""What a wrong output unit counts, beside an error, where several outputs name a class."""
PART_ELEMENTS = 2**19
"""Points times lines that are looked at before the next look at the clock: a tenth of a second."""


class Copies:
    """Networks as one tensor `(R, units, n + 1)` a layer, the bias last, for standardised inputs.

    Args:
        problem: a flat one of one sample.
        generator: of all that is drawn.

    Attributes:
        units: layer and number of each unit.
    """

    def __init__(self, problem: NetworkProblem, generator: torch.Generator) -> None:
        self.problem, self.generator, self.device = problem, generator, problem.device
        self.mean, spread = problem.inputs.mean(0), problem.inputs.std(0, unbiased=False)
        self.scale = torch.where(spread > 0, spread, 1.0)
        self.inputs = _with_one((problem.inputs - self.mean) / self.scale)[None]
        self.total = problem.counts.sum(1)
        self.units = [(d, j) for d, units in enumerate(problem.layers) for j in range(units)]

    def drawn(self, count: int) -> list[Tensor]:
        """Random networks: hyperplanes between points, random weights above."""
        inputs = self.problem.inputs
        sizes = (inputs.shape[1], *self.problem.layers)
        blank = [inputs.new_zeros(count, units, n + 1).double() for n, units in pairwise(sizes)]
        return [self._drawn(d, weight, inputs.new_zeros(count).double()) for d, weight in enumerate(blank)]

    def copies(self, targets: Tensor, count: int) -> list[Tensor]:
        """Weights that give `targets (1, n_vars)`, once for each copy; all but the first with some units drawn anew."""
        state = []
        for d, certificate in enumerate(self.problem.certificates(targets)):
            weight, bias = certificate.weight.double(), certificate.bias.double()
            if d == 0:
                weight, bias = weight * self.scale, bias + weight @ self.mean
            layer = torch.cat([weight, bias[:, None]], dim=1)
            layer = layer / layer.norm(dim=1, keepdim=True).clamp(min=1e-300)
            state.append(layer.expand(count, -1, -1).clone())
        rest = torch.arange(count, device=self.device) > 0
        self.kick(state, [w.clone() for w in state], 0, rest)
        return state

    def raw(self, state: list[Tensor], row: int) -> list[tuple[Tensor, Tensor]]:
        """Of each layer of one network, for the problem's own inputs."""
        layers = [(w[row, :, :-1], w[row, :, -1]) for w in state]
        weight = layers[0][0] / self.scale
        return [(weight, layers[0][1] - weight @ self.mean), *layers[1:]]

    def errors(self, state: list[Tensor]) -> Tensor:
        return self.problem.errors(self._up(state, 0, self.inputs))

    def cost(self, state: list[Tensor]) -> Tensor:
        """Errors, and a little for each wrong output unit where there are several: `(R,)`."""
        return self._costs(self._up(state, 0, self.inputs)).sum(1)

    def move(self, state: list[Tensor], d: int, j: int, stop: Callable[[], bool]) -> None:
        """Move unit `j` of layer `d` of each network to the best point on its lines, in place, until `stop()`."""
        size = max(1, PART_ELEMENTS // (LINES * len(self.problem.inputs)))
        for part in torch.arange(len(state[d]), device=self.device).split(size):
            some = [weight[part] for weight in state]
            self._move(some, d, j)
            state[d][part] = some[d]
            if stop():
                return

    def worth(self, state: list[Tensor], d: int, j: int) -> tuple[Tensor, Tensor]:
        """What unit `j` of layer `d` reads, `(1 or R, M, n + 1)`, and what its output +1 is worth, `(R, M)`.

        That is what the network costs with -1 less what it costs with +1.
        """
        below = self.inputs
        for weight in state[:d]:
            below = _with_one(sign(below @ weight.mT))
        outputs, worth = sign(below @ state[d].mT), 0.0
        for value in (-1.0, 1.0):
            outputs[..., j] = value
            worth = self._costs(self._up(state, d + 1, _with_one(outputs))) - worth
        return below, -torch.as_tensor(worth)

    def _move(self, state: list[Tensor], d: int, j: int) -> None:
        below, residual = self.worth(state, d, j)
        w = state[d][:, j]
        below = below.expand(len(w), -1, -1)
        z = (below @ w[..., None])[..., 0]
        directions = self._directions(below, w, z, residual)
        if d == 0 and self.random(1) < FITTED:
            directions[:, 0] = self._fitted(residual) - w
        slope = directions @ below.mT
        noise = 0.5 * self.random(*slope.shape[:2], slope.shape[2] + 1)
        state[d][:, j] = best_on_lines(w, z, directions, slope, residual, noise)

    def _fitted(self, residual: Tensor) -> Tensor:
        """Weights `(R, n + 1)` of length 1 of logistic units that learn what is worth more at each point."""
        worth = residual.abs() / residual.abs().amax(1, keepdim=True).clamp(min=1e-300)
        l2 = 10.0 ** float(-2 - 5 * self.random(1))
        inputs, targets = self.inputs[0, :, :-1], sign(residual.T)
        fit = Logistic(l2=l2).fit(inputs, targets, worth.T, budget=FIT, generator=self.generator)
        weights = torch.cat([fit.weight, fit.bias[:, None]], dim=1).double()
        return weights / weights.norm(dim=1, keepdim=True).clamp(min=1e-300)

    def kick(self, state: list[Tensor], best: list[Tensor], champion: int, where: Tensor) -> None:
        """Networks `where (R,)` go back to the best, or to their own best, and have some or all units drawn anew."""
        shared = where & (self.random(len(where)) < 0.5)
        anew = where & (self.random(len(where)) < ANEW)
        for d, weight in enumerate(state):
            weight[where] = best[d][where]
            weight[shared] = best[d][champion]
            fresh = self._drawn(d, weight, torch.where(anew, 0.0, 0.5))
            swap = where[:, None] & (self.random(*weight.shape[:2]) < 1.5 / len(self.units)) | anew[:, None]
            if d == len(state) - 1:
                swap &= anew[:, None]
            weight[:] = torch.where(swap[..., None], fresh, weight)

    def _drawn(self, d: int, weight: Tensor, stay: Tensor) -> Tensor:
        """Hyperplanes between random points, or with chance `stay (R,)` near what was there: `(R, units, n + 1)`."""
        normal = self._normal(*weight.shape)
        if d == 0:
            points = self.inputs[0]
            drawn = self.random(*weight.shape[:2], 2) * len(points)
            anchor = points[drawn.long()].mean(-2)
            normal[..., -1] = -(normal[..., :-1] * anchor[..., :-1]).sum(-1)
        near = weight + self._normal(*weight.shape) * 0.5 / math.sqrt(weight.shape[-1])
        fresh = torch.where(self.random(*weight.shape[:2], 1) < stay[:, None, None], near, normal)
        return fresh / fresh.norm(dim=-1, keepdim=True)

    def _directions(self, below: Tensor, w: Tensor, z: Tensor, residual: Tensor) -> Tensor:
        count, size = w.shape
        third = LINES // 3
        noise = self._normal(count, LINES, size)
        width = z.abs().mean(1)[:, None, None] * torch.exp2(-6 * self.random(count, third, 1))
        pull = (residual[:, None] / torch.cosh((z[:, None] / width.clamp(min=1e-300)).clamp(-30, 30)).square()) @ below
        noise[:, :third] = pull + 0.1 * pull.norm(dim=-1, keepdim=True) * noise[:, :third] / math.sqrt(size)
        # The nearest points keep their pre-activation: d loses its part in their span.
        jitter = z.abs()[:, None] * torch.exp(2 * self._normal(count, third, z.shape[1]))
        held = jitter.topk(min(max(1, size - 2), z.shape[1]), dim=-1, largest=False).indices
        rows = torch.arange(count, device=self.device)[:, None, None]
        q = torch.linalg.qr(below[rows, held].mT)[0]
        turn = noise[:, third : 2 * third]
        noise[:, third : 2 * third] = turn - (q @ (q.mT @ turn[..., None]))[..., 0]
        return noise

    def _up(self, state: list[Tensor], d: int, below: Tensor) -> Tensor:
        """Outputs `(R, M, outputs)`, from what layer `d` reads."""
        for weight in state[d:]:
            below = _with_one(sign(below @ weight.mT))
        return below[..., :-1]

    def _costs(self, outputs: Tensor) -> Tensor:
        named = decode(outputs)
        right = self.problem.counts.expand(*named.shape, -1).gather(-1, named.clamp(min=0)[..., None])[..., 0]
        costs = self.total - torch.where(named >= 0, right, 0.0)
        if outputs.shape[-1] > 1:
            costs = costs + NEAR * self.total * (outputs != self.problem.wanted).double().mean(-1)
        return costs

    def random(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1)."""
        drawn = torch.rand(shape, generator=self.generator, device=self.generator.device, dtype=torch.float64)
        return drawn.to(self.device)

    def _normal(self, *shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=self.generator, device=self.generator.device, dtype=torch.float64)
        return drawn.to(self.device)


class BestOffer:
    """The network of fewest errors among copies, which the judge of a search gets to see when it may look.

    Args:
        problem: of the search; all its samples get the same offer.
        report: of the search.
        copies: whose networks they are.
        least: errors of the best network known before.
    """

    def __init__(self, problem: NetworkProblem, report: Report, copies: Copies, least: float = math.inf) -> None:
        self._problem, self._report, self._copies, self._least = problem, report, copies, least
        self._waiting: Tensor | None = None

    def see(self, state: list[Tensor]) -> None:
        """Keep the best of the networks for the judge, if it has fewer errors than all before."""
        errors = self._copies.errors(state)
        row = int(errors.argmin())
        if float(errors[row]) < self._least:
            self._least = float(errors[row])
            self._waiting = self._problem.from_weights(self._copies.raw(state, row))

    def make(self, *, last: bool = False) -> None:
        """Offer the network that waits, if the judge may look; the last one in any case."""
        if self._waiting is not None and (last or self._report.may_judge):
            self._report.offer(self._waiting.expand(len(self._report.objective), -1))
            self._waiting = None


def _with_one(inputs: Tensor) -> Tensor:
    return torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=-1)
