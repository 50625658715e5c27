"""`target_backward` against `loss.backward()`, its problems against the network's own numbers, and what it refuses."""

import copy
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from tpsolve import Budget, LayerProblem
from tpsolve.errors import ArgumentError, NotAcceptedError, ShapeError, UnknownNameError, ValueSetError
from tpsolve.losses import Loss, find_loss
from tpsolve.nn import HardThreshold, Staircase, target_backward
from tpsolve.problems import BlockProblem
from tpsolve.search import Enumerate, HillClimb, Keep, Report, SignGradient, Solver

pytestmark = pytest.mark.rounding

CLASSES = 3
FEW = Budget(steps=6)


class Residual(nn.Module):
    """Pre-activations that skip a layer, batch norm, pooling, dropout; `untraceable`: torch.fx can't follow it."""

    def __init__(self, untraceable: bool = False, rules: tuple[str, ...] = ("soft-hinge", "saturated-hinge", "hinge")):
        super().__init__()
        self.untraceable = untraceable
        self.first, self.second, self.third = (nn.Conv2d(c, 4, 3, padding=1) for c in (1, 4, 4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))
        self.thresholds = nn.ModuleList(HardThreshold(rule, width=1 + i / 2) for i, rule in enumerate(rules))
        self.dropout, self.top = nn.Dropout(0.3), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norms[0](self.first(x))
        h = self.thresholds[0](z)
        if self.untraceable and float(x.sum()) == math.inf:
            return x
        z = self.norms[1](self.second(h)) + z
        z = self.norms[2](self.third(self.thresholds[1](z))) + z
        h = self.thresholds[2](functional.max_pool2d(z, 2))
        return self.top(self.dropout(h).reshape(x.size(0), -1))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8),
        HardThreshold("saturated-ste", width=0.5),
        nn.Linear(8, 7, bias=False),
        nn.BatchNorm1d(7),
        HardThreshold("logistic", width=2),
        nn.Linear(7, 5),
        HardThreshold("hinge", importance="none"),
        nn.Linear(5, CLASSES),
    )


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.MaxPool2d(2),
        HardThreshold(width_mode="relative"),
        nn.Conv2d(3, 4, 2, bias=False),
        nn.BatchNorm2d(4),
        HardThreshold("saturated-hinge"),
        nn.Flatten(),
        nn.Linear(16, 6),
        HardThreshold(),
        nn.Linear(6, CLASSES),
    )


def mixed() -> nn.Module:
    """Staircases between hard thresholds."""
    return nn.Sequential(
        nn.Linear(6, 8),
        HardThreshold(),
        nn.Linear(8, 7),
        Staircase(4),
        nn.Linear(7, 7),
        HardThreshold("perceptron"),
        nn.Linear(7, 6),
        Staircase(5, steps="each", width=0.8),
        nn.Linear(6, CLASSES),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (6,)),
    "convnet": (convnet, (1, 8, 8)),
    "residual": (Residual, (1, 4, 4)),
    "untraceable": (lambda: Residual(untraceable=True), (1, 4, 4)),
    "mixed": (mixed, (6,)),
}
each_network = pytest.mark.parametrize("name", NETWORKS)


