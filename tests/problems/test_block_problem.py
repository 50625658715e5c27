"""Block problems against the module itself, against layer problems, and with blocks that can't be searched."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.blocks import ARCHITECTURES, CLASSES, judge, make_block, make_block_problem
from support.zoo import ALL_LOSSES, make_problem
from torch import Tensor, nn
from torch.nn import functional

from tpsolve import BlockProblem, Budget, LayerProblem, Status, solve
from tpsolve.errors import (
    ArgumentError,
    BlockError,
    DeviceError,
    NotAcceptedError,
    ShapeError,
    UnknownNameError,
    ValueSetError,
)
from tpsolve.problems.block import _block_passes as block_passes
from tpsolve.problems.block._block_problem import RANKINGS
from tpsolve.spins import random_spins

pytestmark = pytest.mark.rounding

each_block = pytest.mark.parametrize("name", ARCHITECTURES)


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def as_block(problem: LayerProblem, **rest: Any) -> BlockProblem:
    """The block problem whose block is the linear layer of `problem`."""
    linear = nn.Linear(problem.n_vars, problem.n_units, dtype=problem.dtype)
    with torch.no_grad():
        linear.weight.copy_(problem.weight)
        linear.bias.copy_(problem.bias)
    weights = {"unit_weight": problem.unit_weight, "stay": problem.stay, "stay_weight": problem.stay_weight}
    return BlockProblem(linear, problem.targets, problem.start, problem.loss, **weights, **rest)


# --- the same as a layer problem, where the block is a linear layer ---------------------------------------------------


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_linear_block_is_the_layer_problem(loss: str):
    layer = make_problem(3, n=7, m=4, loss=loss, batch=(5,), weighted=True, stay=0.5)
    block, targets = as_block(layer), random_spins((5, 7), seed(), dtype=torch.float64)
    several = random_spins((6, 5, 7), seed(1), dtype=torch.float64)
    torch.testing.assert_close(block.objective(several), layer.objective(several))
    torch.testing.assert_close(block.flip_delta(targets), layer.flip_delta(targets))
    assert (block.lower_bound() <= layer.lower_bound()).all()
    torch.testing.assert_close(block.gradient(), layer.gradient())


@pytest.mark.parametrize("loss", [name for name in ALL_LOSSES if name != "cross-entropy"])
def test_curvature_below_one_linear_unit_is_exact(loss: str):
    layer = make_problem(3, n=7, m=1, loss=loss, batch=(5,), weighted=True, stay=0.5)
    torch.testing.assert_close(as_block(layer).predicted_change(), layer.predicted_change())


def test_curvature_below_one_linear_unit_is_exact_for_the_same_loss_written_out():
    layer = make_problem(3, n=7, m=1, loss="squared", batch=(5,))
    named = as_block(layer)
    own = BlockProblem(
        named._copies[named.dtype],
        named.targets,
        named.start,
        lambda out, s: (s != 0).sum(1) * (out - s).square().sum(1),
    )
    torch.testing.assert_close(own.predicted_change(), layer.predicted_change())


@pytest.mark.parametrize("loss", ["soft-hinge", "squared", "cross-entropy"])
def test_curvature_below_several_linear_units_is_right_on_average(loss: str, monkeypatch: pytest.MonkeyPatch):
    layer = make_problem(3, n=7, m=4, loss=loss, batch=(5,), weighted=True)
    monkeypatch.setattr(block_passes, "PROBES", 2000)
    assert layer.start is not None
    exact = layer.energy64.curvature(layer.start.double())
    near = as_block(layer).passes.curvature(layer.start)
    # 2000 draws: a relative error of about sqrt(2 / 2000) of what adds up.
    assert ((near - exact).abs().amax(1) <= 0.2 * exact.abs().amax(1)).all()


def test_linear_block_is_searched_as_the_layer_problem_is():
    # Whole numbers: sums are exact, and ties are the same ties.
    layer = make_problem(3, n=12, m=6, batch=(8,), weighted=True, whole=True)
    for solver in ("keep", "sign-gradient", "hill-climb", "hill-climb:restarts=3"):
        found, wanted = (solve(p, solver, budget=Budget(steps=60)) for p in (as_block(layer), layer))
        assert torch.equal(found.targets, wanted.targets), solver
        assert torch.equal(found.objective, wanted.objective)


# --- any module -------------------------------------------------------------------------------------------------------


@each_block
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_objective_is_the_module_s_own(name: str, dtype: torch.dtype):
    problem = make_block_problem(name, dtype=dtype)
    assert problem.dtype == dtype
    assert problem.judge_dtype == torch.float64
    assert problem.target_shape == ARCHITECTURES[name][0]
    targets = random_spins(problem.start.shape, seed(2))
    found = problem.objective(targets)
    assert found.dtype == torch.float64
    # The parameters of a float32 module, read in float64.
    own = functional.cross_entropy(
        make_block(name, dtype).double()(targets.double()), problem.targets, reduction="none"
    ).detach()
    torch.testing.assert_close(found, own, rtol=1e-12, atol=1e-12)


@each_block
def test_smoothed_labels_are_those_of_torch(name: str):
    weight = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    problem, plain = (make_block_problem(name, smoothing=s, unit_weight=weight) for s in (0.3, 0.0))
    block, h = make_block(name), problem.start.clone().requires_grad_()

    def lose(h: Tensor) -> Tensor:
        each = functional.cross_entropy(block(h), problem.targets, reduction="none", label_smoothing=0.3)
        return weight * each

    targets = random_spins(problem.start.shape, seed(2), dtype=torch.float64)
    torch.testing.assert_close(problem.objective(targets), lose(targets).detach(), rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(lose(h).sum(), h)
    torch.testing.assert_close(problem.gradient(), gradient, rtol=1e-10, atol=1e-12)
    change = problem.predicted_change() + 2 * problem.start * problem.gradient()
    wanted = plain.predicted_change() + 2 * plain.start * plain.gradient()
    torch.testing.assert_close(change, wanted, rtol=1e-9, atol=1e-12)
    assert problem.fingerprint != plain.fingerprint
    assert (problem.lower_bound() <= problem.objective(targets)).all()


@each_block
def test_flip_delta_is_the_difference_of_two_objectives(name: str):
    problem = make_block_problem(name, stay=0.125)
    targets = random_spins(problem.start.shape, seed(3), dtype=torch.float64)
    delta = problem.flip_delta(targets).flatten(1)
    before = judge(name, problem, targets)
    for unit in range(problem.n_vars):
        flipped = targets.flatten(1).clone()
        flipped[:, unit] *= -1
        # Towards the activation a flip saves 1/8, away from it one costs that.
        stay = 0.125 * (targets * problem.start).flatten(1)[:, unit]
        torch.testing.assert_close(delta[:, unit], judge(name, problem, flipped) - before + stay)


@each_block
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_state_stays_true_through_random_flips(name: str, dtype: torch.dtype):
    problem = make_block_problem(name, dtype=dtype, stay=0.25).flatten()
    g, state = seed(4), problem.state(problem.start)
    for _ in range(100):
        units, where = torch.randint(problem.n_vars, (3,), generator=g), torch.rand(3, generator=g) < 0.7
        wanted = state.targets.clone()
        for row in where.nonzero()[:, 0].tolist():
            wanted[row, units[row]] *= -1
        state.flip(units, where)
        assert torch.equal(state.targets, wanted)
    torch.testing.assert_close(state.objective.double(), problem.objective(state.targets), rtol=1e-5, atol=1e-5)
    keep = torch.tensor([True, False, True])
    rest = state.select(keep)
    torch.testing.assert_close(rest.flip_delta(), state.flip_delta()[keep])


@pytest.mark.parametrize("candidates", [1, 4, 17])
def test_only_the_most_promising_flips_are_tried(candidates: int):
    problem = make_block_problem("pooling", samples=4, candidates=candidates).flatten()
    state = problem.state(problem.start)
    delta, exact = state.flip_delta(), problem.flip_delta(problem.start)
    tried = torch.isfinite(delta)
    assert tried.sum(1).tolist() == [candidates] * 4
    torch.testing.assert_close(delta[tried], exact[tried])
    # The gradient from the module itself: flipping j changes the linearised objective by -2 t_j g_j.
    h = problem.start.clone().requires_grad_()
    judge("pooling", problem, h)
    output = make_block("pooling")(h.reshape(4, 2, 4, 4))
    (g,) = torch.autograd.grad(functional.cross_entropy(output, problem.targets, reduction="sum"), h)
    promise = -2 * problem.start * g
    assert (promise[tried].reshape(4, -1).amax(1) <= promise.masked_fill(tried, math.inf).amin(1)).all()


def test_curvature_ranks_by_the_predicted_change():
    problem = make_block_problem("pooling", samples=4, candidates=5, ranking="curvature").flatten()
    tried = torch.isfinite(problem.state(problem.start).flip_delta())
    assert tried.sum(1).tolist() == [5] * 4
    change = problem.predicted_change()
    assert (change[tried].reshape(4, -1).amax(1) <= change.masked_fill(tried, math.inf).amin(1)).all()
    assert not torch.equal(change, -2 * problem.start * problem.gradient())


@each_block
def test_descent_ends_where_no_flip_helps(name: str):
    problem = make_block_problem(name, samples=4)
    result = solve(problem, "hill-climb", budget=Budget(steps=500))
    assert result.targets.shape == problem.start.shape
    assert (problem.flip_delta(result.targets) > -1e-9).all()
    torch.testing.assert_close(result.objective, judge(name, problem, result.targets))
    assert (result.objective <= judge(name, problem, problem.start) + 1e-12).all()


def test_loss_of_one_s_own_and_context():
    class Add(nn.Module):
        def forward(self, h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
            return scale[:, None] * (h + shift)

    wanted = torch.tensor([[3.0, -1.0], [0.5, 0.0]], dtype=torch.float64)
    shift, scale = torch.tensor([[1.0, 1.0], [0.0, -1.0]]), torch.tensor([1.0, 2.0])
    problem = BlockProblem(
        Add(), wanted, -torch.ones(2, 2), lambda out, y: (out - y).abs().sum(1), context=(shift, scale)
    )
    result = solve(problem, "hill-climb", budget=Budget(steps=10))
    # (1+1, -1+1) against (3, -1): 1 + 1. 2 (t1, t2 - 1) against (0.5, 0): t1 = +1 costs 1.5, t2 = +1 costs 0.
    assert result.targets.tolist() == [[1, -1], [1, 1]]
    assert result.objective.tolist() == [2.0, 1.5]
    assert problem.lower_bound().tolist() == [-math.inf] * 2, "nothing is known of the loss"
    assert result.status == [Status.FEASIBLE] * 2


def test_layer_loss_against_targets_of_a_whole_map():
    conv = nn.Conv2d(1, 2, 2, dtype=torch.float64)
    start = random_spins((2, 1, 3, 3), seed())
    s = torch.randint(-1, 2, (2, 2, 2, 2), generator=seed(1))
    c = torch.rand(2, 2, 2, 2, generator=seed(2), dtype=torch.float64)
    problem = BlockProblem(conv, s, start, "hinge", unit_weight=c)
    loss = (c * (s != 0) * (1 - s * conv(start.double()).detach()).clamp(min=0)).sum((1, 2, 3))
    torch.testing.assert_close(problem.objective(start), loss)
    assert problem.lower_bound().tolist() == [0.0, 0.0]


def test_later_training_of_the_module_does_not_change_the_problem():
    block = make_block("layers")
    problem = BlockProblem(block, [0, 1], torch.ones(2, 5))
    before, fingerprint = problem.objective(problem.start), problem.fingerprint
    with torch.no_grad():
        for value in block.parameters():
            value.add_(1.0)
    assert torch.equal(problem.objective(problem.start), before)
    assert problem.fingerprint == fingerprint
    assert BlockProblem(block, [0, 1], torch.ones(2, 5)).fingerprint != fingerprint
    assert all(value.requires_grad for value in block.parameters())


def test_block_that_works_in_place_leaves_targets_alone():
    block = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, CLASSES)).double()
    start = random_spins((3, 4), seed(), dtype=torch.float64)
    problem = BlockProblem(block, [0, 1, 2], start.clone())
    result = solve(problem, "hill-climb", budget=Budget(steps=20))
    assert torch.equal(problem.start, start)
    assert set(result.targets.flatten().tolist()) == {-1.0, 1.0}
    h = start.clone().requires_grad_()
    loss = functional.cross_entropy(block[1](h.relu()), problem.targets, reduction="sum")
    torch.testing.assert_close(problem.gradient(), torch.autograd.grad(loss, h)[0])


# --- memory and company -----------------------------------------------------------------------------------------------

SEEN: list[int] = []


class Watched(nn.Module):
    """A hidden layer of 32 numbers that tells how many samples come at once."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, CLASSES)).double()

    def forward(self, h: Tensor) -> Tensor:
        SEEN.append(len(h))
        return self.block(h)


