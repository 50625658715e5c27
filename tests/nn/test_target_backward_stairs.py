"""Searches through staircases: against all levels tried by hand, and against the same network of hard thresholds."""

import itertools
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve import Budget, LayerProblem
from tpsolve.errors import NotAcceptedError
from tpsolve.nn import HardThreshold, Staircase, Threshold, compact, target_backward
from tpsolve.problems import BlockProblem
from tpsolve.search import Enumerate, HillClimb, Report, Solver, Tabu

pytestmark = pytest.mark.rounding

CLASSES = 3
FEW = Budget(steps=6)
ALL = Budget(seconds=60)
F64 = torch.float64


def linears(*thresholds: Threshold, widths: tuple[int, ...] = (3, 2, 2)) -> nn.Sequential:
    """3 inputs, a hidden layer for each threshold, CLASSES outputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers: list[nn.Module] = []
        for threshold, (one, two) in zip(thresholds, itertools.pairwise(widths), strict=False):
            layers += [nn.Linear(one, two), threshold]
        return nn.Sequential(*layers, nn.Linear(widths[len(thresholds)], CLASSES)).double()


def batch(*shape: int, samples: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(samples, *shape, generator=generator, dtype=F64), torch.arange(samples) % CLASSES


def assignments(problem: LayerProblem | BlockProblem) -> Tensor:
    """All spins of one sample: `(2^n, *target_shape)`."""
    spins = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=problem.n_vars)), dtype=F64)
    return spins.reshape(-1, *problem.target_shape)


def output_of(spins: Tensor, k: int) -> Tensor:
    """The levels `(a, n)` of assignments `(a, k n)`: how many of a unit's spins are +1, by hand."""
    return (spins.reshape(len(spins), k, -1) > 0).sum(1).to(F64) / k


def cost(z: Tensor, staircase: Threshold, g: Tensor, each: bool) -> Tensor:
    """The soft-hinge layer loss `(a,)` of pre-activations `z (a, m)`; `g (m,)`, or `(k, m)` one for each threshold."""
    k = staircase.levels - 1 if isinstance(staircase, Staircase) else 1
    w, places = staircase.width, [(0.0, 1.0, 1.0)]
    if isinstance(staircase, Staircase):
        places = [(i / (k - 1), 2.0 * (k - 1), 1 / (2 * k)) for i in range(k)] if each else [(0.5, 2.0, 0.5)]
    total = torch.zeros(len(z), dtype=F64)
    for at, (place, stretch, share) in enumerate(places):
        asked = g[at] if g.dim() == 2 else g
        u = stretch * (z - place) / w
        total += (share * w * asked.abs() * (1 + torch.tanh(asked.sign() * u))).sum(1)
    return total


@pytest.mark.parametrize("below", [Staircase(3), Staircase(4, steps="each", width=0.8)])
@pytest.mark.parametrize("above", [None, HardThreshold(width=1.5), Staircase(3, width=0.7), Staircase(4, steps="each")])
@pytest.mark.parametrize("searched", [False, True])
def test_problem_has_the_true_loss_of_every_assignment(below: Staircase, above: Threshold | None, searched: bool):
    model, (x, y) = linears(below, *([] if above is None else [above])), batch(3)
    top = -1 if searched and above is not None else None
    report = target_backward(model, x, y, cross_entropy, solver={} if top is None else {top: Tabu()}, budget=FEW)
    problem = report.problem("1")
    assert isinstance(problem, LayerProblem)
    k = below.levels - 1
    spins = assignments(problem)
    z = model[2](output_of(spins, k)).detach()
    found = problem.objective(spins[:, None].expand(-1, len(x), -1))
    for sample in range(len(x)):
        if above is None:
            expected = cross_entropy(z, y[sample].expand(len(z)), reduction="none") / len(x)
        else:
            g = report._pass.gradients["3"]
            stepwise = searched and isinstance(above, Staircase)
            each = stepwise or (isinstance(above, Staircase) and above.steps == "each")
            expected = cost(z, above, g[:, sample] if stepwise else g[sample], each)
        torch.testing.assert_close(found[:, sample], expected)
    # It starts where the network is.
    assert problem.start is not None
    assert torch.equal(output_of(problem.start, k), model[:2](x))
    assert torch.equal(problem.start.reshape(len(x), k, -1).sort(1, descending=True).values.flatten(1), problem.start)


