"""The fewest errors that a small network can make, by trying everything; shares nothing with the searches."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch

from tpsolve import NetworkProblem
from tpsolve.units import Separability

each_known_optimum = pytest.mark.parametrize(
    ("table", "widths", "optimum"),
    # Known: XOR; parity with as many units as bits; by enumeration of all dichotomies 5 and 21; by circuits 1.
    [
        ("checkerboard-2", (2,), 0),
        ("parity-4", (4,), 0),
        ("random-2-40", (3,), 5),
        ("random-2-80", (2,), 21),
        ("parity-4", (3, 2), 1),
    ],
    ids=["xor", "parity", "40 points", "80 points", "two layers"],
)
"""Tables of `make_table` that a search of networks must solve."""


def random_table(p: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The points and labels that are called random(p, n) everywhere."""
    rng = np.random.default_rng(seed)
    return np.round(rng.uniform(-1, 1, (n, p)), 2), rng.choice([-1, 1], n)


def parity_table(k: int) -> tuple[np.ndarray, np.ndarray]:
    """All +-1 vectors of length k, labelled by their product."""
    X = np.array(list(itertools.product([-1, 1], repeat=k)))
    return X, X.prod(1)


def separable_columns(x: torch.Tensor) -> torch.Tensor:
    """All separable columns with +1 on the first point, `(K, M)`: every pattern is asked of the oracle."""
    every = torch.tensor([(1, *rest) for rest in itertools.product((-1, 1), repeat=len(x) - 1)], dtype=torch.float64)
    return every[Separability().fit(x, every.T).status == 1]


@cache
def output_functions(units: int) -> frozenset[tuple[int, ...]]:
    """Outputs on all codes, in the order of itertools.product, by small whole weights; enough up to 3 units."""
    codes = list(itertools.product((-1, 1), repeat=units))
    found = set()
    for weight in itertools.product(range(-2, 3), repeat=units):
        for bias in range(-2 * units - 1, 2 * units + 2, 1):
            z = [sum(w * c for w, c in zip(weight, code, strict=True)) + bias + 0.5 for code in codes]
            found.add(tuple(1 if v > 0 else -1 for v in z))
    return frozenset(found)


def fewest_errors(problem: NetworkProblem) -> float:
    """The optimum of a two-class problem with one hidden layer of at most 3 units and a handful of points."""
    (units,) = problem.widths
    columns = separable_columns(problem.inputs).long().tolist()
    numbers = {code: i for i, code in enumerate(itertools.product((-1, 1), repeat=units))}
    minus, plus = problem.counts[:, 0].tolist(), problem.counts[:, 1].tolist()
    best = float("inf")
    for chosen in itertools.combinations_with_replacement(columns, units):
        wrong_if_minus, wrong_if_plus = [0.0] * 2**units, [0.0] * 2**units
        for i, code in enumerate(zip(*chosen, strict=True)):
            wrong_if_minus[numbers[code]] += plus[i]
            wrong_if_plus[numbers[code]] += minus[i]
        for outputs in output_functions(units):
            wrong = sum(b if o > 0 else a for o, a, b in zip(outputs, wrong_if_minus, wrong_if_plus, strict=True))
            best = min(best, wrong)
    return best
