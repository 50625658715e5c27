"""Several irreducible conflicts of one column of targets."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.errors import ShapeError
from tpsolve.units._base import Meter
from tpsolve.units._data import check_samples, raw_rows
from tpsolve.units.checking._verification import CircuitChecker
from tpsolve.units.separability._hard_margin import fit_hard_margin
from tpsolve.units.separability._ledger import Ledger
from tpsolve.units.separability._purify import purify
from tpsolve.units.separability._separability import Separability
from tpsolve.units.separability._stages import Stages

_ROUNDS = 6


@dataclass(frozen=True)
class Circuit:
    """An irreducible conflict: no unit gives all of `samples` their targets, nor all of them the negated ones.

    Args:
        samples: `(s,)` int64, in rising order; s <= n + 2, or n + 1 without bias.
        targets: `(s,)` in {-1, +1}.
    """

    samples: Tensor
    targets: Tensor


def circuits(
    inputs: Tensor, targets: Tensor, max_circuits: int, generator: torch.Generator | None = None, *, bias: bool = True
) -> list[Circuit]:
    """Distinct circuits of one column, each proved exactly, small ones first; none if the column is separable.

    Each draw weighs the samples anew, and reduces the multipliers of that problem to a random vertex.
    Equal seeds give equal circuits on one device.

    Args:
        inputs: `(N, n)`.
        targets: `(N,)` or `(N, 1)` in {-1, 0, +1}.
        max_circuits: at least 1; there are fewer where the rounds found no others.
        generator: by default seeded with 0.

    Raises:
        ArgumentError: max_circuits < 1, or as `UnitLearner.fit`.
    """
    check_count("max_circuits", max_circuits, 1)
    column = targets[:, None] if isinstance(targets, Tensor) and targets.dim() == 1 else targets
    samples = check_samples(inputs, column)
    if samples.targets.shape[1] != 1:
        raise ShapeError("targets", f"{samples.targets.shape[1]} columns", "one column")
    generator = generator or torch.Generator().manual_seed(0)
    x, t = samples.inputs.double(), samples.targets.double()
    stages = Stages(Ledger(x, t, bias))
    checker, found = CircuitChecker(x, bias), set()
    signs = [int(v) for v in t[:, 0].tolist()]
    draws = max_circuits
    for _ in range(_ROUNDS):
        before = len(found)
        drawn = [support for support in _draw(stages, draws, generator) if support]
        checker.learn(drawn)
        for support in drawn:
            if checker.is_circuit(support, [signs[i] for i in support]):
                found.add(tuple(support))
        if len(found) >= max_circuits or (not found and _ > 0):
            break
        # Few new ones among many draws: more draws cost less than more rounds.
        draws = max_circuits if len(found) > before + max_circuits // 4 else 2 * draws
    if not found:
        found = _proved_one(x, t, bias)
    best = sorted(found, key=lambda s: (len(s), s))[:max_circuits]
    return [Circuit(rows := torch.tensor(s, device=x.device), samples.targets[rows, 0]) for s in best]


def _draw(stages: Stages, draws: int, generator: torch.Generator) -> list[list[int]]:
    points, column = stages.frame.points, stages.merged.targets
    t = column.expand(-1, draws).contiguous()
    noise = torch.rand(t.shape, generator=generator, device=generator.device, dtype=torch.float64)
    # Weights over several orders of magnitude: problems with different active samples.
    counts = torch.exp2(-12 * noise).to(points.device)
    hard = fit_hard_margin(points, t, counts, Meter(None, None))
    no = (~hard.separated & (hard.slack > 0).any(dim=0)).nonzero()[:, 0]
    if not len(no):
        return []
    support = purify(points, t[:, no], hard.slack[:, no], generator)
    raw = raw_rows(stages.merged, stages.ledger.t.expand(-1, len(no)), support, torch.zeros_like(no))
    return [[i for i in row if i >= 0] for row in raw.tolist()]


def _proved_one(x: Tensor, t: Tensor, bias: bool) -> set[tuple[int, ...]]:
    certificate = Separability(bias).fit(x, t)
    support = certificate.circuit(0).tolist()
    return {tuple(support)} if support else set()
