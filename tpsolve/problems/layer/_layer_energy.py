"""The arithmetic of a layer problem over a flat batch, shared by its judge, its states and the exact solvers."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from tpsolve._gap import common_measure
from tpsolve.losses import ClassLoss, Loss

BLUR_NUMBERS = 2**16
"""Weights that are looked at together to find sums that are exact."""


@dataclass(frozen=True)
class LayerEnergy:
    """E(t) = sum_k c_k loss(V_k . t + b_k, s_k) + stay, for B samples.

    Args:
        loss: of one unit, or of the whole layer against a class.
        weight: V `(m, n)`.
        bias: b `(m,)`.
        targets: s `(B, m)` in {-1, +1}, where don't-cares read +1 and weigh nothing; or labels `(B,)` int64.
        unit_weight: c `(B, m)`, or `(1, m)` where all samples share it; with labels `(B, 1)`.
        stay: stay kappa a + r `(B, n)`, with r the pull, or None without either; the penalty is
            (|stay| - stay t) / 2, summed.
        stay_parts: stay kappa + |r| `(B, n)`, whose rounding `stay` bears even where the two cancel; None without both.
    """

    loss: Loss | ClassLoss
    weight: Tensor
    bias: Tensor
    targets: Tensor
    unit_weight: Tensor
    stay: Tensor | None
    stay_parts: Tensor | None = None

    @cached_property
    def _radius(self) -> Tensor:
        """|V_k|_1, `(m,)`."""
        return self.weight.abs().sum(1)

    @property
    def n_samples(self) -> int:
        """B."""
        return len(self.targets)

    def pre(self, targets: Tensor) -> Tensor:
        """Pre-activations z `(..., m)` of `targets (..., n)`."""
        return targets @ self.weight.T + self.bias

    def total(self, z: Tensor, targets: Tensor) -> Tensor:
        """E `(..., B)` from pre-activations `z (..., B, m)` and targets `(..., B, n)`."""
        return self.layer_loss(z) + self.penalty(targets)

    def favourable(self, z: Tensor, targets: Tensor) -> Tensor:
        """E where a zero-one loss counts each z within `blur` of 0 as the better side: not above the exact E."""
        if self.loss.name == "zero-one":
            z = z + self.blur() * self.targets
        return self.total(z, targets)

    def layer_loss(self, z: Tensor) -> Tensor:
        """The loss part of E, `(..., B)`."""
        if isinstance(self.loss, ClassLoss):
            return self.unit_weight[:, 0] * self.loss.value(z, self.targets.expand(z.shape[:-1]))
        return (self.unit_weight * self.loss.value(z, self.targets)).sum(-1)

    def penalty(self, targets: Tensor) -> Tensor | float:
        """The stay part of E, `(..., B)`."""
        if self.stay is None:
            return 0.0
        return 0.5 * (self.stay.abs() - self.stay * targets).sum(-1)

    def gradient(self, h: Tensor) -> Tensor:
        """G `(B, n)`, where E linearised at the real activations `h (B, n)` is const + g . t."""
        g = (self.unit_weight * self.loss.slope(self.pre(h), self.targets)) @ self.weight
        return g if self.stay is None else g - 0.5 * self.stay

    def curvature(self, h: Tensor) -> Tensor:
        """Diagonal of the Hessian of E in the real activations, at `h (B, n)`: `(B, n)`."""
        z, square = self.pre(h), self.weight**2
        if isinstance(self.loss, ClassLoss):
            p = z.softmax(dim=-1)
            return self.unit_weight * (p @ square - (p @ self.weight) ** 2)
        return (self.unit_weight * self.loss.curve(z, self.targets)) @ square

    def met(self, z: Tensor) -> Tensor:
        """Whether pre-activations `z (B, m)` give every unit above that counts its target, or the class: `(B,)`."""
        if isinstance(self.loss, ClassLoss):
            return z.argmax(1) == self.targets
        return (((z >= 0) == (self.targets > 0)) | (self.unit_weight == 0)).all(1)

    def lower_bound(self) -> Tensor:
        """The bound of `LayerProblem.lower_bound`, `(B,)`; exact but for `rounding`."""
        c, s, b = self.unit_weight, self.targets, self.bias
        if isinstance(self.loss, ClassLoss):
            spread = torch.cdist(self.weight, self.weight, p=1)[s]
            shift = b - b[s][:, None]
            return c[:, 0] * self.loss.minimum(shift - spread, s)
        radius = self._radius + self.blur()
        return (c * self.loss.minimum(b - radius, b + radius, s)).sum(1)

    def rounding(self) -> Tensor:
        """How far a float64 evaluation of E may be from exact arithmetic, `(B,)`.

        The standard bound of a sum, (number of terms) * 2^-53 * (sum of magnitudes), with a factor 4
        to spare for the evaluation of the loss. The jump of the zero-one loss is not in it: see `blur`.
        """
        size = 1 + self.bias.abs() + self._radius
        if isinstance(self.loss, ClassLoss):
            size = size.max()
        magnitude = (self.unit_weight * (size**2 if self.loss.name == "squared" else size)).sum(1)
        if self.stay is not None:
            magnitude = magnitude + self.stay.abs().sum(1)
        terms = sum(self.weight.shape) + 8
        error = 4 * terms * 2.0**-53 * magnitude
        if self.stay_parts is not None:
            error = error + 2.0**-52 * self.stay_parts.sum(1)
        return error.expand(self.n_samples)

    def least_difference(self) -> Tensor:
        """What two different values of a zero-one loss without a stay penalty differ by at least, `(B,)`; else 0."""
        if self.loss.name != "zero-one" or self.stay is not None:
            return self.unit_weight.new_zeros(self.n_samples)
        shared = [float(common_measure(row)) for row in self.unit_weight.cpu().numpy()]
        return self.unit_weight.new_tensor(shared).expand(self.n_samples)

    def blur(self) -> Tensor:
        """How far a float64 pre-activation may be from exact arithmetic, `(m,)`; 0 where the sum is exact.

        It is exact, in any order, where all terms are whole multiples of one power of two that is at
        least 2^-52 of their sum of magnitudes, as float32 weights of like size are.
        """
        weight, bias = self.weight.double(), self.bias.double()
        size = bias.abs() + (self._radius if weight is self.weight else weight.abs().sum(1))
        scale = torch.ldexp(torch.ones_like(size), 52 - torch.frexp(size).exponent)
        exact = bias * scale == (bias * scale).round()
        # A few rows at a time: what fits in a processor's cache takes a third of the time.
        for rows in torch.arange(len(weight), device=weight.device).split(max(1, BLUR_NUMBERS // weight.shape[1])):
            scaled = weight[rows] * scale[rows, None]
            exact[rows] &= (scaled == scaled.round()).all(1)
        return torch.where(exact, 0.0, (weight.shape[1] + 1) * 2.0**-52 * size)

    def select(self, keep: Tensor) -> "LayerEnergy":
        """The samples that `keep` (bool or indices) picks."""
        shared = len(self.unit_weight) == 1 and self.n_samples > 1 and not isinstance(self.loss, ClassLoss)
        return replace(
            self,
            targets=self.targets[keep],
            unit_weight=self.unit_weight if shared else self.unit_weight[keep],
            stay=None if self.stay is None else self.stay[keep],
            stay_parts=None if self.stay_parts is None else self.stay_parts[keep],
        )
