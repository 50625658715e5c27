"""Statistics of the benchmark of narrow networks, worked out by hand."""

import math
import runpy
from pathlib import Path

import pytest

# By its path: the benchmarks are no part of the installed package.
PAIRED = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "paired.py"))
best_known, excess_of = PAIRED["best_known"], PAIRED["excess_of"]
paired_p, shifted_mean = PAIRED["paired_p"], PAIRED["shifted_mean"]

ROWS = [
    {"instance": "a", "solver": "one", "seed": 0, "objective": [3.0], "bound": [0.0]},
    {"instance": "a", "solver": "prover", "seed": 0, "objective": [5.0], "bound": [3.0]},
    {"instance": "b", "solver": "one", "seed": 0, "objective": [2.0], "bound": [None]},
    {"instance": "b", "solver": "prover", "seed": 0, "error": "it broke"},
]


def test_best_known_joins_objectives_and_bounds_of_all_rows():
    assert best_known(ROWS) == {"a": (3.0, True), "b": (2.0, False)}


def test_excess_is_above_the_best_and_infinite_for_failures():
    assert excess_of(ROWS) == {
        ("a", "one", 0): 0,
        ("a", "prover", 0): 2,
        ("b", "one", 0): 0,
        ("b", "prover", 0): math.inf,
    }


def test_shifted_mean_is_the_geometric_mean_of_one_more():
    assert shifted_mean([0.0, 3.0]) == pytest.approx(1.0)
    assert shifted_mean([2.0, 2.0]) == pytest.approx(2.0)


def test_paired_p_of_six_wins_is_two_in_sixty_four():
    assert paired_p([0, 1, 2, 3, 4, 5], [1, 3, 5, 7, 9, 11]) == pytest.approx(2 / 2**6)
    assert paired_p([1, 2], [1, 2]) == 1
