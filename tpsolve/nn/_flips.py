"""The true change of a network's loss when single outputs of a threshold move."""

import itertools

import torch
from torch import Tensor, nn

from tpsolve.nn._build_problem import Top
from tpsolve.nn.passes._draws import Draws
from tpsolve.nn.passes._frozen import freeze, widened
from tpsolve.nn.passes._nests import Inputs
from tpsolve.nn.passes._recording import Recording

ROWS_AT_ONCE = 256
"""Flips tried in one forward pass."""


class Flips:
    """Tries single flips by forward passes, in which the thresholds above answer as they do.

    Args:
        model, recording: a forward pass as `record` has it; batch norm and dropout are held as they were.
        inputs: of that pass.
        top: its output and loss, the sum or mean over the samples of a loss of each.
    """

    def __init__(
        self,
        model: nn.Module,
        recording: Recording,
        inputs: Inputs,
        top: Top,
    ) -> None:
        self.frozen = freeze(model, recording, inputs, top.nest, hold=False)
        self.x, self.y = tuple(map(widened, inputs.tensors)), top.labels
        self.draws = Draws.of(self.frozen.find_draws(self.x), len(top.output))
        self.loss = top.of_samples()

    def change(self, name: str, samples: Tensor, units: Tensor, steps: Tensor) -> Tensor:
        """By how much the loss changes `(K,)` if `steps (K,)` are added to units `(K,)` of the samples `(K,)`."""
        at_once = 1 if getattr(self.frozen.model, "one_by_one", False) else ROWS_AT_ONCE
        runs = zip(*(each.split(at_once) for each in (samples, units, steps)), strict=True)
        return torch.cat([self._loss(name, s, u, by) - self._loss(name, s, u, 0 * by) for s, u, by in runs])

    def _loss(self, name: str, rows: Tensor, units: Tensor, steps: Tensor) -> Tensor:
        path, turn = self.frozen.places[name]
        turns = itertools.count()

        def move(module: nn.Module, arguments: tuple[Tensor, ...], h: Tensor) -> Tensor:
            if next(turns) != turn:
                return h
            # Of places side by side in one axis the samples have that many each.
            flat = h.reshape(len(rows), -1).clone()
            flat[torch.arange(len(rows), device=h.device), units] += steps
            return flat.reshape(h.shape)

        model = self.frozen.model
        hook = model.get_submodule(path).register_forward_hook(move)
        try:
            with torch.no_grad(), self.draws.held([draw[rows] for draw in self.draws.context]):
                return self.loss(self.frozen.output([x[rows] for x in self.x]), self.y[rows], self.loss.scale[rows])
        finally:
            hook.remove()
