"""How fast is a whole neighbourhood? `flip_delta`, float32, against plain passes over a (B, n, m) tensor.

The yardstick is one elementwise pass that reads and writes a (B, n, m) float32 tensor, once into a
tensor of its own (as `y = 2 * x` does) and once into one that is there already.
"""

import statistics
import subprocess
import sys

import torch

from benchmarks.record import in_turns, median_ratio, save
from tpsolve import LayerProblem
from tpsolve.losses import LOSSES
from tpsolve.problems import State
from tpsolve.spins import random_spins

SIZES = ((256, 256, 64), (256, 512, 256))
"""(B, n, m): one whose tensor of 17 MB may fit in a large cache, and one of 134 MB that does not."""


def make_state(loss: str, size: tuple[int, int, int]) -> State:
    """A state with per-sample unit weights, as a training step has."""
    samples, n, m = size
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(m, n, generator=generator) / n**0.5
    by_class = loss == "cross-entropy"
    targets = torch.randint(m, (samples,), generator=generator) if by_class else random_spins((samples, m), generator)
    unit_weight = torch.rand(samples if by_class else (samples, m), generator=generator)
    problem = LayerProblem(weight, targets, loss=loss, unit_weight=unit_weight)
    return problem.state(random_spins((samples, n), generator))


def measure(loss: str, size: tuple[int, int, int]) -> dict[str, object]:
    """Ratios of one evaluation to the two passes, and of a flip to an evaluation."""
    state = make_state(loss, size)
    x, y = torch.randn(size), torch.empty(size)
    units, where = torch.zeros(size[0], dtype=torch.int64), torch.ones(size[0], dtype=torch.bool)
    seconds = in_turns(
        {
            "flip_delta": state.flip_delta,
            "pass": lambda: torch.mul(x, 2.0),
            "pass into": lambda: torch.mul(x, 2.0, out=y),
            "flip": lambda: state.flip(units, where),
        },
        repeats=41,
    )
    return {
        "loss": loss,
        "size": "x".join(map(str, size)),
        "flip_delta_ms": 1e3 * statistics.median(seconds["flip_delta"]),
        "pass_ms": 1e3 * statistics.median(seconds["pass"]),
        "ratio_to_pass": median_ratio(seconds, "flip_delta", "pass"),
        "ratio_to_pass_into": median_ratio(seconds, "flip_delta", "pass into"),
        "flip_ms": 1e3 * statistics.median(seconds["flip"]),
        "peak_extra_mb": peak_memory(loss, size),
    }


def peak_memory(loss: str, size: tuple[int, int, int]) -> float:
    """MB by which the resident memory of a fresh process peaks above where it stood before `flip_delta` (Linux)."""
    code = """
import sys
from pathlib import Path
from benchmarks.flip_delta import make_state

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

state = make_state(sys.argv[1], tuple(map(int, sys.argv[2:])))
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
before = resident("VmRSS")
state.flip_delta()
print(resident("VmHWM") - before)
"""
    command = [sys.executable, "-c", code, loss, *map(str, size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    save("flip_delta", [measure(loss, size) for size in SIZES for loss in LOSSES])