class Branch(nn.Module):
    """A staircase read by a convolution and, past a second one, by the output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 1, 2), nn.Conv2d(1, 1, 2)
        self.below, self.above, self.top = Staircase(3), Staircase(4), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.below(self.first(x))
        return self.top(torch.cat([h.flatten(1), self.above(self.second(h)).flatten(1)], 1))


@pytest.mark.parametrize("searched", [False, True])
def test_block_problem_has_the_true_loss_of_every_assignment(searched: bool):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Branch().double()
    x, y = batch(1, 3, 3, samples=3)
    report = target_backward(model, x, y, cross_entropy, solver={"above": Tabu()} if searched else {}, budget=FEW)
    problem = report.problem("below")
    assert isinstance(problem, BlockProblem)
    assert problem.target_shape == (2, 1, 2, 2)
    spins = assignments(problem)
    h = output_of(spins.flatten(1), 2).reshape(-1, 1, 2, 2)
    g = report._pass.gradients["above"].flatten(-3)
    for sample in range(len(x)):
        held = report._pass.recording.calls["above"].h[sample].flatten().expand(len(h), -1)
        output = model.top(torch.cat([h.flatten(1), held], 1))
        expected = cross_entropy(output, y[sample].expand(len(h)), reduction="none") / len(x)
        asked = g[:, sample] if searched else g[sample]
        expected = expected + cost(model.second(h).flatten(1), model.above, asked, searched)
        found = problem.objective(spins[:, None].expand(-1, len(x), -1, -1, -1, -1))[:, sample]
        torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("above", [[], [Staircase(4, "hinge")]])
def test_exhaustive_search_finds_the_best_levels_and_is_no_worse_than_the_closed_form(above: list[Threshold]):
    x, y = batch(3, samples=30)
    plain, searched = linears(Staircase(3), *above), linears(Staircase(3), *above)
    closed = target_backward(plain, x, y, cross_entropy)
    found = target_backward(searched, x, y, cross_entropy, solver={1: Enumerate()}, budget=ALL)
    assert (found["1"].objective <= closed["1"].objective).all()
    assert (found["1"].objective < closed["1"].objective).any()
    problem = found.problem("1")
    # Levels, not spins: 3 of each unit.
    levels = torch.tensor(list(itertools.product((0, 1, 2), repeat=2)))
    ordered = torch.where(torch.arange(2)[:, None] < levels[:, None], 1.0, -1.0).double().flatten(1)
    best = problem.objective(ordered[:, None].expand(-1, len(x), -1)).amin(0)
    torch.testing.assert_close(found["1"].objective, best)
    targets = found["1"].targets.reshape(len(x), 2, 2)
    assert (targets[:, 0] >= targets[:, 1]).all()
    assert torch.equal(found["1"].objective, problem.objective(found["1"].targets))
    assert found["1"].optimal.all()


@dataclass(frozen=True)
class Reversed(Solver):
    """Finds the start with the spins of two thresholds a unit exchanged, which leaves every output as it is."""

    name = "reversed"
    accepts = (LayerProblem, BlockProblem)

    def run(self, problem: Any, budget: Budget, generator: torch.Generator, report: Report) -> None:
        report.offer(problem.start.reshape(len(problem.start), 2, -1).flip(1).flatten(1))


def test_spins_out_of_order_are_sorted_and_keep_the_outputs():
    model, (x, y) = linears(Staircase(3)), batch(3, samples=20)
    report = target_backward(model, x, y, cross_entropy, solver=Reversed(), budget=FEW)
    start = report.problem("1").start
    assert start is not None
    reversed_ = start.reshape(20, 2, -1).flip(1).flatten(1)
    assert not torch.equal(reversed_, start)
    assert torch.equal(report["1"].targets, start)
    assert report["1"].objective.sum().item() == pytest.approx(report.loss.item())


@dataclass(frozen=True)
class Levels(Solver):
    """Offers levels that depend on nothing but a seed, in the order that staircases have them."""

    k: int
    name = "levels"
    accepts = (LayerProblem,)

    def run(self, problem: Any, budget: Budget, generator: torch.Generator, report: Report) -> None:
        units = problem.n_vars // self.k
        counts = torch.randint(self.k + 1, (len(report.targets), 1, units), generator=torch.Generator().manual_seed(9))
        spins = torch.where(torch.arange(self.k)[:, None] < counts, 1.0, -1.0)
        report.offer(spins.flatten(1).to(problem.dtype))


class Spread(nn.Module):
    """k copies of a linear layer, one for each threshold of a staircase above it, with hard thresholds in its place."""

    def __init__(self, linear: nn.Linear, k: int, settings: dict[str, Any]):
        super().__init__()
        self.linear, self.k, self.threshold = linear, k, HardThreshold(**settings)

    def forward(self, x: Tensor) -> Tensor:
        z, k = self.linear(x), self.k
        return self.threshold(torch.cat([2 * (k - 1) * z - 2 * i for i in range(k)], 1))


class Mean(nn.Linear):
    """A linear layer that reads k spins a unit as levels, by weights of its own that hold a linear layer's."""

    def __init__(self, linear: nn.Linear, k: int):
        super().__init__(k * linear.in_features, linear.out_features, dtype=F64)
        with torch.no_grad():
            self.weight.copy_((linear.weight / (2 * k)).repeat(1, k))
            self.bias.copy_(linear.bias + linear.weight.sum(1) / 2)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"rule": "saturated-hinge", "width": 0.6},
    {"rule": "hinge", "importance": "none"},
    {"rule": "logistic", "width": 1.3, "width_mode": "learned"},
]


