"""Thresholds under torch's own machinery: compile, vmap, export, checkpointing, autocast, pickle; convert; NaN."""

import copy
import math
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from tpsolve import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError, NotFiniteError, PartialConversionWarning, ShapeError
from tpsolve.nn import (
    HardThreshold,
    Staircase,
    Threshold,
    check_nan,
    compact,
    convert,
    diagnose,
    find_thresholds,
    target_backward,
)


def bump(u: Tensor, t: Tensor) -> Tensor:
    return -t * torch.exp(-u * u)


KINDS: dict[str, Callable[[], Threshold]] = {
    "soft-hinge": HardThreshold,
    "low 0": lambda: HardThreshold(low=0),
    "saturated-ste": lambda: HardThreshold("saturated-ste", width=0.5),
    "logistic": lambda: HardThreshold("logistic", importance="none"),
    "own rule": lambda: HardThreshold(bump),
    "learned": lambda: HardThreshold(width_mode="learned"),
    "relative": lambda: HardThreshold("hinge", width_mode="relative"),
    "given": lambda: HardThreshold(importance=torch.tensor([0.5])),
    "staircase": Staircase,
    "each step": lambda: Staircase(5, "ramp", steps="each"),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def build(kind: str) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), KINDS[kind](), nn.Linear(6, 5), KINDS[kind](), nn.Linear(5, 3))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 4, generator=generator), torch.randint(3, (7,), generator=generator)


def gradients(model: nn.Module, outputs: Callable[[Tensor], Tensor]) -> list[Tensor]:
    x, y = batch()
    model.zero_grad()
    cross_entropy(outputs(x), y).backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    assert found
    assert all(bool(g.any()) for g in found)
    return found


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


# What torch itself says while it traces an autograd function.
compiles = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@compiles
@pytest.mark.parametrize(("kind", "backend"), [("soft-hinge", "eager"), *((kind, "aot_eager") for kind in KINDS)])
@pytest.mark.slow
def test_compiles_in_one_graph(kind: str, backend: str):
    model = build(kind)
    torch._dynamo.reset()
    compiled: Any = torch.compile(model, fullgraph=True, backend=backend)
    assert_same(gradients(model, compiled), gradients(model, model))


@compiles
def test_a_schedule_does_not_compile_anew():
    model = nn.Sequential(nn.Linear(4, 3), HardThreshold(width=0.9))
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled: Any = torch.compile(model, fullgraph=True, backend=counter)
    for width in (0.8, 0.7, 0.6):
        find_thresholds(model)["1"].width = width
        assert_same(gradients(model, compiled), gradients(model, model))
    assert counter.frame_count == 1


@each_kind
def test_gradients_of_each_sample_under_vmap(kind: str):
    model = build(kind)
    x, y = batch()
    parameters = dict(model.named_parameters())

    def loss(parameters: Any, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, parameters, (x[None],)), y[None])

    together = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    for i in range(len(x)):
        alone = torch.autograd.grad(cross_entropy(model(x[i : i + 1]), y[i : i + 1]), list(model.parameters()))
        assert_same([g[i] for g in together.values()], list(alone))


@each_kind
def test_checkpointing_changes_nothing(kind: str):
    model = build(kind)
    assert_same(gradients(model, lambda x: checkpoint(model, x, use_reentrant=False)), gradients(model, model))  # pyright: ignore[reportArgumentType]


@each_kind
def test_export_and_pickle_keep_the_values(kind: str):
    model = build(kind)
    x, _ = batch()
    exported = torch.export.export(model, (x,)).module()
    assert torch.equal(exported(x), model(x))
    again = pickle.loads(pickle.dumps(model)) if kind in ("soft-hinge", "staircase", "own rule") else None
    for other in filter(None, (again, copy.deepcopy(model))):
        assert repr(other) == repr(model)
        assert_same(gradients(other, other), gradients(model, model))


