"""Budgets in passes in `target_backward`, and batches that do not fit their model."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve import Budget
from tpsolve.errors import ArgumentError, BudgetError, NotAcceptedError, NotFiniteError, ShapeError
from tpsolve.nn import Choice, DistillationLoss, HardThreshold, target_backward
from tpsolve.problems import BlockProblem, LayerProblem
from tpsolve.problems.block._convolution_state import ConvolutionState

COUNTED = ("hill-climb", "curvature-flip", "tabu", "anneal", "beam", "guided-random", "cross-entropy-method", "random",
           "polish(beam, hill-climb)", "restarts(hill-climb, 2)", "auto")  # fmt: skip


def images() -> tuple[nn.Module, Tensor, Tensor]:
    """Two convolutions, of which the second is searched as one, below two layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), HardThreshold(),
            nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(3), HardThreshold("saturated-ste"),
            nn.Flatten(), nn.Linear(27, 8), HardThreshold(width=2.0), nn.Linear(8, 3),
        )  # fmt: skip
        return model, torch.randn(5, 1, 6, 6), torch.randint(3, (5,))


@pytest.mark.parametrize("solver", COUNTED)
def test_three_passes_are_enough_for_a_result_and_are_not_exceeded(solver: str):
    model, x, y = images()
    report = target_backward(model, x, y, cross_entropy, solver=solver, budget=Budget(passes=3))
    for result in report.values():
        assert (result.stats["passes"] <= 3).all()
        assert torch.isfinite(result.objective).all()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    assert "passes a sample" in repr(report) or "pass a sample" in repr(report)


def test_more_passes_are_more_flips_and_lower_objectives():
    model, x, y = images()
    found = []
    for passes in (1, 3, 30):
        report = target_backward(model, x, y, cross_entropy, solver={-1: "hill-climb"}, budget=Budget(passes=passes))
        found.append(report["9"])
    first, second, third = (result.objective.sum() for result in found)
    assert third < second < first
    start: Any = report.problem("9").start
    assert torch.equal(found[0].targets, start), "a pass is spent on where the search begins"
    assert (found[1].targets != start).sum(1).max() <= 2


def test_too_few_passes_for_a_rule_leave_the_closed_form_and_say_so():
    model, x, y = images()
    report = target_backward(model, x, y, cross_entropy, solver={-1: "curvature-flip"}, budget=Budget(passes=2))
    assert report.fallbacks == {"9": 5}
    assert "curvature-flip here takes 3 passes, and 2 are left" in report["9"].stats["notes"][0]


def test_a_convolution_is_searched_as_one():
    model, x, y = images()
    report = target_backward(model, x, y, cross_entropy, solver={1: "hill-climb"}, budget=Budget(steps=4))
    problem: Any = report.problem("2")
    assert isinstance(problem.flatten().state(problem.start.flatten(1)), ConvolutionState)
    # With a batch norm in training above it: its statistics are those of this batch.
    flat, exact = problem.start.flatten(1), []
    for unit in range(0, problem.n_vars, 7):
        other = flat.clone()
        other[:, unit] *= -1
        exact.append(problem.objective(other.reshape(problem.start.shape)) - problem.objective(problem.start))
    delta = problem.flip_delta(problem.start).flatten(1)[:, ::7].double()
    torch.testing.assert_close(delta, torch.stack(exact, 1), rtol=1e-4, atol=1e-5)


def test_the_same_network_cut_by_its_graph_is_searched_as_one_too():
    model, x, y = images()

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = model

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x)

    report = target_backward(Whole(), x, y, cross_entropy, solver={1: "hill-climb"}, budget=Budget(steps=4))
    problem: Any = report.problem("layers.2")
    assert problem.convolution is not None
    plain = target_backward(model, x, y, cross_entropy, solver={1: "hill-climb"}, budget=Budget(steps=4))
    assert torch.equal(plain["2"].targets, report["layers.2"].targets)


def test_of_choices_a_call_is_a_pass():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)), Choice(3), nn.Flatten(), nn.Linear(6, 3))
        x, y = torch.randn(4, 4), torch.randint(3, (4,))
    budgets = (Budget(passes=3), Budget(calls=3))
    first, second = (target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=b)["2"] for b in budgets)
    assert torch.equal(first.targets, second.targets)


@pytest.mark.parametrize(
    ("solver", "budget", "words"),
    [
        ("cp-sat", Budget(passes=3), "passes for cp-sat, expected a solver that counts"),
        ("cp-sat", Budget(seconds=1, passes=3), "passes for cp-sat"),
        ("polish(hill-climb, milp)", Budget(passes=3), "passes for milp"),
        ("hill-climb", Budget(calls=3), r"calls=3 alone, expected seconds or steps\. A LayerProblem has no calls"),
    ],
)
def test_what_counts_no_passes_is_refused_before_any_work(solver: str, budget: Budget, words: str):
    model, x, y = images()
    with pytest.raises(BudgetError, match=words):
        target_backward(model, x, y, cross_entropy, solver={-1: solver}, budget=budget)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("passes", [0, -1, 1.5, True, "3"])