CASES = [(settings, importance) for settings in SETTINGS for importance in ("gradient", "flip-delta")]
# There the mean of |g| is that of one threshold, in the other network that of all k.
CASES.remove((SETTINGS[2], "flip-delta"))


@pytest.mark.parametrize("steps", ["merged", "each"])
@pytest.mark.parametrize(("settings", "importance"), CASES)
def test_a_searched_staircase_is_k_hard_thresholds(steps: str, settings: dict[str, Any], importance: str):
    k = 3
    stairs = linears(Staircase(k + 1, steps=steps, **settings), HardThreshold("hinge"), widths=(3, 4, 3))
    first, second, top = (layer for layer in stairs if isinstance(layer, nn.Linear))
    hard = nn.Sequential(Spread(first, k, settings), Mean(second, k), HardThreshold("hinge"), top).double()
    x, y = batch(3, samples=6)
    found = []
    for model, names in ((stairs, ("1", "3")), (hard, ("0.threshold", "2"))):
        first.zero_grad()
        inputs = x.clone().requires_grad_()
        solver: dict[str | int, Solver | str] = {names[0]: Levels(k), names[1]: HillClimb()}
        report = target_backward(model, inputs, y, cross_entropy, solver=solver, budget=FEW, importance=importance)
        learned = [p.grad for name, p in model.named_parameters() if name.endswith("log_width")]
        found.append([report[names[0]].objective, inputs.grad, first.weight.grad.clone(), *learned])  # pyright: ignore[reportOptionalMemberAccess]
    assert found[0][1].abs().sum() > 0
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def mixed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 2),
        Staircase(4),
        nn.Conv2d(2, 2, 2),
        nn.BatchNorm2d(2),
        Staircase(3, "hinge", width_mode="relative"),
        nn.Flatten(),
        nn.Linear(8, 6),
        HardThreshold("logistic"),
        nn.Linear(6, 5),
        nn.BatchNorm1d(5),
        Staircase(5, "saturated-hinge", steps="each", width_mode="learned"),
        nn.Dropout(0.2),
        nn.Linear(5, CLASSES),
    )


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("solver", ["hill-climb", "tabu"])
def test_search_through_a_mixed_network_improves_on_where_it_began(solver: str, dtype: torch.dtype):
    model, (x, y) = mixed().to(dtype), batch(1, 4, 4, samples=8)
    x = x.to(dtype)
    report = target_backward(model, x, y, cross_entropy, solver=solver, budget=FEW)
    assert report.fallbacks == {"10": 0, "7": 0, "4": 0, "1": 0}
    kinds = [type(report.problem(name)) for name in ("1", "4", "7", "10")]
    assert kinds == [BlockProblem, LayerProblem, LayerProblem, BlockProblem]
    for name, result in report.items():
        problem = report.problem(name)
        assert problem.start is not None
        assert (result.objective <= problem.objective(problem.start) + 1e-6).all()
        assert (result.targets != problem.start).any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_search_is_the_same_where_less_is_saved_and_equal_seeds_give_equal_gradients():
    found = []
    for settle in (nullcontext, compact):
        model, (x, y) = mixed().double(), batch(1, 4, 4, samples=8)
        with settle(model):
            target_backward(model, x, y, cross_entropy, solver="random", budget=FEW)
        found.append([p.grad for p in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.slow
def test_training_by_searches_alone_learns_a_staircase_network():
    # Four quarters of the plane, of which a linear classifier gets about half.
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 2, generator=generator)
    y = (x[:, 0] * x[:, 1] > 0).long()
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 16), Staircase(4), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=FEW)
        optimizer.step()
    assert (model(x).argmax(1) == y).float().mean() > 0.8