@each_kind
def test_autocast_gives_bfloat16_between_and_float32_gradients(kind: str):
    model = build(kind)
    seen: list[Any] = []
    model[1].register_forward_hook(lambda module, arguments, output: seen.append(output))

    def outputs(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(x)

    narrow, wide = gradients(model, outputs), gradients(model, model)
    assert seen[0].dtype == torch.bfloat16
    assert all(g.dtype == torch.float32 for g in narrow)
    # The direction of all gradients together: of one weight bfloat16 keeps two digits.
    one, other = (torch.cat([g.flatten() for g in side]) for side in (narrow, wide))
    assert torch.cosine_similarity(one, other, dim=0) > 0.9


@each_kind
def test_double_backward_is_refused_with_the_reason(kind: str):
    model = build(kind)
    x, y = batch()
    first = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()), create_graph=True)
    with pytest.raises(NotAcceptedError, match=r"second derivative.*slope of a layer loss, not the derivative"):
        first[0].square().sum().backward()


@each_kind
def test_layout_of_the_input_is_kept(kind: str):
    z = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    h = KINDS[kind]()(z)
    assert h.is_contiguous(memory_format=torch.channels_last)
    h.sum().backward()
    assert z.grad is not None
    assert z.grad.is_contiguous(memory_format=torch.channels_last)


def test_settings_travel_with_the_model_but_only_widths_are_state():
    assert build("saturated-ste").state_dict().keys() - build("soft-hinge").state_dict().keys() == {
        "1._width",
        "3._width",
    }
    assert {"1.log_width", "3.log_width"} <= build("learned").state_dict().keys()
    assert repr(KINDS["saturated-ste"]()) == "HardThreshold(rule='saturated-ste', width=0.5)"
    assert repr(KINDS["each step"]()) == "Staircase(levels=5, steps='each', rule='ramp')"
    assert repr(KINDS["own rule"]()) == "HardThreshold(rule='bump')"


def test_convert_replaces_every_activation_by_a_threshold_of_its_own():
    shared = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 2), shared, nn.Sequential(nn.Linear(2, 2), shared), nn.Tanh()).eval()
    assert convert(model, nn.ReLU, lambda: Staircase(3)) is model
    found = find_thresholds(model)
    assert list(found) == ["1", "2.1"]
    assert found["1"] is not found["2.1"]
    assert not any(module.training for module in model.modules())
    assert isinstance(model[3], nn.Tanh)
    assert isinstance(convert(nn.ReLU(), nn.ReLU), HardThreshold)


def test_models_without_activations_or_thresholds_are_refused():
    with pytest.raises(NotAcceptedError, match=r"model: got no ReLU module.*write a HardThreshold\(\) module"):
        convert(nn.Linear(2, 2), nn.ReLU)
    with pytest.raises(NotAcceptedError, match=r"model: got no HardThreshold or Staircase.*convert"):
        find_thresholds(nn.Linear(2, 2))


class Calling(nn.Module):
    """A ReLU as a module, and others as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.top = nn.ReLU(), nn.Linear(3, 3)
        self.block = nn.TransformerEncoderLayer(3, 1, 4, activation=nn.functional.relu)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.top(self.relu(x)))


class Method(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu_()


def test_convert_says_what_it_left():
    with pytest.warns(PartialConversionWarning) as told:
        model = convert(Calling(), nn.ReLU)
    assert isinstance(model.relu, HardThreshold)
    words = str(told[0].message)
    assert "replaced 1 ReLU modules and left relu in Calling (model), relu as model.block.activation" in words
    with pytest.warns(PartialConversionWarning, match=r"relu in Method \(model\.0\)"):
        convert(nn.Sequential(Method(nn.Linear(2, 2)), nn.ReLU()), nn.ReLU)
    with pytest.raises(NotAcceptedError, match=r"no ReLU module, but relu in Method \(model\)"):
        convert(Method(nn.Linear(2, 2)), nn.ReLU)
    # Another activation, and calls of modules with the name of one, are no calls of it.
    model: Any = Calling()
    model.relu = nn.Tanh()
    convert(model, nn.Tanh)


class Calls(nn.Module):
    """Calls of all kinds, parts that are not called, and tensors of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inside, self.relu, self.unused = nn.Linear(3, 4), Method(nn.Linear(4, 4)), nn.ReLU(), Calling()
        self.scale, self.top = nn.Parameter(torch.tensor([1.0, -2, 3, 4])), nn.Linear(4, 2)
        self.shift = nn.Buffer(torch.tensor([0.5, 0, -1, 0]))

    def forward(self, x: Tensor, gain: float = 0.5) -> Tensor:
        z = nn.functional.relu(self.first(x), inplace=True) * self.scale + self.shift
        return self.top(torch.relu(input=self.relu(self.inside(z)) - gain))


