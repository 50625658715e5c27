"""Models as they come: modules called twice, arguments with defaults, dropout of all kinds, what can't be traced."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from tpsolve import Budget
from tpsolve.errors import NotAcceptedError, TpsolveError, UnknownNameError
from tpsolve.nn import HardThreshold, Staircase, TargetReport, convert, diagnose, target_backward
from tpsolve.nn.passes import _draws
from tpsolve.nn.passes._segments import OUTPUT
from tpsolve.problems.block._cut import trace
from tpsolve.thresholds._hard_unit import HardUnit

F64 = torch.float64
FEW = Budget(steps=40)


class BasicBlock(nn.Module):
    """As in a residual network for images: one activation module, called twice, in place."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class Resnet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.relu = nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True)
        self.blocks, self.fc = nn.Sequential(BasicBlock(), BasicBlock()), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.relu(self.stem(x))).mean((2, 3)))


class Recurrent(nn.Module):
    """A cell by hand, run over time."""

    def __init__(self):
        super().__init__()
        self.into, self.again, self.act, self.top = nn.Linear(4, 5), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 5, dtype=x.dtype)
        for step in range(x.shape[1]):
            h = self.act(self.into(x[:, step]) + self.again(h))
        return self.top(h)


class Masked(nn.Module):
    """As in a vision transformer: further arguments with defaults, a residual from below."""

    def __init__(self, drop: nn.Module | None = None):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4)
        self.norm, self.act2, self.top = nn.LayerNorm(4), nn.ReLU(), nn.Linear(16, 3)
        self.drop = nn.Identity() if drop is None else drop

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 0.5, deep: bool = True) -> Tensor:
        z = x if mask is None else x * mask
        if deep:
            z = scale * self.drop(self.second(self.act(self.first(z)))) + x
        return self.top(self.act2(self.norm(z)).flatten(1))


class Dropping(nn.Module):
    """A function between two layers, above and below thresholds, while another residual goes past it."""

    def __init__(self, drop: Callable[[Tensor, bool], Tensor]):
        super().__init__()
        self.first, self.second, self.top = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.t1, self.t2, self.drop = HardThreshold(), HardThreshold(), drop

    def forward(self, x: Tensor) -> Tensor:
        z = self.drop(self.first(x), self.training)
        z = z + self.second(self.drop(self.t1(z), self.training))
        return self.top(self.drop(self.t2(z), self.training))


class Untraceable(Dropping):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.detach().sum()) == math.inf else super().forward(x)


def drop_path(x: Tensor, training: bool) -> Tensor:
    """Whole samples at random, as vision transformers do it."""
    return x * x.new_empty((len(x), *[1] * (x.dim() - 1))).bernoulli_(0.7) / 0.7 if training else x


def added(h: Tensor, training: bool) -> Tensor:
    h += 1.5
    return h


def added_aside(h: Tensor, training: bool) -> Tensor:
    h.mul_(torch.full_like(h, 1.5))
    return h


class Frames(nn.Module):
    """The frames of all samples along one axis, as words in some transformers; a gate of each sample in between."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.second, self.act2 = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU()
        self.gate, self.act3, self.top = nn.Linear(12, 4), nn.ReLU(), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        samples, frames, _ = x.shape
        gate = self.act3(self.gate(x.flatten(1))).repeat_interleave(frames, 0)
        z = self.second(self.act(self.first(x.reshape(samples * frames, -1)))) + gate
        return self.top(self.act2(z).reshape(samples, -1))


class Layers(nn.Module):
    """Recurrent layers of torch with dropout between them, below and above a threshold; as many steps as samples."""

    def __init__(self, batch_first: bool):
        super().__init__()
        self.batch_first = batch_first
        self.below = nn.LSTM(4, 5, 2, dropout=0.4, batch_first=batch_first)
        self.act, self.act2, self.top = HardThreshold(), HardThreshold(), nn.Linear(4, 3)
        self.above = nn.GRU(5, 2, 2, dropout=0.4, bidirectional=True, batch_first=batch_first)

    def turned(self, z: Tensor) -> Tensor:
        return z if self.batch_first else z.transpose(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.turned(self.below(self.turned(x))[0]))
        return self.top(self.act2(self.turned(self.above(self.turned(h))[0]))[:, -1])


class Routed(nn.Module):
    """Some samples take a way of their own, whose threshold sees no others."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.act2, self.top = nn.Linear(4, 5), nn.ReLU(), nn.ReLU(), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = (x[:, 0] > 0).nonzero()[:, 0]
        z = torch.zeros(len(x), 5, dtype=x.dtype).index_add(0, rows, self.act(self.first(x[rows])) + 0.5)
        return self.top(self.act2(z))


