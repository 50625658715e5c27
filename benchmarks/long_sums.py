"""Sums of two numbers of many digits, each digit an MNIST image, of which only the sum is known.

    python -m benchmarks.long_sums --data-root DIR          # numbers of 1, 2, 4 and 15 digits, seeds 0 to 4
    python -m benchmarks.long_sums --data-root DIR --warm   # 100 labelled digits, then 4,000 sums of 4-digit numbers

All 50,000 images that are not for validation stand in one sum each. The program is a `Fold` that adds digit by digit,
so the loss is exact inference. The network is that of `benchmarks.programs`, trained from a cold start for 12 epochs
(numbers of 15 digits: 30) with Adam at 1e-3, falling linearly, in batches of 120 images. The accuracy is the share of
right sums of the 10,000 test images, each in one sum. The same training with every digit labelled shows what the
network can do at most. It goes on where it was stopped; rows stand in results/long_sums.jsonl.

With `--warm` the network first learns 100 labelled digits, and then 4,000 sums for 4 epochs, in batches of 15 sums. The
sum is a `Fold` or a declared constraint; the most is what the same images teach if every digit is labelled. Rows stand
in results/long_sums_warm.jsonl.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.program_tasks import images_of
from benchmarks.programs import network
from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of, where
from tpsolve.nn import ProgramLoss
from tpsolve.problems import Fold

LOG, WARM_LOG = Rows(RESULTS / "long_sums.jsonl"), Rows(RESULTS / "long_sums_warm.jsonl")
FOLD, LABELLED, DECLARED, START = "tpsolve", "labelled digits", "declared constraint", "100 labelled digits alone"
WARM_LENGTH, WARM_SUMS, WARM_LABELS, WARM_STEPS = 4, 4000, 100, 200
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


ADD = Fold(step, (0, None, 0, 0), finish=total, possible=possible)


def groups(count: int, length: int, generator: torch.Generator) -> Tensor:
    """`(N, 2 length)` places of images, each once."""
    order = torch.randperm(count, generator=generator)
    return order[: count // (2 * length) * 2 * length].view(-1, 2 * length)


def loss_of(method: str, length: int) -> Callable[[Tensor, Tensor, list[int]], Tensor]:
    """A loss of logits `(B, 2 length, 10)`, the digits and the sums. Only what has every digit labelled reads them."""
    if method == LABELLED:
        return lambda logits, digits, _: nn.functional.cross_entropy(logits.flatten(0, 1), digits.flatten())
    places = [10 ** (place // 2) for place in range(2 * length)]

    def adds_up(model: Any, digits: Any, label: int) -> None:
        model.add(sum(place * digit for place, digit in zip(places, digits, strict=True)) == label)

    declared = method == DECLARED
    loss_fn = ProgramLoss(None if declared else ADD, 10, 2 * length, constraints=adds_up if declared else None)
    return lambda logits, _, labels: loss_fn(logits, labels)


def train(
    model: nn.Module, method: str, rows: Tensor, epochs: int, generator: torch.Generator, folder: Path
) -> tuple[float, float]:
    """Train on the groups of images; the seconds of the processor, and those inside the loss."""
    images, digits = images_of(folder)["train"]
    labels = [ADD(*row) for row in digits[rows].tolist()]
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, epochs)
    width = rows.shape[1]
    loss_fn = loss_of(method, width // 2)
    began, inside = time.process_time(), 0.0
    for _ in range(epochs):
        for batch in torch.randperm(len(rows), generator=generator).split(max(1, IMAGES // width)):
            logits = model(images[rows[batch].flatten()]).view(len(batch), width, 10)
            optimizer.zero_grad()
            asked = time.process_time()
            loss = loss_fn(logits, digits[rows[batch]], [labels[i] for i in batch.tolist()])
            inside += time.process_time() - asked
            loss.backward()
            optimizer.step()
        decay.step()
    return time.process_time() - began, inside


def measured(model: nn.Module, length: int, generator: torch.Generator, folder: Path) -> dict[str, float]:
    """Sums and digits that are right on the test set."""
    images, digits = images_of(folder)["test"]
    with torch.no_grad():
        seen = torch.cat([model(part).argmax(1) for part in images.split(1000)])
    rows = groups(len(images), length, generator)
    right = [ADD(*a) == ADD(*b) for a, b in zip(seen[rows].tolist(), digits[rows].tolist(), strict=True)]
    return {"accuracy": sum(right) / len(right), "digits": float((seen == digits).double().mean())}


def row_of(method: str, length: int, seed: int, epochs: int, folder: Path) -> dict[str, Any]:
    """Train once, and measure."""
    generator = torch.Generator().manual_seed(seed)
    rows = groups(len(images_of(folder)["train"][0]), length, generator)
    torch.manual_seed(seed)
    model = network()
    seconds, inside = train(model, method, rows, epochs, generator, folder)
    row = {"method": method, "length": length, "seed": seed, "epochs": epochs}
    found = measured(model, length, generator, folder)
    return {**row, **found, "cpu_seconds": seconds, "loss_seconds": inside, **where()}


def warm_row_of(method: str, seed: int, folder: Path) -> dict[str, Any]:
    """Learn a few labelled digits, then sums, and measure."""
    generator = torch.Generator().manual_seed(seed)
    images, digits = images_of(folder)["train"]
    order = torch.randperm(len(images), generator=generator)
    few, others = order[:WARM_LABELS], order[WARM_LABELS:]
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(WARM_STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[few]), digits[few]).backward()
        optimizer.step()
    rows = others[: WARM_SUMS * 2 * WARM_LENGTH].view(WARM_SUMS, -1)
    seconds, inside = (0.0, 0.0) if method == START else train(model, method, rows, 4, generator, folder)
    row = {"method": method, "length": WARM_LENGTH, "seed": seed, "epochs": 4}
    found = measured(model, WARM_LENGTH, torch.Generator().manual_seed(seed), folder)
    return {**row, **found, "cpu_seconds": seconds, "loss_seconds": inside, **where()}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data-root", type=Path, required=True, help="the folder of MNIST's four files")
    parser.add_argument("--seeds", type=int, default=5, help="so many of them")
    parser.add_argument("--warm", action="store_true", help="100 labelled digits first")
    parser.add_argument("--lengths", nargs="*", type=int, choices=EPOCHS, default=list(EPOCHS))
    parser.add_argument("--epochs", type=int, help="instead of the usual number")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    log = WARM_LOG if chosen.warm else LOG
    lengths = (WARM_LENGTH,) if chosen.warm else tuple(chosen.lengths)
    known = {(row["method"], row["length"], row["seed"], row["epochs"]) for row in log.read()}
    for seed in range(chosen.seeds):
        for length in lengths:
            epochs = 4 if chosen.warm else chosen.epochs or EPOCHS[length]
            for method in (LABELLED, START, FOLD, DECLARED) if chosen.warm else (FOLD, LABELLED):
                key = (method, length, seed, epochs)
                if key not in known and not is_elsewhere(key):
                    folder = chosen.data_root
                    row = (
                        warm_row_of(method, seed, folder)
                        if chosen.warm
                        else row_of(method, length, seed, epochs, folder)
                    )
                    log.append(row)
                    print(f"{method:28} {length:3} digits, seed {seed}: {100 * row['accuracy']:5.1f}%", flush=True)


if __name__ == "__main__":
    main()