@pytest.mark.slow
@pytest.mark.parametrize("ranking", RANKINGS)
def test_passes_keep_to_the_maximum_memory_and_give_the_same(ranking: str):
    torch.manual_seed(0)
    block, start, labels = Watched(), random_spins((40, 6), seed()), torch.arange(40) % CLASSES
    results, most = [], []
    for limit in (4_000, 20_000, 2**28):
        problem = BlockProblem(block, labels, start, candidates=4, ranking=ranking, max_bytes=limit)
        SEEN.clear()
        results.append(solve(problem, "hill-climb", budget=Budget(steps=30)))
        most.append(max(SEEN))
    # The hidden layer is made twice, before and after its ReLU: 512 bytes a sample, and less than as much besides.
    assert 4_000 / 1024 <= most[0] <= 4_000 / 512
    assert 20_000 / 1024 <= most[1] <= 20_000 / 512
    assert most[2] == 40 * 4
    for other in results[:2]:
        assert torch.equal(other.targets, results[2].targets)
        torch.testing.assert_close(other.objective, results[2].objective, rtol=1e-12, atol=1e-12)


def test_limit_below_one_sample_is_refused_with_what_it_takes():
    with pytest.raises(ArgumentError, match=r"max_bytes: got 100, expected at least \d+ bytes, for a sample"):
        BlockProblem(Watched(), [0], torch.ones(1, 6), max_bytes=100)