def test_passes_are_a_positive_whole_number(passes: Any):
    with pytest.raises(BudgetError, match=r"budget\.passes"):
        Budget(passes=passes)


class Two(nn.Module):
    """Two inputs, added up."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.act, self.top = nn.Linear(4, 6), nn.Linear(3, 6), HardThreshold(), nn.Linear(6, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.top(self.act(self.first(a) + self.second(b)))


A, B, Y = torch.ones(5, 4), torch.ones(5, 3), torch.arange(5) % 3


@pytest.mark.parametrize(
    ("x", "y", "loss", "error", "words"),
    [
        ((A, B[:4]), Y, cross_entropy, ShapeError, r"x: got shapes \(5, 4\), \(4, 3\), on which the model fails"),
        ({"a": A}, Y, cross_entropy, ArgumentError, r"missing a required argument: 'b'\): 'a', expected those of"),
        ({"a": A, "b": B, "c": A}, Y, cross_entropy, ArgumentError, "unexpected keyword argument 'c'"),
        (A, Y, cross_entropy, ArgumentError, "missing a required argument: 'b'"),
        ((A, B, A), Y, cross_entropy, ArgumentError, "too many positional arguments"),
        ((A[:0], B[:0]), Y[:0], cross_entropy, ShapeError, "at least one sample"),
        (
            (A, B), {"labels": Y}, lambda o, y: cross_entropy(o, y["label"]), NotAcceptedError,
            r"fails on y, of dict \(KeyError: 'label'\)",
        ),
    ],
)  # fmt: skip
def test_batches_that_do_not_fit_are_refused_by_name(x: Any, y: Any, loss: Any, error: type[Exception], words: str):
    model = Two()
    with pytest.raises(error, match=words):
        target_backward(model, x, y, loss)
    assert all(p.grad is None for p in model.parameters())


def test_an_error_of_the_model_itself_stays_as_it_is():
    class Broken(Two):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            raise TypeError("my own")

    with pytest.raises(TypeError, match="my own"):
        target_backward(Broken(), (A, B), Y, cross_entropy)


@pytest.mark.parametrize("solver", ["sign-gradient", "hill-climb"])
def test_a_teacher_that_is_not_finite_is_refused(solver: str):
    teacher = torch.zeros(5, 3)
    teacher[2, 1] = torch.nan
    with pytest.raises(NotFiniteError, match=r"labels: got 1 NaN and 0 infinite values, the first at \[2, 1\]"):
        target_backward(Two(), (A, B), (Y, teacher), DistillationLoss(), solver=solver, budget=Budget(passes=3))


@pytest.mark.parametrize("solver", ["sign-gradient", "hill-climb", "curvature-flip"])
@pytest.mark.parametrize("loss", [cross_entropy, lambda o, t: cross_entropy(o, t)], ids=["torch's", "one's own"])
def test_a_loss_scale_multiplies_gradients_and_objectives_and_nothing_else(solver: str, loss: Any):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 4, generator=generator), torch.arange(6) % 3
    found = []
    for scale in (1.0, torch.tensor(2.0**-5)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), HardThreshold(), nn.Linear(5, 5), HardThreshold(), nn.Linear(5, 3))
        report = target_backward(model, x, y, loss, solver=solver, budget=Budget(steps=5), loss_scale=scale)
        problem, h = report.problem("3"), report._pass.recording.calls["3"].h
        assert type(problem) is (LayerProblem if loss is cross_entropy else BlockProblem)
        torch.testing.assert_close(problem.objective(h).sum().float(), scale * report.loss)
        found.append((report, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    (plain, one), (scaled, other) = found
    assert torch.equal(one * 2.0**-5, other)
    assert torch.equal(plain.loss, scaled.loss)
    for name, result in plain.items():
        assert torch.equal(result.targets, scaled[name].targets)
        torch.testing.assert_close(result.objective * 2.0**-5, scaled[name].objective)


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf"), torch.ones(2), "1", None, True])
def test_a_loss_scale_that_makes_no_sense(scale: Any):
    model = nn.Sequential(nn.Linear(4, 5), HardThreshold(), nn.Linear(5, 3))
    with pytest.raises(ArgumentError, match=r"loss_scale: got .*expected a positive, finite number"):
        target_backward(model, torch.ones(2, 4), torch.zeros(2).long(), cross_entropy, loss_scale=scale)
    assert all(p.grad is None for p in model.parameters())
