"""Separability of m units at once, each answer with a certificate."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tpsolve.errors import ContradictionError
from tpsolve.units._base import Task, UnitLearner
from tpsolve.units.checking._certificate import Certificate
from tpsolve.units.separability._ledger import Ledger
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
