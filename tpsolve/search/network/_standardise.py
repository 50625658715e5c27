"""A network problem's inputs on one scale, the way back, and Adam: what solvers that learn weights share."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tpsolve.errors import TooLargeError
from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report

_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam with its usual decay rates, its rate falling along half a cosine over `steps` steps.

    That of `torch.optim` loads the compiler of torch, which takes two seconds. Source: Kingma and Ba (2015), Algorithm
    1; Loshchilov and Hutter (2017), equation 5.
    """

    def __init__(self, parameters: Sequence[Tensor], rate: float, steps: int) -> None:
        self._parameters, self._rate, self._steps, self._done = list(parameters), rate, steps, 0
        self._mean = [torch.zeros_like(p) for p in parameters]
        self._square = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Move all parameters, each by its `grad`."""
        rate = 0.5 * self._rate * (1 + math.cos(math.pi * self._done / self._steps))
        self._done += 1
        near, far = 1 - _DECAY**self._done, 1 - _SQUARE_DECAY**self._done
        for value, mean, square in zip(self._parameters, self._mean, self._square, strict=True):
            gradient = torch.zeros_like(value) if value.grad is None else value.grad
            mean.lerp_(gradient, 1 - _DECAY)
            square.mul_(_SQUARE_DECAY).addcmul_(gradient, gradient, value=1 - _SQUARE_DECAY)
            value.addcdiv_(mean, (square.sqrt() / math.sqrt(far)).add_(_EPSILON), value=-rate / near)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for value in self._parameters:
            value.grad = None


class Standardised:
    """Inputs of mean 0 and variance 1 by feature (constant ones are 0), and the best network so far.

    Attributes:
        inputs: `(M, p)` float64.
    """

    def __init__(self, problem: NetworkProblem, report: Report) -> None:
        self._problem, self._report = problem, report
        self._mean = problem.inputs.mean(0)
        spread = problem.inputs.std(0, unbiased=False)
        self._scale = torch.where(spread > 0, spread, 1.0)
        self.inputs = (problem.inputs - self._mean) / self._scale
        if not bool(torch.isfinite(self.inputs).all()):
            size = float(problem.inputs.abs().max())
            raise TooLargeError("problem", f"inputs up to {size:.3g}", "inputs whose squares are finite", "Scale them.")
        self._least = math.inf
        self._waiting: tuple[float, list[tuple[Tensor, Tensor]]] | None = None

    def offer(self, errors: float, weights: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Offer what the network of these `(weight (units, n), bias (units,))` gives, if `errors` would be fewest yet.

        The weights are those for `inputs`; the targets are what the raw data give, where a point on a
        boundary may change sides. So the errors are counted anew. Where checks take long, the network waits:
        `finish` offers the one that still does.
        """
        if errors >= (self._least if self._waiting is None else min(self._least, self._waiting[0])):
            return
        self._waiting = errors, [(w.to(torch.float64, copy=True), b.to(torch.float64, copy=True)) for w, b in weights]
        if self._report.may_judge:
            self.finish()

    def finish(self) -> None:
        """Offer what waits."""
        if self._waiting is None:
            return
        (_, [(weight, bias), *rest]), self._waiting = self._waiting, None
        weight = weight / self._scale
        targets = self._problem.from_weights([(weight, bias - weight @ self._mean), *rest])
        self._least = min(self._least, float(self._problem.errors(self._problem.columns(targets)[-1])))
        self._report.offer(targets.expand(len(self._report.objective), -1))