def test_convert_replaces_calls_of_functions_too():
    torch.manual_seed(0)
    model, x = Calls(), torch.randn(50, 3)
    state = model.state_dict()

    def by_hand(x: Tensor, gain: float) -> Tensor:
        def jump(z: Tensor) -> Tensor:
            return torch.where(z >= 0, 1.0, -1.0)

        z = jump(model.first(x)) * model.scale + model.shift
        return model.top(jump(jump(jump(model.get_submodule("inside.0")(z))) - gain))

    with pytest.warns(PartialConversionWarning, match=r"left relu as model.unused.block.activation\."):
        made = convert(model, nn.ReLU, functions=True)
    assert sorted(made.state_dict()) == sorted(state)
    # Two of its own, one of the part that is not called, one inside, and two modules.
    assert len(find_thresholds(made)) == 6
    for network in (made, copy.deepcopy(made)):
        assert torch.equal(network(x), by_hand(x, 0.5))
        assert torch.equal(network(x, gain=2.0), by_hand(x, 2.0))
    assert made(x).unique(dim=0).shape[0] > 2


def test_calls_that_depend_on_the_mode_or_on_numbers_are_refused():
    class Dropping(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(input).relu(), training=self.training)

    class Branching(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return torch.relu(input) if input.sum() > 0 else input

    with pytest.raises(NotAcceptedError, match=r"model\.1: got a Dropping of code that is another in training"):
        convert(nn.Sequential(nn.ReLU(), Dropping(2, 2)), nn.ReLU, functions=True)
    with pytest.raises(NotAcceptedError, match=r"model: got a Branching of code that torch.fx can't follow"):
        convert(Branching(2, 2), nn.ReLU, functions=True)
    with pytest.raises(NotAcceptedError, match="model: got no ReLU module, expected"):
        convert(nn.Linear(2, 2), nn.ReLU, functions=True)


def test_convert_takes_what_makes_modules_and_no_modules():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.ReLU())
    with pytest.raises(ArgumentError, match=r"threshold: got one Staircase for all places.* lambda: Staircase\(...\)"):
        convert(model, nn.ReLU, Staircase(3))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="activation: got one ReLU, expected a class"):
        convert(model, nn.ReLU())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match=r"activation: got .*relu.*, expected a class.* HardThreshold"):
        convert(model, torch.relu)  # pyright: ignore[reportArgumentType]
    assert type(model[1]) is nn.ReLU


@pytest.mark.parametrize("kind", [HardThreshold, Staircase])
def test_importance_weights_are_checked(kind: type[Threshold]):
    with pytest.raises(NotFiniteError, match=r"importance: got 1 NaN .* first at \[1\]"):
        kind(importance=torch.tensor([1.0, math.nan]))
    z = torch.ones(5, 4, requires_grad=True)
    for shape in ((3,), (2, 5, 4), (4, 1)):
        with pytest.raises(ShapeError, match=r"importance: got shape .* broadcasts to \(5, 4\)"):
            kind(importance=torch.ones(shape))(z)
    for shape in ((), (1,), (4,), (1, 4), (5, 1), (5, 4)):
        kind(importance=torch.ones(shape))(z).sum().backward()


class ByName(nn.Module):
    """Calls its parts by keyword, or by position."""

    def __init__(self, named: bool):
        super().__init__()
        self.named, self.first, self.top = named, nn.Linear(4, 4), nn.Linear(4, 3)
        self.norm, self.threshold, self.drop = nn.BatchNorm1d(4), HardThreshold(), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        if self.named:
            return self.top(input=self.drop(input=self.threshold(z=self.norm(input=self.first(input=x)))))
        return self.top(self.drop(self.threshold(self.norm(self.first(x)))))


