"""What is proved so far of each unit: claims are entered only if they verify."""

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from tpsolve.units.checking._certificate import Certificate


class Ledger:
    """The verdicts on m units, from raw inputs `x (N, n)` and targets `t (N, m)`, both float64."""

    def __init__(self, x: Tensor, t: Tensor, has_bias: bool) -> None:
        self.x, self.t, self.has_bias = x, t, has_bias
        units = t.shape[1]
        self.weight = x.new_zeros(units, x.shape[1] + 1)
        self.status = torch.zeros(units, dtype=torch.int8, device=x.device)
        self._circuits: dict[int, list[int]] = {}
        self._rationals: dict[int, tuple[Fraction, ...]] = {}

    def undecided(self) -> Tensor:
        """Units without a proof, `(c,)` int64."""
        return (self.status == 0).nonzero()[:, 0]

    def offer_weights(
        self, units: Tensor, raw: Tensor, rationals: Mapping[int, tuple[Fraction, ...]] | None = None
    ) -> None:
        """Enter `raw (c, n + 1)`, the bias last, for those of `units (c,)` that they separate.

        Args:
            rationals: exact weights that take the place of `raw`, by position in `units`.
        """
        if not len(units):
            return
        claim = self._claim(raw, torch.full((len(units), 0), -1, device=raw.device), 1, rationals or {})
        good = claim.verify(self.x, self.t[:, units]) == 1
        self.weight[units[good]], self.status[units[good]] = raw[good], 1
        for k, exact in claim.rationals.items():
            if bool(good[k]):
                self._rationals[int(units[k])] = exact

    def offer_circuits(self, units: Tensor, support: Tensor) -> None:
        """Enter `support (c, s)` for those of `units (c,)` of which it is a circuit."""
        if not len(units):
            return
        claim = self._claim(torch.zeros_like(self.weight[units]), support, -1, {})
        good = claim.verify(self.x, self.t[:, units]) == -1
        self.status[units[good]] = -1
        for unit, row in zip(units[good].tolist(), support[good].tolist(), strict=True):
            self._circuits[unit] = [i for i in row if i >= 0]

    def certificate(self) -> Certificate:
        """All that was entered."""
        width = max(map(len, self._circuits.values()), default=0)
        support = torch.full((len(self.status), width), -1)
        for unit, row in self._circuits.items():
            support[unit, : len(row)] = torch.tensor(row)
        weight, bias = self.weight[:, :-1].contiguous(), self.weight[:, -1].contiguous()
        return Certificate(weight, bias, self.status, support.to(self.x.device), self.has_bias, self._rationals)

    def _claim(
        self, raw: Tensor, support: Tensor, status: int, rationals: Mapping[int, tuple[Fraction, ...]]
    ) -> Certificate:
        claimed = torch.full((len(raw),), status, dtype=torch.int8, device=raw.device)
        return Certificate(raw[:, :-1], raw[:, -1], claimed, support, self.has_bias, rationals)
