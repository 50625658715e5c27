"""Training through programs: MNIST digits of which only what a program makes of them is labelled.

    python -m benchmarks.programs tune --data-root DIR   # the rate of each method, on validation samples
    python -m benchmarks.programs run --data-root DIR    # every task and method, seeds 0 to 9
    python -m benchmarks.programs seconds --data-root DIR  # the same, each method for 20 s of the processor
    python -m benchmarks.programs ised --data-root DIR   # sums with the network and the lengths of ISED's paper

All train the same small convolutional network from a cold start: 5,000 samples, 4 epochs, batches of 32, Adam, 64
calls of the program a sample and epoch. The accuracy is that of the program's answer on the whole test set. Each goes
on where it was stopped; rows stand in results/programs.jsonl and programs_tune.jsonl. `--tasks` and `--methods` choose
some, `--half 0` and `--half 1` share the seeds between two processes.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.program_ablkit import Ablkit
from benchmarks.program_deepproblog import RULES, DeepProbLog
from benchmarks.program_methods import EXACT_COUNT, METHODS
from benchmarks.program_tasks import EVERY, Samples, Task, samples_of
from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of, where

LOGS = {
    "tune": Rows(RESULTS / "programs_tune.jsonl"),
    "run": Rows(RESULTS / "programs.jsonl"),
    "seconds": Rows(RESULTS / "programs_seconds.jsonl"),
    "ised": Rows(RESULTS / "programs_ised.jsonl"),
}
ABLKIT = "ABLkit"
DEEPPROBLOG = "DeepProbLog"
RATES = (3e-4, 1e-3, 3e-3)
SEEDS = {"tune": (100,), "run": tuple(range(10)), "seconds": tuple(range(10)), "ised": tuple(range(10))}
TUNED_ON = ("sum of 2", "sum of 3", "a < b", "(a + b) mod 3", "a = b")


def network(classes: int = 10) -> nn.Module:
    """Two convolutions and two linear layers: the logits of an image of 28 x 28."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, classes),
    )  # fmt: skip


