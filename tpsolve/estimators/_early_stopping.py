"""Early stopping: the network on the way of a search that names most of the samples that the search did not see."""

import dataclasses

import numpy as np

from tpsolve.errors import ArgumentError
from tpsolve.estimators._search_widths import Found
from tpsolve.models._layers import read_layers

KEPT = 200
"""Networks on the way of which one is chosen, the latest ones."""


def held_out(codes: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which samples of the classes `codes (N,)` are held out: bool `(N,)`, about `fraction` of each class.

    Raises:
        ArgumentError: a class of one sample, which can't be on both sides.
    """
    found, random = np.zeros(len(codes), dtype=bool), np.random.RandomState(seed)
    for code, count in enumerate(np.bincount(codes).tolist()):
        if count < 2:
            mend = "Leave out validation_fraction, or the class."
            raise ArgumentError("validation_fraction", "a class of one sample", "at least two of each class", mend)
        held = min(max(1, round(fraction * count)), count - 1)
        found[random.permutation(np.flatnonzero(codes == code))[:held]] = True
    return found


def stopped_early(found: Found, X: np.ndarray, codes: np.ndarray, weight: np.ndarray | None) -> Found:
    """`found` with that network of the search's `path` with which most samples, by `weight (N,)`, get their class.

    Of equal ones the latest, which costs least on the samples that the search saw.
    """
    each = np.ones(len(codes)) if weight is None else weight
    path = [read_layers(network) for network in found.stats["path"]]
    right = [float(each[layers.classes(X) == codes].sum()) for layers in path]
    best = max(range(len(path)), key=lambda k: (right[k], k))
    return dataclasses.replace(found, layers=path[best])