def test_calls_by_keyword_are_calls():
    generator = torch.Generator().manual_seed(0)
    x, y, models = torch.randn(6, 4, generator=generator), torch.arange(6) % 3, (ByName(True), ByName(False))
    models[1].load_state_dict(models[0].state_dict())
    found = []
    for model in models:
        torch.manual_seed(0)
        target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=Budget(steps=3))
        with check_nan(model), compact(model) as saver:
            loss = cross_entropy(model(x), y)
            assert saver.outputs
        loss.backward()
        found.append([p.grad for p in model.parameters()] + [diagnose(model, x, y, cross_entropy, flips=4)])
    torch.testing.assert_close(*(each[:-1] for each in found), rtol=0, atol=0)
    assert str(found[0][-1]) == str(found[1][-1])
    with check_nan(models[0]), pytest.raises(NotFiniteError, match="pre-activations of threshold"):
        models[0](x * math.nan)


def test_compiled_parts_are_named():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), HardThreshold()), nn.Linear(4, 3))
    model.add_module("0", torch.compile(model[0], backend="eager"))  # pyright: ignore[reportArgumentType]
    x, y = torch.ones(6, 4), torch.arange(6) % 3
    for work in (target_backward, diagnose):
        with pytest.raises(NotAcceptedError, match=r"model.0: got a compiled module with thresholds.* compile\(\)"):
            work(model, x, y, cross_entropy)


def test_models_that_cannot_be_copied_are_refused():
    model = nn.Sequential(nn.Linear(4, 4), HardThreshold(), nn.Linear(4, 3))
    vars(model[2])["lock"] = threading.Lock()
    x, y = torch.ones(6, 4), torch.arange(6) % 3
    search: dict[str, Any] = {"solver": "hill-climb", "budget": Budget(steps=3)}
    for work, rest in ((target_backward, search), (diagnose, {})):
        with pytest.raises(NotAcceptedError, match=r"model: got TypeError .* when copied.*locks"):
            work(model, x, y, cross_entropy, **rest)


@pytest.mark.parametrize("pruned", [False, True])
def test_weights_that_are_made_in_each_pass_are_searched(pruned: bool):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    if pruned:
        prune.random_unstructured(layer, "weight", 0.5)
    else:
        with pytest.warns(FutureWarning, match="weight_norm"):
            layer = nn.utils.weight_norm(layer)  # pyright: ignore[reportDeprecated]
    model = nn.Sequential(nn.Linear(4, 4), HardThreshold(), layer)
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    for _ in range(2):
        report = target_backward(model, x, y, cross_entropy, solver="hill-climb", budget=Budget(steps=3))
        h = report._pass.recording.calls["1"].h
        assert report.problem("1").objective(h).sum().item() == pytest.approx(report.loss.item(), rel=1e-5)
        assert report["1"].objective.sum() <= report.loss
        assert all(0 <= one.dead <= 1 for one in diagnose(model, x, y, cross_entropy, flips=8).values())
        with torch.no_grad():
            for p in model.parameters():
                p += 0.1 * torch.randn_like(p)


def test_nan_is_named_where_it_reaches_a_threshold_first():
    model = build("soft-hinge")
    x, y = batch()
    with torch.no_grad():
        layer = model[2]
        assert isinstance(layer, nn.Linear)
        layer.bias[1] = math.nan
    assert model(x).isnan().any(), "unchecked, it passes through"
    with check_nan(model), pytest.raises(NotFiniteError, match=r"pre-activations of 3: got 7 NaN .* first at \[0, 1\]"):
        model(x)
    model = build("soft-hinge")
    with check_nan(model), pytest.raises(NotFiniteError, match="gradient at 3: got 35 NaN"):
        (cross_entropy(model(x), y) * math.nan).backward()
    (cross_entropy(model(x), y) * math.nan).backward()
