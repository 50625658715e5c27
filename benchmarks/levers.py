"""What do levers add to the width-tuned saturated sign? convnet4 on 6,000 images of Fashion-MNIST, 5 epochs, 3 seeds.

Every arm has the same recipe: Adam at 1e-3 on a cosine to 0, batches of 64. The width is chosen among three by accuracy
on 2,000 further training images, of one seed that no arm has. The test images are looked at for the rows of the arms
only. The gap is the ReLU twin's test accuracy minus that of the saturated sign; the table says how much of it an arm
closes. A run goes on where it ended.
Run: `python -m benchmarks.levers --data-root FOLDER`; `--table` prints the table of the rows that are there.
"""

import itertools
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of, where
from tpsolve.nn import ChannelShift, DistillationLoss, HardThreshold, ProgressiveHardening, binarize
from tpsolve.train._averaging import averaged_weights
from tpsolve.train.data._idx import load_fashion_mnist
from tpsolve.train.models._convnet4 import convnet4

IMAGES, VALIDATION, EPOCHS, BATCH, RATE = 6000, 2000, 5, 64, 1e-3
WIDTHS, TUNING_SEED, SEEDS = (0.5, 1.0, 2.0), 100, (0, 1, 2)
CHANNELS = ((32, 1, 1), (64, 1, 1), (1024,))
HARDENED = 0.6
"""Share of the steps after which every threshold is hard."""
FIRST_STAGE = 0.5
"""Share of the epochs with real weights, of the arms in two stages; whole epochs, rounded down."""
SMOOTH, AVERAGE = 0.1, 0.2
"""Of the labels and of the weights, as in `tpsolve.train.Recipe`."""
ARMS = {
    "relu": (),
    "saturated sign": (),
    "widths": ("widths",),
    "hardening": ("hardening",),
    "distillation": ("distillation",),
    "hardening, distillation": ("hardening", "distillation"),
    "shortcuts": ("shortcuts",),
    "binary weights": ("binary",),
    "binary weights, two stages": ("binary", "stages"),
    "shortcuts, shifts, hardening, distillation": ("shortcuts", "shifts", "hardening", "distillation"),
    "shifts": ("shifts",),
    "smoothing": ("smoothing",),
    "averages": ("averages",),
    "binary weights, distillation": ("binary", "distillation"),
}
"""By name, the levers of an arm. All but the first have hard thresholds."""
ROWS = RESULTS / "levers.jsonl"


def network(arm: str, width: float) -> nn.Sequential:
    shapes, levers = itertools.cycle(CHANNELS), ARMS[arm]

    def activation() -> nn.Module:
        shape = next(shapes)
        if arm == "relu":
            return nn.ReLU()
        if "widths" in levers:
            return HardThreshold("saturated-ste", width=torch.full(shape, width), width_mode="learned")
        threshold = HardThreshold("saturated-ste", width=width)
        return nn.Sequential(ChannelShift(shape[0]), threshold) if "shifts" in levers else threshold

    return convnet4((1, 28, 28), 10, activation, "shortcuts" in levers)


