"""The spins in which local searches walk among the symbols of a program."""

import torch
from torch import Tensor


class SymbolSpins:
    """One spin for each value of a choice, +1 for the value that it has; one for each sign unit.

    Flipping a spin of -1 of a choice means: set the symbol to that value.

    Args:
        sizes: number of values of each unit `(n,)`.
        is_spin: which units are signs `(n,)`.

    Attributes:
        unit: of each of the m spins, `(m,)`.
        value: that a spin of +1 stands for, `(m,)`, numbered from 0.
        is_sign: spins of sign units `(m,)`.
        place: the spin of each value of each unit `(n, K)`; beyond a unit's values its last one.
    """

    unit: Tensor
    value: Tensor
    is_sign: Tensor
    place: Tensor

    def __init__(self, sizes: Tensor, is_spin: Tensor):
        device = sizes.device
        first = torch.where(is_spin, 1, 0)
        width = sizes - first
        self.unit = torch.repeat_interleave(torch.arange(len(sizes), device=device), width)
        start = width.cumsum(0) - width
        self.value = torch.arange(len(self.unit), device=device) - (start - first)[self.unit]
        self.is_sign = is_spin[self.unit]
        values = torch.arange(int(sizes.max()), device=device)
        self.place = start[:, None] + (values - first[:, None]).clamp(min=0).minimum(width[:, None] - 1)
        self._sizes, self._signs = sizes, is_spin

    def encode(self, values: Tensor) -> Tensor:
        """Spins `(R, m)` float64 of value numbers `(R, n)`."""
        return torch.where(values[:, self.unit] == self.value, 1.0, -1.0).double()

    def decode(self, spins: Tensor) -> Tensor:
        """Value numbers `(R, n)` of spins `(R, m)`."""
        return self.argmax(spins, torch.zeros_like(spins))

    def argmax(self, score: Tensor, score_of_minus: Tensor) -> Tensor:
        """The value of greatest score of each unit, `(R, n)`; -1 of a sign unit has a score of its own.

        Args:
            score: `(R, m)`, of what a spin of +1 stands for. score_of_minus: `(R, m)`, read for sign units.
        """
        table = score[:, self.place]
        minus = self._signs[:, None] & (torch.arange(table.shape[2], device=table.device) == 0)
        table = torch.where(minus, score_of_minus[:, self.place], table)
        beyond = torch.arange(table.shape[2], device=table.device) >= self._sizes[:, None]
        return table.masked_fill(beyond, -torch.inf).argmax(2)

    def after(self, values: Tensor) -> Tensor:
        """The value number `(R, m)` that the unit of each spin would have if it were flipped, from `values (R, n)`."""
        return torch.where(self.is_sign, 1 - values[:, self.unit], self.value)

    def table(self, per_spin: Tensor, values: Tensor, fill: float) -> Tensor:
        """What stands `per_spin (R, m)` of flips, by the value that they lead to: `(R, n, K)`, `fill` elsewhere."""
        rows = torch.arange(len(values), device=values.device)[:, None]
        full = per_spin.new_full((len(values), *self.place.shape), fill)
        full[rows, self.unit, self.after(values)] = per_spin
        return full
