"""Surrogate: small networks trained by a surrogate gradient, many restarts at once."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import hardtanh, softplus

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, UnknownNameError
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search.network._standardise import Adam, Standardised
from tpsolve.spins import sign

SMOOTH = {
    "soft-hinge": lambda z, width: width * torch.tanh(z / width),
    "saturated-hinge": lambda z, width: hardtanh(z, -width, width),
}
"""Name of a rule: the function whose slope it passes back in place of the hard threshold's."""
ERRORS_EVERY = 10
"""Steps between two counts of errors."""
PART_ELEMENTS = 2**20
"""Restarts times points times units that are looked at before the next look at the clock: a tenth of a second."""


@dataclass(frozen=True)
class Surrogate(Solver):
    """What everybody does: Adam on the logistic loss of the outputs, a surrogate gradient at every threshold.

    This is the baseline of target search. By the closed-form rule of Friesen and Domingos (2018) it is also their
    mini-batch method on the whole batch: with targets t = sign(-g) and importance |g|, the soft hinge passes on g
    sech(z / width)^2. All restarts train side by side for `steps` steps, with a rate that falls along half a cosine.
    Then all are drawn anew. It proves nothing.

    One step is one step of Adam of all restarts.

    Args:
        restarts: networks trained side by side.
        rule: "soft-hinge" or "saturated-hinge".
        width: of the region around a threshold in which units learn.
        rate: of Adam at the start, for inputs of unit variance.
        steps: of one training.
    """

    restarts: int = 200
    rule: str = "soft-hinge"
    width: float = 1.0
    rate: float = 0.02
    steps: int = 2000

    name = "surrogate"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one step of Adam, of every restart"
    stochastic = True

    def __post_init__(self) -> None:
        for setting in ("restarts", "steps"):
            check_count(setting, getattr(self, setting), 1)
        if self.rule not in SMOOTH:
            raise UnknownNameError("rule", str(self.rule), SMOOTH)
        for setting in ("width", "rate"):
            value = getattr(self, setting)
            if not (isinstance(value, int | float) and 0 < value < math.inf):
                raise ArgumentError(setting, value, "a positive number")

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        standard = Standardised(problem, report)
        inputs = standard.inputs.float()
        wanted, counts = problem.wanted.float(), (problem.counts.sum(1, keepdim=True) / problem.counts.sum()).float()
        size = max(1, PART_ELEMENTS // (len(inputs) * max(problem.layers)))
        while not report.stopped:
            layers = self._drawn(problem, generator)
            optimizer = Adam([p for layer in layers for p in layer], self.rate, self.steps)
            for step in range(self.steps):
                optimizer.zero_grad()
                for part in torch.arange(self.restarts, device=inputs.device).split(size):
                    z = self.outputs([(w[part], b[part]) for w, b in layers], inputs)
                    if step % ERRORS_EVERY == 0 or step == self.steps - 1:
                        errors, place = problem.errors(sign(z.detach()).double()).min(0)
                        best = part[place]
                        standard.offer(float(errors), [(w[best].detach().T, b[best, 0].detach()) for w, b in layers])
                    if report.seconds_left <= 0:
                        break
                    # The restarts have no weights in common: the sum of their losses trains each by itself.
                    (counts * softplus(-z * wanted)).sum().backward()
                optimizer.step()
                if report.step():
                    standard.finish()
                    return

    def outputs(self, layers: list[tuple[Tensor, Tensor]], inputs: Tensor) -> Tensor:
        """Pre-activations of the outputs, `(restarts, M, outputs)`, of as many as `layers` has."""
        h = inputs.expand(len(layers[0][0]), -1, -1)
        for weight, bias in layers[:-1]:
            z = torch.baddbmm(bias, h, weight)
            smooth = SMOOTH[self.rule](z, self.width)
            # The value is that of the sign, exactly, and the slope that of the smooth function.
            h = sign(z.detach()) + (smooth - smooth.detach())
        return torch.baddbmm(layers[-1][1], h, layers[-1][0])

    def _drawn(self, problem: NetworkProblem, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """Weights `(restarts, n, units)` and biases `(restarts, 1, units)` of each layer, as `torch.nn.Linear` has."""
        layers = []
        for n, units in zip((problem.samples.shape[1], *problem.widths), problem.layers, strict=True):
            drawn = torch.rand(self.restarts, n + 1, units, generator=generator, device=generator.device)
            parameters = ((2 * drawn - 1) / math.sqrt(n)).to(problem.device)
            layers.append(tuple(part.clone().requires_grad_() for part in (parameters[:, :-1], parameters[:, -1:])))
        return layers