@each_block
def test_samples_do_not_see_each_other(name: str):
    problem = make_block_problem(name, samples=6)
    together = solve(problem, "hill-climb", budget=Budget(steps=200))
    for row in range(6):
        alone = solve(problem.select(torch.tensor([row])), "hill-climb", budget=Budget(steps=200))
        assert torch.equal(alone.targets[0], together.targets[row].flatten())
        torch.testing.assert_close(alone.objective[0], together.objective[row])


def test_select_repeat_and_to_keep_the_samples():
    problem = make_block_problem("residual", samples=4, stay=0.5, stay_weight=torch.rand(4, 2, 3, 2))
    flat = problem.start.flatten(1)
    values = problem.objective(problem.start)
    assert torch.equal(problem.flatten().objective(flat), values)
    picked = problem.select(torch.tensor([2, 0]))
    torch.testing.assert_close(picked.objective(flat[[2, 0]]), values[[2, 0]])
    twice = problem.repeat(2)
    torch.testing.assert_close(twice.objective(flat.repeat(2, 1)), values.repeat(2))
    moved = problem.to("cpu")
    assert moved.target_shape == problem.target_shape
    assert torch.equal(moved.objective(problem.start), values)


# --- blocks that can't be searched ------------------------------------------------------------------------------------


class Function(nn.Module):
    """A block from a function."""

    def __init__(self, function: Callable[[Tensor], Any]):
        super().__init__()
        self.function = function

    def forward(self, h: Tensor) -> Any:
        return self.function(h)


