"""Spins: the hard threshold, conversions, draws, and the checks of what is read as a tensor."""

import math

import numpy as np
import pytest
import torch

from tpsolve.errors import ArgumentError, NotFiniteError
from tpsolve.spins import check_tensor, from_bits, random_spins, sign, to_bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_sign_is_plus_at_zero_and_shows_nan(dtype: torch.dtype):
    z = torch.tensor([-2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0, math.inf, -math.inf, math.nan], dtype=dtype)
    found = sign(z)
    assert found.dtype == dtype
    assert found[:-1].tolist() == [-1, -1, 1, 1, 1, 1, 1, -1]
    assert torch.isnan(found[-1])


def test_bits_and_spins_are_two_names_of_the_same():
    spins = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert to_bits(spins).tolist() == [[True, False], [False, True]]
    assert torch.equal(from_bits(to_bits(spins)), spins)
    assert from_bits(to_bits(spins), torch.float64).dtype == torch.float64


def test_random_spins_are_fair_seeded_and_of_the_asked_kind():
    drawn = random_spins((100, 200), torch.Generator().manual_seed(1), dtype=torch.float64)
    assert drawn.dtype == torch.float64
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert abs(drawn.mean().item()) < 5 / math.sqrt(20000)
    assert torch.equal(drawn, random_spins((100, 200), torch.Generator().manual_seed(1), dtype=torch.float64))
    assert not torch.equal(drawn, random_spins((100, 200), torch.Generator().manual_seed(2), dtype=torch.float64))


def test_numbers_of_any_kind_become_tensors():
    for value in ([1, 2], (1.0, 2.0), np.array([1, 2]), np.array([1.0, 2.0], dtype=np.float32), torch.tensor([1, 2])):
        tensor = check_tensor("x", value)
        assert tensor.dtype in (torch.float32, torch.float64)
        assert tensor.tolist() == [1.0, 2.0]
    assert check_tensor("x", np.array([1.0, 2.0])).dtype == torch.float64
    assert check_tensor("x", torch.ones(2).half()).dtype == torch.float32


@pytest.mark.parametrize(
    "value", ["abc", None, {"a": 1}, [[1.0], [1.0, 2.0]], object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_tensor_is_named(value: object):
    with pytest.raises(
        ArgumentError, match=rf"x: got {type(value).__name__}, expected a tensor, array or list of numbers"
    ):
        check_tensor("x", value)


def test_what_is_not_finite_is_counted_and_placed():
    with pytest.raises(NotFiniteError, match=r"x: got 2 NaN and 1 infinite values, the first at \[0, 2\]"):
        check_tensor("x", [[1.0, 2.0, math.nan], [math.inf, math.nan, 0.0]])
