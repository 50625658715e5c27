"""What is saved for backward: the bytes, and that the gradients stay what they are."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy

from tpsolve.errors import NotAcceptedError
from tpsolve.nn import RULES, HardThreshold, Staircase, compact
from tpsolve.thresholds import _packed
from tpsolve.thresholds._packed import Packed, ShapeOnly
from tpsolve.train.models import convnet4, convnet8, resnet18


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


def batch(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape or (5, 1, 8, 8), generator=generator).contiguous(memory_format=torch.channels_last)
    return x, torch.randint(3, (len(x),), generator=generator)


def run(model: nn.Module, saves: bool, *shape: int) -> tuple[list[Tensor], int]:
    """Gradients, and bytes of the distinct storages that autograd saves."""
    x, y = batch(*shape)
    storages: dict[int, Any] = {}
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    model.zero_grad()
    with compact(model) if saves else nullcontext() as saver:

        def pack(tensor: Tensor) -> Any:
            kept = tensor if saver is None else saver.pack(tensor)
            saved = kept if isinstance(kept, Tensor) else kept.kept
            if saved is not None and (storage := saved.untyped_storage())._cdata not in own:
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
    threshold, x = HardThreshold(), torch.ones(3, requires_grad=True)
    with compact(threshold):
        z = x * 2
        loss = (threshold(z) * x).sum()
    with torch.no_grad():
        z.mul_(-1)
    with pytest.raises(NotAcceptedError, match="changed in place before backward"):
        loss.backward()


class Tangled(nn.Module):
    """Pre-activations that others read too, outputs that are pooled, padded, flattened, cut and changed."""

    def __init__(self, threshold: nn.Module):
        super().__init__()
        self.threshold, self.flatten = threshold, nn.Flatten()
        self.pool, self.again = nn.MaxPool2d(3, 2, padding=1), nn.MaxPool1d(2)

    def forward(self, z: Tensor) -> Tensor:
        h = self.threshold(z)
        pooled = self.pool(h)
        long = self.again(self.flatten(pooled)[:, None])
        return (
            (z * z * h).sum()
            + (pooled * pooled.roll(1, 2)).sum()
            + (long**3).sum()
            + (h[:, :1].exp() * z[:, 1:2]).sum()
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rule", RULES)
def test_gradients_are_the_same_to_the_last_bit(rule: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_packed, "CHUNK", 64)
    monkeypatch.setattr(ShapeOnly, "unpacked", lambda kept, layout: torch.full(layout[0], torch.nan, dtype=kept.dtype))
    generator = torch.Generator().manual_seed(0)
    settings = [{}, {"width": 0.3}, {"low": 0}, {"width_mode": "relative"}, {"importance": "none"}]
    for number, changed in enumerate(settings):
        z = torch.randn(3, 2, 5, 7, generator=generator, dtype=torch.float64)
        edges = torch.tensor([-1, 1, 0, -0.0, 0.3, -0.3, 1 + 2**-52, -torch.inf, torch.inf])
        edge = edges if number < 2 and rule not in ("soft-hinge", "logistic", "ramp") else edges[:7]
        z.view(-1)[: len(edge)] = edge
        model, found = Tangled(HardThreshold(rule, **changed)), []
        for saves in (False, True):
            leaf = z.to(dtype, copy=True).contiguous(memory_format=torch.channels_last).requires_grad_()
            with compact(model) if saves else nullcontext():
                # Infinite elements only meet the threshold.
                loss = model(leaf) if bool(leaf.isfinite().all()) else (model.threshold(leaf) * leaf.sign()).sum()
            found.append(torch.autograd.grad(loss, leaf)[0])
        assert torch.equal(found[0], found[1]), changed


def test_nan_stays_nan():
    z = torch.tensor([1.0, torch.nan, -1.0], requires_grad=True)
    threshold, weight = HardThreshold("saturated-ste"), torch.ones(3, requires_grad=True)
    with compact(threshold):
        loss = (threshold(z) * weight).sum()
    (found,) = torch.autograd.grad(loss, weight)
    assert found.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("place", [0, 8, 15, 16])
def test_nan_is_found_in_any_piece(place: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_packed, "CHUNK", 8)
    z = torch.linspace(-2, 2, 17)
    z[place] = torch.nan
    leaf, threshold = z.clone().requires_grad_(), HardThreshold("saturated-ste")
    with compact(threshold):
        h = threshold(leaf * 1)
    assert h.isnan().nonzero().tolist() == [[place]]
    (h.nan_to_num() * 3).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad[z.isfinite()].tolist() == [3.0 * (abs(value) <= 1) for value in z[z.isfinite()].tolist()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 7, 8, 40, 41])
def test_every_byte_is_packed_and_unpacked(count: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_packed, "CHUNK", 16)
    for start in range(0, 256, count // 8 + 1):
        bits = [byte >> place & 1 for byte in range(start, start + count // 8 + 1) for place in range(8)][:count]
        for low in (0, -1):
            elements = torch.tensor([bit or low for bit in bits], dtype=dtype)
            packed = Packed.of(elements, low)
            assert packed.kept.tolist() == [
                sum(b << p for p, b in enumerate(bits[k : k + 8])) for k in range(0, count, 8)
            ]
            assert torch.equal(packed.unpacked((elements.shape, (1,), 0)), elements)


@pytest.mark.parametrize("rule", ["saturated-ste", "soft-hinge"])
def test_what_is_passed_back_lies_in_memory_as_the_pre_activations_do(rule: str):
    z = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = z.clone(memory_format=layout).requires_grad_()
        h = HardThreshold(rule)(leaf * 1)
        h.retain_grad()
        before: list[Tensor] = []
        h.grad_fn.register_hook(lambda inner, _, before=before: before.append(inner[0]))  # pyright: ignore[reportOptionalMemberAccess]
        h.backward(torch.linspace(-1, 1, 120).reshape(2, 3, 4, 5))
        assert before[0].stride() == leaf.stride()
        found.append(before[0])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("rule", ["saturated-ste", "hinge", "perceptron", "ste"])
def test_rules_of_few_slopes_save_a_third_of_relu(rule: str):
    def network(activation: Any) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), activation(), nn.Flatten(), nn.Linear(36, 16), activation(),
            nn.Linear(16, 3),
        )  # fmt: skip

    _, packed = run(network(lambda: HardThreshold(rule)), saves=True)
    _, relu = run(network(nn.ReLU), saves=False)
    assert packed < 0.35 * relu


@pytest.mark.parametrize(
    ("build", "most"), [(convnet4, 0.35), (partial(convnet8, dropout=0.0), 0.5), (partial(resnet18, stem="cifar"), 0.6)]
)
def test_networks_of_the_paper_save_a_part_of_relu_for_the_same_gradients(build: Any, most: float):
    shape, saturated, gradients, sizes = (2, 3, 32, 32), partial(HardThreshold, "saturated-ste"), [], []
    for activation, saves in ((nn.ReLU, False), (saturated, False), (saturated, True)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build(shape[1:], 3, activation)
        found, size = run(model, saves, *shape)
        gradients.append(found)
        sizes.append(size)
    assert sizes[2] <= most * sizes[0]
    assert all(map(torch.equal, gradients[1], gradients[2]))
    assert any(bool(g.any()) for g in gradients[2])


def test_a_forward_pass_that_fails_leaves_nothing_behind():
    pool, weight = nn.MaxPool2d(9), torch.ones(4, requires_grad=True)
    model = nn.Sequential(HardThreshold("saturated-ste"), pool)
    with compact(model) as saver:
        with pytest.raises(RuntimeError):
            pool(torch.ones(1, 1, 2, 2))
        assert saver.calls == []
        loss = (model[0](weight * 2) * weight).sum()
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0] * 4
