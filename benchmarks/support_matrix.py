"""Which stock models work with what? Ten networks of torchvision, converted, through each part of `tpsolve.nn`.

A row is a model and one part. What raises is a failure with its message, and so is what can't begin because the model
could not be converted. torchvision is no dependency: `pip install -c constraints.txt torchvision`. Beside a build of
torch without its operators, two of them are declared here, so that it can be imported.
Run: `python -m benchmarks.support_matrix`; it takes some minutes. `python docs/support_matrix.py` writes the page.
"""

import contextlib
import copy
import importlib
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from benchmarks.record import save
from tpsolve import Budget
from tpsolve.nn import binarize, compact, convert, fold, target_backward

MODELS: dict[str, type[nn.Module]] = {
    "alexnet": nn.ReLU,
    "vgg11_bn": nn.ReLU,
    "resnet18": nn.ReLU,
    "squeezenet1_1": nn.ReLU,
    "densenet121": nn.ReLU,
    "googlenet": nn.ReLU,
    "mobilenet_v2": nn.ReLU6,
    "mobilenet_v3_small": nn.ReLU,
    "mnasnet0_5": nn.ReLU,
    "shufflenet_v2_x0_5": nn.ReLU,
}
CLASSES, SAMPLES, SIZE = 10, 4, 64


def models() -> Any:
    """torchvision.models, with the two operators that it asks for at once."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # A build that matches has them.
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision").models


def loss(output: Any, y: Tensor) -> Tensor:
    return cross_entropy(output if isinstance(output, Tensor) else output[0], y)


def search(solver: Any) -> Callable[[nn.Module, Tensor, Tensor], None]:
    def run(model: nn.Module, x: Tensor, y: Tensor) -> None:
        target_backward(model, x, y, cross_entropy, solver=solver, budget=Budget(steps=1))

    return run


def rule(model: nn.Module, x: Tensor, y: Tensor) -> None:
    loss(model(x), y).backward()


def in_compact(model: nn.Module, x: Tensor, y: Tensor) -> None:
    with compact(model):
        loss(model(x), y).backward()


def in_autocast(model: nn.Module, x: Tensor, y: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(model(x), y)
    value.backward()


def compiled(model: nn.Module, x: Tensor, y: Tensor) -> None:
    around: Any = torch.compile(model, backend="aot_eager")
    loss(around(x), y).backward()


def checkpointed(model: nn.Module, x: Tensor, y: Tensor) -> None:
    loss(checkpoint(model, x, use_reentrant=False), y).backward()


def folded(model: nn.Module, x: Tensor, y: Tensor) -> Any:
    made = fold(binarize(model).eval(), x)
    assert made.others == 0, "outputs differ"
    return made


def packed(model: nn.Module, x: Tensor, y: Tensor) -> None:
    made = folded(model, x, y)
    assert torch.equal(made.pack()(x), made(x)), "outputs differ"


def exported(model: nn.Module, x: Tensor, y: Tensor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert folded(model, x, y).export(Path(folder) / "net.onnx", x).by == "onnxruntime"


PARTS: dict[str, Callable[[nn.Module, Tensor, Tensor], Any]] = {
    "rule": rule,
    "search last": search({-1: "curvature-flip"}),
    "compact": in_compact,
    "autocast": in_autocast,
    "checkpoint": checkpointed,
    "compile": compiled,
    "fold": folded,
    "pack": packed,
    "ONNX": exported,
}


def rows_of(name: str, made: nn.Module) -> list[dict[str, Any]]:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(SAMPLES, 3, SIZE, SIZE, generator=g), torch.randint(CLASSES, (SAMPLES,), generator=g)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = convert(made, MODELS[name])
            told = ""
        except Exception as error:  # Any failure is a row.
            told = f"{type(error).__name__}: {error}"
        rows = [{"model": name, "part": "convert", "why": told}]
        for part, run in PARTS.items():
            why = "not converted" if told else ""
            if not told:
                try:
                    run(copy.deepcopy(made), x, y)
                except Exception as error:  # As above.
                    why = f"{type(error).__name__}: {error}"
            rows.append({"model": name, "part": part, "why": why.partition("\n")[0][:300]})
    return rows


if __name__ == "__main__":
    library = models()
    torch.manual_seed(0)
    found: list[dict[str, Any]] = []
    for name in MODELS:
        found += rows_of(name, getattr(library, name)(weights=None, num_classes=CLASSES))
        print(name, flush=True)
    save("support_matrix", found)
