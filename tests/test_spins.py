"""Spins: the hard threshold, conversions, draws, and the checks of what is read as a tensor."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tpsolve import BlockProblem, LayerProblem, NetworkProblem
from tpsolve._check_arguments import check_tensor
from tpsolve.errors import ArgumentError, NotFiniteError, ValueSetError
from tpsolve.spins import from_bits, random_spins, sign, to_bits
from tpsolve.units import Hinge, Separability, circuits


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


def booleans(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.bool)


LINEAR = nn.Linear(3, 2)
LAYER = LayerProblem(torch.ones(2, 3), torch.ones(4, 2), start=torch.ones(4, 3))
BLOCK = BlockProblem(LINEAR, torch.ones(4, 2), torch.ones(4, 3), "hinge")
NETWORK = NetworkProblem([[0.0], [1.0]], [0, 1], widths=[1])

TAKES_SPINS = {
    "targets of a layer": lambda: LayerProblem(torch.ones(2, 3), booleans(4, 2)),
    "array": lambda: LayerProblem(torch.ones(2, 3), booleans(4, 2).numpy()),
    "list": lambda: LayerProblem(torch.ones(2, 3), booleans(4, 2).tolist()),
    "start of a layer": lambda: LayerProblem(torch.ones(2, 3), torch.ones(4, 2), start=booleans(4, 3)),
    "objective of a layer": lambda: LAYER.objective(booleans(4, 3)),
    "flip_delta of a layer": lambda: LAYER.flip_delta(booleans(4, 3)),
    "targets of a block": lambda: BlockProblem(LINEAR, booleans(4, 2), torch.ones(4, 3), "hinge"),
    "start of a block": lambda: BlockProblem(LINEAR, torch.ones(4, 2), booleans(4, 3), "hinge"),
    "objective of a block": lambda: BLOCK.objective(booleans(4, 3)),
    "objective of a network": lambda: NETWORK.objective(booleans(4)),
    "network": lambda: NETWORK.network(booleans(4)),
    "fit": lambda: Hinge().fit(torch.ones(4, 3), booleans(4, 2)),
    "verify": lambda: Separability().fit(torch.ones(4, 3), torch.ones(4, 2)).verify(torch.ones(4, 3), booleans(4, 2)),
    "circuits": lambda: circuits(torch.ones(4, 3), booleans(4), 1),
}


@pytest.mark.parametrize("call", TAKES_SPINS.values(), ids=TAKES_SPINS)
def test_booleans_are_no_spins(call: Callable[[], object]):
    # False would be 0, don't care.
    message = r"^(targets|start): got booleans, expected only -1,( 0,)? \+1\. Write torch\.where\(\1, 1, -1\)\.$"
    with pytest.raises(ValueSetError, match=message):
        call()


def test_the_cure_for_booleans_gives_the_spins():
    targets = torch.tensor([[True, False]])
    assert LayerProblem(torch.ones(2, 3), torch.where(targets, 1, -1)).targets.tolist() == [[1, -1]]


def test_booleans_are_labels_and_inputs():
    problem = NetworkProblem([[False, False], [True, False]], [False, True], widths=[1])
    assert problem.classes == (False, True)
    assert problem.inputs.tolist() == [[0, 0], [1, 0]]
    labels = LayerProblem(torch.ones(2, 3), torch.tensor([True, False]), loss="cross-entropy").targets
    assert labels.tolist() == [1, 0]