class Counts(nn.Module):
    """Adds how many passes there have been to a buffer, which leaves its output alone."""

    passes: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        self.passes += 1
        return h[:, :CLASSES]


EVAL = r".*\.eval\(\)"
REFUSED: dict[str, tuple[nn.Module, str]] = {
    "batch norm that learns": (nn.Sequential(nn.BatchNorm1d(4)), r"BatchNorm1d '0' in training mode" + EVAL),
    "dropout": (nn.Dropout(0.01), r"Dropout in training mode, which drops values at random" + EVAL),
    "noise": (Function(lambda h: h + torch.rand_like(h)), r"of which two equal passes differ.*deterministic"),
    "batch statistics": (Function(lambda h: h - h.mean(0)), r"depends on the other samples.*Normalise with frozen"),
    "norm without statistics": (nn.BatchNorm1d(4, track_running_stats=False).eval(), r"BatchNorm1d without running"),
    "batch axis lost": (Function(lambda h: h.reshape(-1)), r"outputs of shape .* for one sample and .*flatten\(1\)"),
    "batch axis squeezed": (Function(lambda h: h.sum(1, keepdim=True).squeeze()), r"returns a number"),
    "state": (Counts(), r"a module whose buffer passes changes in a pass, expected one that keeps no state"),
    "two outputs": (Function(lambda h: (h, h)), r"a module that returns tuple, expected one that returns a tensor"),
    "wrong width": (nn.Linear(5, CLASSES), r"RuntimeError .* on every sample, expected .*activations \(b, 4\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_block_that_is_no_function_of_the_sample_is_refused(case: str):
    block, message = REFUSED[case]
    before = torch.get_rng_state()
    with pytest.raises(BlockError, match=message):
        BlockProblem(block, torch.zeros(3), random_spins((3, 4), seed()), lambda out, y: out.reshape(len(y), -1).sum(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_dropout_and_batch_norm_are_taken():
    block = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, CLASSES)).eval()
    assert BlockProblem(block, [0, 1], random_spins((2, 4), seed())).n_vars == 4


def test_block_that_can_t_be_copied_is_refused():
    class Stubborn(nn.Identity):
        def __deepcopy__(self, memo: Any) -> nn.Module:
            raise RuntimeError("no copies")

    with pytest.raises(BlockError, match=r"RuntimeError \(no copies\) when copied"):
        BlockProblem(Stubborn(), [0], torch.ones(1, 4))


def test_module_that_knows_float32_alone_is_judged_in_float32():
    table = torch.randn(4, CLASSES, generator=seed())
    problem = BlockProblem(Function(lambda h: h @ table), [0, 1], random_spins((2, 4), seed()))
    assert problem.judge_dtype == torch.float32
    exact = BlockProblem(nn.Linear(4, CLASSES), [0, 1], random_spins((2, 4), seed()))
    assert (problem.rounding() > 1e4 * exact.rounding()).all(), "the rounding says so"
    wanted = functional.cross_entropy(problem.start @ table, problem.targets, reduction="none")
    torch.testing.assert_close(problem.objective(problem.start), wanted.double())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"block": "linear"}, ArgumentError, r"block: got str, expected a torch.nn.Module"),
        ({"start": torch.zeros(2, 5)}, ValueSetError, r"start: got .*expected only -1, \+1"),
        ({"start": torch.ones(5)}, ShapeError, r"start: got shape \(5,\), expected \(samples, ...\)"),
        ({"start": [[1.0, math.nan]]}, ArgumentError, r"start: got 1 NaN"),
        ({"targets": [0, 3]}, ValueSetError, r"targets: got 3, expected class labels from 0 to 2"),
        ({"targets": [0, -1]}, ValueSetError, r"targets: got -1, expected class labels from 0 to 2"),
        ({"targets": [0.5, 1]}, ValueSetError, r"targets: got 0.5, expected whole class labels"),
        ({"targets": [0]}, ShapeError, r"targets: got shape \(1,\), expected \(2, ...\)"),
        ({"loss": "hinge", "targets": [[1, -1]] * 2}, ShapeError, r"targets: got shape \(2, 2\), expected \(2, 3\)"),
        ({"loss": "hinge", "targets": [[1, 2, 0]] * 2}, ValueSetError, r"targets: .*0 for don't care"),
        ({"loss": "hing"}, ArgumentError, r"loss: got 'hing'.*Did you mean 'hinge'"),
        ({"loss": 3}, ArgumentError, r"loss: got int, expected a name, or a function"),
        ({"loss": lambda out, y: out.sum()}, ArgumentError, r"loss: got ValueError \(the loss of 1 samples has the"),
        ({"loss": lambda out, y: out.sum(1), "unit_weight": 2}, ArgumentError, r"unit_weight: .*loss of your own"),
        ({"unit_weight": -1.0}, ValueSetError, r"unit_weight: got -1, expected no negative weights"),
        ({"smoothing": 1.5}, ArgumentError, r"smoothing: got 1.5, expected a number from 0 to 1"),
        (
            {"smoothing": 0.1, "loss": "hinge", "targets": [[1, -1, 0]] * 2},
            ArgumentError,
            r"smoothing: got 0.1, expected 0 with the loss 'hinge'",
        ),
        ({"stay": -1}, ArgumentError, r"stay: got -1, expected a finite number of at least 0"),
        ({"stay_weight": torch.ones(3)}, ShapeError, r"stay_weight: got shape \(3,\)"),
        ({"ranking": "curvatur"}, UnknownNameError, r"ranking.*Did you mean 'curvature'"),
        ({"candidates": 0}, ArgumentError, r"candidates: got 0, expected a whole number of at least 1"),
        ({"max_bytes": 0.5}, ArgumentError, r"max_bytes: got 0.5, expected a whole number"),
        ({"context": (torch.ones(3),)}, ShapeError, r"context\[0\]: got shape \(3,\), expected \(2, ...\)"),
        ({"block": nn.Linear(5, 3, device="meta")}, DeviceError, r"block: got weight on meta, expected cpu"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], error: type[Exception], message: str):
    arguments: dict[str, Any] = {"block": make_block("linear"), "targets": [0, 1], "start": torch.ones(2, 5)}
    with pytest.raises(error, match=message):
        BlockProblem(**{**arguments, **change})


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return 2 * ctx.saved_tensors[0] * gradients[0]


