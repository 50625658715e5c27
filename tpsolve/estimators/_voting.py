"""Several networks of equal widths as one network: each names a class, and the one with the most votes is taken."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from tpsolve.estimators._sample_weights import WholeWeights
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


def averaged(found: Found, count: int, again: Callable[[int], Found], whole: WholeWeights) -> Found:
    """The vote of `count` networks: of the optimal ones that `found` lists, else of `again(1)`, `again(2)`, ...

    Where there are fewer different optimal ones, fewer vote, and a warning says so; a single one stays as it was
    `found`. Of a vote nothing is proved but what rows with equal features and different labels cost any network: one of
    more units may make fewer errors.
    """
    problem = found.problem
    listed = found.stats.get("solutions")
    steps = found.steps
    if listed is not None:
        rows = problem.inputs.numpy()
        networks = [tidy(read_layers(problem.weights(targets)), rows) for targets in listed]
    else:
        others = [again(k) for k in range(1, count)]
        networks = [one.layers for one in (found, *others)]
        steps += sum(one.steps for one in others)
    if len(networks) < count:
        reason = "there are no others" if found.stats.get("all_solutions") else "no others were found in time"
        words = f"{len(networks)} of {count} networks vote: different optimal ones, and {reason}."
        warnings.warn(words, UserWarning, stacklevel=3)
    if len(networks) == 1:
        return found
    layers = vote(networks)
    widths = [len(bias) for _, bias in layers.weights[:-1]]
    labels = [problem.classes[k] for k in problem.index.tolist()]
    own = NetworkProblem(problem.samples, labels, widths, problem.weight)
    bound = own.lower_bound().item()
    return Found(own, layers, sum(widths), bound, whole.unit * bound - whole.slack, steps, {})