def attention(**settings: Any) -> nn.Module:
    layers = [nn.TransformerEncoderLayer(4, 2, 6, activation=nn.ReLU(), batch_first=True, **settings) for _ in range(2)]
    return nn.Sequential(*layers, nn.Flatten(1), nn.Linear(16, 3))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet": (Resnet, (1, 4, 4)),
    "resnet in evaluation": (lambda: Resnet().eval(), (1, 4, 4)),
    "recurrent": (Recurrent, (3, 4)),
    "frames": (Frames, (3, 4)),
    "recurrent layers": (lambda: Layers(True), (6, 4)),
    "recurrent layers, time first": (lambda: Layers(False), (6, 4)),
    "masked": (Masked, (4, 4)),
    "masked with dropout": (lambda: Masked(nn.Dropout(0.3)), (4, 4)),
    "transformer": (attention, (4, 4)),
    "transformer, first norm": (lambda: attention(norm_first=True, dropout=0.4), (4, 4)),
    "functional": (lambda: Dropping(lambda h, on: functional.dropout(h, 0.4, on)), (4,)),
    "functional in place": (lambda: Dropping(lambda h, on: functional.dropout(h, 0.4, on, inplace=True)), (4,)),
    "always on": (lambda: Dropping(lambda h, on: functional.dropout(h)), (4,)),
    "untraceable": (lambda: Untraceable(lambda h, on: functional.dropout(h, 0.4, on)), (4,)),
    "alpha": (lambda: Dropping(lambda h, on: functional.alpha_dropout(h, 0.4, on)), (4,)),
    "noise": (lambda: Dropping(lambda h, on: h + torch.randn_like(h)), (4,)),
    "drop path": (lambda: Dropping(drop_path), (4,)),
    "drop path in place": (lambda: Untraceable(drop_path), (4,)),
    "added in place": (lambda: Dropping(added), (4,)),
    "added in place, untraced": (lambda: Untraceable(added), (4,)),
    "in place, aside": (lambda: Dropping(added_aside), (4,)),
    "modules in place": (
        lambda: nn.Sequential(
            nn.Linear(4, 5), HardThreshold(), nn.Dropout(0.4, inplace=True), nn.Linear(5, 5), Staircase(3),
            nn.ReLU(inplace=True), nn.Linear(5, 3),
        ),
        (4,),
    ),
    "one dropout twice": (
        lambda: nn.Sequential(
            nn.Linear(4, 5), HardThreshold(), drop := nn.Dropout(0.4), nn.Linear(5, 5), HardThreshold(), drop,
            nn.Linear(5, 3),
        ),
        (4,),
    ),
}  # fmt: skip
SLOW = ("resnet", "resnet in evaluation", "transformer", "transformer, first norm")
each_model = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MODELS]
)


def build(name: str, samples: int = 6) -> tuple[nn.Module, Tensor, Tensor]:
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model = make().double()
    if any(isinstance(module, nn.ReLU) for module in model.modules()) and name != "modules in place":
        convert(model, nn.ReLU)
    return model, torch.randn(samples, *shape, dtype=F64), torch.arange(samples) % 3


def rerun(model: nn.Module, x: Tensor, held: dict[tuple[str, int], Tensor]) -> tuple[Tensor, dict[Any, Tensor]]:
    """The output and pre-activations of the model from seed 1 on, with the outputs of all thresholds held."""
    reads: dict[tuple[str, int], Tensor] = {}

    def hook_of(path: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Tensor], output: Tensor) -> Tensor:
            place = (path, sum(other == path for other, _ in reads))
            reads[place] = arguments[0].clone()
            return held[place].reshape(output.shape).clone()

        return hook

    units = [(path, module) for path, module in model.named_modules() if isinstance(module, HardUnit)]
    hooks = [module.register_forward_hook(hook_of(path)) for path, module in units]
    torch.manual_seed(1)
    with torch.no_grad():
        output = model(x)
    for hook in hooks:
        hook.remove()
    return output, reads


def search(model: nn.Module, x: Tensor, y: Tensor, solver: Any = "hill-climb") -> TargetReport:
    torch.manual_seed(1)
    return target_backward(model, x, y, cross_entropy, solver=solver, budget=FEW)


