"""Which classes of a labelled table a single unit can tell from the rest: the rows of `tpsolve separate`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from tpsolve.errors import ArgumentError, ShapeError
from tpsolve.units._data import read_numbers
from tpsolve.units.checking._certificate import Certificate
from tpsolve.units.checking._unrounded import ExactRows, exact_weights
from tpsolve.units.separability._separability import Separability, separate_unrounded


@dataclass(frozen=True)
class ClassRow:
    """What is proved of one class against the others.

    Args:
        label: the class.
        samples: how many samples it has.
        status: +1 separable, -1 not, 0 undecided (the budget ended).
        margin: smallest distance of a sample from the boundary that was found; None unless separable.
            Not the largest possible one.
        circuit: samples that forbid the class; empty unless it is not separable.
        weights: the multipliers of the circuit as percentages, which sum to 100.
    """

    label: str
    samples: int
    status: int
    margin: float | None
    circuit: tuple[int, ...]
    weights: tuple[float, ...]


def class_targets(labels: Sequence[object]) -> tuple[list[str], Tensor]:
    """The classes in rising order and targets `(N, m)` float64: +1 where a sample is of the class, else -1.

    Two classes give one column, that of the second: the other is its negation.

    Raises:
        ArgumentError: fewer than two classes.
    """
    names = sorted({str(label) for label in labels})
    if len(names) < 2:
        raise ArgumentError("labels", f"the classes {names}", "at least two classes")
    shown = names[1:] if len(names) == 2 else names
    return shown, torch.tensor([[1.0 if str(v) == c else -1.0 for c in shown] for v in labels], dtype=torch.float64)


def class_rows(
    inputs: Tensor,
    labels: Sequence[object],
    scaling: Sequence[tuple[Fraction, Fraction]] = (),
    exact: Sequence[Sequence[Fraction]] | None = None,
) -> tuple[list[ClassRow], Certificate]:
    """A row for each class, and the certificate behind them, which has been verified: for `exact`, if that is given.

    Args:
        scaling: offset and scale of each feature, where an input is `(number - offset) * scale`: margins are those of
            the numbers.
        exact: the N rows that `inputs` round; None: they round nothing.

    Raises:
        ArgumentError: as `class_targets` and `UnitLearner.fit`.
    """
    inputs = read_numbers("inputs", inputs)
    if len(labels) != len(inputs):
        raise ShapeError("labels", f"{len(labels)} labels", f"{len(inputs)}, one for each sample")
    names, targets = class_targets(labels)
    unrounded = None if exact is None else ExactRows(exact)
    if unrounded is None:
        certificate = Separability().fit(inputs, targets)
        proven = certificate.verify(inputs, targets)
    else:
        certificate = separate_unrounded(inputs, targets, unrounded)
        proven = certificate.status
    x, rows = inputs.double(), []
    for k, name in enumerate(names):
        status = int(proven[k])
        circuit = tuple(certificate.circuit(k).tolist()) if status < 0 else ()
        weights: Sequence[Fraction] = []
        if circuit and unrounded is None:
            weights = certificate.multipliers(inputs, targets, k)
        elif circuit and unrounded is not None:
            weights = unrounded.multipliers(circuit, [int(targets[i, k]) for i in circuit])
        margin = None
        if status > 0:
            z = (x @ certificate.weight[k] + certificate.bias[k]).abs().min().item()
            if unrounded is not None:
                *own, bias = exact_weights(certificate, k)
                z = min(map(abs, unrounded.sums(own, bias)))
            margin = _distance(z, certificate.weight[k].tolist(), [scale for _, scale in scaling])
        shares = tuple(100 * float(w) for w in weights)
        rows.append(ClassRow(name, int((targets[:, k] > 0).sum()), status, margin, circuit, shares))
    return rows, certificate


def _distance(z: float | Fraction, weight: list[float], scales: list[Fraction]) -> float:
    """|z| by the length of the weights of the numbers, which may be beyond float64 where the scales are."""
    if isinstance(z, float) and not math.isfinite(z):
        return z
    exact = [abs(Fraction(w)) * scale for w, scale in zip(weight, scales or [Fraction(1)] * len(weight), strict=True)]
    largest = max(exact)
    try:
        return float(Fraction(z) / largest / Fraction(math.hypot(*(float(w / largest) for w in exact))))
    except OverflowError:
        return math.inf
