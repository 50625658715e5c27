"""Sums of two numbers of many digits, each digit an MNIST image, of which only the sum is known.

    python -m benchmarks.long_sums --data-root DIR    # numbers of 1, 2, 4 and 15 digits, seeds 0 to 4

All 50,000 images that are not for validation stand in one sum each. The program is a `Fold` that adds digit by digit,
so the loss is exact inference. The network is that of `benchmarks.programs`, trained from a cold start for 12 epochs
(numbers of 15 digits: 30) with Adam at 1e-3, falling linearly, in batches of 120 images. The accuracy is the share of
right sums of the 10,000 test images, each in one sum. The same training with every digit labelled shows what the
network can do at most. It goes on where it was stopped; rows stand in results/long_sums.jsonl.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.program_tasks import images_of
from benchmarks.programs import network
from benchmarks.record import RESULTS, where
from tpsolve._storage._row_log import RowLog
from tpsolve.nn import ProgramLoss
from tpsolve.problems import Fold

LOG = RowLog(RESULTS / "long_sums.jsonl")
FOLD, LABELLED = "tpsolve", "labelled digits"
EPOCHS = {1: 12, 2: 12, 4: 12, 15: 30}
"""By the number of digits."""
RATE, IMAGES = 1e-3, 120
State = tuple[int, int | None, int, int]
"""Carry, a digit that waits for its partner, place, what is written so far."""


def step(state: State, digit: int) -> State:
    """Reads both numbers from their last digits on."""
    carry, first, place, written = state
    if first is None:
        return carry, digit, place, written
    carry, last = divmod(carry + first + digit, 10)
    return carry, None, place + 1, written + 10**place * last


def total(state: State) -> int:
    """The sum."""
    return state[3] + 10 ** state[2] * state[0]


def possible(state: State, label: int) -> bool:
    """Whether the last digits are those of the label."""
    return state[3] == label % 10 ** state[2]


def groups(count: int, length: int, generator: torch.Generator) -> Tensor:
    """`(N, 2 length)` places of images, each once."""
    order = torch.randperm(count, generator=generator)
    return order[: count // (2 * length) * 2 * length].view(-1, 2 * length)


def row_of(method: str, length: int, seed: int, folder: Path) -> dict[str, Any]:
    """Train once, and measure."""
    add = Fold(step, (0, None, 0, 0), finish=total, possible=possible)
    generator = torch.Generator().manual_seed(seed)
    images, digits = images_of(folder)["train"]
    rows = groups(len(images), length, generator)
    labels = [add(*row) for row in digits[rows].tolist()]
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, EPOCHS[length])
    loss_fn = ProgramLoss(add, 10, 2 * length)
    began, inside = time.process_time(), 0.0
    for _ in range(EPOCHS[length]):
        for batch in torch.randperm(len(rows), generator=generator).split(max(1, IMAGES // (2 * length))):
            logits = model(images[rows[batch].flatten()]).view(len(batch), 2 * length, 10)
            optimizer.zero_grad()
            asked = time.process_time()
            if method == LABELLED:
                loss = nn.functional.cross_entropy(logits.flatten(0, 1), digits[rows[batch]].flatten())
            else:
                loss = loss_fn(logits, [labels[i] for i in batch.tolist()])
            inside += time.process_time() - asked
            loss.backward()
            optimizer.step()
        decay.step()
    seconds = time.process_time() - began
    images, digits = images_of(folder)["test"]
    with torch.no_grad():
        seen = torch.cat([model(part).argmax(1) for part in images.split(1000)])
    rows = groups(len(images), length, generator)
    right = [add(*a) == add(*b) for a, b in zip(seen[rows].tolist(), digits[rows].tolist(), strict=True)]
    return {
        "method": method,
        "length": length,
        "seed": seed,
        "epochs": EPOCHS[length],
        "accuracy": sum(right) / len(right),
        "digits": float((seen == digits).double().mean()),
        "cpu_seconds": seconds,
        "loss_seconds": inside,
        **where(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="the folder of MNIST's four files")
    parser.add_argument("--seeds", type=int, default=5, help="so many of them")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    known = {(row["method"], row["length"], row["seed"]) for row in LOG.read()}
    for seed in range(chosen.seeds):
        for length in EPOCHS:
            for method in (FOLD, LABELLED):
                if (method, length, seed) not in known:
                    row = row_of(method, length, seed, chosen.data_root)
                    LOG.append(row)
                    print(f"{method:16} {length:3} digits, seed {seed}: {100 * row['accuracy']:5.1f}%", flush=True)


if __name__ == "__main__":
    main()
