"""A batch as one sample: searches where samples meet, judged by the loss of the whole batch."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve import Budget
from tpsolve.errors import BlockError, NotAcceptedError
from tpsolve.nn import HardThreshold, diagnose, one_sample, target_backward

STEPS = Budget(steps=4)


class Pairs(nn.Module):
    """Logits of all pairs of two views."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (
            nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), HardThreshold(), nn.Linear(6, 4), HardThreshold())
            for _ in range(2)
        )
        self.drop = nn.Dropout(0.25)

    def forward(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        return {"logits": 0.3 * self.drop(self.one(images)) @ self.two(texts).T}


class Experts(nn.Module):
    """Two experts, each of which gets the samples that chose it, in the order of their scores."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.act, self.gate = nn.Linear(5, 6), HardThreshold(), nn.Linear(6, 2)
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), HardThreshold()) for _ in range(2)])
        self.top = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.into(x))
        scores, choice = self.gate(h).max(1)
        found = torch.zeros_like(h)
        for number, expert in enumerate(self.experts):
            rows = (choice == number).nonzero()[:, 0]
            rows = rows[scores[rows].argsort()]
            if len(rows):
                found = found.index_add(0, rows, expert(h[rows]))
        return self.top(found)


def contrastive(output: Any, y: Tensor) -> Tensor:
    logits = output["logits"]
    return (cross_entropy(logits, y) + cross_entropy(logits.T, y.argsort())) / 2


def pairs() -> tuple[nn.Module, Any, Tensor, Any]:
    torch.manual_seed(0)
    return Pairs(), {"images": torch.randn(7, 5), "texts": torch.randn(7, 5)}, torch.randperm(7), contrastive


def experts() -> tuple[nn.Module, Any, Tensor, Any]:
    torch.manual_seed(0)
    return Experts(), torch.randn(9, 5), torch.randint(3, (9,)), cross_entropy


def held_loss(model: nn.Module, x: Any, y: Tensor, loss: Any, name: str, targets: Tensor) -> float:
    """The loss where the threshold `name` outputs `targets`, all later ones what they did, by hooks on the model."""
    outputs: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        return lambda module, arguments, h: outputs.setdefault(name, h.detach().clone())

    units = {each: module for each, module in model.named_modules() if isinstance(module, HardThreshold)}
    hooks = [module.register_forward_hook(note(each)) for each, module in units.items()]
    torch.manual_seed(3)
    with torch.no_grad():
        model(**x) if isinstance(x, dict) else model(x)
    for hook in hooks:
        hook.remove()
    outputs[name] = targets.reshape(outputs[name].shape)
    hooks = [units[each].register_forward_hook(lambda m, a, h, each=each: outputs[each]) for each in outputs]
    torch.manual_seed(3)
    with torch.no_grad():
        found = loss(model(**x) if isinstance(x, dict) else model(x), y)
    for hook in hooks:
        hook.remove()
    return float(found)


@pytest.mark.parametrize("make", [pairs, experts])
def test_closed_form_targets_have_the_gradients_of_the_batch(make: Any):
    model, x, y, loss = make()
    other = copy.deepcopy(model)
    torch.manual_seed(3)
    loss(other(**x) if isinstance(x, dict) else other(x), y).backward()
    torch.manual_seed(3)
    target_backward(*one_sample(model, x, y, loss))
    learning = 0
    for one, expected in zip(model.parameters(), other.parameters(), strict=True):
        assert (one.grad is None) == (expected.grad is None)
        if one.grad is not None and expected.grad is not None:
            learning += 1
            assert torch.equal(one.grad, expected.grad)
    assert learning > 5


@pytest.mark.parametrize(("make", "name"), [(pairs, "one.4"), (pairs, "two.4"), (experts, "experts.0.1")])
def test_a_search_lowers_the_loss_of_the_batch_that_it_tells(make: Any, name: str):
    model, x, y, loss = make()
    with pytest.raises((NotAcceptedError, BlockError)):
        target_backward(copy.deepcopy(model), x, y, loss, solver={name: "hill-climb"}, budget=STEPS)
    torch.manual_seed(3)
    report = target_backward(*one_sample(model, x, y, loss), solver={f"model.{name}": "hill-climb"}, budget=STEPS)
    found = report[f"model.{name}"]
    assert report.fallbacks == {f"model.{name}": 0}
    assert found.objective.shape == (1,)
    problem = report.problem(f"model.{name}")
    assert problem.start is not None
    change = (found.objective - problem.objective(problem.start)).item()
    # Thresholds that are called later and don't read this one add a constant.
    told = held_loss(model, x, y, loss, name, found.targets) - report.loss.item()
    assert change == pytest.approx(told, abs=1e-5)
    assert change < -0.01


def test_all_thresholds_are_searched_and_diagnosed():
    model, x, y, loss = pairs()
    report = target_backward(*one_sample(model, x, y, loss), solver="hill-climb", budget=STEPS)
    assert report.fallbacks == dict.fromkeys(["model.one.2", "model.one.4", "model.two.2", "model.two.4"], 0)
    assert all(value.grad is not None and bool(value.grad.isfinite().all()) for value in model.parameters())
    told = diagnose(*one_sample(model.eval(), x, y, loss), flips=6)
    assert list(told) == list(report)