@dataclass(frozen=True)
class EvenOnly(Solver):
    """Finds the activations themselves, and those only for every second sample."""

    name = "even-only"
    accepts = (LayerProblem,)

    def run(self, problem: Any, budget: Budget, generator: torch.Generator, report: Report) -> None:
        rows = torch.arange(0, len(problem.start), 2)
        report.offer(problem.start[rows], rows)


def test_samples_without_a_find_keep_the_closed_form_target_and_are_counted():
    model, (x, y) = linears(Staircase(4, steps="each")), batch(3, samples=7)
    x[5, 0] = math.nan
    x.requires_grad_()
    report = target_backward(model, x, y, cross_entropy, solver=EvenOnly(), budget=FEW)
    # Of the six samples that are finite, the second, fourth and last are not found.
    assert report.fallbacks == {"1": 4}
    assert "1: even-only, 4 of 7 samples keep the closed form" in repr(report)
    searched, x.grad = x.grad, None
    cross_entropy(model(x), y).backward()
    assert searched is not None
    assert x.grad is not None
    same = [torch.allclose(one, other) for one, other in zip(searched, x.grad, strict=True)]
    assert same == [False, True, False, True, False, False, True]
    assert searched[[0, 1, 2, 3, 4, 6]].isfinite().all()


def test_a_batch_without_a_finite_sample_keeps_the_closed_form():
    model, (x, y) = linears(Staircase(4), HardThreshold()), batch(3)
    report = target_backward(model, x * math.nan, y, cross_entropy, solver="hill-climb", budget=FEW)
    assert report.fallbacks == {"1": 5, "3": 5}


def test_frozen_layers_below_a_staircase_stay_without_gradient():
    model, (x, y) = linears(HardThreshold(), Staircase(4, width_mode="learned")), batch(3)
    first, second = model[0].requires_grad_(False), model[2].requires_grad_(False)
    report = target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=FEW)
    assert list(report) == ["3"]
    assert all(p.grad is None for layer in (first, second) for p in layer.parameters())
    staircase = model[3]
    assert isinstance(staircase, Staircase)
    width = staircase.log_width.grad
    assert width is not None
    assert torch.isfinite(width)


def double(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
    return output * 2


def test_a_staircase_whose_output_is_replaced_is_refused_before_gradients_change():
    model, (x, y) = linears(Staircase(4)), batch(3)
    model[1].register_forward_hook(double)
    with pytest.raises(NotAcceptedError, match=r"model.1: got a Staircase whose output .* has replaced.*SignGradient"):
        target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=FEW)
    assert all(p.grad is None for p in model.parameters())
    target_backward(model, x, y, cross_entropy)


def own(u: Tensor, t: Tensor) -> Tensor:
    return -t


def test_a_rule_without_a_layer_loss_is_refused_above_a_search_alone():
    model, (x, y) = linears(HardThreshold(), Staircase(4, own)), batch(3)
    with pytest.raises(NotAcceptedError, match=r"model.3: got the rule .*layer_loss='hinge'"):
        target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=FEW)
    report = target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=FEW, layer_loss="hinge")
    assert set(report.fallbacks.values()) == {0}
