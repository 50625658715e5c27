"""What is saved for backward: the bytes, and that the gradients stay what they are."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy

from tpsolve.errors import NotAcceptedError
from tpsolve.nn import HardThreshold, Staircase, compact


def convnet(activation: Any) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            activation(),
            nn.Conv2d(4, 8, 3),
            nn.MaxPool2d(2),
            activation(),
            nn.Flatten(),
            nn.Linear(32, 16),
            activation(),
            nn.Linear(16, 3),
        ).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, 1, 8, 8, generator=generator).contiguous(memory_format=torch.channels_last)
    return x, torch.randint(3, (5,), generator=generator)


def run(model: nn.Module, saves: bool) -> tuple[list[Tensor], int]:
    """Gradients, and bytes of the distinct storages that autograd saves."""
    x, y = batch()
    storages: dict[int, Any] = {}
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    model.zero_grad()
    with compact(model) if saves else nullcontext() as saver:

        def pack(tensor: Tensor) -> Any:
            kept = tensor if saver is None else saver.pack(tensor)
            storage = (kept if isinstance(kept, Tensor) else kept.z).untyped_storage()
            if storage._cdata not in own:
                storages[storage._cdata] = storage
            return kept

        with saved_tensors_hooks(pack, (lambda kept: kept) if saver is None else saver.unpack):
            loss = cross_entropy(model(x), y)
    loss.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return gradients, sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("activation", [HardThreshold, lambda: HardThreshold("saturated-ste"), Staircase])
def test_saves_no_more_than_relu_and_changes_nothing(activation: Any):
    plain, more = run(convnet(activation), saves=False)
    saved, less = run(convnet(activation), saves=True)
    _, relu = run(convnet(nn.ReLU), saves=False)
    assert less <= relu < more
    assert len(plain) == len(saved) == 9
    assert all(torch.equal(one, other) for one, other in zip(plain, saved, strict=True))


def test_parts_of_an_output_and_outputs_changed_in_place_are_right():
    def gradient(saves: bool) -> Tensor:
        x = torch.linspace(-1, 1, 24).reshape(4, 6).requires_grad_()
        weight = torch.linspace(0, 1, 24).reshape(6, 4)
        threshold = HardThreshold()
        with compact(threshold) if saves else nullcontext():
            h = threshold(x * 1.5)
            part = (h[:, 2:5].T * x[:, :3].T).sum() + (h.T @ weight[:4]).sum()
            changed = threshold(x * 0.5).mul_(3.0)
            loss = part + (changed * x).sum()
        (found,) = torch.autograd.grad(loss, x)
        return found

    assert torch.equal(gradient(True), gradient(False))


def test_pre_activations_changed_in_place_are_refused():
    threshold, x = HardThreshold("ste"), torch.ones(3, requires_grad=True)
    with compact(threshold):
        z = x * 2
        loss = (threshold(z) * x).sum()
    with torch.no_grad():
        z.mul_(-1)
    with pytest.raises(NotAcceptedError, match="changed in place before backward"):
        loss.backward()
