"""The search for the network with the fewest errors, and with the fewest units too where these have a price."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from tpsolve._result import Budget, Result
from tpsolve.errors import ArgumentError
from tpsolve.estimators._sample_weights import WholeWeights
from tpsolve.models._layers import Layers, read_layers
from tpsolve.models._tidy import tidy
from tpsolve.problems import NetworkProblem
from tpsolve.search import Solver, solve
from tpsolve.units import Logistic, UnitFit


@dataclass(frozen=True)
class Found:
    """The best network of some widths.

    Args:
        problem: of its widths.
        layers: its weights, readable ones.
        units: how many hidden units have a price.
        bound: weight of the errors of any network of these widths at least, in whole weights.
        least: what errors and units of any network of any of the widths cost at least.
        steps: of all searches.
        stats: of the search that found it.
    """

    problem: NetworkProblem
    layers: Layers
    units: int
    bound: float
    least: float
    steps: int
    stats: dict[str, Any]


def search_widths(
    X: np.ndarray,
    y: np.ndarray,
    whole: WholeWeights,
    solver: Solver,
    shapes: Sequence[tuple[int, ...]],
    *,
    penalty: float,
    seconds: float | None,
    steps: int | None,
    seed: int,
    sets: Mapping[str, Any] = MappingProxyType({}),
) -> Found:
    """The network of one of the `shapes` that minimises errors plus `penalty` for each hidden unit.

    With `sets`, those of a `NetworkProblem`, the penalty is for each weight that is not 0 instead.

    Shapes come in the order of rising numbers of units; where units have a price, the constant network comes first,
    which needs none. Each gets its share of what is left of the limit. A shape whose units alone cost as much as a
    network at hand is not searched.
    """
    began, done = time.perf_counter(), 0
    priced = 0.0 if sets else penalty
    own = {**sets, "penalty": penalty / whole.unit} if sets else {}
    problem = NetworkProblem(X, y.tolist(), shapes[0], whole.values, **own)
    best: tuple[float, int, NetworkProblem, Result] | None = None
    leasts: list[float] = []
    if priced:
        constant = problem.objective(problem.start)
        best = whole.unit * constant.item(), 0, problem, Result(problem.start, constant, problem.lower_bound())
        leasts.append(best[0] - whole.slack)
    for number, shape in enumerate(shapes):
        problem = NetworkProblem(X, y.tolist(), shape, whole.values, **own)
        price = priced * sum(shape)
        least = whole.unit * problem.lower_bound().item() - whole.slack + price
        if best is not None and best[0] <= least:
            leasts.append(least)
            continue
        share = None
        if seconds is not None:
            left = seconds - (time.perf_counter() - began)
            share = max(seconds / 50, left / (len(shapes) - number)) if number else seconds / len(shapes)
        generator = torch.Generator().manual_seed(seed)
        result = solve(problem, solver, budget=Budget(seconds=share, steps=steps), generator=generator)
        done += result.stats["steps"]
        result = result if sets else _with_weights(problem, _no_worse_than_logistic(problem, result))
        leasts.append(max(least, whole.unit * result.bound.item() - whole.slack + price))
        cost = whole.unit * result.objective.item() + price
        if best is None or cost < best[0]:
            best = cost, sum(shape), problem, result
    assert best is not None
    _, units, problem, result = best
    given = result.stats.get("weights") or problem.weights(result.targets)
    layers = read_layers(given)
    bound = problem.errors_bound(result.bound.item())
    return Found(problem, layers, units, bound, min(leasts), done, result.stats)


def _with_weights(problem: NetworkProblem, result: Result) -> Result:
    """`result` with readable weights; where float64 holds none of its targets, the network that names one class.

    The margins of such targets are narrower than float64 can tell. The bound stays.
    """
    if "weights" in result.stats:
        return result
    try:
        given, found = problem.weights(result.targets), result
    except ArgumentError:
        found = Result(problem.start, problem.objective(problem.start), result.bound, stats=result.stats)
        given = problem.weights(problem.start)
        found = _no_worse_than_logistic(problem, found)
        if "weights" in found.stats:
            return found
    layers = tidy(read_layers(given), problem.inputs.numpy())
    weights = [(torch.tensor(w), torch.tensor(b)) for w, b in layers.weights]
    return Result(found.targets, found.objective, found.bound, stats={**found.stats, "weights": weights})


def _no_worse_than_logistic(problem: NetworkProblem, result: Result) -> Result:
    """`result`, or the same with the network of one logistic unit for each output where that makes fewer errors.

    A search that has little time may end near the network that names one class everywhere. The bound stays.
    """
    outputs = problem.layers[-1]
    if result.objective <= result.bound or min(problem.widths) < outputs:
        return result
    X = problem.inputs
    mean, spread = X.mean(0), X.std(0, correction=0)
    spread = torch.where((spread > 0) & spread.isfinite(), spread, 1.0)
    weight = problem.counts.sum(1, keepdim=True).expand(-1, outputs)
    fit = Logistic(l2=1e-3).fit((X - mean) / spread, problem.wanted, weight)
    assert isinstance(fit, UnitFit)
    first = fit.weight / spread
    weights, below = [], X.shape[1]
    for number, units in enumerate(problem.layers):
        matrix, bias = X.new_zeros(units, below), X.new_zeros(units)
        if number == 0:
            matrix[:outputs], bias[:outputs] = first, fit.bias - first @ mean
        else:
            matrix[:outputs, :outputs] = torch.eye(outputs)
        weights.append((matrix, bias))
        below = units
    layers = read_layers(weights)
    columns = [torch.tensor(out, dtype=torch.float64) for out in layers.outputs(X.numpy())]
    errors = problem.errors(columns[-1])
    if not errors < result.objective:
        return result
    stats = {
        **result.stats,
        "weights": [(torch.tensor(w), torch.tensor(b)) for w, b in tidy(layers, X.numpy()).weights],
    }
    return Result(problem.pack(*columns), errors, result.bound, stats=stats)
