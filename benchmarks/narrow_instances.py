"""The instances of benchmarks/narrow.py: small tables, and the hidden layers to fit them with."""

import csv
import os
from pathlib import Path
from typing import Any

import torch

from tpsolve.problems import Instance, NetworkProblem, make_table

Table = tuple[Any, Any]
"""Inputs `(N, p)` and one label each."""


def read_csv(name: str, split: str = "") -> Table:
    """A table of the folder TPSOLVE_DATA: numbers as they are, words one-hot, `split` picks rows where given."""
    path = Path(os.environ["TPSOLVE_DATA"]) / "tabular" / f"{name}.csv"
    header, *rows = csv.reader(path.read_text().splitlines())
    if split:
        rows = [row for row in rows if row[header.index("split")] == split]
    columns: list[list[float]] = []
    for feature, *values in zip(header, *rows, strict=True):
        if feature.endswith(":n"):
            columns.append([float(value) for value in values])
        elif feature.endswith(":c"):
            columns += [[float(value == word) for value in values] for word in sorted(set(values))]
    return torch.tensor(columns, dtype=torch.float64).T.contiguous(), [row[header.index("target")] for row in rows]


def xor_blobs(points: int, spread: float) -> Table:
    """Normal clouds around the corners of a square, labelled as XOR; they overlap."""
    generator = torch.Generator().manual_seed(77)
    corner = torch.arange(points) % 4
    centre = torch.stack([corner // 2, corner % 2], dim=1).double() * 2 - 1
    noise = torch.randn(points, 2, generator=generator, dtype=torch.float64) * spread
    return ((centre + noise) * 100).round() / 100, (centre.prod(1) > 0).long()


def one_class(table: Table, label: str) -> Table:
    """That class against the rest."""
    inputs, labels = table
    return inputs, [str(one == label) for one in labels]


def narrow() -> list[Instance[NetworkProblem]]:
    """All of them; without TPSOLVE_DATA those that need no files."""
    breast, breast_labels = make_table("breast-cancer")
    made: list[tuple[str, Table, tuple[int, ...]]] = [
        ("checkerboard-3/2", make_table("checkerboard-3"), (2,)),
        ("checkerboard-4/3", make_table("checkerboard-4"), (3,)),
        ("xor-blobs/2", xor_blobs(80, 0.7), (2,)),
        ("parity-4/4", make_table("parity-4"), (4,)),
        ("parity-5/5", make_table("parity-5"), (5,)),
        ("parity-6/6", make_table("parity-6"), (6,)),
        ("parity-4/3-2", make_table("parity-4"), (3, 2)),
        ("random-2-40/3", make_table("random-2-40"), (3,)),
        ("random-2-40/4", make_table("random-2-40-s1"), (4,)),
        ("random-2-80/2", make_table("random-2-80"), (2,)),
        ("random-2-80/3", make_table("random-2-80-s1"), (3,)),
        ("random-2-160/2", make_table("random-2-160"), (2,)),
        ("random-4-40/2", make_table("random-4-40"), (2,)),
        ("random-2-40/3-3", make_table("random-2-40"), (3, 3)),
        ("monks-1-all/2", make_table("monks-1"), (2,)),
        ("monks-2-all/2", make_table("monks-2"), (2,)),
        ("monks-3-all/2", make_table("monks-3"), (2,)),
        ("iris/3", make_table("iris"), (3,)),
        ("iris-two/2", make_table("iris-two"), (2,)),
        ("breast-cancer/1", (breast[:, :10], breast_labels), (1,)),
    ]
    if "TPSOLVE_DATA" in os.environ:
        made += [
            ("monks-1/2", read_csv("monks1", "train"), (2,)),
            ("monks-2/2", read_csv("monks2", "train"), (2,)),
            ("monks-3/2", read_csv("monks3", "train"), (2,)),
            ("tictactoe/2", read_csv("tictactoe"), (2,)),
            ("tictactoe/8", read_csv("tictactoe"), (8,)),
            ("balance-B/2", one_class(read_csv("balance"), "B"), (2,)),
            ("balance/4", read_csv("balance"), (4,)),
            ("heart/2", read_csv("heart"), (2,)),
            ("sonar/1", read_csv("sonar"), (1,)),
            ("ionosphere/1", read_csv("ionosphere"), (1,)),
            ("votes/1", read_csv("votes"), (1,)),
            ("spect/2", read_csv("spect"), (2,)),
        ]
    return [Instance(name, NetworkProblem(*table, widths=widths)) for name, table, widths in made]
