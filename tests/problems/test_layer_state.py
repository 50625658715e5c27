"""States of layer problems: what is kept up to date flip by flip equals what is computed afresh."""

from collections.abc import Iterator

import pytest
import torch
from support.zoo import ALL_LOSSES, Judge, make_problem
from torch import Tensor

from tpsolve import LayerProblem
from tpsolve.problems import State
from tpsolve.problems.layer import _layer_state as layer_state
from tpsolve.problems.layer import _squared_state as squared_state
from tpsolve.problems.layer._class_state import ClassState
from tpsolve.problems.layer._layer_state import LayerState
from tpsolve.problems.layer._squared_state import SquaredState

pytestmark = pytest.mark.rounding

each_loss = pytest.mark.parametrize("loss", ALL_LOSSES)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def spins(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return 2 * torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).to(dtype) - 1


def random_flips(seed: int, count: int, samples: int, n: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A unit of each sample, and whether to flip it."""
    g = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield torch.randint(n, (samples,), generator=g), torch.rand(samples, generator=g) < 0.7


def pre_of(state: State) -> list[Tensor]:
    """The pre-activations that a state keeps; the squared loss does without."""
    return [state.pre] if isinstance(state, LayerState) and not isinstance(state, SquaredState) else []


def squared(shared: bool, dtype: torch.dtype = torch.float64, samples: int = 4) -> LayerProblem:
    problem = make_problem(3, n=7, m=5, loss="squared", batch=(samples,), dtype=dtype, weighted=True, stay=0.25)
    # Without don't-cares, or each sample would have weights of its own.
    targets = spins(8, samples, 5)
    c = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0]) if shared else problem.unit_weight
    return LayerProblem(
        problem.weight, targets, problem.bias, "squared", c, problem.start, problem.stay, problem.stay_weight
    )


@each_dtype
@each_loss
@pytest.mark.slow
def test_thousands_of_flips_drift_no_further_than_rounding_and_refresh_ends_it(loss: str, dtype: torch.dtype):
    count, samples, n, m = 3000, 3, 9, 6
    problem = make_problem(2, n, m, loss, (samples,), dtype, weighted=True, stay=0.25)
    state = problem.state(spins(1, samples, n, dtype=dtype))
    assert type(state) is {"squared": SquaredState, "cross-entropy": ClassState}.get(loss, LayerState)
    expected = state.targets.clone()
    for units, where in random_flips(5, count, samples, n):
        state.flip(units, where)
        rows = torch.arange(samples)[where]
        expected[rows, units[where]] *= -1
    assert torch.equal(state.targets, expected), "the flips are those that were asked for"

    fresh = problem.state(expected)
    eps, size = torch.finfo(dtype).eps, problem.weight.abs().sum(1) + problem.bias.abs()
    for drifted, true_pre in zip(pre_of(state), pre_of(fresh), strict=True):
        assert ((drifted - true_pre).abs() <= count * eps * size).all(), "each flip rounds once"
    # No loss here is steeper than 2 (|z| + 1), nor is its weight above 3.
    steep = 3 * m * (2 * size.max() + 2)
    assert ((state.objective - fresh.objective).abs() <= count * eps * size.max() * steep).all()
    near = count * eps * size.max() * steep * 4 * (1 + problem.weight.abs().max()) ** 2
    assert ((state.flip_delta() - fresh.flip_delta()).abs() <= near).all()
    if loss != "zero-one":
        true = torch.tensor([float(v) for v in Judge(problem).objectives(expected)], dtype=torch.float64)
        assert ((state.objective.double() - true).abs() <= count * eps * size.max() * steep).all()

    for pre in pre_of(state):
        pre += 1
    state.objective += 1
    state.refresh()
    assert all(map(torch.equal, pre_of(state), pre_of(fresh)))
    assert torch.equal(state.objective, fresh.objective)
    assert torch.equal(state.flip_delta(), fresh.flip_delta())


@each_loss
def test_flips_of_whole_numbers_are_exact(loss: str):
    problem = make_problem(6, 6, 5, loss, (4,), torch.float32, weighted=True, stay=0.5, whole=True)
    state = problem.state(spins(2, 4, 6, dtype=torch.float32))
    for units, where in random_flips(9, 200, 4, 6):
        state.flip(units, where)
    fresh = problem.state(state.targets)
    assert all(map(torch.equal, pre_of(state), pre_of(fresh)))
    if loss == "cross-entropy":
        assert torch.allclose(state.flip_delta(), fresh.flip_delta(), rtol=0, atol=1e-6)
        assert torch.allclose(state.objective, fresh.objective, rtol=1e-6)
    else:
        assert torch.equal(state.objective, fresh.objective)
        assert torch.equal(state.flip_delta(), fresh.flip_delta())


@each_loss
def test_flip_changes_the_objective_by_the_flip_delta(loss: str):
    problem = make_problem(4, 8, 5, loss, (5,), weighted=True, stay=0.25)
    state = problem.state(spins(3, 5, 8))
    for units, where in random_flips(2, 50, 5, 8):
        before, delta = state.objective.clone(), state.flip_delta().gather(1, units[:, None])[:, 0]
        state.flip(units, where)
        assert torch.allclose(state.objective, before + torch.where(where, delta, 0.0), rtol=1e-10, atol=1e-10)


def test_state_does_not_touch_the_targets_it_was_given():
    problem = make_problem(4, 5, 3, batch=(2,))
    given = spins(3, 2, 5)
    kept = given.clone()
    state = problem.state(given)
    state.flip(torch.tensor([0, 1]), torch.tensor([True, True]))
    assert torch.equal(given, kept)
    assert not torch.equal(state.targets, kept)


@pytest.mark.parametrize("shared", [True, False], ids=["shared-weights", "weights-of-each-sample"])
@pytest.mark.parametrize("memory", ["plenty", "none"])
@each_dtype
def test_squared_state_equals_the_plain_one(
    shared: bool, memory: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    if memory == "none":
        monkeypatch.setattr(squared_state, "GRAM_BYTES", 1)
    problem = squared(shared, dtype)
    start = spins(4, 4, 7, dtype=dtype)
    quick, plain = problem.state(start), LayerState(problem.energy, start)
    assert isinstance(quick, SquaredState)
    assert (len(problem.energy.unit_weight) == 1) is shared
    assert quick._gram is None, "a matrix has to pay first"
    near = 2e-3 if dtype == torch.float32 else 1e-10
    for units, where in random_flips(7, 120, 4, 7):
        assert torch.allclose(quick.flip_delta(), plain.flip_delta(), rtol=near, atol=near)
        quick.flip(units, where)
        plain.flip(units, where)
    assert torch.allclose(quick.objective, plain.objective, rtol=near, atol=near)
    matrices = None if quick._gram is None else len(quick._gram)
    assert matrices == (1 if shared else 4 if memory == "plenty" else None)


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
@pytest.mark.parametrize("weighted", [True, False])
@each_loss
def test_chunk_size_does_not_change_flip_delta(loss: str, weighted: bool, rows: int, monkeypatch: pytest.MonkeyPatch):
    problem = make_problem(5, 6, 4, loss, (7,), torch.float32, weighted=weighted, stay=0.5, whole=True)
    targets = spins(1, 7, 6, dtype=torch.float32)
    whole = problem.state(targets).flip_delta()
    monkeypatch.setattr(layer_state, "CHUNK_BYTES", rows * 6 * 4 * 4)
    state = problem.state(targets)
    for chunked in (state.flip_delta(), state.flip_delta()):
        if loss in ("soft-hinge", "logistic", "cross-entropy"):
            assert torch.allclose(chunked, whole, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(chunked, whole), "sums of whole numbers are exact in any order"


@pytest.mark.parametrize("memory", ["plenty", "none"])
@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "unweighted"])
@each_loss
def test_selected_state_goes_on_as_the_selected_problem(
    loss: str, weighted: bool, memory: str, monkeypatch: pytest.MonkeyPatch
):
    if memory == "none":
        monkeypatch.setattr(squared_state, "GRAM_BYTES", 1)
    problem = make_problem(8, 5, 4, loss, (6,), weighted=weighted, stay=0.5)
    state = problem.state(spins(2, 6, 5))
    for units, where in random_flips(1, 10, 6, 5):
        state.flip(units, where)
    numbers = torch.arange(6)
    # Down to two samples, to one, and to none: local searches let the finished ones go.
    for keep in ([True, False, True, True, False, True], [False, True, False, True], [False, True], [False]):
        state, numbers = state.select(torch.tensor(keep)), numbers[torch.tensor(keep)]
        assert state.targets.shape == (sum(keep), 5)
        if not len(numbers):
            break
        reference = problem.select(numbers).state(state.targets)
        for units, where in random_flips(3, 10, len(numbers), 5):
            for one in (state, reference):
                one.flip(units, where)
            assert torch.allclose(state.objective, reference.objective, rtol=1e-10, atol=1e-10)
            assert torch.allclose(state.flip_delta(), reference.flip_delta(), rtol=1e-9, atol=1e-9)
        state.refresh()
        assert torch.allclose(state.objective, reference.objective, rtol=1e-10, atol=1e-10)


def test_selecting_leaves_the_old_state_alone():
    problem = make_problem(8, 5, 4, "squared", (3,), weighted=True)
    state = problem.state(spins(2, 3, 5))
    before = state.targets.clone(), state.objective.clone(), state.flip_delta()
    part = state.select(torch.tensor([True, False, True]))
    part.flip(torch.tensor([0, 0]), torch.tensor([True, True]))
    for was, now in zip(before, (state.targets, state.objective, state.flip_delta()), strict=True):
        assert torch.equal(was, now)


def thresholds(seed: int, n: int, samples: int) -> Tensor:
    """By how much each flip of a sweep may change the objective; some must lower it, some may raise it."""
    return 2 * torch.randn(n, samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "unweighted"])
@each_loss
def test_sweep_takes_the_flips_that_single_trials_take(loss: str, weighted: bool):
    n, samples = 21, 4
    problem = make_problem(3, n, 5, loss, (samples,), weighted=weighted, stay=0.25)
    state = problem.state(spins(2, samples, n))
    for seed in range(3):
        most, expected = thresholds(seed, n, samples), state.targets.clone()
        for unit in range(n):
            delta = problem.flip_delta(expected)[:, unit]
            expected[:, unit] *= torch.where(delta <= most[unit], -1, 1)
        state.sweep(lambda units, most=most: most[units])
        assert torch.equal(state.targets, expected), "no threshold here is within rounding of a flip delta"
        assert torch.allclose(state.objective, problem.objective(expected), rtol=1e-10, atol=1e-10)
        assert torch.allclose(state.flip_delta(), problem.flip_delta(expected), rtol=1e-9, atol=1e-9)


def test_sweep_of_any_state_is_trial_and_error():
    problem = make_problem(3, 7, 5, "hinge", (4,), stay=0.25)
    quick, plain = problem.state(spins(2, 4, 7)), problem.state(spins(2, 4, 7))
    most = thresholds(5, 7, 4)
    quick.sweep(lambda units: most[units])
    State.sweep(plain, lambda units: most[units])
    assert torch.equal(quick.targets, plain.targets)


@each_loss
def test_a_sweep_ends_where_it_is_told_to(loss: str):
    problem = make_problem(3, 40, 5, loss, (4,), stay=0.25)
    state, plain = problem.state(spins(2, 4, 40)), problem.state(spins(2, 4, 40))
    before, most = state.targets.clone(), thresholds(5, 40, 4)
    for any_state, sweep in ((state, state.sweep), (plain, lambda limit: State.sweep(plain, limit))):
        seen = []
        sweep(lambda units, seen=seen: most[units] if units.start < 20 else seen.append(units.start))
        assert len(seen) == 1, "nobody asks again"
        end = seen[0]
        assert torch.equal(any_state.targets[:, end:], before[:, end:])
        assert not torch.equal(any_state.targets[:, :end], before[:, :end])
        assert torch.allclose(any_state.objective, problem.objective(any_state.targets))
        assert torch.allclose(any_state.flip_delta(), problem.flip_delta(any_state.targets), atol=1e-9)


@pytest.mark.parametrize("size", [1e-3, 1.0, 10.0, 100.0])
@each_dtype
def test_flip_deltas_of_the_cross_entropy_hold_for_weights_of_any_size(size: float, dtype: torch.dtype):
    problem = make_problem(4, 9, 6, "cross-entropy", (5,), dtype)
    problem = LayerProblem(size * problem.weight, problem.targets, loss="cross-entropy")
    targets = spins(3, 5, 9, dtype=dtype)
    delta = problem.flip_delta(targets).double()
    flipped = targets[None] * (1 - 2 * torch.eye(9, dtype=dtype))[:, None]
    true = (problem.objective(flipped) - problem.objective(targets)).T
    assert torch.isfinite(delta).all()
    assert torch.allclose(delta, true, rtol=1e-5 if dtype == torch.float32 else 1e-10, atol=1e-5 * (1 + size))
