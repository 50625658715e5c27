"""Models and losses as users of PyTorch have them: searches, diagnoses and loops take them, or say why not."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from tpsolve import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError, ShapeError, TpsolveError, ValueSetError
from tpsolve.nn import HardThreshold, WidthSchedule, convert, diagnose, target_backward
from tpsolve.problems import LayerProblem
from tpsolve.train import averaged_weights, estimate_batch_norm, ftprop_mb

FEW = Budget(steps=5)
search = partial(target_backward, solver="hill-climb", budget=FEW)


def batch(*shape: int, samples: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, *shape, generator=generator)
    return x, torch.randint(3, (samples,), generator=generator)


def deep(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(12, 10), HardThreshold(), nn.Linear(10, 8), HardThreshold(), nn.Linear(8, 3)]
    return nn.Sequential(*layers).to(dtype)


def transformer(activation: nn.Module, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 2, 16, dropout=dropout, activation=activation, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(1), nn.Linear(48, 3))


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def without_gradients(model: nn.Module) -> bool:
    return all(p.grad is None for p in model.parameters())


def test_a_converted_transformer_layer_is_the_same_network_in_evaluation():
    model, (x, _) = convert(transformer(nn.ReLU()), nn.ReLU), batch(4, 12)
    in_training = model.train()(x)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), in_training.detach())


def test_searches_cut_thresholds_out_of_modules_of_torch():
    model, (x, y) = transformer(HardThreshold()), batch(4, 12)
    report = search(model, x, y, cross_entropy)
    result, h = report["0.activation"], report._pass.recording.calls["0.activation"].h
    problem = report.problem("0.activation")
    assert problem.objective(h).sum().item() == pytest.approx(report.loss.item(), rel=1e-5)
    hook = model.get_submodule("0.activation").register_forward_hook(lambda *_: result.targets)
    assert result.objective.sum().item() == pytest.approx(cross_entropy(model(x), y).item(), rel=1e-5)
    hook.remove()
    assert (result.objective < problem.objective(h)).all()


def test_convert_gives_a_threshold_to_each_place_of_a_shared_activation():
    shared = nn.ReLU()
    model = nn.Sequential(nn.Linear(12, 10), shared, nn.Linear(10, 8), shared, nn.Linear(8, 3))
    convert(model, nn.ReLU)
    assert isinstance(model[1], HardThreshold)
    assert isinstance(model[3], HardThreshold)
    assert model[1] is not model[3]


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.top = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.t1, self.t2, self.norm = HardThreshold(), HardThreshold(), nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.norm(self.t2(self.second(self.norm(self.t1(self.first(x)))))))


class Untraced(Normed):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if bool(x.isfinite().all()) else x


@pytest.mark.parametrize("kind", [Normed, Untraced])
def test_one_batch_norm_for_two_places_has_the_statistics_of_each_call(kind: type[Normed]):
    model, (x, y) = kind(), batch(12)
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2)
    report = search(model, x, y, cross_entropy)
    calls = report._pass.recording.calls

    def held(z: Tensor, by: Tensor) -> Tensor:
        scale = model.norm.weight / (by.var(0, correction=0) + model.norm.eps).sqrt()
        return (z - by.mean(0)) * scale + model.norm.bias

    h1, h2 = calls["t1"].h, calls["t2"].h
    top = report.problem("t2")
    torch.testing.assert_close(top.objective(h2).sum().float(), report.loss)
    delta = top.flip_delta(h2)
    for b, j in itertools.product(range(6), range(8)):
        flipped = h2.clone()
        flipped[b, j] *= -1
        expected = cross_entropy(model.top(held(flipped, h2)), y) - report.loss
        assert delta[b, j].item() == pytest.approx(expected.item(), abs=1e-5)
    problem: Any = report.problem("t1")
    flipped = h1.clone()
    flipped[:, 2] *= -1
    # A block that runs the whole model gives its output too.
    read = problem.passes.output(flipped, torch.arange(6))[:, :8]
    torch.testing.assert_close(read, model.second(held(flipped, h1)).detach(), atol=1e-5, rtol=1e-5)
    diagnose(model, x, y, cross_entropy)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    search(model.eval(), x, y, cross_entropy)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class BiasedTop(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.t, self.top = nn.Linear(12, 10), HardThreshold(), nn.Linear(10, 1)
        nn.init.constant_(self.top.bias, 300.0)

    def forward(self, x: Tensor) -> Tensor:
        # Other units in each call, of which torch's generators know nothing.
        self.calls = getattr(self, "calls", 0) + 1
        return self.top(self.t(self.first(x)) * ((torch.arange(10) + self.calls) % 5 < 2) * 2)


def test_a_large_bias_does_not_hide_what_acts_on_one_pass():
    x, _ = batch(12, samples=64)
    with pytest.raises(NotAcceptedError, match="copy does not give"):
        search(BiasedTop(), x, 300 + x[:, :1], functional.mse_loss)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2.0**-8, 2.0**-16, 2.0**-40, 2.0**10])
@pytest.mark.parametrize("solver", ["hill-climb", "tabu", "anneal", "polish(beam, hill-climb)"])
def test_a_search_finds_the_same_targets_however_small_the_loss_is(solver: str, scale: float):
    x, y = batch(12, samples=16)
    found = []
    for factor in (1.0, scale):
        model = deep()
        report = target_backward(
            model, x, y, lambda o, t, by=factor: by * cross_entropy(o, t), solver=solver, budget=FEW
        )
        found.append((report["1"].targets, gradients(model) / factor, report["3"].objective / factor))
    (targets, gradient, objective), (same, rescaled, recounted) = found
    assert torch.equal(targets, same)
    torch.testing.assert_close(rescaled, gradient)
    torch.testing.assert_close(recounted, objective)


@pytest.mark.parametrize("scale", [1e-9, 0.0])
def test_the_loss_of_a_sample_is_told_apart_from_its_share_of_the_mean_also_where_it_is_tiny(scale: float):
    model, (x, y) = nn.Sequential(nn.Linear(12, 10), HardThreshold(), nn.Linear(10, 3)), batch(12, samples=64)
    report = search(model, x, y, lambda o, t: scale * cross_entropy(o, t))
    total = report.problem("1").objective(report._pass.recording.calls["1"].h).sum()
    assert total.item() == pytest.approx(report.loss.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda o, t: cross_entropy(o, t) ** 2, "the sum or the mean of a loss of each sample"),
        (lambda o, t: (o - o.mean(0)).square().sum(), "the sum or the mean of a loss of each sample"),
        (lambda o, t: cross_entropy(o.view(6, 3), t), "can't be computed for single samples"),
    ],
    ids=["a square", "a mean over the batch", "a size"],
)
@pytest.mark.parametrize("run", [search, diagnose])
def test_losses_without_a_value_for_each_sample_are_refused_before_gradients(
    run: Callable[..., Any], loss: Any, message: str
):
    model, (x, y) = deep(), batch(12)
    with pytest.raises(NotAcceptedError, match=f"loss_fn: .*{message}"):
        run(model, x, y, loss)
    assert without_gradients(model)
    target_backward(model, x, y, loss)


WEIGHTS = torch.tensor([1.0, 2, 3])
IGNORED: dict[str, Any] = {
    "class weights": nn.CrossEntropyLoss(weight=WEIGHTS),
    "class weights and ignored labels": partial(cross_entropy, weight=WEIGHTS, ignore_index=1),
    "ignored labels": partial(cross_entropy, ignore_index=1),
    "sum": partial(cross_entropy, ignore_index=1, weight=WEIGHTS, reduction="sum"),
    "smoothed": partial(cross_entropy, ignore_index=1, weight=WEIGHTS, label_smoothing=0.1),
    "likelihood": nn.NLLLoss(weight=WEIGHTS),
    "class weights that nobody sees": lambda o, t: cross_entropy(o, t, WEIGHTS),
    "a mask": lambda o, t: cross_entropy(o[t > 0], t[t > 0]),
    "a branch and an item": lambda o, t: cross_entropy(o, t) * (1 if o.sum().item() < 1e9 else 2),
}
LINEAR = ("class weights", "class weights and ignored labels", "ignored labels", "sum")


@pytest.mark.parametrize("name", IGNORED)
@pytest.mark.parametrize("solver", ["hill-climb", "curvature-flip"])
def test_weighted_classes_and_ignored_labels_have_exact_flips(name: str, solver: str):
    loss, (x, y) = IGNORED[name], batch(12)
    top = nn.Sequential(nn.Linear(4, 3), *([nn.LogSoftmax(1)] if name == "likelihood" else []))
    model = nn.Sequential(nn.Linear(12, 4), HardThreshold(), *top)
    y[:2] = torch.tensor([1, 2])
    report = target_backward(model, x, y, loss, solver=solver, budget=FEW)
    problem, h = report.problem("1"), report._pass.recording.calls["1"].h
    linear = isinstance(problem, LayerProblem)
    assert linear == (name in LINEAR)
    torch.testing.assert_close(problem.objective(h).sum().float(), report.loss)
    delta = problem.flip_delta(h)
    for b, j in itertools.product(range(len(h)), range(4)):
        flipped = h.clone()
        flipped[b, j] *= -1
        assert delta[b, j].item() == pytest.approx((loss(top(flipped), y) - report.loss).item(), abs=1e-5)
    if "ignored" in name:
        assert (delta[y == 1] == 0).all()
    if name == "a mask":
        assert (delta[y == 0] == 0).all()
    diagnose(model, x, y, loss)


def test_a_loss_that_the_model_computes_is_refused_by_a_search():
    class Losing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = deep()

        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            z = self.net(x)
            return {"loss": cross_entropy(z, y), "logits": z}

    model, (x, y) = Losing(), batch(12)
    target_backward(model, (x, y), y, lambda o, t: o["loss"])
    with pytest.raises(NotAcceptedError, match=r"NoneType from what the model gives .* compute it here"):
        search(model, (x, y), y, lambda o, t: o["loss"])
    report = search(model, (x, y), y, lambda o, t: cross_entropy(o["logits"], t))
    assert not any(report.fallbacks.values())


@pytest.mark.parametrize("loss", [cross_entropy, lambda o, t: cross_entropy(o.mT.flatten(0, 1), t.flatten())])
def test_labels_of_every_place_may_be_ignored(loss: Any):
    model = nn.Sequential(nn.Linear(12, 4), HardThreshold(), nn.Linear(4, 15), nn.Unflatten(1, (3, 5)))
    x, y = batch(12)[0], torch.randint(3, (6, 5), generator=torch.Generator().manual_seed(0))
    y[0], y[1, 2:] = -100, -100
    report = target_backward(model, x, y, loss, solver="curvature-flip", budget=FEW)
    problem, h = report.problem("1"), report._pass.recording.calls["1"].h
    torch.testing.assert_close(problem.objective(h).sum().float(), report.loss)
    assert (problem.flip_delta(h)[0] == 0).all()


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.t, self.top = nn.Linear(12, 10), HardThreshold(), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.t(self.first(x.transpose(0, 1))).mean(0))


@pytest.mark.parametrize("run", [search, diagnose])
def test_another_axis_first_is_refused_with_the_cure(run: Callable[..., Any]):
    model, (x, y) = TimeFirst(), batch(4, 12)
    with pytest.raises(NotAcceptedError, match=r"model.t: got .* shape \(4, 6, 10\), expected \(6, ...\).*batch_first"):
        run(model, x, y, cross_entropy)
    assert without_gradients(model)
    # As many steps as samples: shapes alone don't tell.
    x, y = batch(6, 12)
    with pytest.raises(TpsolveError):
        run(model, x, y, cross_entropy)


class Centred(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z - z.mean(0)


def test_diagnose_refuses_samples_that_meet():
    model = nn.Sequential(
        nn.Linear(12, 8), HardThreshold(), nn.Linear(8, 8), Centred(), HardThreshold(), nn.Linear(8, 3)
    )
    with pytest.raises(NotAcceptedError, match="something else with half of the batch"):
        diagnose(model, *batch(12), cross_entropy)


def test_one_output_with_labels_of_two_classes():
    model, (x, _) = nn.Sequential(nn.Linear(12, 4), HardThreshold(), nn.Linear(4, 1)), batch(12)
    y = torch.tensor([0, 1, 1, 0, 1, 0])

    def loss(o: Tensor, t: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(o[:, 0], t.to(o.dtype))

    report = search(model, x, y, loss)
    assert (report["1"].objective.sum() < report.loss).all()
    assert diagnose(model, x, y, loss)


def test_labels_outside_the_classes_are_named_also_where_a_loss_of_ones_own_fails_on_them():
    x, y = batch(12)
    with pytest.raises(ValueSetError, match="y: got 3, expected class labels from 0 to 2"):
        target_backward(deep(), x, y.clamp(min=3), lambda o, t: cross_entropy(o, t))


@pytest.mark.parametrize("solver", ["sign-gradient", "hill-climb"])
def test_whole_numbers_go_into_an_embedding(solver: str):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(9, 4), nn.Flatten(), nn.Linear(16, 8), HardThreshold(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)
    )
    x, y = torch.randint(9, (6, 4)), torch.tensor([0, 1, 2, 0, 1, 2])
    report = target_backward(model, x, y, cross_entropy, solver=solver, budget=FEW)
    assert model[0].weight.grad is not None
    assert report.problem("3").objective(report._pass.recording.calls["3"].h).sum().item() == pytest.approx(
        report.loss.item(), rel=1e-5
    )
    with pytest.raises(ArgumentError, match=r"x: got torch.int64, expected what the model takes.*\.float\(\)"):
        target_backward(deep(), torch.ones(6, 12, dtype=torch.long), y, cross_entropy)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(0, 12)}, ShapeError, "x: got shape .0, 12."),
        ({"x": [1.0]}, ArgumentError, "x: got list, expected a tensor"),
        ({"loss_fn": "mse"}, ArgumentError, "loss_fn: got 'mse', expected a function"),
        ({"loss_fn": lambda o, t: 1.0}, ShapeError, "loss_fn: got float"),
        ({"generator": 3}, ArgumentError, "generator: got 3, expected a torch.Generator"),
    ],
)
def test_arguments_that_make_no_sense(change: dict[str, Any], error: type[Exception], message: str):
    x, y = batch(12)
    model = deep()
    with pytest.raises(error, match=message):
        target_backward(model, **({"x": x, "y": y, "loss_fn": cross_entropy} | change))
    assert without_gradients(model)


def test_a_loop_keeps_double_precision():
    model, (x, y) = deep(torch.float64), batch(12)
    x = x.double()
    expected = cross_entropy(model(x), y)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss, _, _ = next(ftprop_mb(model, [(x, y)], cross_entropy, optimizer))
    assert torch.equal(loss, expected.detach())


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = deep()

    def forward(self, x: Tensor) -> Any:
        return self.inner(x), x


@pytest.mark.parametrize(
    ("model", "optimizer", "settings", "message"),
    [
        (Pair(), torch.optim.SGD, {}, "loss_fn: got one that fails on the model's output, of tuple"),
        (deep(), torch.optim.LBFGS, {}, "optimizer: got LBFGS"),
        (deep(), torch.optim.SGD, {"importance": "flip"}, "importance: got 'flip'"),
    ],
)
def test_a_loop_refuses_what_it_can_t_run(model: nn.Module, optimizer: Any, settings: dict[str, Any], message: str):
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(TpsolveError, match=message):
        next(ftprop_mb(model, [batch(12)], cross_entropy, optimizer(model.parameters(), lr=0.1), **settings))
    assert all(map(torch.equal, before, model.parameters()))


def test_an_average_follows_widths_that_change_after_it_was_made():
    model = deep()
    averaged = averaged_weights(model, 0.5)
    schedule = WidthSchedule(model, 1.0, 0.25, steps=2)
    for _ in range(2):
        schedule.step()
        averaged.update_parameters(model)
    assert [module.width for module in averaged.modules() if isinstance(module, HardThreshold)] == [0.25, 0.25]


def test_batch_norm_keeps_its_statistics_where_there_is_no_batch():
    norm = nn.BatchNorm1d(12)
    estimate_batch_norm(norm, [batch(12)[0]])
    before = norm.state_dict()["running_mean"].clone()
    with pytest.raises(ArgumentError, match="batches: got none"):
        estimate_batch_norm(norm, iter(()))
    assert before.any()
    assert torch.equal(norm.state_dict()["running_mean"], before)
