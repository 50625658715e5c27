"""Certificates: which units can learn their targets, and a proof for each that needs no solver to check."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from tpsolve._result import lines_table
from tpsolve.errors import ArgumentError, ShapeError
from tpsolve.units._base import Units
from tpsolve.units._data import check_samples
from tpsolve.units.checking._verification import CircuitChecker, separates, separates_exactly


@dataclass(frozen=True)
class Certificate(Units):
    """For each of m units a claim and its proof: weights, or a circuit that forbids them.

    A circuit is a set of at most n + 2 samples (n + 1 without bias) with `sum lambda_i t_i (x_i, 1) = 0`
    for some lambda > 0, unique up to scale: the hulls of its two classes meet (a Radon partition), so
    no weights fit it, but every proper subset can be fitted. It forbids this sign pattern, and its
    negation, to every unit that reads the same inputs.

    Args:
        weight, bias: `(m, n)` and `(m,)` float64; 0 where the status is not +1.
        status: `(m,)` int8: +1 separable, -1 not, 0 undecided (only when the budget ended early).
        support: `(m, s)` int64, the samples of the circuit in rising order, filled up with -1; all -1
            where the status is not -1.
        has_bias: whether the units have a bias.
        rationals: exact weights, the bias last, of the units whose only separating weights
            float64 can't hold; they take the place of `weight` and `bias` in the proof.
    """

    status: Tensor
    support: Tensor
    has_bias: bool = True
    rationals: Mapping[int, tuple[Fraction, ...]] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """For notebooks: each unit's claim and what proves it."""
        words = {1: "separable", -1: "not separable", 0: "undecided"}
        lines = []
        for unit, status in enumerate(self.status.tolist()):
            proof = "weights" + ", in fractions" * (unit in self.rationals) if status > 0 else "nothing yet"
            if status < 0:
                proof = (
                    f"{len(self.circuit(unit))} samples forbid it: {', '.join(map(str, self.circuit(unit).tolist()))}"
                )
            lines.append((unit, words[status], proof))
        return lines_table(("unit", "claim", "proof"), lines, "units")

    @property
    def converged(self) -> Tensor:
        """`(m,)` bool: whether the unit was decided."""
        return self.status != 0

    def circuit(self, unit: int) -> Tensor:
        """Samples of the unit's circuit, `(s,)` int64; empty if it has none."""
        row = self.support[unit]
        return row[row >= 0]

    def verify(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """What is proved of each unit, only from these raw data: `(m,)` int8, +1 separable, -1 not, 0 nothing.

        The check is exact, and independent of how the certificate was found: 0 wherever claim and proof don't match in
        full. A column of only don't-cares is separable, by zero weights. A sample of weight 0 counts as one
        of target 0; verify with the targets that were fitted.

        Raises:
            ShapeError: other numbers of features or units than the certificate's.
            ArgumentError: as `UnitLearner.fit`.
        """
        samples = check_samples(inputs, targets)
        units, features = self.weight.shape
        if samples.inputs.shape[1] != features or samples.targets.shape[1] != units:
            got = f"{samples.inputs.shape[1]} features and {samples.targets.shape[1]} units"
            raise ShapeError("inputs, targets", got, f"the certificate's {features} and {units}")
        x, t = samples.inputs.double(), samples.targets.double()
        device = x.device
        status = self.status.to(device)
        proven = torch.zeros(units, dtype=torch.int8, device=device)
        no_support = (self.support.to(device) == -1).all(dim=1)
        proven[self._proven_weights(x, t, (status == 1) & no_support)] = 1
        weight, bias = self.weight.to(device), self.bias.to(device)
        no_weights = (weight == 0).all(dim=1) & (bias == 0)
        rows, supports = self.support.tolist(), {}
        for k in ((status == -1) & no_weights).nonzero()[:, 0].tolist():
            support = _canonical(rows[k], len(x))
            if support and k not in self.rationals:
                supports[k] = support
        checker, columns = CircuitChecker(x, self.has_bias), t.cpu()
        checker.learn(supports.values())
        for k, support in supports.items():
            if checker.is_circuit(support, columns[support, k].long().tolist()):
                proven[k] = -1
        return proven

    def multipliers(self, inputs: Tensor, targets: Tensor, unit: int) -> list[Fraction]:
        """The lambda of the unit's circuit, in the order of `circuit(unit)`, exact, with sum 1.

        Raises:
            ArgumentError: the unit has no circuit that these data confirm.
        """
        samples = check_samples(inputs, targets)
        support = self.circuit(unit).tolist()
        signs = samples.targets[support, unit].tolist() if support else []
        checker = CircuitChecker(samples.inputs.double(), self.has_bias)
        if not checker.is_circuit(support, [int(s) for s in signs]):
            raise ArgumentError("unit", f"unit {unit} of status {int(self.status[unit])}", "a unit with a circuit")
        dependency = checker.dependency(support)
        assert dependency is not None
        sizes = [abs(int(v)) for v in dependency]
        return [Fraction(v, sum(sizes)) for v in sizes]

    def _proven_weights(self, x: Tensor, t: Tensor, claimed: Tensor) -> Tensor:
        weight, bias = self.weight.to(x).double(), self.bias.to(x).double()
        proven = torch.zeros_like(claimed)
        claimed = claimed & (self.has_bias | (bias == 0))
        exact = [k for k in self.rationals if 0 <= k < len(claimed) and bool(claimed[k])]
        for k in exact:
            weights = self.rationals[k]
            rounded = [float(v) for v in weights] == [*weight[k].tolist(), float(bias[k])]
            if rounded and (self.has_bias or weights[-1] == 0):
                proven[k] = separates_exactly(x, t[:, k], weights)
            claimed[k] = False
        rows = claimed.nonzero()[:, 0]
        proven[rows] = separates(x, t[:, rows], weight[rows], bias[rows])
        return proven


def _canonical(row: list[int], samples: int) -> list[int]:
    """A circuit in the one form that counts: rising, below `samples`, filled up with -1; else empty."""
    support = [i for i in row if i >= 0]
    canonical = sorted(set(support)) + [-1] * (len(row) - len(support))
    return support if row == canonical and support and support[-1] < samples else []
