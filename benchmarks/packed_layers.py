"""What does the reference of packed layers cost? A layer of +-1 weights reads spins, packed into words of 64 bits.

It runs against torch's own layer in float32 with the same weights, on one thread.

Bytes are those of the weights, in buffers. Run: `python -m benchmarks.packed_layers`; it takes some seconds.
"""

import statistics

import torch
from torch import Tensor, nn

from benchmarks.record import in_turns, median_ratio, save
from tpsolve.nn.deployment._packed_layer import Packed

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear 1024 to 1024": (nn.Linear(1024, 1024, bias=False), (64, 1024)),
    "linear 4096 to 4096": (nn.Linear(4096, 4096, bias=False), (64, 4096)),
    "3 x 3, 64 to 64, 32 x 32": (nn.Conv2d(64, 64, 3, padding=1, bias=False), (8, 64, 32, 32)),
    "3 x 3, 256 to 256, 8 x 8": (nn.Conv2d(256, 256, 3, padding=1, bias=False), (8, 256, 8, 8)),
}


def spins(shape: tuple[int, ...]) -> Tensor:
    return torch.randint(2, shape) * 2.0 - 1


@torch.no_grad()
def measure(name: str) -> dict[str, object]:
    layer, shape = LAYERS[name]
    weight = layer.get_parameter("weight")
    weight.copy_(spins(tuple(weight.shape)))
    packed, h = Packed(layer, weight, None, -1), spins(shape)
    assert torch.equal(packed(h), layer(h))
    seconds = in_turns({"packed": lambda: packed(h), "float32": lambda: layer(h)}, repeats=21)
    return {
        "layer": name,
        "samples": shape[0],
        "packed_ms": 1e3 * statistics.median(seconds["packed"]),
        "float_ms": 1e3 * statistics.median(seconds["float32"]),
        "times_slower": median_ratio(seconds, "packed", "float32"),
        "packed_kb": sum(buffer.nbytes for buffer in packed.buffers()) / 1024,
        "float_kb": weight.nbytes / 1024,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    save("packed_layers", [measure(name) for name in LAYERS])