def test_a_loss_that_can_be_differentiated_only_once_has_no_curvature():
    problem = BlockProblem(make_block("linear"), [0, 1], torch.ones(2, 5), lambda out, y: Once.apply(out).sum(1))
    with pytest.raises(NotAcceptedError, match=r"problem: got a loss whose second derivative raises \(RuntimeError: "):
        solve(problem, "curvature-flip", budget=Budget(steps=1))
    wide = BlockProblem(
        make_block("linear"), [0, 1], torch.ones(2, 5), lambda out, y: Once.apply(out).sum(1), ranking="curvature"
    )
    with pytest.raises(NotAcceptedError, match="second derivative"):
        solve(wide, "hill-climb", budget=Budget(steps=1))


def test_the_curvature_of_a_loss_of_ones_own_is_that_of_its_hessian(monkeypatch: pytest.MonkeyPatch):
    g = seed()
    block, start = nn.Linear(6, 3).double(), random_spins((4, 6), g, dtype=torch.float64)
    targets = torch.randn(4, 3, generator=g, dtype=torch.float64)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        # Neither convex nor separable.
        return (out - y).square().sum(1) + (out[:, 0] * out[:, 1]).sin() + out.prod(1)

    monkeypatch.setattr(block_passes, "PROBES", 4000)
    problem = BlockProblem(block, targets, start, loss)
    found = problem.predicted_change()
    for b in range(4):
        own: Any = torch.autograd.functional.hessian(lambda h, b=b: loss(block(h[None]), targets[b, None])[0], start[b])
        own = own.diagonal()
        slope = torch.autograd.functional.jacobian(lambda h, b=b: loss(block(h[None]), targets[b, None])[0], start[b])
        expected = -2 * start[b] * slope + 2 * own
        assert torch.allclose(found[b], expected, atol=0.15 * float(own.abs().max() + 1))
    # Piecewise linear and linear losses have none.
    for flat in (lambda out, y: (out - y).abs().sum(1), lambda out, y: out.sum(1)):
        other = BlockProblem(block, targets, start, flat)
        assert torch.allclose(other.predicted_change(), -2 * start * other.gradient())


