"""FtpropMiniBatch: target propagation on mini-batches, Algorithm 2 of Friesen and Domingos (2018)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError
from tpsolve.losses import find_loss
from tpsolve.problems import LayerProblem, NetworkProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search._naming import check_proposals
from tpsolve.search._solve import solve
from tpsolve.search.network._standardise import Adam, Standardised
from tpsolve.spins import sign

TOP, HIDDEN = "logistic", "soft-hinge"
"""The layer losses."""
ERRORS_EVERY = 10
"""Steps between two counts of errors."""


@dataclass(frozen=True)
class FtpropMiniBatch(Solver):
    """For every mini-batch, targets layer by layer from the top down, and one step of Adam on all layer losses.

    The targets of a layer come from a solver. It sees the layer above with its weights, targets and importance. The
    importance of the new targets is |g|, with g the gradient of the loss above. With "sign-gradient", the paper's
    choice, the step is that of a surrogate gradient. The layer losses are the soft hinge, and the logistic loss at the
    outputs. After `steps` steps the network is drawn anew. It proves nothing.

    One step is one mini-batch. Source: Friesen and Domingos (2018), section 3.3.

    Args:
        proposals: the solver of the targets, such as "hill-climb".
        proposal_steps: its budget for each layer and batch.
        batch: points of a mini-batch.
        rate: of Adam at the start, for inputs of unit variance; it falls along half a cosine.
        steps: of one training.
    """

    proposals: str = "sign-gradient"
    proposal_steps: int = 20
    batch: int = 32
    rate: float = 0.02
    steps: int = 2000

    name = "ftprop-mini-batch"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one mini-batch"
    stochastic = True

    def __post_init__(self) -> None:
        for setting in ("proposal_steps", "batch", "steps"):
            check_count(setting, getattr(self, setting), 1)
        if not (isinstance(self.rate, int | float) and 0 < self.rate < math.inf):
            raise ArgumentError("rate", self.rate, "a positive number")

    def check(self, problem: Problem) -> None:
        super().check(problem)
        check_proposals(self.proposals)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        standard = Standardised(problem, report)
        points = len(problem.inputs)
        weight = problem.counts.sum(1, keepdim=True).expand_as(problem.wanted) / problem.counts.sum() * points
        while not report.stopped:
            layers = draw(problem, generator)
            optimizer = Adam([p for layer in layers for p in layer], self.rate, self.steps)
            for step in range(self.steps):
                if step % ERRORS_EVERY == 0 or step == self.steps - 1:
                    errors = problem.errors(outputs(layers, standard.inputs)[-1])
                    standard.offer(float(errors), [(w.detach(), b.detach()) for w, b in layers])
                order = torch.randperm(points, generator=generator, device=generator.device).to(problem.device)
                batch = order[: self.batch]
                optimizer.zero_grad()
                self.descend(layers, standard.inputs[batch], problem.wanted[batch], weight[batch], generator)
                optimizer.step()
                if report.step():
                    standard.finish()
                    return

    def descend(
        self,
        layers: list[tuple[Tensor, Tensor]],
        inputs: Tensor,
        targets: Tensor,
        importance: Tensor,
        generator: torch.Generator,
    ) -> None:
        """Set the targets of all layers, top down, and add the gradient of each layer's loss to its weights."""
        below = [inputs, *outputs(layers, inputs)[:-1]]
        importance = importance / len(inputs)
        for d, (weight, bias) in reversed(list(enumerate(layers))):
            name = TOP if d == len(layers) - 1 else HIDDEN
            z = torch.addmm(bias, below[d], weight.T)
            (importance * find_loss(name).value(z, targets)).sum().backward()
            if d:
                problem = LayerProblem(
                    weight.detach(), targets, bias.detach(), name, unit_weight=importance, start=below[d]
                )
                budget = Budget(steps=self.proposal_steps)
                targets = solve(problem, self.proposals, budget=budget, generator=generator).targets
                importance = problem.gradient().abs()


def outputs(layers: list[tuple[Tensor, Tensor]], inputs: Tensor) -> list[Tensor]:
    """What each layer outputs, in {-1, +1}."""
    seen = [inputs]
    with torch.no_grad():
        for weight, bias in layers:
            seen.append(sign(torch.addmm(bias, seen[-1], weight.T)))
    return seen[1:]


def draw(problem: NetworkProblem, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Weights `(units, n)` and biases `(units,)` of each layer, float64, as `torch.nn.Linear` draws them."""
    layers = []
    for n, units in zip((problem.samples.shape[1], *problem.widths), problem.layers, strict=True):
        drawn = torch.rand(units, n + 1, generator=generator, device=generator.device, dtype=torch.float64)
        parameters = ((2 * drawn - 1) / math.sqrt(n)).to(problem.device)
        layers.append((parameters[:, :-1].clone().requires_grad_(), parameters[:, -1].clone().requires_grad_()))
    return layers
