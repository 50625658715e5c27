"""The kernels of the saturated threshold against the plain path, by Triton's interpreter where there is no GPU."""

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tpsolve.errors import NotAcceptedError
from tpsolve.nn import HardThreshold, compact
from tpsolve.thresholds import _hard_threshold

pytest.importorskip("triton", reason="triton is not installed; tests install no compiler of kernels")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# numpy, with which Triton interprets, tells of divisions of NaN.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def kernels() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE == "cpu":
            patch.setenv("TRITON_INTERPRET", "1")
        return importlib.import_module("tpsolve.thresholds.fused._saturated")


def choose(fused: bool, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_hard_threshold, "FUSED", (DEVICE,) if fused else ())


def both(run: Callable[[], list[Tensor]], patch: pytest.MonkeyPatch) -> tuple[list[Tensor], list[Tensor]]:
    """What `run` gives on the plain path and by the kernels."""
    found = []
    for fused in (False, True):
        choose(fused, patch)
        found.append(run())
    return found[0], found[1]


def assert_same(plain: list[Tensor], fused: list[Tensor]) -> None:
    for one, other in zip(plain, fused, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(one.signbit() & ~one.isnan(), other.signbit() & ~other.isnan())


def edges(dtype: torch.dtype) -> Tensor:
    """Numbers at which something changes, and their neighbours, `(n,)`."""
    at = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.5, 3.0, torch.inf, torch.nan], dtype=dtype)
    whole = {4: torch.int32, 2: torch.int16}[dtype.itemsize]
    near = [(at.view(whole) + step).view(dtype)[1:6] for step in (1, -1)]
    tiny = torch.finfo(dtype).tiny
    # Triton's interpreter reads subnormal numbers of bfloat16 as 0.
    small = [tiny] if dtype == torch.bfloat16 else [tiny, tiny / 4]
    sizes = torch.cat([at, *near, torch.tensor(small, dtype=dtype)])
    return torch.cat([sizes, -sizes])


def passed(module: nn.Module, z: Tensor, g: Tensor) -> list[Tensor]:
    z = z.detach().requires_grad_()
    h = module(z)
    (slope,) = torch.autograd.grad(h, z, g)
    return [h.detach(), slope]