@each_model
def test_a_search_sees_the_pass_that_ran(name: str):
    model, x, y = build(name)
    statistics = {key: value.clone() for key, value in model.state_dict().items()}
    report = search(model, x, y)
    after_search = torch.get_rng_state()
    assert all(result.stats["solver"] == "hill-climb" for result in report.values())
    model.load_state_dict(statistics)
    calls = report._pass.recording.calls
    held = {(call.path, call.turn): call.h for call in calls.values()}
    generator = torch.Generator().manual_seed(2)
    for call in calls.values():
        segment = report._pass.segment(call.name)
        spins = torch.randint(2, call.module.to_spins(call.h).shape, generator=generator) * 2.0 - 1
        h = call.module.from_spins(spins).to(F64)
        # Batch norm keeps the statistics of the recorded batch in a problem, and moves in another pass.
        h = call.h if name == "resnet" else h
        output, reads = rerun(model, x, held | {(call.path, call.turn): h})
        found = dict(zip(segment.sinks, segment.block(h.clone(), *segment.context), strict=True))
        for sink, z in found.items():
            expected = output if sink == OUTPUT else reads[(calls[sink].path, calls[sink].turn)]
            torch.testing.assert_close(z, expected.reshape(z.shape))
    torch.manual_seed(1)
    loss = cross_entropy(model(x), y)
    assert torch.equal(after_search, torch.get_rng_state()), "a search draws nothing from the generators of the user"
    torch.testing.assert_close(report.loss, loss.detach())


@each_model
def test_closed_form_gradients_are_those_of_backward_and_a_report_names_every_call(name: str):
    model, x, y = build(name)
    report = search(model, x, y, "sign-gradient")
    found = [p.grad for p in model.parameters()]
    model.zero_grad()
    torch.manual_seed(1)
    cross_entropy(model(x), y).backward()
    for one, p in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad, rtol=0, atol=0)
    assert all(result.stats["solver"] == "sign-gradient" for result in report.values())
    if name.startswith("resnet"):
        blocks = [f"blocks.{i}.relu#{turn}" for i in (0, 1) for turn in (1, 2)]
        assert list(report) == ["relu", *blocks]


@each_model
def test_diagnose_flips_in_the_pass_that_ran(name: str):
    model, x, y = build(name)
    found = diagnose(model, x, y, cross_entropy, flips=8)
    assert all(-1 <= one.cosine <= 1 or math.isnan(one.cosine) for one in found.values())


def test_samples_that_do_not_lie_side_by_side_are_refused_before_gradients():
    class Turned(Frames):
        def forward(self, x: Tensor) -> Tensor:
            z = self.second(self.act(self.first(x.transpose(0, 1).flatten(0, 1))))
            return self.top(self.act2(z).unflatten(0, (-1, len(x))).transpose(0, 1).flatten(1))

    torch.manual_seed(0)
    model, x, y = convert(Turned(), nn.ReLU), torch.randn(6, 3, 4), torch.arange(6) % 3
    with pytest.raises(NotAcceptedError, match=r"model.act: got pre-activations of shape \(18, 5\), .* 3 places"):
        search(model, x, y)
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(NotAcceptedError, match="half of the batch"):
        diagnose(model, x, y, cross_entropy)


def test_a_search_above_a_threshold_that_sees_only_some_of_the_samples():
    torch.manual_seed(0)
    model = Routed().double()
    convert(model, nn.ReLU)
    x, y = torch.randn(6, 4, dtype=F64), torch.arange(6) % 3
    assert (x[:, 0] > 0).sum() == 3
    report = search(model, x, y, {-1: "enumerate"})
    losses = [
        cross_entropy(model.top(torch.tensor(spins, dtype=F64).expand(6, 5)), y, reduction="none") / 6
        for spins in itertools.product([-1.0, 1.0], repeat=5)
    ]
    torch.testing.assert_close(report["act2"].objective, torch.stack(losses).min(0).values)
    with pytest.raises(
        NotAcceptedError, match=r"model.act: got pre-activations of shape \(3, 5\), expected \(6, ...\)"
    ):
        search(model, x, y)


