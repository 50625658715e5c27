"""Output tables: what the output unit can make of the codes of the hidden units."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve.errors import NotAcceptedError, TooLargeError
from tpsolve.problems import NetworkProblem
from tpsolve.units.patterns._gates import MAX_INPUTS, gates

MAX_SAMPLED = 10
"""Hidden units up to which output tables are sampled."""
_SAMPLES = 4096
_ELEMENTS = 2**24


@dataclass(frozen=True)
class OutputTables:
    """Threshold functions of the hidden units, as truth tables.

    Args:
        signs: `(G, 2^h)` float32 in {-1, +1}; column c is the code in which hidden unit k outputs +1 where
            bit k of c is 1.
        complete: whether these are all threshold functions.
    """

    signs: Tensor
    complete: bool

    @property
    def shortlist(self) -> int:
        """How many candidates deserve a look at all tables."""
        return 8 if len(self.signs) < 10_000 else 2

    def best(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """The largest `sums . table` and the number of its table, `(B,)` each, of `sums (B, 2^h)`."""
        size = max(1, _ELEMENTS // len(self.signs))
        found = [(part @ self.signs.T.to(part.dtype)).max(dim=1) for part in sums.split(size)]
        return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def output_tables(problem: NetworkProblem, name: str) -> OutputTables:
    """The tables for `problem`, which `name` solves: all for up to 5 hidden units, 4,096 drawn ones for up to 10.

    Raises:
        NotAcceptedError: several classes or hidden layers.
        TooLargeError: more hidden units.
    """
    if len(problem.widths) > 1:
        raise NotAcceptedError(
            "problem", f"{len(problem.widths)} hidden layers", f"one hidden layer for {name}", "Use Circuits()."
        )
    if problem.layers[-1] > 1:
        mend = "Use Circuits(), or tell one class from the rest."
        raise NotAcceptedError("problem", f"{len(problem.classes)} classes", f"two classes for {name}", mend)
    units = problem.layers[0]
    if units <= MAX_INPUTS:
        return OutputTables(gates(units).to(problem.device).float(), True)
    if units > MAX_SAMPLED:
        raise TooLargeError(
            "problem", f"{units} hidden units", f"at most {MAX_SAMPLED} for {name}", "Use fewer, or train with nn."
        )
    return OutputTables(_sampled(units).to(problem.device).float(), False)


def codes(columns: Tensor) -> Tensor:
    """`(..., M)` int64: bit k of a point's code is 1 where unit k outputs +1; of `columns (..., h, M)`."""
    powers = 1 << torch.arange(columns.shape[-2], device=columns.device)
    return ((columns > 0) * powers[:, None]).sum(-2)


def code_sums(code: Tensor, gain: Tensor, count: int) -> Tensor:
    """`(R, count)`: the sum of `gain (1, M)` over the points of each code of `code (R, M)`."""
    sums = gain.new_zeros(len(code), count)
    return sums.scatter_add_(1, code, gain.expand(len(code), -1))


def _sampled(units: int) -> Tensor:
    generator = torch.Generator().manual_seed(units)
    spins = ((torch.arange(2**units)[:, None] >> torch.arange(units)) & 1) * 2.0 - 1
    weight = torch.randint(-3, 4, (_SAMPLES, units), generator=generator).float()
    weight[: _SAMPLES // 4] = weight[: _SAMPLES // 4].sign()
    bias = torch.randint(-2 * units, 2 * units + 1, (_SAMPLES, 1), generator=generator) + 0.5
    return torch.where(weight @ spins.T + bias >= 0, 1, -1).to(torch.int8).unique(dim=0)
