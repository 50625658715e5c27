"""Which of all optimal networks: widest margin, fewest units or smallest whole weights; the master decides."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from tpsolve.errors import NotAcceptedError, TooLargeError
from tpsolve.problems import NetworkProblem
from tpsolve.search.network.circuits._formula import Clause
from tpsolve.search.network.circuits._optima import Optima
from tpsolve.search.network.circuits._whole_weights import MAX_SUM, MAX_WEIGHT, WholeWeights, reach, smallest_weights
from tpsolve.units.separability._widest import MAX_FEATURES, Widest, widest_margin

PREFERENCES = ("any", "margin", "units", "weights")
MAX_REACH = 2**20
"""The largest sum of inputs of one point, each measured from its minimum, for which whole weights are sought."""


@dataclass(frozen=True)
class Preferred:
    """The best of the optimal targets that was found.

    Args:
        targets: `(n_vars,)`.
        value: how good it is: the margin, the number of units that matter, or the largest whole weight.
        proved: whether no optimal targets are better.
        weights: whole ones that give the targets, `(weight (units, n), bias (units,))` float64 of each layer.
    """

    targets: Tensor
    value: float
    proved: bool
    weights: list[tuple[Tensor, Tensor]] | None = None


def check_preference(problem: NetworkProblem, prefer: str) -> None:
    """Raise if `prefer` makes no sense for `problem`.

    Raises:
        NotAcceptedError: units of several hidden layers to compare; whole weights over inputs that aren't whole.
        TooLargeError: too many features for exact margins; inputs too large for whole weights.
    """
    if prefer == "units" and len(problem.widths) > 1:
        raise NotAcceptedError("problem", f"{len(problem.widths)} hidden layers", "one hidden layer for prefer=units")
    if prefer == "margin" and problem.inputs.shape[1] > MAX_FEATURES:
        raise TooLargeError(
            "problem", f"{problem.inputs.shape[1]} features", f"at most {MAX_FEATURES} for prefer=margin"
        )
    if prefer == "weights":
        if problem.exact is not None:
            mend = "Round the numbers to the digits that matter, or take prefer=margin or units."
            raise NotAcceptedError("problem", "numbers that float64 rounds", "others for prefer=weights", mend)
        rest = (problem.inputs != problem.inputs.round()).nonzero()
        if len(rest):
            value = f"{problem.inputs[tuple(rest[0])].item():g} in column {int(rest[0, 1])} of X"
            mend = "Scale the inputs first, such as X = (10 * X).round()."
            raise NotAcceptedError("problem", value, "whole numbers for prefer=weights", mend)
        spread = problem.inputs - problem.inputs.amin(0)
        if (sum_ := float(spread.sum(1).max())) > MAX_REACH:
            expected = f"at most {MAX_REACH} for prefer=weights"
            raise TooLargeError("problem", f"inputs that differ by {sum_:.3g} in all", expected, "Scale them down.")


def fewest_units(optima: Optima) -> Preferred:
    """Optimal targets of which as many hidden units as possible are -1 at all points, with no effect on the output.

    Units are ordered by their strength in the first output unit, and equally strong ones by their columns. So a
    unit without effect can be taken as the last, and as constant.
    """
    hidden, gates = optima.formula.hidden[0], optima.formula.gates[0]
    targets = optima.best
    for unit in reversed(range(hidden.shape[1])):
        optima.add(_idle(hidden, gates, unit))
        further = optima.next()
        if further is None:
            return Preferred(targets, unit + 1, optima.exhausted)
        targets = further
    return Preferred(targets, 0, True)


def _idle(hidden: np.ndarray, gates: np.ndarray, unit: int) -> Iterator[Clause]:
    for variable in hidden[:, unit].tolist():
        yield [-variable]
    for gate in gates.tolist():
        for b in range(len(gate)):
            if not b >> unit & 1:
                yield [-gate[b], gate[b | 1 << unit]]
                yield [gate[b], -gate[b | 1 << unit]]


def widest(optima: Optima) -> Preferred:
    """Optimal targets for which the minimum margin of a unit of the first hidden layer is largest.

    Points that limit a margin to no more than that at hand forbid their signs to all units, as circuits do: to
    begin with pairs of points that are too near to one another.
    """
    problem, points = optima.problem, optima.problem.inputs.cpu().numpy()
    exact = None if problem.exact is None else problem.exact.points()
    targets, best = optima.best, Fraction(0)
    candidate = targets
    known: dict[bytes, Widest | None] = {}
    while True:
        margins = []
        columns = problem.columns(candidate)[0].cpu().numpy().astype(int)
        for column in np.unique(columns, axis=1).T:
            # A unit that tells no points apart has no margin.
            if np.ptp(column):
                key = column.tobytes()
                if key not in known:
                    known[key] = widest_margin(points, column, exact)
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
            optima.add(_near_pairs(optima, before, best))
        for margin in narrow:
            optima.add(optima.formula.circuit(margin.samples, margin.signs))
        further = optima.next()
        if further is None:
            return Preferred(targets, float(best) ** 0.5, optima.exhausted)
        candidate = further


def _near_pairs(optima: Optima, above: Fraction, limit: Fraction) -> Iterator[Clause]:
    """No unit tells two points apart whose half distance is no more than the margin at hand; squares of margins."""
    if optima.problem.exact is not None:
        rows = optima.problem.exact.points()
        for (i, one), (j, other) in combinations(enumerate(rows), 2):
            if above < sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) / 4 <= limit:
                yield from optima.formula.circuit([i, j], [1, -1])
        return
    points = optima.problem.inputs.cpu().numpy()
    square = np.square(points[:, None] - points).sum(-1) / 4
    for i, j in zip(*np.nonzero(np.triu(square <= float(limit) * (1 - 1e-9), 1)), strict=True):
        if square[i, j] > float(above) * (1 - 1e-9):
            yield from optima.formula.circuit([int(i), int(j)], [1, -1])


def smallest(optima: Optima) -> Preferred:
    """Optimal targets for which the largest absolute whole weight of the first hidden layer is smallest.

    Points whose signs no smaller weights give forbid them to all units, as circuits do.
    """
    problem, points = optima.problem, optima.problem.inputs.cpu().long().numpy()
    start = problem.start.reshape(-1, problem.n_vars)[0]
    if problem.objective(start[None])[0] == optima.objective:
        # No unit need tell points apart.
        return Preferred(start, 0, True, _whole_network(problem, start, {}))
    best, candidate = Preferred(optima.best, math.inf, False), optima.best
    limit = min(MAX_WEIGHT, MAX_SUM // max(1, reach(points)))
    while True:
        columns = np.unique(problem.columns(candidate)[0].cpu().numpy().astype(int), axis=1).T
        found: dict[bytes, WholeWeights] = {}
        forbidden: list[Clause] = []
        for column in columns:
            answer = smallest_weights(points, column, limit, optima.interrupted)
            if answer is None:
                return best
            if isinstance(answer, WholeWeights):
                found[column.tobytes()] = answer
            else:
                forbidden += optima.formula.circuit(answer, column[answer].tolist())
        if not forbidden:
            largest = max(weights.largest for weights in found.values())
            best = Preferred(candidate, largest, largest == 1, _whole_network(problem, candidate, found))
            if best.proved:
                return best
            limit = largest - 1
            continue
        optima.add(forbidden)
        further = optima.next()
        if further is None:
            return replace(best, proved=optima.exhausted and best.weights is not None)
        candidate = further


def _whole_network(
    problem: NetworkProblem, targets: Tensor, hidden: dict[bytes, WholeWeights]
) -> list[tuple[Tensor, Tensor]]:
    """The smallest whole weights of every unit for `targets (n_vars,)`; of `hidden` columns they are known."""
    below, layers = problem.inputs, []
    for above in problem.columns(targets):
        points, units = below.cpu().long().numpy(), []
        for column in above.cpu().numpy().astype(int).T:
            unit = hidden.get(column.tobytes()) or smallest_weights(points, column, MAX_WEIGHT, lambda: False)
            assert isinstance(unit, WholeWeights)
            units.append(unit)
        weight, bias = [unit.weight for unit in units], [unit.bias for unit in units]
        layers.append((torch.tensor(weight).to(problem.samples), torch.tensor(bias).to(problem.samples)))
        below, hidden = above, {}
    return layers
