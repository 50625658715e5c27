"""What is done to the arguments of a problem afterwards, in place, doesn't change the problem."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tpsolve import BlockProblem, LayerProblem, NetworkProblem, ProgramProblem
from tpsolve._check_arguments import own
from tpsolve.problems import Problem

Arguments = dict[str, Any]


def spins(*shape: int) -> torch.Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(1)).double() - 1


def real(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.5


def layer() -> Arguments:
    given = {"weight": real(4, 3), "targets": spins(2, 4), "bias": real(4), "unit_weight": real(2, 4)}
    return {**given, "start": spins(2, 3), "stay_weight": real(2, 3), "pull": real(2, 3), "stay": 0.5}


def block() -> Arguments:
    module = nn.Linear(3, 4, dtype=torch.float64)
    given = {"block": module, "targets": spins(2, 4), "start": spins(2, 3), "unit_weight": real(2, 4), "loss": "hinge"}
    return {**given, "stay": 0.5, "stay_weight": real(2, 3)}


def network() -> Arguments:
    return {"X": real(6, 2), "y": torch.tensor([0, 1, 0, 1, 1, 0]), "widths": [2], "weight": real(6)}


def program() -> Arguments:
    mask = torch.tensor([[True, True], [True, False]])
    return {"program": sum, "labels": [1, 2], "logits": real(2, 2, 3), "symbols": 3, "mask": mask}


CASES: list[tuple[Callable[..., Problem], Callable[[], Arguments]]] = [
    (LayerProblem, layer),
    (BlockProblem, block),
    (NetworkProblem, network),
    (ProgramProblem, program),
]


def spoil(value: Any) -> None:
    with torch.no_grad():
        if isinstance(value, nn.Module):
            for parameter in value.parameters():
                parameter.mul_(-3)
        elif value.dtype in (torch.bool, np.bool_):
            value[...] = ~value
        else:
            value *= -1


@pytest.mark.parametrize("arrays", [False, True], ids=["tensors", "arrays"])
@pytest.mark.parametrize(("kind", "make"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_arguments_changed_in_place_change_no_problem(
    kind: Callable[..., Problem], make: Callable[[], Arguments], arrays: bool
):
    given = make()
    if arrays:
        given = {
            name: value.numpy() if isinstance(value, torch.Tensor) and name != "logits" else value
            for name, value in given.items()
        }
    problem, twin = kind(**given), kind(**make())
    if isinstance(twin, BlockProblem):
        twin = problem
    targets = problem.start
    assert targets is not None
    before, saved = problem.objective(targets), {name: _copy(value) for name, value in vars(problem).items()}
    for value in given.values():
        if isinstance(value, torch.Tensor | np.ndarray | nn.Module):
            spoil(value)
    assert all(_equal(value, saved[name]) for name, value in vars(problem).items() if name in saved)
    # Computed anew, where the first answer may have been kept.
    assert torch.equal(
        problem.flatten().objective(targets.reshape(*problem.flatten().batch_shape, -1)).reshape(before.shape), before
    )
    if not isinstance(problem, BlockProblem):
        assert problem.fingerprint == twin.fingerprint


def test_a_copy_of_what_is_repeated_is_repeated_too():
    once = real(1, 3)
    copied = own(once.expand(1000, 3))
    assert copied.shape == (1000, 3)
    assert copied.untyped_storage().nbytes() == once.untyped_storage().nbytes()
    once.zero_()
    assert (copied > 0).all()


def test_arrays_that_can_t_be_written_to_are_taken_without_a_warning():
    inputs = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    inputs.setflags(write=False)
    assert NetworkProblem(inputs, [0, 1, 1, 0], [2]).inputs.shape == (4, 2)
    assert LayerProblem(inputs, np.ones((3, 4))).n_vars == 2


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _equal(value: Any, saved: Any) -> bool:
    return torch.equal(value, saved) if isinstance(value, torch.Tensor) else value is saved or value == saved
