"""Models of several inputs and outputs: tuples, mappings, and dataclasses that torch has been told of."""

from collections import UserDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils._pytree import register_pytree_node, tree_map

from tpsolve import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError, ShapeError
from tpsolve.nn import HardThreshold, Staircase, compact, convert, diagnose, target_backward
from tpsolve.train import ftprop_mb

F64 = torch.float64
FEW = Budget(steps=20)
SAMPLES = 6


class Answer(NamedTuple):
    logits: Tensor
    note: str
    height: Tensor
    total: Tensor


class Many(nn.Module):
    """Two inputs, a scale that all samples share, two heads; the lower threshold reaches one of them directly."""

    def __init__(self, form: Callable[..., Any], branches: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.first, self.second = nn.Embedding(7, 4), nn.Linear(4, 5), nn.Linear(5, 5)
        self.t1, self.t2 = HardThreshold(), Staircase(3)
        self.top, self.height = nn.Linear(5, 3), nn.Linear(5, 2)
        self.form, self.branches = form, branches
        self.double()

    def forward(self, ids: Tensor, x: Tensor, scale: Tensor | None = None, deep: bool = True) -> Any:
        z = self.table(ids).mean(1) + x
        if self.branches and not bool(z.isfinite().all()):
            return None
        low = self.t1(self.first(z) if scale is None else self.first(z) * scale)
        h = self.t2(self.second(low) if deep else low)
        return self.form(self.top(h), self.height(low))


def answer(logits: Tensor, height: Tensor) -> Answer:
    return Answer(logits, "note", height, height.sum())


def mapping(logits: Tensor, height: Tensor) -> dict[str, Any]:
    return {"hidden": [height, None], "logits": logits, "number": 3}


def of_answer(output: Any, y: Any) -> Tensor:
    return cross_entropy(output.logits, y["label"]) + mse_loss(output.height, y["height"])


def of_mapping(output: Any, y: Any) -> Tensor:
    return cross_entropy(output["logits"], y[0]) + mse_loss(output["hidden"][0], y[1])


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    ids, x = torch.randint(7, (SAMPLES, 3), generator=g), torch.randn(SAMPLES, 4, generator=g, dtype=F64)
    return ids, x, torch.randint(3, (SAMPLES,), generator=g), torch.randn(SAMPLES, 2, generator=g, dtype=F64)


def cases() -> dict[str, tuple[nn.Module, Any, Any, Callable[[Any, Any], Tensor]]]:
    ids, x, label, height = batch()
    scale = torch.tensor([0.5, 2.0, 1.0, 1.5, 0.7], dtype=F64)
    named, told = {"label": label, "height": height}, (label, height)
    return {
        "by place": (Many(answer), (ids, x), named, of_answer),
        "by name": (Many(mapping), {"x": x, "ids": ids, "deep": False}, told, of_mapping),
        "shared": (Many(mapping), (ids, x, scale), told, of_mapping),
        "one leaf": (Many(lambda z, _: {"logits": z}), (ids, x), label, lambda o, y: cross_entropy(o["logits"], y)),
        "plain output": (Many(lambda z, _: z), {"ids": ids, "x": x}, label, cross_entropy),
        "branches": (Many(answer, branches=True), UserDict({"ids": ids, "x": x, "scale": scale}), named, of_answer),
    }


CASES = list(cases())


def replayed(model: nn.Module, x: Any, name: str, h: Tensor) -> Any:
    """The output with that of one threshold replaced; those above answer as they do."""
    hook = model.get_submodule(name).register_forward_hook(lambda *_: h)
    with torch.no_grad():
        output = model(**x) if not isinstance(x, tuple) else model(*x)
    hook.remove()
    return output


def pick(nest: Any, rows: list[int]) -> Any:
    def picked(leaf: Any) -> Any:
        return leaf[rows] if isinstance(leaf, Tensor) and leaf.shape[:1] == (SAMPLES,) else leaf

    return tree_map(picked, nest)


@pytest.mark.parametrize("case", CASES)
def test_objectives_of_the_topmost_threshold_are_the_losses_of_the_model(case: str):
    model, x, y, loss_fn = cases()[case]
    report = target_backward(model, x, y, loss_fn, solver="hill-climb", budget=FEW)
    assert [result.stats["solver"] for result in report.values()] == ["hill-climb"] * 2
    problem: Any = report.problem("t2")
    t2: Any = model.t2
    g = torch.Generator().manual_seed(3)
    for _ in range(3):
        spins = (torch.randint(2, (SAMPLES, 2, 5), generator=g) * 2 - 1).to(F64)
        output = replayed(model, x, "t2", t2.from_spins(spins))
        flat = spins.reshape(problem.start.shape)
        for row, found in enumerate(problem.objective(flat).tolist()):
            assert found == pytest.approx(loss_fn(pick(output, [row]), pick(y, [row])).item() / SAMPLES, rel=1e-9)
    output = replayed(model, x, "t2", report._pass.recording.calls["t2"].h)
    assert loss_fn(output, y).item() == pytest.approx(report.loss.item(), rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_closed_form_gradients_are_those_of_backward_and_compact_keeps_them(case: str):
    model, x, y, loss_fn = cases()[case]
    target_backward(model, x, y, loss_fn)
    found = [p.grad for p in model.parameters()]
    model.zero_grad()
    with compact(model):
        output = model(**x) if not isinstance(x, tuple) else model(*x)
        loss_fn(output, y).backward()
    for one, p in zip(found, model.parameters(), strict=True):
        assert (one is None) == (p.grad is None)
        assert one is None or p.grad is None or torch.equal(one, p.grad)


class Packed(nn.Module):
    """The same model with one input and one output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        found = self.model(x[:, :3].long(), x[:, 3:])
        return torch.cat([found.logits, found.height], 1)


def test_a_diagnosis_is_that_of_the_same_model_with_one_tensor():
    model, x, y, loss_fn = cases()["by place"]
    ids, reals, label, height = batch()
    packed, told = torch.cat([ids.to(F64), reals], 1), torch.cat([label[:, None].to(F64), height], 1)

    def loss_of_packed(output: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(output[:, :3], y[:, 0].long()) + mse_loss(output[:, 3:], y[:, 1:])

    expected = diagnose(Packed(model), packed, told, loss_of_packed, flips=16)
    for name, one in diagnose(model, x, y, loss_fn, flips=16).items():
        other = expected[f"model.{name}"]
        assert vars(one) == pytest.approx(vars(other), nan_ok=True)


def test_draws_and_the_curvature_of_a_loss_of_nests():
    torch.manual_seed(0)
    model, x, y, loss_fn = cases()["by place"]
    model.second = nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.5), nn.BatchNorm1d(5)).double()
    report = target_backward(model, x, y, loss_fn, solver="curvature-flip", budget=FEW)
    assert report["t1"].objective.isfinite().all()
    assert report["t2"].objective.sum() < report.loss


def test_a_sequential_model_that_ends_in_a_recurrent_layer():
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4), nn.ReLU(), nn.GRU(4, 3, batch_first=True)]
    model = convert(nn.Sequential(*layers), nn.ReLU)
    x, y = torch.randn(5, 3, 4), torch.arange(5) % 3
    report = target_backward(model, x, y, lambda o, y: cross_entropy(o[0][:, -1], y), solver="hill-climb", budget=FEW)
    h = report._pass.recording.calls["1"].h
    assert report.problem("1").objective(h).sum().item() == pytest.approx(report.loss.item(), rel=1e-5)


def test_a_loss_of_what_a_search_leaves_out_is_refused_and_gradients_stay():
    model, x, y, _ = cases()["by place"]
    with pytest.raises(NotAcceptedError, match="None"):
        target_backward(model, x, y, lambda o, y: o.total / SAMPLES, solver="hill-climb", budget=FEW)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("x", "y", "error", "match"),
    [
        ([torch.zeros(2, 3)], torch.zeros(2), ArgumentError, r"x: got list"),
        (None, {"label": torch.zeros(6), "height": torch.zeros(5, 2)}, ShapeError, r"\(6,\), \(5, 2\)"),
        (None, {"label": "three"}, ShapeError, "dict without tensors"),
        (None, torch.zeros(4).long(), NotAcceptedError, r"an output of Answer, with shapes \(6, 3\), \(6, 2\), \(\)"),
    ],
)
def test_what_has_no_samples_is_refused(x: Any, y: Any, error: type[Exception], match: str):
    model, given, _, loss_fn = cases()["by place"]
    for run in (target_backward, diagnose):
        with pytest.raises(error, match=match):
            run(model, given if x is None else x, y, loss_fn)


@pytest.mark.parametrize("nested", [False, True])
def test_whole_labels_beyond_what_float32_holds_are_refused_by_searches(nested: bool):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), HardThreshold(), nn.Linear(5, 1))
    large, x = 2**24 + 1 + 2 * torch.arange(5), torch.randn(5, 4)

    def loss_fn(output: Tensor, y: Any) -> Tensor:
        return (((y["n"] if nested else y) % 2)[:, None] * output.square()).sum()

    y: Any = {"n": large} if nested else large
    with pytest.raises(NotAcceptedError, match=r"whole numbers that torch.float32 does not hold"):
        target_backward(model, x, y, loss_fn, solver="hill-climb", budget=FEW)
    assert target_backward(model, x, y, loss_fn).loss > 0
    report = target_backward(model.double(), x.double(), y, loss_fn, solver="hill-climb", budget=FEW)
    h = report._pass.recording.calls["1"].h
    assert report.problem("1").objective(h).sum().item() == pytest.approx(report.loss.item(), rel=1e-9)


def test_a_training_loop_takes_nests():
    model, x, y, loss_fn = cases()["by name"]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    solvers: list[Any] = [None, {-1: "hill-climb"}]
    for solver in solvers:
        for loss, output, labels in ftprop_mb(model, [(x, y)] * 10, loss_fn, optimizer, solver=solver, budget=FEW):
            losses.append(loss.item())
            assert labels is y
            assert not output["logits"].requires_grad
    assert losses[-1] < losses[9] < losses[0]


class Spiking(nn.Module):
    """A neuron over time, as spiking networks have it: its potential stays in it, and spikes reset it."""

    def __init__(self, by: str):
        super().__init__()
        torch.manual_seed(0)
        self.into, self.top, self.fire, self.reset = (
            nn.Linear(4, 5),
            nn.Linear(5, 3),
            HardThreshold(low=0),
            HardThreshold(low=0),
        )
        self.by, self.kept = by, {}
        self.register_buffer("potential", torch.zeros(0))

    def forward(self, x: Tensor) -> Tensor:
        potential, total = torch.zeros(len(x), 5), torch.zeros(len(x), 3)
        for _ in range(3):
            potential = 0.9 * potential + self.into(x)
            total = total + self.top(self.fire(potential - 1))
            potential = potential - self.reset(potential - 1).detach()
            if self.by == "buffer":
                self.potential = potential
            else:
                self.kept["potential"] = potential
        return total


@pytest.mark.parametrize("by", ["buffer", "attribute"])
def test_neurons_over_time_keep_their_state_and_spikes_that_only_reset_need_no_search(by: str):
    model, x, y = Spiking(by), 2 * torch.randn(6, 4, generator=torch.Generator().manual_seed(2)), torch.arange(6) % 3
    assert list(target_backward(model, x, y, cross_entropy)) == [f"fire#{turn}" for turn in (1, 2, 3)]
    found = [p.grad for p in model.parameters()]
    model.zero_grad()
    cross_entropy(model(x), y).backward()
    for one, p in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad, rtol=0, atol=0)
    report = target_backward(model, x, y, cross_entropy, solver={"fire": "hill-climb"}, budget=FEW)
    held = [report._pass.recording.calls[f"fire#{turn}"].h for turn in (1, 2, 3)]
    problem, flipped = report.problem("fire#2"), [held[0], 1 - held[1], held[2]]
    totals = (model.top(h[0]) + model.top(h[1]) + model.top(h[2]) for h in (flipped, held))
    there, before = (cross_entropy(total, y, reduction="none") / 6 for total in totals)
    # What the other calls lose is the same in both.
    change = problem.objective(2 * flipped[1] - 1) - problem.objective(2 * held[1] - 1)
    torch.testing.assert_close(change.float(), there - before)


def test_a_unit_without_gradient_above_what_nothing_else_teaches_is_refused():
    model, x, y = Spiking("buffer"), torch.randn(6, 4), torch.arange(6) % 3
    model.add_module("reset", nn.Sequential(nn.Linear(5, 5), HardThreshold(low=0)))
    with pytest.raises(NotAcceptedError, match=r"model.reset.1#3: .* what has no gradient"):
        target_backward(model, x, y, cross_entropy)


class Sparse:
    """As outputs of transformers: what is None has no place among the leaves."""

    def __init__(self, **parts: Any) -> None:
        self.parts = {name: part for name, part in parts.items() if part is not None}


def _names(sparse: Sparse) -> tuple[list[Any], list[str]]:
    return list(sparse.parts.values()), list(sparse.parts)


def _sparse(leaves: Any, names: list[str]) -> Sparse:
    return Sparse(**dict(zip(names, leaves, strict=True)))


register_pytree_node(Sparse, _names, _sparse)


def test_outputs_that_drop_what_is_none_keep_their_places():
    model, (ids, x, label, height) = Many(lambda z, h: Sparse(logits=z, cache=object(), height=h)), batch()

    def loss_fn(output: Sparse, y: Any) -> Tensor:
        return cross_entropy(output.parts["logits"], y[0]) + mse_loss(output.parts["height"], y[1])

    report = target_backward(model, (ids, x), (label, height), loss_fn, solver="hill-climb", budget=FEW)
    h = report._pass.recording.calls["t2"].h
    output = replayed(model, (ids, x), "t2", h)
    assert loss_fn(output, (label, height)).item() == pytest.approx(report.loss.item())
    assert report["t2"].objective.sum() <= report.loss
