"""What does a hard threshold cost a training step? Forward, loss and backward of convnet4, convnet8 and resnet18,
float32, channels-last, against the same network with `nn.ReLU`; then `target_backward` against `loss.backward()`.

On one thread. Times are those of the processor, so that other work on the machine matters less.

Bytes saved for backward are those of the distinct storages that autograd keeps, parameters aside. Peers:
the surrogate gradients of snntorch, spikingjelly and brevitas that give the same gradients; a peer that
is not installed gets a row that says so. docs/libraries.md says how to install them.
Run: `python -m benchmarks.threshold_step [ROUNDS]`; 31 rounds take about ten minutes on one core, with peers.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy

from benchmarks.record import in_turns, median_ratio, save
from tpsolve.nn import HardThreshold, compact, target_backward
from tpsolve.train.models import convnet4, convnet8, resnet18

ROUNDS = 31
SHAPE, CLASSES = (3, 32, 32), 10
NETWORKS: dict[str, Callable[[Any], nn.Module]] = {
    "convnet4": lambda activation: convnet4(SHAPE, CLASSES, activation),
    "convnet8": lambda activation: convnet8(SHAPE, CLASSES, activation, 0.5),
    "resnet18": lambda activation: resnet18(SHAPE, CLASSES, activation, stem="cifar"),
}
BATCHES = {"convnet4": (64, 128), "convnet8": (64, 128), "resnet18": (32,)}


def snntorch_soft() -> nn.Module:
    from snntorch import surrogate  # pyright: ignore[reportMissingImports]

    class Plus(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike = surrogate.sigmoid(slope=2)

        def forward(self, z: Tensor) -> Tensor:
            return 2 * self.spike(z) - 1

    return Plus()


def spikingjelly_soft() -> nn.Module:
    from spikingjelly.activation_based import surrogate  # pyright: ignore[reportMissingImports]

    class Plus(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike = surrogate.Sigmoid(alpha=2.0)

        def forward(self, z: Tensor) -> Tensor:
            return 2 * self.spike(z) - 1

    return Plus()


def brevitas_saturated() -> nn.Module:
    from brevitas.nn import QuantIdentity  # pyright: ignore[reportMissingImports]
    from brevitas.quant import SignedBinaryActPerTensorConst  # pyright: ignore[reportMissingImports]

    return QuantIdentity(act_quant=SignedBinaryActPerTensorConst)


ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "nn.ReLU": (nn.ReLU, False),
    "soft-hinge": (HardThreshold, False),
    "soft-hinge, compact": (HardThreshold, True),
    "saturated-ste": (lambda: HardThreshold("saturated-ste"), False),
    "saturated-ste, compact": (lambda: HardThreshold("saturated-ste"), True),
}
PEERS = {"snntorch": snntorch_soft, "spikingjelly": spikingjelly_soft, "brevitas": brevitas_saturated}


def context(model: nn.Module, saves: bool) -> AbstractContextManager[Any]:
    return compact(model) if saves else nullcontext()


def step(model: nn.Module, x: Tensor, y: Tensor, saves: bool) -> None:
    model.zero_grad(set_to_none=True)
    with context(model, saves):
        loss = cross_entropy(model(x), y)
    loss.backward()


def target_step(model: nn.Module, x: Tensor, y: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    target_backward(model, x, y, cross_entropy)


def bytes_saved(model: nn.Module, x: Tensor, y: Tensor, saves: bool) -> int:
    """Bytes of the distinct storages that autograd keeps after the forward pass; keyed on the storage itself."""
    storages: dict[int, Any] = {}
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    with context(model, saves) as saver:

        def pack(tensor: Tensor) -> Any:
            kept = tensor if saver is None else saver.pack(tensor)
            saved = kept if isinstance(kept, Tensor) else kept.kept
            if saved is not None and (storage := saved.untyped_storage())._cdata not in own:
                storages[storage._cdata] = storage
            return kept

        with saved_tensors_hooks(pack, (lambda kept: kept) if saver is None else saver.unpack):
            loss = cross_entropy(model(x), y)
    loss.backward()
    return sum(storage.nbytes() for storage in storages.values())


def measure(network: str, batch: int, rounds: int) -> list[dict[str, Any]]:
    """One row for each activation of this network at this batch size, and one for `target_backward`."""
    x = torch.randn(batch, *SHAPE).contiguous(memory_format=torch.channels_last)
    y = torch.randint(CLASSES, (batch,))
    installed = {name: make for name, make in PEERS.items() if importlib.util.find_spec(name)}
    activations = ACTIVATIONS | {name: (make, False) for name, make in installed.items()}
    models: dict[str, nn.Module] = {}
    for name, (make, _) in activations.items():
        torch.manual_seed(0)
        models[name] = NETWORKS[network](make).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    contenders: dict[str, Callable[[], object]] = {
        name: partial(step, models[name], x, y, saves) for name, (_, saves) in activations.items()
    }
    contenders["target_backward"] = partial(target_step, models["soft-hinge"], x, y)
    seconds = in_turns(contenders, rounds, time.process_time)
    relu = bytes_saved(models["nn.ReLU"], x, y, False)
    rows: list[dict[str, Any]] = []
    for name, (_, saves) in activations.items():
        saved = bytes_saved(models[name], x, y, saves)
        rows.append(
            {
                "network": network,
                "batch": batch,
                "activation": name,
                "ms": 1e3 * sorted(seconds[name])[rounds // 2],
                "ratio_to_relu": median_ratio(seconds, name, "nn.ReLU"),
                "mb_saved": saved / 1e6,
                "bytes_ratio_to_relu": saved / relu,
            }
        )
    rows.append(
        {
            "network": network,
            "batch": batch,
            "activation": "target_backward, sign-gradient",
            "ms": 1e3 * sorted(seconds["target_backward"])[rounds // 2],
            "ratio_to_backward": median_ratio(seconds, "target_backward", "soft-hinge"),
        }
    )
    rows += [
        {"network": network, "batch": batch, "activation": name, "skipped": f"{name} is not installed"}
        for name in PEERS
        if name not in installed
    ]
    return rows


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    torch.set_num_threads(1)
    save(
        "threshold_step", [row for name in NETWORKS for batch in BATCHES[name] for row in measure(name, batch, rounds)]
    )