@pytest.mark.parametrize("name", ["recurrent", "functional in place", "untraceable", "drop path", "added in place"])
def test_the_best_targets_of_the_topmost_call_are_those_of_brute_force(name: str):
    model, x, y = build(name)
    report = search(model, x, y, {-1: "enumerate"})
    calls = report._pass.recording.calls
    top = list(calls.values())[-1]
    held = {(call.path, call.turn): call.h for call in calls.values()}
    problem, losses = report.problem(top.name), []
    for spins in itertools.product([-1.0, 1.0], repeat=5):
        h = torch.tensor(spins, dtype=F64).expand(len(x), 5)
        output, _ = rerun(model, x, held | {(top.path, top.turn): h})
        losses.append(cross_entropy(output, y, reduction="none") / len(x))
        torch.testing.assert_close(problem.objective(h), losses[-1])
    torch.testing.assert_close(report[top.name].objective, torch.stack(losses).min(0).values)


def test_defaults_of_any_kind_are_part_of_the_graph():
    torch.manual_seed(0)
    model, x = Masked(), torch.randn(2, 4, 4)
    graph, inputs = trace(model, (x,))
    assert inputs == [x]
    assert [node.name for node in graph.graph.nodes if node.op == "placeholder"] == ["x"]
    torch.testing.assert_close(graph(x), model(x))
    # So is what is given in their place, if it holds no tensors.
    graph, inputs = trace(model, (x,), {"deep": False}, constants=True)
    torch.testing.assert_close(graph(*inputs), model(x, deep=False))


def test_a_solver_is_named_by_module_or_by_call():
    model, x, y = build("recurrent")
    solvers = [result.stats["solver"] for result in search(model, x, y, {"act": "hill-climb"}).values()]
    assert solvers == ["hill-climb"] * 3
    report = search(model, x, y, {"act#2": "hill-climb"})
    assert [report[f"act#{turn}"].stats["solver"] for turn in (1, 2, 3)] == [
        "sign-gradient",
        "hill-climb",
        "sign-gradient",
    ]
    with pytest.raises(UnknownNameError, match="act#4"):
        search(model, x, y, {"act#4": "hill-climb"})


class Mixing(nn.Module):
    """A graph network: samples that meet, by an index as long as the batch."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.act2, self.top = nn.Linear(4, 5), HardThreshold(), HardThreshold(), nn.Linear(5, 3)
        self.order = torch.arange(6).flip(0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.first(x))
        return self.top(self.act2(h + h[self.order]))


@pytest.mark.parametrize(
    "run", [search, lambda model, x, y: diagnose(model, x, y, cross_entropy)], ids=["search", "diagnose"]
)
def test_samples_that_meet_are_refused_in_one_line(run: Callable[..., Any], capfd: pytest.CaptureFixture[str]):
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    told = (
        r"model.act: got .*IndexError .* on every sample.* are one sample: pass .x.None.|half of the batch .IndexError"
    )
    with pytest.raises(TpsolveError, match=told):
        run(Mixing(), x, y)
    assert capfd.readouterr() == ("", "")


def test_a_draw_that_can_t_be_held_is_refused_before_gradients_change(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), HardThreshold(), nn.RReLU(), nn.Linear(5, 3))
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    monkeypatch.setattr(_draws, "RRELU", "no such name")
    monkeypatch.setattr(_draws, "_reads", lambda func, args: True)
    with pytest.raises(NotAcceptedError, match=r"rrelu_with_noise.* at random"):
        search(model, x, y)
    assert all(p.grad is None for p in model.parameters())
    search(model, x, y, "sign-gradient")


@pytest.mark.parametrize("inplace", [False, True])
def test_the_slopes_of_rrelu_are_those_that_were_drawn(inplace: bool):
    torch.manual_seed(0)
    relu = nn.RReLU(0.2, 0.9, inplace=inplace)
    model = nn.Sequential(nn.Linear(4, 5), HardThreshold(), nn.Linear(5, 4), relu, nn.Linear(4, 3))
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    outputs: list[Tensor] = []
    hook = relu.register_forward_hook(lambda module, arguments, output: outputs.append(output.detach().clone()))
    report = search(model, x, y)
    hook.remove()
    h, problem = report._pass.recording.calls["1"].h, report.problem("1")
    z = model[2](h)
    # Where z was above 0 nothing was drawn, and the slope is that of evaluation.
    slope = torch.where(z <= 0, outputs[0] / z, 0.55)
    assert ((slope >= 0.2) & (slope <= 0.9)).all()
    assert slope.std() > 0.05
    for sign in (1, -1):
        at = model[2](sign * h)
        losses = cross_entropy(model[4](torch.where(at <= 0, at * slope, at)), y, reduction="none") / 6
        torch.testing.assert_close(problem.objective(sign * h).float(), losses, atol=1e-5, rtol=1e-5)
