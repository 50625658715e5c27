"""Several networks of equal widths as one network: each names a class, and the one with the most votes is taken."""

from collections.abc import Callable, Sequence

import numpy as np

from tpsolve.estimators._search_widths import Found
from tpsolve.models._layers import Layers, read_layers
from tpsolve.models._tidy import tidy
from tpsolve.problems import NetworkProblem


def vote(networks: Sequence[Layers]) -> Layers:
    """The network whose hidden units are those of all, outputs too; its own output units count these.

    Where votes are equal, that of the first network counts.
    """
    found = []
    for number, parts in enumerate(zip(*(network.weights for network in networks), strict=True)):
        matrices = [weight for weight, _ in parts]
        if number == 0:
            weight = np.concatenate(matrices)
        else:
            weight = np.zeros((sum(len(m) for m in matrices), sum(m.shape[1] for m in matrices)))
            row = column = 0
            for m in matrices:
                weight[row : row + len(m), column : column + m.shape[1]] = m
                row, column = row + len(m), column + m.shape[1]
        found.append((weight, np.concatenate([bias for _, bias in parts])))
    outputs = len(networks[0].weights[-1][1])
    shares = np.full(len(networks), 2.0)
    shares[0] = 3.0
    found.append((np.kron(shares, np.eye(outputs)), np.zeros(outputs)))
    return Layers(tuple(found))


def averaged(found: Found, count: int, again: Callable[[int], Found]) -> Found:
    """The vote of up to `count` networks: of the optimal ones that `found` lists, else of `again(1)`, `again(2)`, ...

    Nothing is proved of it: a network of more units may make fewer errors.
    """
    problem = found.problem
    listed = found.stats.get("solutions")
    steps = found.steps
    if listed is not None:
        rows = problem.inputs.numpy()
        networks = [tidy(read_layers(problem.weights(targets)), rows) for targets in listed]
    else:
        others = [again(k) for k in range(1, count)]
        networks = [one.layers for one in (found, *others) if one.problem.widths == problem.widths]
        steps += sum(one.steps for one in others)
    layers = vote(networks) if len(networks) > 1 else networks[0]
    widths = [len(bias) for _, bias in layers.weights[:-1]]
    labels = [problem.classes[k] for k in problem.index.tolist()]
    whole = NetworkProblem(problem.samples, labels, widths, problem.weight)
    return Found(whole, layers, sum(widths) if found.units else 0, 0.0, 0.0, steps, {})