def build(name: str, samples: int = 7) -> tuple[nn.Module, Tensor, Tensor]:
    make, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().double()
        x = torch.randn(samples, *shape, dtype=torch.float64)
        return model, x, torch.randint(CLASSES, (samples,))


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def seeded(work: Callable[[], Any]) -> Any:
    """Dropout draws the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return work()


@each_network
@pytest.mark.parametrize("training", [True, False])
def test_sign_gradient_gives_the_gradients_of_loss_backward(name: str, training: bool):
    model, x, y = build(name)
    other = copy.deepcopy(model.train(training))
    for _ in range(2):  # The second time adds to what is there.
        loss = seeded(lambda: cross_entropy(other(x), y))
        loss.backward()
        report = seeded(lambda: target_backward(model, x, y, cross_entropy, solver=SignGradient()))
    assert report.loss == loss
    found, expected = gradients(model), gradients(other)
    assert expected.norm() > 0
    assert (found - expected).norm() <= 1e-6 * expected.norm()
    # What the batch norms keep was kept once.
    for one, two in zip(model.buffers(), other.buffers(), strict=True):
        assert torch.equal(one, two)


@each_network
def test_problem_has_the_gradient_that_arrives(name: str):
    # With batch norm held, as a block holds it; in training its statistics pass gradients on as well.
    model, x, y = build(name)
    report = target_backward(model.eval(), x, y, cross_entropy)
    assert len(report) >= 3
    for layer in report:
        problem, module = report.problem(layer), model.get_submodule(layer)
        assert isinstance(problem, LayerProblem | BlockProblem)
        assert problem.start is not None
        # A staircase of k thresholds has k spins a unit, which move its output by 1 / k each.
        k = module.levels - 1 if isinstance(module, Staircase) else 1
        arrived = report._pass.gradients[layer] / (1 if k == 1 else 2 * k)
        arrived = arrived[:, None].repeat(1, k, *[1] * (arrived.dim() - 1)).reshape(problem.start.shape)
        torch.testing.assert_close(problem.gradient(), arrived, rtol=1e-7, atol=1e-12)
        result = report[layer]
        expected = torch.where(arrived == 0, problem.start, -arrived.sign())
        assert torch.equal(result.targets, expected)
        assert torch.equal(result.objective, problem.objective(expected))


@each_network
def test_problem_of_the_topmost_threshold_is_the_loss_itself(name: str):
    # Dropout's mask and the batch's statistics are those of the pass.
    model, x, y = build(name)
    report = seeded(lambda: target_backward(model.train(), x, y, cross_entropy))
    problem = report.problem(list(report)[-1])
    assert problem.start is not None
    assert problem.objective(problem.start).sum().item() == pytest.approx(report.loss.item(), rel=1e-9)


@each_network
def test_problem_below_is_the_layer_loss_of_the_thresholds_above(name: str):
    model, x, y = build(name)
    report = seeded(lambda: target_backward(model.train(), x, y, cross_entropy))
    calls = list(report._pass.recording.calls.values())
    for at, call in enumerate(calls[:-1]):
        if isinstance(call.module, Staircase) or isinstance(calls[at + 1].module, Staircase):
            continue
        # Between residual branches a threshold is read by the next one alone, but where all are run again.
        expected = 0.0
        for above in calls[at + 1 :] if name == "untraceable" or (name == "residual" and at == 0) else [calls[at + 1]]:
            z, g = above.z, report._pass.gradients[above.name]
            width = above.module.width * (float(z.std(correction=0)) if above.module.width_mode == "relative" else 1)
            g = g.sign() * g.abs().mean() if above.module.importance == "none" else g
            rule = {"saturated-ste": "saturated-hinge"}.get(str(above.module.rule), str(above.module.rule))
            loss = find_loss(rule)
            assert isinstance(loss, Loss)
            expected += float((g.abs() * width * loss.value(z / width, -g.sign())).sum())
        if name == "untraceable":
            expected += report.loss.item()
        problem = report.problem(call.name)
        assert problem.start is not None
        assert problem.objective(problem.start).sum().item() == pytest.approx(expected, rel=1e-6)


def test_a_model_that_cannot_be_traced_has_the_same_problems():
    (plain, x, y), (opaque, _, _) = build("residual"), build("untraceable")
    one, other = (target_backward(model.eval(), x, y, cross_entropy) for model in (plain, opaque))
    for layer in one:
        first, second = one.problem(layer), other.problem(layer)
        assert isinstance(first, BlockProblem)
        assert isinstance(second, BlockProblem)
        flips = [problem.flip_delta(problem.start) for problem in (first, second)]
        torch.testing.assert_close(*flips, rtol=1e-9, atol=1e-12)


def test_linear_layers_and_batch_norms_become_layer_problems():
    model, x, y = build("mlp")
    report = target_backward(model, x, y, cross_entropy)
    assert [type(report.problem(layer)) for layer in report] == [LayerProblem] * 3
    model, x, y = build("convnet")
    report = target_backward(model, x, y, cross_entropy)
    assert [type(report.problem(layer)) for layer in report] == [BlockProblem, LayerProblem, LayerProblem]
    assert report["2"].targets.shape == (7, 3, 3, 3)


@each_network
def test_search_never_leaves_the_objective_above_where_it_began(name: str):
    model, x, y = build(name)
    report = target_backward(model, x, y, cross_entropy, solver=HillClimb(), budget=FEW)
    assert set(report.fallbacks.values()) == {0}
    changed = 0
    for layer in report:
        problem = report.problem(layer)
        assert problem.start is not None
        assert (report[layer].objective <= problem.objective(problem.start) + 1e-9).all()
        changed += int((report[layer].targets != problem.start).sum())
    assert changed
    assert gradients(model).isfinite().all()


@pytest.mark.parametrize("importance", ["gradient", "flip-delta"])
def test_gradients_below_a_search_are_the_slopes_of_its_layer_losses(importance: str):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 6), HardThreshold(), nn.Linear(6, 5), HardThreshold("hinge"), nn.Linear(5, CLASSES)
    ).double()
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randint(CLASSES, (8,))
    report = target_backward(model, x, y, cross_entropy, solver="enumerate", budget=FEW, importance=importance)

    # By hand, from the targets alone.
    first, second, top = (layer for layer in model if isinstance(layer, nn.Linear))
    z1 = first(x)
    h1 = torch.where(z1 >= 0, 1.0, -1.0).double()
    z2 = second(h1)
    h2 = torch.where(z2 >= 0, 1.0, -1.0).double()
    g2 = (top(h2).softmax(1) - functional.one_hot(y, CLASSES)) @ top.weight / 8
    t2, t1 = report["3"].targets, report["1"].targets
    if importance == "flip-delta":
        flipped = torch.stack([t2 * (1 - 2 * unit) for unit in torch.eye(5)])
        change = cross_entropy(top(flipped).transpose(1, 2), y.expand(5, -1), reduction="none")
        g2 = (change - cross_entropy(top(t2), y, reduction="none")).T / 8 / 2
    slope2 = -t2 * g2.abs() * (t2 * z2 < 1)
    g1 = slope2 @ second.weight
    if importance == "flip-delta":
        return torch.testing.assert_close(second.weight.grad, slope2.T @ h1)
    slope1 = -t1 * g1.abs() / torch.cosh(z1) ** 2
    torch.testing.assert_close(second.weight.grad, slope2.T @ h1)
    torch.testing.assert_close(first.weight.grad, slope1.T @ x)
    torch.testing.assert_close(top.bias.grad, (top(h2).softmax(1) - functional.one_hot(y, CLASSES)).mean(0))
    return None


def test_solvers_by_name_and_by_depth():
    model, x, y = build("mlp")
    solvers = {"1": Keep(), -1: HillClimb(restarts=2), 2: "enumerate"}
    report = target_backward(model, x, y, cross_entropy, solver=solvers, budget=FEW)
    assert [report[layer].stats["solver"] for layer in report] == ["keep", "enumerate", "hill-climb"]
    report = target_backward(model, x, y, cross_entropy, solver={-1: "enumerate"}, budget=FEW)
    assert [report[layer].stats["solver"] for layer in report] == ["sign-gradient", "sign-gradient", "enumerate"]
    assert repr(report).splitlines()[1:] == [
        "1: sign-gradient, 0 passes a sample",
        "4: sign-gradient, 0 passes a sample",
        "6: enumerate, 32 passes a sample",
    ]
    assert report["1"].stats["passes"].tolist() == [0] * len(x)


def test_a_report_holds_answers_alone_and_does_not_change():
    model, x, y = build("mlp")
    report = target_backward(model, x, y, cross_entropy)
    shown = {name for name in dir(report) if not name.startswith("_")}
    assert shown == {"loss", "output", "fallbacks", "rows", "problem", "keys", "values", "items", "get"}
    with pytest.raises(FrozenInstanceError):
        report.loss = report.output  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KeyError):
        report["0"]


def test_equal_seeds_give_equal_gradients():
    runs = []
    for seed in (1, 1, 2):
        model, x, y = build("mlp")
        generator = torch.Generator().manual_seed(seed)
        target_backward(model, x, y, cross_entropy, solver="random", budget=FEW, generator=generator)
        runs.append(gradients(model))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@dataclass(frozen=True)
class EvenOnly(Solver):
    """Finds the activations negated, and those only for every second sample."""

    name = "even-only"
    accepts = (LayerProblem, BlockProblem)

    def run(self, problem: Any, budget: Budget, generator: torch.Generator, report: Report) -> None:
        rows = torch.arange(0, len(problem.start), 2)
        report.offer(-problem.start[rows], rows)


def test_samples_without_a_find_keep_the_closed_form_and_are_counted():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), HardThreshold("ste"), nn.Linear(6, CLASSES)).double()
    x, y = torch.randn(7, 4, dtype=torch.float64, requires_grad=True), torch.randint(CLASSES, (7,))
    report = target_backward(model, x, y, cross_entropy, solver=EvenOnly(), budget=FEW)
    assert report.fallbacks == {"1": 3}
    assert "1: even-only, 3 of 7 samples keep the closed form" in repr(report)
    searched, x.grad = x.grad, None
    cross_entropy(model(x), y).backward()
    assert searched is not None
    assert x.grad is not None
    same = (searched == x.grad).all(1).tolist()
    assert same == [False, True, False, True, False, True, False]


def test_a_sample_that_is_not_finite_leaves_the_others_their_search():
    model, x, y = build("mlp")
    x[2] = math.nan
    report = target_backward(model.eval(), x, y, cross_entropy, solver=HillClimb(), budget=FEW)
    # The mean of |g|, with which the topmost threshold weighs all units, then takes it to every sample.
    assert report.fallbacks == {"6": 1, "4": 7, "1": 7}
    assert report.rows["6"].tolist() == [0, 1, 3, 4, 5, 6]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_other_losses_are_searched_sample_by_sample(reduction: str):
    model, x, _ = build("convnet")
    y = torch.randn(7, CLASSES, dtype=torch.float64)
    loss = nn.MSELoss(reduction="sum") if reduction == "sum" else nn.SmoothL1Loss()
    report = target_backward(model, x, y, loss, solver=HillClimb(), budget=FEW)
    problem = report.problem("8")
    assert isinstance(problem, BlockProblem)
    assert problem.objective(problem.start).sum().item() == pytest.approx(report.loss.item(), rel=1e-6)
    assert (report["8"].objective <= problem.objective(problem.start)).all()


@pytest.mark.slow
@each_network
def test_under_autocast_the_search_runs_in_float32(name: str):
    model, x, y = build(name)
    model, x = model.float(), x.float()
    with torch.autocast("cpu", torch.bfloat16):
        report = target_backward(model, x, y, cross_entropy, solver=HillClimb(), budget=FEW)
        objectives = [report.problem(layer).objective(report[layer].targets) for layer in report]
    assert report.output.dtype == torch.bfloat16
    for layer, objective in zip(report, objectives, strict=True):
        assert report.problem(layer).dtype == torch.float32
        assert torch.equal(report[layer].objective, report.problem(layer).objective(report[layer].targets))
        torch.testing.assert_close(objective, report[layer].objective, rtol=1e-2, atol=1e-2)
    assert gradients(model).dtype == torch.float32
    assert gradients(model).isfinite().all()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_under_autocast_batch_norms_of_channels_that_hardly_vary_are_those_of_the_wide_copy(dropout: float):
    # Weights rounded to bfloat16 move the mean of such a channel by many of its deviations.
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(2, 16, 1), HardThreshold()]
    for _ in range(4):
        layers += [nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(16, 3))
    x, y = 1 + 0.1 * torch.randn(6, 2, 1, 1), torch.randint(3, (6,))
    with torch.autocast("cpu", torch.bfloat16):
        report = target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=Budget(steps=1))
    assert report.fallbacks == {"1": 0}
    assert len(report.rows) == 1


@pytest.mark.usefixtures("process_group")
def test_data_parallel_model_is_cut_like_the_one_inside():
    (model, x, y), (other, _, _) = build("residual"), build("residual")
    parallel = nn.parallel.DistributedDataParallel(model)
    found, expected = (
        seeded(lambda m=m: target_backward(m, x, y, cross_entropy, solver=HillClimb(), budget=FEW))
        for m in (parallel, other)
    )
    assert list(found) == list(expected) == ["thresholds.0", "thresholds.1", "thresholds.2"]
    assert all(torch.equal(found[layer].targets, expected[layer].targets) for layer in found)
    torch.testing.assert_close(gradients(model), gradients(other))


def test_results_are_asked_for_before_the_weights_change():
    model, x, y = build("mlp")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    report = target_backward(model, x, y, cross_entropy)
    optimizer.step()
    with pytest.raises(NotAcceptedError, match=r"weights that have changed since.*before optimizer.step\(\)"):
        report["1"]
    with pytest.raises(KeyError):
        report["first"]


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.threshold = nn.Linear(6, 6), HardThreshold()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def own_rule(u: Tensor, t: Tensor) -> Tensor:
    return -t


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"model": nn.Linear(6, 3).double()},
            NotAcceptedError,
            "model: got no HardThreshold, Staircase or Choice.*convert",
        ),
        (
            {"model": Unused().double()},
            NotAcceptedError,
            "model: got thresholds or choices that its forward pass never calls",
        ),
        ({"x": torch.ones(7, 6, dtype=torch.int64)}, ArgumentError, r"x: got torch.int64.*\.float\(\)"),
        ({"y": torch.tensor([0, 1, 2, 3, 0, 1, 2])}, ValueSetError, "y: got 3, expected class labels from 0 to 2"),
        ({"y": torch.tensor([0, 1, -1, 0, 0, 1, 2])}, ValueSetError, "y: got -1, expected class labels"),
        ({"y": torch.tensor([0, 1])}, ShapeError, r"y: got shape \(2,\), expected \(7, ...\)"),
        ({"loss_fn": nn.CrossEntropyLoss(reduction="none")}, ShapeError, "loss_fn: got shape .* one number"),
        ({"importance": "gradients"}, UnknownNameError, "Did you mean 'gradient'"),
        ({"layer_loss": "hinged"}, UnknownNameError, "Did you mean 'hinge'"),
        ({"layer_loss": "cross-entropy"}, ArgumentError, "layer_loss: got 'cross-entropy'"),
        ({"solver": "hill-climb"}, ArgumentError, "budget: got None, expected a Budget"),
        ({"solver": {"2": "hill-climb"}, "budget": FEW}, UnknownNameError, "threshold of solver: got '2'"),
        ({"solver": {4: "hill-climb"}, "budget": FEW}, ArgumentError, "solver: got depth 4, expected a depth from 1"),
        ({"solver": {0: "hill-climb"}, "budget": FEW}, ArgumentError, "solver: got depth 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_gradients_change(change: dict, error: type[Exception], message: str):
    model, x, y = build("mlp")
    arguments: dict[str, Any] = {"model": model, "x": x, "y": y, "loss_fn": cross_entropy} | change
    with pytest.raises(error, match=message):
        target_backward(**arguments)
    assert all(p.grad is None for p in arguments["model"].parameters())


@pytest.mark.slow
def test_a_compiled_model_is_refused():
    model, x, y = build("mlp")
    with pytest.raises(NotAcceptedError, match=r"model: got a compiled module.*torch.compile was given"):
        target_backward(torch.compile(model), x, y, cross_entropy)  # pyright: ignore[reportArgumentType]
    assert all(p.grad is None for p in model.parameters())


def test_samples_without_a_label_ask_for_nothing():
    model, x, y = build("mlp")
    y[3] = -100
    assert target_backward(model, x, y, cross_entropy).loss.isfinite()
    report = target_backward(model, x, y, cross_entropy, solver=HillClimb(), budget=FEW)
    top: Any = report.problem(list(report)[-1])
    assert report[list(report)[-1]].objective[3] == 0
    assert (top.flip_delta(top.start)[3] == 0).all()
    y[3] = -7
    with pytest.raises(ValueSetError, match="y: got -7"):
        target_backward(model, x, y, cross_entropy, solver=HillClimb(), budget=FEW)


def test_searches_that_cannot_be_are_refused_before_gradients_change():
    def refused(model: nn.Module, x: Tensor, y: Tensor, solver: Any, message: str) -> None:
        with pytest.raises(NotAcceptedError, match=message):
            target_backward(model, x, y, cross_entropy, solver=solver, budget=FEW)
        assert all(p.grad is None for p in model.parameters())

    refused(*build("convnet"), {1: "milp"}, "model.2: got milp, which takes no BlockProblem")
    model, x, y = build("mlp")
    model[6].rule = own_rule  # pyright: ignore[reportIndexIssue]
    refused(model, x, y, {2: Enumerate()}, r"model.6: got the rule .*own_rule.*layer_loss='hinge'")
    target_backward(model, x, y, cross_entropy, solver={2: Enumerate()}, budget=FEW, layer_loss="hinge")