def make_binary(model: nn.Module) -> None:
    """Binary weights in all layers but the first and the last."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    binarize(model, skip=(layers[0], layers[-1]))


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        right = [(model(some).argmax(1) == told).sum() for some, told in zip(x.split(500), y.split(500), strict=True)]
    return 100 * float(torch.stack(right).sum()) / len(y)


def train(arm: str, width: float, seed: int, x: Tensor, y: Tensor, teacher: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(seed)
    model = network(arm, width)
    steps = EPOCHS * math.ceil(len(x) / BATCH)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    levers = ARMS[arm]
    averaged = averaged_weights(model, AVERAGE) if "averages" in levers else None
    schedule = ProgressiveHardening(model, int(HARDENED * steps)) if "hardening" in levers else None
    loss_of_teacher = DistillationLoss()
    smooth = SMOOTH if "smoothing" in levers else 0.0
    for epoch in range(EPOCHS):
        if "binary" in levers and epoch == (int(FIRST_STAGE * EPOCHS) if "stages" in levers else 0):
            make_binary(model)
        for rows in torch.randperm(len(x)).split(BATCH):
            output = model(x[rows])
            if teacher is None:
                loss = cross_entropy(output, y[rows], label_smoothing=smooth)
            else:
                with torch.no_grad():
                    wanted = teacher(x[rows])
                loss = loss_of_teacher(output, (y[rows], wanted))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cosine.step()
            if schedule is not None:
                schedule.step()
            if averaged is not None:
                averaged.update_parameters(model)
    assert schedule is None or schedule.hard == len(schedule.thresholds)
    return model if averaged is None else averaged.module


def tasks() -> list[tuple[str, float | None, int]]:
    """Arm, width (None: the chosen one) and seed, in the order of the runs."""
    tuning = [("saturated sign", width, TUNING_SEED) for width in WIDTHS]
    return [*tuning, *((arm, None, seed) for seed, arm in itertools.product(SEEDS, ARMS))]


def read() -> list[dict[str, Any]]:
    return Rows(ROWS).read()


def chosen_width(rows: list[dict[str, Any]]) -> float:
    tuned = [row for row in rows if row["seed"] == TUNING_SEED]
    return max(tuned, key=lambda row: row["validation"])["width"]


def main(folder: Path) -> None:
    data = load_fashion_mnist(folder)
    x, test = (
        (part.float() - data.mean[0]) / data.std[0] for part in (data.inputs[: IMAGES + VALIDATION], data.test_inputs)
    )
    y, told = data.labels, data.test_labels
    held = slice(IMAGES, IMAGES + VALIDATION)
    teachers: dict[int, nn.Module] = {}
    for arm, width, seed in tasks():
        rows = read()
        there = any((row["arm"], row["seed"], row["given"]) == (arm, seed, width) for row in rows)
        if there or is_elsewhere((arm, seed, width)):
            continue
        began, wide = time.process_time(), chosen_width(rows) if width is None else width
        teacher = None
        if "distillation" in ARMS[arm]:
            if seed not in teachers:
                teachers[seed] = train("relu", wide, seed, x[:IMAGES], y[:IMAGES]).eval()
            teacher = teachers[seed]
        model = train(arm, wide, seed, x[:IMAGES], y[:IMAGES], teacher)
        row = {"arm": arm, "seed": seed, "given": width, "width": wide, "validation": accuracy(model, x[held], y[held])}
        if width is None:
            row["test"] = accuracy(model, test, told)
        row["cpu_seconds"] = time.process_time() - began
        Rows(ROWS).append({**row, **where()})
        print(row, flush=True)


def table() -> str:
    """Mean and deviation of each arm, and the share of the gap that it closes, of the seeds that all of them have."""
    rows = [row for row in read() if row["given"] is None]

    def of(arm: str) -> dict[int, float]:
        return {row["seed"]: row["test"] for row in rows if row["arm"] == arm}

    base, top = of("saturated sign"), of("relu")
    lines = ["| arm | seeds | test accuracy | share of the gap closed |", "|---|---|---|---|"]
    for arm in ARMS:
        found = of(arm)
        seeds = sorted(found.keys() & base.keys() & top.keys())
        if not seeds:
            continue
        values = [found[seed] for seed in seeds]
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        gap = statistics.mean(top[s] - base[s] for s in seeds)
        closed = statistics.mean(found[s] - base[s] for s in seeds) / gap
        lines.append(f"| {arm} | {len(seeds)} | {statistics.mean(values):.2f} ± {spread:.2f} | {closed:.0%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("--data-root", type=Path, help="the folder of the data sets")
    parser.add_argument("--table", action="store_true", help="print the table, and run nothing")
    given = parser.parse_args()
    if given.table:
        print(table())
    elif given.data_root is None:
        parser.error("--data-root is missing")
    else:
        main(given.data_root)
