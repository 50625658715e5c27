"""The true change of a network's loss when single outputs of a threshold are negated."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tpsolve.nn.frozen import Given, freeze, widened
from tpsolve.nn.layer_losses import SampleLoss
from tpsolve.nn.recording import Recording

ROWS_AT_ONCE = 256
"""Flips tried in one forward pass."""


class Flips:
    """Tries single flips by forward passes, in which the thresholds above answer as they do.

    Args:
        model, recording: a forward pass as `record` has it; batch norm and dropout are held as they were.
        x, y, output: of that pass.
        loss_fn: of (output, y), the sum or mean over the samples of a loss of each.
    """

    def __init__(
        self,
        model: nn.Module,
        recording: Recording,
        x: Tensor,
        y: Tensor,
        output: Tensor,
        loss_fn: Callable[[Tensor, Tensor], Tensor],
    ):
        self.model, self.masks = freeze(model, recording, hold=False)
        self.recording, self.x, self.y = recording, x, y
        self.loss = SampleLoss(loss_fn, widened(output.detach()), y)

    def change(self, name: str, samples: Tensor, units: Tensor) -> Tensor:
        """By how much the loss changes `(K,)` if unit `units (K,)` of the threshold is negated for `samples (K,)`."""
        return torch.cat(
            [
                self._loss(name, rows, part) - self._loss(name, rows, None)
                for rows, part in zip(samples.split(ROWS_AT_ONCE), units.split(ROWS_AT_ONCE), strict=True)
            ]
        )

    def _loss(self, name: str, rows: Tensor, units: Tensor | None) -> Tensor:
        def negate(module: nn.Module, arguments: tuple[Tensor, ...], h: Tensor) -> Tensor:
            flat = h.flatten(1).clone()
            if units is not None:
                flat[torch.arange(len(rows), device=h.device), units] *= -1
            return flat.reshape(h.shape)

        for mask, value in self.masks.items():
            given = self.model.get_submodule(mask)
            assert isinstance(given, Given)
            given.value = value[rows]
        hook = self.model.get_submodule(name).register_forward_hook(negate)
        try:
            with torch.no_grad():
                return self.loss(self.model(self.x[rows]), self.y[rows])
        finally:
            hook.remove()
