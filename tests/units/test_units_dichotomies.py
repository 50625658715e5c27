"""Enumeration of dichotomies: counts known in closed form, and the oracle asked about every pattern of few points."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsolve.errors import NotFiniteError, ShapeError, TooLargeError
from tpsolve.units import Separability, dichotomies, dichotomy_count


def cube(inputs: int) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * inputs).reshape(-1, inputs)


def by_oracle(x: torch.Tensor) -> set[tuple[int, ...]]:
    """All separable patterns with +1 on the first sample, each of the 2^(N-1) asked of the oracle."""
    every = torch.tensor([(1, *rest) for rest in itertools.product((-1, 1), repeat=len(x) - 1)], dtype=torch.float64)
    certificate = Separability().fit(x.double(), every.T)
    return {tuple(row) for row in every[certificate.status == 1].long().tolist()}


def as_set(found: torch.Tensor) -> set[tuple[int, ...]]:
    rows = [tuple(row) for row in found.tolist()]
    assert len(rows) == len(set(rows)), "none occurs twice"
    return set(rows)


@pytest.mark.parametrize(("inputs", "functions"), [(1, 4), (2, 14), (3, 104), (4, 1882)])
def test_boolean_inputs_have_as_many_threshold_functions_as_is_known(inputs: int, functions: int):
    assert 2 * len(as_set(dichotomies(cube(inputs)))) == functions


@pytest.mark.slow
@pytest.mark.parametrize(("p", "n"), [(1, 7), (2, 30), (3, 18), (4, 12), (8, 11), (5, 4)])
def test_general_position_has_as_many_as_cover_counts(p: int, n: int):
    x = torch.randn(n, p, generator=torch.Generator().manual_seed(p), dtype=torch.float64)
    found = dichotomies(x)
    assert found.dtype == torch.int8
    # Fewer points than dimensions span fewer: then every pattern is separable.
    assert len(as_set(found)) == dichotomy_count(n, min(p, n - 1))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_pattern_of_small_grids_is_here_if_and_only_if_it_is_separable(data: st.DataObject):
    p, n = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 8))
    width = data.draw(st.integers(0, 3))
    point = st.lists(st.integers(-width, width), min_size=p, max_size=p)
    scale = data.draw(st.sampled_from([1.0, 0.1, 1e6 / 3]))
    x = torch.tensor(data.draw(st.lists(point, min_size=n, max_size=n)), dtype=torch.float64) * scale
    assert as_set(dichotomies(x)) == by_oracle(x)


def test_points_a_hair_off_a_line_are_told_from_points_on_it():
    line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], dtype=torch.float64)
    off = line.clone()
    off[1, 1] += 2.0**-52
    assert len(dichotomies(line)) == 4
    assert as_set(dichotomies(off)) == by_oracle(off)
    assert len(dichotomies(off)) == 6


def test_features_of_very_different_size():
    x = torch.tensor([[1e200, 1e-200], [3e200, 5e-200], [-2e200, 7e-200], [4e200, -1e-200]], dtype=torch.float64)
    assert as_set(dichotomies(x)) == by_oracle(x)


@pytest.mark.parametrize("seed", range(3))
def test_affine_maps_of_the_points_change_nothing(seed: int):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.integers(-3, 4, (14, 3)), dtype=torch.float64)
    matrix = torch.tensor([[1, 2, 0], [0, 1, -3], [2, 0, 1]], dtype=torch.float64)
    assert as_set(dichotomies(x)) == as_set(dichotomies(x @ matrix + 5))


def test_duplicates_and_repeated_features_get_equal_signs():
    x = torch.tensor([[0, 0], [1, 1], [0, 0], [2, 2], [1, 1]])
    found = dichotomies(x)
    assert as_set(found) == {(1, 1, 1, 1, 1), (1, 1, 1, -1, 1), (1, -1, 1, -1, -1)}


def test_bad_points_are_refused_before_any_work():
    with pytest.raises(ShapeError, match=r"^inputs"):
        dichotomies(torch.zeros(3))
    with pytest.raises(NotFiniteError, match=r"^inputs"):
        dichotomies(torch.tensor([[float("nan")]]))
    with pytest.raises(TooLargeError, match=r"1000 distinct points of 8 dimensions: up to .* ColumnSearch"):
        dichotomies(torch.randn(1000, 8, generator=torch.Generator().manual_seed(0)))


def test_numbers_up_to_the_end_of_float64_have_dichotomies():
    points = torch.tensor([[1e308, 0.0], [-1e308, 1.0], [0.1, 0.0]], dtype=torch.float64)
    assert len(dichotomies(points)) == 4
    assert len(dichotomies(points[:, :1])) == 3
