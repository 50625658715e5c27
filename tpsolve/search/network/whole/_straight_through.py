"""Networks with whole weights trained by a straight-through gradient, side by side: where the search begins."""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from tpsolve.search.network._standardise import Adam
from tpsolve.search.network.whole._copies import Copies, Layers
from tpsolve.spins import sign

RATE, WIDTH, GAIN = 0.05, 0.5, 3.0
"""Of Adam, in spans of the weight set; of the region in which hidden units learn; of the outputs, in typical sums."""
STEPS = 300
"""Of one training, over which the rate falls."""
BATCH_RATE = 0.02
"""Of Adam, where steps look at drawn points: the best of 0.003 to 0.05 on pictures of clothes."""
EVERY = 100
"""Steps on drawn points after which a network is looked at with all."""


class StraightThrough:
    """R networks whose weights are rounded to the set in the forward pass, and learn as though they were not.

    Hidden units pass back the slope of a soft hinge. Each network remembers its best weights. After Bengio, Leonard and
    Courville (2013) and, for weights of a set, Courbariaux, Bengio and David (2015).

    Args:
        count: R.
        steps: of one training, over which the rate falls.
        batch: points that a step looks at, drawn anew each time; what a network costs is then computed on all points
            now and then only. None: all.

    Attributes:
        best: the weights of each network that cost least so far.
        cost: `(R,)`, theirs.
    """

    best: Layers
    cost: Tensor

    def __init__(self, copies: Copies, count: int, *, steps: int = STEPS, batch: int | None = None) -> None:
        self._copies, self._count = copies, count
        self._steps, self._batch = steps, batch
        problem = copies.problem
        assert problem.weight_set is not None
        values = copies.values
        self._low, self._span = float(values[0]), max(1.0, float(values[-1] - values[0]))
        size = max(1e-3, float(values.square().mean().sqrt()))
        self._mean = copies.inputs.mean(0)
        spread = float((copies.inputs - self._mean).square().sum(1).mean().sqrt())
        self._scales = [size * max(1e-6, s) for s in (spread, *(math.sqrt(n) for n in problem.widths))]
        self._weights = (copies.counts.sum(1, keepdim=True) / copies.counts.sum().clamp(min=1e-30)).to(copies.dtype)
        self._wanted = problem.wanted.to(copies.dtype)
        self._begin()
        self.best = [(w.clone(), b.clone()) for w, b in self._rounded()]
        self.cost = copies.cost(self.best)

    def step(self) -> None:
        """One step of Adam of every network; anew after `steps` of them."""
        if self._done == self._steps:
            self._begin()
        layers = self._rounded()
        h, latent, weights, wanted = self._copies.inputs, self._latent, self._weights, self._wanted
        if self._batch is not None:
            rows = (self._copies.random(self._batch) * len(h)).long().clamp(max=len(h) - 1)
            h, weights, wanted = h[rows], weights[rows] * (len(h) / self._batch), wanted[rows]
        for number, ((w, b), (real, shift), scale) in enumerate(zip(layers, latent, self._scales, strict=True)):
            # The value is that of the rounded weight, exactly, and the slope that of the real one.
            weight, bias = w + (real - real.detach()) * self._span, b / scale + (shift - shift.detach())
            z = torch.matmul(h, weight.mT) / scale + bias[:, None]
            if number == len(layers) - 1:
                break
            smooth = WIDTH * torch.tanh(z / WIDTH)
            h = sign(z.detach()) + (smooth - smooth.detach())
        if self._batch is None:
            sums = z.detach()
            cost = self._copies.costs(sign(sums)) + self._copies.lacking((sums * scale).round())
            self._remember(layers, cost.sum(1) + self._copies.paid(layers))
        (weights * softplus(-GAIN * z * wanted)).sum().backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
        with torch.no_grad():
            for real, _ in latent:
                real.clamp_(-0.25, 1.25)
        self._done += 1
        if self._batch is not None and (self._done % EVERY == 0 or self._done == self._steps):
            layers = self._rounded()
            self._remember(layers, self._copies.cost(layers))

    def _remember(self, layers: Layers, cost: Tensor) -> None:
        """Keep networks that cost less than ever, by `cost (R,)`."""
        better = cost < self.cost
        if bool(better.any()):
            self.cost = torch.where(better, cost, self.cost)
            for (kept_w, kept_b), (w, b) in zip(self.best, layers, strict=True):
                kept_w[better], kept_b[better] = w[better], b[better]

    def _begin(self) -> None:
        """Draw all networks: latent weights between 0, the lowest of the set, and 1, the highest; and latent biases."""
        problem, copies = self._copies.problem, self._copies
        self._latent, self._done = [], 0
        shapes = zip((problem.samples.shape[1], *problem.widths), problem.layers, self._scales, strict=True)
        for number, (n, units, scale) in enumerate(shapes):
            drawn = torch.rand(self._count, units, n + 1, generator=copies.generator, device=copies.generator.device)
            drawn = drawn.to(copies.inputs)
            real, shift = drawn[..., :-1].clone(), drawn[..., -1] - 0.5
            if number == 0:
                shift = shift - (self._low + self._span * real) @ self._mean / scale
            self._latent.append((real.requires_grad_(), shift.clone().requires_grad_()))
        self._optimizer = Adam(
            [p for layer in self._latent for p in layer], RATE if self._batch is None else BATCH_RATE, self._steps
        )

    @torch.no_grad()
    def _rounded(self) -> Layers:
        """The weights of the set nearest to the latent ones."""
        copies, found = self._copies, []
        for number, ((real, shift), scale) in enumerate(zip(self._latent, self._scales, strict=True)):
            weight = copies.nearest(number, self._low + self._span * real.detach())
            bias = shift.detach() * scale
            if number in copies.shared:
                bias = bias.mean(-1, keepdim=True).repeat(1, bias.shape[-1])
            if copies.biases is not None:
                bias = copies.biases[torch.bucketize(bias, (copies.biases[1:] + copies.biases[:-1]) / 2)]
            elif number > 0 or copies.problem.has_whole_inputs:
                bias = bias.round()
            found.append((weight, bias))
        return found
