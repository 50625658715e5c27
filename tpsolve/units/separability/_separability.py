"""Separability of m units at once, each answer with a certificate."""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve.errors import ContradictionError
from tpsolve.units._base import Task, UnitLearner
from tpsolve.units.checking._certificate import Certificate
from tpsolve.units.checking._unrounded import ExactRows, holds_unrounded
from tpsolve.units.separability._ledger import Ledger
from tpsolve.units.separability._rational import decide_exactly
from tpsolve.units.separability._stages import Stages


@dataclass(frozen=True)
class Separability(UnitLearner[Certificate]):
    """Which units can learn their targets, proved: weights, or an irreducible circuit (see `Certificate`).

    Newton's method on all units settles most of them. A linear program (HiGHS) settles most of the rest, and the
    simplex method in exact arithmetic settles what is left. A status is what `Certificate.verify` proves from the raw
    data. So without a budget no status is 0. One step is a Newton step of a chunk of units, or one unit of the later
    stages. The mean objective that a callback sees is the share of undecided units.

    `start` holds units that may separate already; those are only verified. Of the sample weights it matters only
    whether they are 0. Weights come as float64 on the device of the inputs.
    """

    name: ClassVar[str] = "separability"

    def learn(self, task: Task) -> Certificate:
        x, t, meter = task.samples.inputs.double(), task.samples.targets.double(), task.meter
        ledger = Ledger(x, t, self.bias)
        # Zero weights separate a column of only don't-cares, and nothing else.
        careless = (t == 0).all(dim=0).nonzero()[:, 0]
        ledger.offer_weights(careless, x.new_zeros(len(careless), x.shape[1] + 1))
        if task.start is not None:
            raw = torch.cat([task.start.weight.double(), task.start.bias.double()[:, None]], dim=1)
            left = ledger.undecided()
            ledger.offer_weights(left, raw[left])
        if not len(ledger.undecided()):
            return ledger.certificate()
        stages = Stages(ledger)
        for units in stages.chunks(ledger.undecided(), self.chunk):
            if not meter.stopped:
                stages.newton(units, meter)
        for stage in (stages.program, stages.exact):
            for unit in ledger.undecided().tolist():
                if meter.stopped:
                    return ledger.certificate()
                stage(unit, meter)
                meter.step((ledger.status == 0).double())
        if not meter.stopped and len(ledger.undecided()):
            raise ContradictionError("Separability: an answer of exact arithmetic did not verify")
        return ledger.certificate()


def separate_unrounded(inputs: Tensor, targets: Tensor, rows: ExactRows) -> Certificate:
    """Which units can learn `targets (N, m)` in {-1, 0, +1} on N exact `rows`, proved for these.

    `inputs (N, n)` are what float64 makes of the rows. Most claims on them hold for the rows too. The others are
    decided in fractions. `holds_unrounded` checks the certificate, while `Certificate.verify` looks at the inputs.
    """
    found = Separability().fit(inputs, targets)
    holds = holds_unrounded(found, rows, targets)
    if all(holds):
        return found
    weight, bias, status = found.weight.double().clone(), found.bias.double().clone(), found.status.clone()
    circuits = [found.circuit(unit).tolist() for unit in range(len(status))]
    rationals = {unit: exact for unit, exact in found.rationals.items() if holds[unit]}
    for unit in (unit for unit, good in enumerate(holds) if not good):
        signs = targets[:, unit].long().tolist()
        used = [k for k, sign in enumerate(signs) if sign]
        answer = decide_exactly([rows.whole[k] for k in used], [signs[k] for k in used], range(len(used)))
        status[unit], circuits[unit] = (-1 if answer.weights is None else 1), [used[k] for k in answer.support]
        weight[unit], bias[unit] = 0.0, 0.0
        if answer.weights is not None:
            # Whole rows have weights of their own.
            exact = [w * s for w, s in zip(answer.weights, (*rows.scales, 1), strict=True)]
            largest = max(map(abs, exact))
            power = Fraction(2) ** (largest.numerator.bit_length() - largest.denominator.bit_length())
            rationals[unit] = tuple(w / power for w in exact)
            weight[unit] = weight.new_tensor([float(w) for w in rationals[unit][:-1]])
            bias[unit] = float(rationals[unit][-1])
    support = torch.full((len(status), max(map(len, circuits))), -1)
    for unit, circuit in enumerate(circuits):
        support[unit, : len(circuit)] = torch.tensor(circuit, dtype=torch.int64)
    support = support.to(inputs.device)
    # Of those whose floats separate the rows as well nobody needs the fractions.
    enough = holds_unrounded(Certificate(weight, bias, status, support), rows, targets)
    needed = {unit: exact for unit, exact in rationals.items() if not enough[unit]}
    decided = Certificate(weight, bias, status, support, rationals=needed)
    if not all(holds_unrounded(decided, rows, targets)):
        raise ContradictionError("separate_unrounded: an answer of exact arithmetic did not verify")
    return decided