# In bfloat16 and float16 a single width is rounded to that type on a GPU, so those are numbers that it has.
SETTINGS: list[dict[str, Any]] = [
    {},
    {"low": 0},
    {"width": 0.25},
    {"width": 1.5},
    {"width": torch.tensor([0.25, 1.0, 1.5])},
    {"width": torch.tensor([0.3, 1.1, 2.7])[:, None, None], "low": 0},
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kernels_give_what_the_plain_path_gives_to_the_last_bit(
    dtype: torch.dtype, kernels: Any, monkeypatch: pytest.MonkeyPatch
):
    generator = torch.Generator().manual_seed(0)
    for settings in SETTINGS:
        channels_last = isinstance(settings.get("width"), Tensor) and settings["width"].dim() == 1
        z = torch.randn(7, 3, 11, 5, generator=generator).to(dtype)
        z.view(-1)[: len(edges(dtype))] = edges(dtype)
        z.view(-1)[500 : 500 + len(edges(dtype))] = edges(dtype)
        g = torch.randn(z.shape, generator=generator).to(dtype)
        g.view(-1)[::7] = -0.0
        g.view(-1)[::31] = torch.nan
        if channels_last:
            z, g = z.movedim(1, -1), g.movedim(1, -1)
        module = HardThreshold("saturated-ste", **settings).to(DEVICE)
        z, g = z.to(DEVICE), g.to(DEVICE)
        plain, fused = both(lambda module=module, z=z, g=g: passed(module, z, g), monkeypatch)
        # torch's own operator gives 0 or g for NaN on a CPU, by its place in memory; on a GPU g.
        plain[1] = torch.where(z.isnan(), g if module.low else g / 2, plain[1])
        assert_same(plain, fused)


def test_layouts_in_memory(kernels: Any, monkeypatch: pytest.MonkeyPatch):
    module = HardThreshold("saturated-hinge", width=torch.tensor([0.3, 1.1, 2.7])[:, None, None]).to(DEVICE)
    wide = torch.randn(4, 6, 5, 8, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    dense = wide[:, :3].contiguous()
    given = {
        "dense": dense,
        "channels last": dense.contiguous(memory_format=torch.channels_last),
        "every second channel": wide[:, ::2],
        "a transposed image": dense.mT,
        "an offset": wide.view(-1)[1:481].view(4, 3, 5, 8),
        "expanded": dense[:1].expand(4, -1, -1, -1),
        "no samples": dense[:0],
        "one number": torch.full((1, 3, 1, 1), 1.05, device=DEVICE),
    }
    for name, z in given.items():
        g = torch.randn(z.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
        for above in (g, g.contiguous(memory_format=torch.channels_last), g[..., :1, :1].expand_as(g)):
            plain, fused = both(lambda z=z, above=above: passed(module, z, above), monkeypatch)
            assert_same(plain, fused)
            assert plain[0].stride() == fused[0].stride(), name


def test_one_bit_an_element_is_saved_also_in_compact(kernels: Any, monkeypatch: pytest.MonkeyPatch):
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    x[0, 0] = torch.nan
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 40), HardThreshold("saturated-ste", width=0.5), nn.Linear(40, 3)).to(DEVICE)

    def run(saves: bool, given: Tensor) -> tuple[list[Tensor], list[Any]]:
        kept: list[Any] = []
        with compact(model) if saves else nullcontext() as saver:

            def pack(tensor: Tensor) -> Any:
                kept.append(tensor if saver is None else saver.pack(tensor))
                return kept[-1]

            with torch.autograd.graph.saved_tensors_hooks(pack, (lambda t: t) if saver is None else saver.unpack):
                loss = model(given).square().sum()
        return list(torch.autograd.grad(loss, list(model.parameters()))), kept

    plain, fused = both(lambda: run(False, x[1:])[0], monkeypatch)
    assert_same(plain, fused)
    assert_same(plain, run(True, x[1:])[0])
    assert_same(run(False, x)[0], run(True, x)[0])
    sizes = [kept.numel() for kept in run(False, x[1:])[1] if kept.dtype == torch.uint8]
    assert sizes == [7 * 40 // 8]
    bits = [one for one in run(True, x[1:])[1] if not isinstance(one, Tensor)]
    assert [one.kept.numel() for one in bits] == [7 * 40 // 8]


def test_what_the_kernels_do_not_know_goes_the_plain_path(kernels: Any, monkeypatch: pytest.MonkeyPatch):
    choose(True, monkeypatch)
    z = torch.randn(2, 3, device=DEVICE)
    assert HardThreshold("saturated-ste").is_fused(z)
    several = torch.rand(2, 3) + 1
    others = (
        HardThreshold(),
        HardThreshold("saturated-ste", width_mode="learned"),
        HardThreshold("saturated-ste", width_mode="relative"),
        HardThreshold("saturated-ste", importance="none"),
        HardThreshold("saturated-ste", width=several),
    )
    assert [module.is_fused(z) for module in others] == [False] * 5
    assert not HardThreshold("saturated-ste").is_fused(z.double())
    each = torch.func.vmap(torch.func.grad(lambda row: HardThreshold("saturated-ste")(row).sum()))(z)
    assert torch.equal(each, (z.abs() <= 1).float())
    choose(False, monkeypatch)
    assert not HardThreshold("saturated-ste").is_fused(z)


def test_the_operators_hold_to_what_they_declare_and_have_no_second_derivative(
    kernels: Any, monkeypatch: pytest.MonkeyPatch
):
    z = torch.linspace(-2, 2, 21, device=DEVICE)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(kernels.saturated_threshold, (z, torch.tensor(0.5, device=DEVICE), -1), test_utils=tests)
    bits = torch.full((3,), 255, dtype=torch.uint8, device=DEVICE)
    torch.library.opcheck(kernels.saturated_gradient, (z, bits, [1]), test_utils=tests)
    choose(True, monkeypatch)
    z.requires_grad_()
    (first,) = torch.autograd.grad(HardThreshold("saturated-ste")(z).mul(z).sum(), z, create_graph=True)
    with pytest.raises(NotAcceptedError, match="a second derivative"):
        first.sum().backward()