def test_bad_targets_are_named():
    problem = make_block_problem("pooling")
    with pytest.raises(ShapeError, match=r"targets: got shape \(3, 32\), expected \(..., 3, 2, 4, 4\)"):
        problem.objective(problem.start.flatten(1))
    with pytest.raises(ValueSetError, match="targets"):
        problem.objective(torch.zeros_like(problem.start))
    with pytest.raises(ShapeError, match="the batch alone"):
        problem.flip_delta(problem.start[None])


def test_saving_is_refused_with_what_to_keep_instead(tmp_path: Any):
    with pytest.raises(NotAcceptedError, match=r"whose module is code.*state_dict\(\).*results can be saved"):
        make_block_problem("linear").save(tmp_path / "problem.npz")
    assert not list(tmp_path.iterdir())


# --- forward passes that fail -----------------------------------------------------------------------------------------


class Fragile(nn.Module):
    """Raises, or gives NaN, for the samples whose mark says so."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, CLASSES)

    def forward(self, h: Tensor, mark: Tensor) -> Tensor:
        if bool((mark == 1).any()):
            raise FloatingPointError("sensor 7 is off")
        return torch.where(mark[:, None] == 2, torch.nan, self.linear(h))


@pytest.mark.parametrize("solver", ["keep", "sign-gradient", "random:draws=5", "hill-climb", "hill-climb:restarts=2"])
def test_samples_whose_pass_fails_are_unknown_and_the_others_go_on(solver: str):
    torch.manual_seed(0)
    block, start = Fragile(), random_spins((5, 5), seed())
    marks, labels = torch.tensor([0, 1, 0, 2, 0]), torch.tensor([0, 1, 2, 0, 1])
    result = solve(BlockProblem(block, labels, start, context=(marks,)), solver, budget=Budget(steps=30))
    assert result.status == [Status.FEASIBLE, Status.UNKNOWN, Status.FEASIBLE, Status.UNKNOWN, Status.FEASIBLE]
    assert result.objective[[1, 3]].tolist() == [math.inf, math.inf]
    assert torch.equal(result.targets[[1, 3]], start[[1, 3]])
    assert set(result.stats["notes"]) == {1, 3}
    assert result.stats["notes"][1] == "the block's forward pass raised FloatingPointError: sensor 7 is off"
    assert result.stats["notes"][3] == "the block's forward pass gives the objective nan"
    whole = torch.tensor([0, 2, 4])
    clean = BlockProblem(block, labels[whole], start[whole], context=(marks[whole],))
    if solver != "random:draws=5":  # draws depend on the size of the batch
        alone = solve(clean, solver.partition(":")[0], budget=Budget(steps=30))
        better = result.objective[whole] <= alone.objective + 1e-12
        assert better.all()


def test_flips_that_fail_are_not_on_offer():
    # The best targets, all +1, can't be computed: the descent stops one flip short of them.
    def function(h: Tensor) -> Tensor:
        return torch.where((h > 0).all(1, keepdim=True), torch.nan, 0.0) + 4 - h.sum(1, keepdim=True)

    start = torch.tensor([[1.0, -1.0, -1.0, 1.0]])
    problem = BlockProblem(Function(function), [0.0], start, lambda out, y: out[:, 0])
    result = solve(problem, "hill-climb", budget=Budget(steps=9))
    assert result.objective.tolist() == [2.0]
    assert (result.targets > 0).sum() == 3
    assert problem.flip_delta(result.targets)[result.targets < 0].tolist() == [math.inf]
    assert not result.stats["notes"]


def test_ctrl_c_is_not_a_failure_of_the_sample():
    block, armed = nn.Linear(5, CLASSES), []

    def interrupt(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if armed:
            raise KeyboardInterrupt

    block.register_forward_pre_hook(interrupt)
    problem = BlockProblem(block, [0], torch.ones(1, 5))
    armed.append(True)
    with pytest.raises(KeyboardInterrupt):
        problem.objective(problem.start)
