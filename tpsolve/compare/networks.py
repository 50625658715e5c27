"""The networks suite: small tables whose fewest training errors are sought, weights free."""

import hashlib
import itertools
from typing import Any

import torch
from torch import Tensor

from tpsolve.problems import Instance, NetworkProblem

Table = tuple[Tensor, Any]
"""Inputs `(N, p)` float64 and one label each."""


def random_points(features: int, points: int, seed: int) -> Table:
    """Uniform points on a grid of 0.01 in [-1, 1]^p with labels by coin flips: the worst case."""
    own_seed = int.from_bytes(hashlib.sha256(f"random {features} {points} {seed}".encode()).digest()[:7])
    generator = torch.Generator().manual_seed(own_seed)
    grid = torch.randint(-100, 101, (points, features), generator=generator)
    return grid.double() / 100, torch.randint(2, (points,), generator=generator)


def parity(features: int) -> Table:
    """All vectors of {-1, +1}^p; the label is whether the number of +1s is odd."""
    inputs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=features)), dtype=torch.float64)
    return inputs, (inputs > 0).sum(1) % 2


def checkerboard(side: int) -> Table:
    """The points of a square grid, labelled as the fields of a chess board: XOR for `side` 2."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inputs = torch.stack([row.flatten(), column.flatten()], dim=1).double()
    return inputs, (inputs.sum(1) % 2).long()


def monks(number: int) -> Table:
    """All 432 robots of the MONK's problems, their six attributes one-hot; Thrun and others (1991).

    1: head and body of one shape, or a red jacket. 2: exactly two attributes have their first value.
    3: a green jacket and a sword, or a jacket that isn't blue on a body that isn't an octagon; without noise.
    """
    sizes = (3, 3, 2, 3, 4, 2)
    robots = torch.tensor(list(itertools.product(*(range(size) for size in sizes))))
    head, body, _, holding, jacket, _ = robots.T
    rules = {
        1: (head == body) | (jacket == 0),
        2: (robots == 0).sum(1) == 2,
        3: ((jacket == 2) & (holding == 0)) | ((jacket != 3) & (body != 2)),
    }
    one_hot = [torch.nn.functional.one_hot(a, size) for a, size in zip(robots.T, sizes, strict=True)]
    return torch.cat(one_hot, dim=1).double(), rules[number].long()


def from_sklearn(name: str) -> Table:
    """A table that scikit-learn brings: "iris", "wine" or "breast_cancer"."""
    from sklearn import datasets

    inputs, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    return torch.as_tensor(inputs, dtype=torch.float64), torch.as_tensor(labels)


def networks(samples: int, seed: int) -> list[Instance[NetworkProblem]]:
    """Nine networks of 2 to 6 units; `seed` draws the random tables, and `samples` only scales the budget."""
    inputs, labels = from_sklearn("iris")
    two = labels > 0
    tables: list[tuple[str, Table, tuple[int, ...]]] = [
        ("xor/2", checkerboard(2), (2,)),
        ("parity-4/4", parity(4), (4,)),
        ("parity-4/3-2", parity(4), (3, 2)),
        ("random-2-40/3", random_points(2, 40, seed), (3,)),
        ("random-2-80/2", random_points(2, 80, seed), (2,)),
        ("random-4-40/2", random_points(4, 40, seed), (2,)),
        ("monks-2/3", monks(2), (3,)),
        ("iris/3", (inputs, labels), (3,)),
        ("iris-two/1", (inputs[two], labels[two]), (1,)),
    ]
    return [Instance(name, NetworkProblem(*table, widths=widths)) for name, table, widths in tables]
