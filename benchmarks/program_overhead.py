"""What a search through a program adds to a training step: `python -m benchmarks.program_overhead`.

The network of benchmarks.programs on batches of 32 pairs of images. Once it learns from the labels of the digits, once
from their sums through ProgramLoss with 32 calls of a vectorised program. And the time of the 64 best assignments of
four symbols of ten values, for 64 samples. One thread.
"""

import statistics
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.programs import network
from benchmarks.record import in_turns, save
from tpsolve import Budget
from tpsolve.nn import ProgramLoss
from tpsolve.search.programs._orders import k_best

REPEATS = 30
STEPS = 10
"""Of a turn."""


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, digits = torch.randn(STEPS, 64, 1, 28, 28), torch.randint(10, (STEPS, 64))
    sums = digits.view(STEPS, 32, 2).sum(2)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def program(symbols: Any) -> list[int]:
        return symbols.sum(1).tolist()

    loss_fn = ProgramLoss(program, 10, 2, batched="numpy", budget=Budget(calls=32))

    def step(loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def labelled() -> None:
        for x, y in zip(images, digits, strict=True):
            step(cross_entropy(model(x), y))

    def searched() -> None:
        for x, y in zip(images, sums, strict=True):
            step(loss_fn(model(x).view(32, 2, 10), y))

    cost = torch.rand(64, 4, 10, dtype=torch.float64)
    seconds = in_turns({"labelled": labelled, "searched": searched, "best": lambda: k_best(cost, 64)}, REPEATS)
    ratios = [s / plain for s, plain in zip(seconds["searched"], seconds["labelled"], strict=True)]
    row = {
        "calls": 32,
        "labelled_ms": 1e3 * statistics.median(seconds["labelled"]) / STEPS,
        "searched_ms": 1e3 * statistics.median(seconds["searched"]) / STEPS,
        "step_ratio": statistics.median(ratios),
        "k_best_us": 1e6 * statistics.median(seconds["best"]) / 64,
    }
    save("program_overhead", [row])


if __name__ == "__main__":
    main()