def ised_network(classes: int = 10) -> nn.Module:
    """That of the experiments of Solko-Breslin and others (2024), as their code has it."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1024, 1024), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1024, classes),
    )  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """How a network is trained.

    Args:
        network: makes it, of so many classes. epochs, batch: of its training. calls: a sample and epoch, at most.
        tasks: that it is meant for; all if empty. decays: whether the rate falls to 0 along half a cosine.
        seconds: of the processor after which the training ends, if its epochs have not ended before.
    """

    network: Callable[[int], nn.Module]
    epochs: int
    batch: int
    calls: int
    tasks: tuple[str, ...] = ()
    decays: bool = False
    seconds: float = math.inf


SMALL = Protocol(network, epochs=4, batch=32, calls=64)
PROTOCOLS = {
    "tune": Protocol(network, 4, 32, 64, TUNED_ON),
    "run": SMALL,
    "seconds": Protocol(network, 1000, 32, 64, seconds=20.0),
    "ised": Protocol(ised_network, 10, 16, 100, ("sum of 2", "sum of 3", "sum of 4"), decays=True),
}


def applies(method: str, name: str) -> bool:
    """Whether exact inference can list all assignments of the task, and whether DeepProbLog has a program for it."""
    return name in RULES if method == DEEPPROBLOG else method != "exact inference" or EVERY[name].count <= EXACT_COUNT


def loss_of(method: str, name: str, protocol: Protocol, seed: int) -> Any:
    """A loss of logits and labels, or what trains by itself."""
    if method == DEEPPROBLOG:
        return DeepProbLog(name, EVERY[name])
    return Ablkit(EVERY[name]) if method == ABLKIT else METHODS[method](EVERY[name], protocol.calls, seed)


def row_of(
    name: str, method: str, seed: int, rate: float, part: str, folder: Path, protocol: Protocol = SMALL
) -> dict[str, Any]:
    """Train once, and measure on the samples of `part`."""
    task = EVERY[name]
    train, test = samples_of(task, "train", seed, folder), samples_of(task, part, seed, folder)
    torch.manual_seed(seed)
    model = protocol.network(task.classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    loss_fn = loss_of(method, name, protocol, seed)
    steps = protocol.epochs * math.ceil(len(train.groups) / protocol.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if protocol.decays else None
    began = time.process_time()
    ends = began + protocol.seconds
    if isinstance(loss_fn, Ablkit | DeepProbLog):
        loss_fn.train(model, optimizer, train, protocol.epochs, protocol.batch, ends)
    else:
        for batch in batches(len(train.groups), protocol, seed):
            logits = model(train.images[train.groups[batch].flatten()]).view(len(batch), task.count, task.classes)
            optimizer.zero_grad()
            loss_fn(logits, train.labels[batch]).backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            if time.process_time() > ends:
                break
    seconds = time.process_time() - began
    model.eval()
    row = {"task": name, "method": method, "seed": seed, "rate": rate, "epochs": protocol.epochs, "part": part}
    return {
        **row,
        **measured(model, task, test, getattr(loss_fn, "read", _largest)),
        "calls": loss_fn.calls / (protocol.epochs * len(train.groups)) if math.isinf(protocol.seconds) else None,
        "cpu_seconds": seconds,
        **where(),
    }


def batches(samples: int, protocol: Protocol, seed: int) -> Iterator[Tensor]:
    """Places of the samples, shuffled for each epoch."""
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(protocol.epochs):
        yield from torch.randperm(samples, generator=shuffle).split(protocol.batch)


def _largest(logits: Tensor) -> Tensor:
    return logits.argmax(1)


@torch.no_grad()
def measured(
    model: nn.Module, task: Task, test: Samples, read: Callable[[Tensor], Tensor] = _largest
) -> dict[str, float]:
    """Accuracy of the answers, of the digits as far as the labels can tell them apart, and of the commonest answer.

    Args:
        read: the symbols `(B,)` of logits `(B, K)`.
    """
    seen = torch.cat([read(model(images)) for images in test.images.split(1000)])
    answers = task.program(seen[test.groups].numpy())
    _, counts = np.unique(test.labels.numpy(), return_counts=True)
    return {
        "accuracy": float((torch.from_numpy(answers.astype(np.int64)) == test.labels).double().mean()),
        "digits": digits_read(seen, test.digits, task),
        "majority": float(counts.max() / counts.sum()),
    }


def digits_read(seen: Tensor, digits: Tensor, task: Task) -> float:
    """The share of digits that are read, up to what no label tells apart."""
    own, true = task.read(seen.numpy()), task.read(digits.numpy())
    if not task.any_order:
        reversed_too = [task.read(9 - seen.numpy())] if task.reversible else []
        return max(float((each == true).mean()) for each in (own, *reversed_too))
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((10, 10))
    np.add.at(table, (own, true), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(true))


def best_rate(method: str) -> float:
    """Of the highest mean accuracy in the tuning; DeepProbLog has the loss of exact inference, so it takes its rate."""
    base = "exact inference" if method == DEEPPROBLOG else method.partition(",")[0]
    rows = [row for row in LOGS["tune"].read() if row["method"] == base]
    by_rate = {rate: [row["accuracy"] for row in rows if row["rate"] == rate] for rate in RATES}
    return max(RATES, key=lambda rate: statistics.mean(by_rate[rate] or [0.0]))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("phase", choices=LOGS)
    parser.add_argument("--data-root", type=Path, required=True, help="the folder of MNIST's four files")
    parser.add_argument("--tasks", nargs="*", choices=EVERY, default=list(EVERY))
    every = [*METHODS, ABLKIT, DEEPPROBLOG]
    parser.add_argument(
        "--methods", nargs="*", choices=every, default=list(METHODS), help=f"{ABLKIT} and {DEEPPROBLOG} are extra"
    )
    parser.add_argument("--seeds", type=int, default=10, help="so many of them")
    parser.add_argument("--half", type=int, choices=(0, 1))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    tuning, protocol = chosen.phase == "tune", PROTOCOLS[chosen.phase]
    log, seeds = LOGS[chosen.phase], SEEDS[chosen.phase][: chosen.seeds]
    seeds = seeds if chosen.half is None else seeds[chosen.half :: 2]
    names = [name for name in chosen.tasks if not protocol.tasks or name in protocol.tasks]
    methods = [method for method in chosen.methods if not tuning or "," not in method]
    known = {(row["task"], row["method"], row["seed"], row["rate"]) for row in log.read()}
    for seed in seeds:
        for name in names:
            for method in methods:
                for rate in RATES if tuning else (1e-3 if protocol.decays else best_rate(method),):
                    key = (name, method, seed, rate)
                    if key not in known and applies(method, name) and not is_elsewhere(key):
                        part = "validation" if tuning else "test"
                        row = row_of(name, method, seed, rate, part, chosen.data_root, protocol)
                        log.append(row)
                        print(f"{name:24} {method:32} {seed:3} {rate:.0e} {100 * row['accuracy']:5.1f}", flush=True)


if __name__ == "__main__":
    main()
