"""Which of all optimal networks: the widest margin or the fewest units, decided by the master of the proof."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from torch import Tensor

from tpsolve.errors import NotAcceptedError, TooLargeError
from tpsolve.problems import NetworkProblem
from tpsolve.search.circuit_search import CircuitSearch, Master
from tpsolve.search.network_formula import Clause
from tpsolve.units.widest import MOST_FEATURES, Widest, widest_margin

PREFERENCES = ("any", "margin", "units")


@dataclass(frozen=True)
class Preferred:
    """The best of the optimal targets that was found.

    Args:
        targets: `(n_vars,)`.
        value: how good it is: the margin, or the number of units that matter.
        proved: whether no optimal targets are better.
    """

    targets: Tensor
    value: float
    proved: bool


def check_preference(problem: NetworkProblem, prefer: str) -> None:
    """Raise if `prefer` makes no sense for `problem`.

    Raises:
        NotAcceptedError: units of several hidden layers to compare.
        TooLargeError: too many features for exact margins.
    """
    if prefer == "units" and len(problem.widths) > 1:
        raise NotAcceptedError("problem", f"{len(problem.widths)} hidden layers", "one hidden layer for prefer=units")
    if prefer == "margin" and problem.inputs.shape[1] > MOST_FEATURES:
        raise TooLargeError(
            "problem", f"{problem.inputs.shape[1]} features", f"at most {MOST_FEATURES} for prefer=margin"
        )


def fewest_units(search: CircuitSearch, master: Master, steps: int | None) -> Preferred:
    """Optimal targets of which as many hidden units as possible are -1 at all points, with no effect on the output.

    Units are ordered by their strength in the first output unit, and equally strong ones by their columns. So a
    unit without effect can be taken as the last, and as constant.
    """
    hidden, gates = search.formula.hidden[0], search.formula.gates[0]
    targets = search.report.targets[0]
    for unit in reversed(range(1, hidden.shape[1])):
        master.add(_idle(hidden, gates, unit))
        model = search.separable_model(master, steps)
        if not isinstance(model, np.ndarray):
            return Preferred(targets, unit + 1, model is False)
        targets = search.targets_of(model)
    return Preferred(targets, 1, True)


def _idle(hidden: np.ndarray, gates: np.ndarray, unit: int) -> Iterator[Clause]:
    for variable in hidden[:, unit].tolist():
        yield [-variable]
    for gate in gates.tolist():
        for b in range(len(gate)):
            if not b >> unit & 1:
                yield [-gate[b], gate[b | 1 << unit]]
                yield [gate[b], -gate[b | 1 << unit]]


def widest(search: CircuitSearch, master: Master, steps: int | None) -> Preferred:
    """Optimal targets for which the least margin of a unit of the first hidden layer is largest.

    Points that limit a margin to no more than that at hand forbid their signs to all units, as circuits do: to
    begin with pairs of points that are too near to one another.
    """
    points = search.problem.inputs.cpu().numpy()
    targets, best = search.report.targets[0], Fraction(0)
    candidate = targets
    known: dict[bytes, Widest | None] = {}
    while True:
        margins = []
        columns = search.problem.columns(candidate)[0].cpu().numpy().astype(int)
        for column in np.unique(columns, axis=1).T:
            # A unit that tells no points apart has no margin.
            if np.ptp(column):
                key = column.tobytes()
                if key not in known:
                    known[key] = widest_margin(points, column)
                if (margin := known[key]) is None:
                    return Preferred(targets, float(best) ** 0.5, False)
                margins.append(margin)
        narrow = [margin for margin in margins if margin.squared <= best]
        if not narrow:
            targets = candidate
            if not margins:
                return Preferred(targets, math.inf, True)
            before, best = best, min(margin.squared for margin in margins)
            narrow = [margin for margin in margins if margin.squared == best]
            master.add(_near_pairs(search, before, best))
        for margin in narrow:
            master.add(search.formula.circuit(margin.samples, margin.signs))
        model = search.separable_model(master, steps)
        if not isinstance(model, np.ndarray):
            return Preferred(targets, float(best) ** 0.5, model is False)
        candidate = search.targets_of(model)


def _near_pairs(search: CircuitSearch, above: Fraction, most: Fraction) -> Iterator[Clause]:
    """No unit tells two points apart whose half distance is no more than the margin at hand; squares of margins."""
    points = search.problem.inputs.cpu().numpy()
    square = np.square(points[:, None] - points).sum(-1) / 4
    for i, j in zip(*np.nonzero(np.triu(square <= float(most) * (1 - 1e-9), 1)), strict=True):
        if square[i, j] > float(above) * (1 - 1e-9):
            yield from search.formula.circuit([int(i), int(j)], [1, -1])
