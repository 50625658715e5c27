"""Does a search for targets train wide networks better than the width-tuned surrogate gradient?

Fashion-MNIST, 20,000 training images, 10,000 others of the training set for validation, the test set of
10,000. Every strategy trains the same network with Adam and batches of 64 for the same epochs, tries the
same number of settings on validation accuracy (`python -m benchmarks.wide tune`), and then runs its best
one on fresh seeds (`python -m benchmarks.wide run`). `python -m benchmarks.wide time` trains each once more, all on
one machine, for the seconds. The files come from the folder TPSOLVE_DATA. One row a run in results/wide_tune.jsonl,
wide.jsonl and wide_seconds.jsonl; the commands go on where they were stopped.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of
from tpsolve import Budget
from tpsolve.nn import HardThreshold, target_backward
from tpsolve.search import Solver
from tpsolve.train._averaging import averaged_weights, estimate_batch_norm
from tpsolve.train.data._idx import load_fashion_mnist
from tpsolve.train.models._convnet4 import convnet4
from tpsolve.train.models._mlp import mlp

TUNING = Rows(RESULTS / "wide_tune.jsonl")
LOGS = {"tune": TUNING, "run": Rows(RESULTS / "wide.jsonl"), "time": Rows(RESULTS / "wide_seconds.jsonl")}
TUNE_SEEDS = (100, 101)
"""Seeds of the tuning; those of the runs are 0, 1, 2, ..."""
BATCH = 64
IMAGES = {"mlp": 20_000, "convnet4": 4_000}
CURVE_EPOCHS = {"mlp": 1, "convnet4": 2}
"""Validation accuracy is measured after every so many of them."""
EPOCHS = 8


@dataclass(frozen=True)
class Setting:
    """How a network is trained.

    Args:
        rule, width, width_mode: of its thresholds.
        rate: Adam's at the start; it falls to 0 along half a cosine, unless weights are averaged.
        average: share of the run that an average of the weights is mostly of, whose batch norm is estimated
            anew from the training images; 0: none. The rate then stays as it is.
        smooth: share of the label's probability that goes to all classes alike, in the loss of the training.
        weight_decay: Adam's, the L2 penalty in the gradient.
        noise: scale of Gaussian noise before the thresholds in training.
        harden: share of the training during which thresholds are a mixture with tanh(z / width).
        solver: text of the solver that sets the targets of the last hidden layer, one step a batch; empty:
            the closed form.
        importance: of a target found by it; see `target_backward`.
        epochs: of the training.
    """

    rule: str = "soft-hinge"
    width: float = 1.0
    rate: float = 1e-3
    average: float = 0.0
    smooth: float = 0.0
    weight_decay: float = 0.0
    noise: float = 0.0
    harden: float = 0.0
    solver: str = ""
    importance: str = "gradient"
    epochs: int = EPOCHS
    width_mode: str = "fixed"


RATES = {"mlp": (1e-3, 3e-3), "convnet4": (1e-3, 2e-3)}
"""The learning rates that every strategy may choose from."""
AVERAGE = 0.1


def strategies(model: str) -> dict[str, list[Setting]]:
    """Every strategy with the settings that it may choose from, equally many."""
    rates = RATES[model]
    soft = [Setting(width=w, rate=r) for w in (0.25, 0.5, 1.0, 2.0) for r in rates]
    fewer = [Setting(width=w, rate=r) for w in (0.5, 1.0) for r in rates]
    curvature = [replace(s, solver="curvature-flip") for s in soft]
    both = [replace(s, average=AVERAGE, smooth=x) for s in fewer for x in (0.1, 0.2)]
    relative = [replace(s, width_mode="relative") for s in soft]
    decay = (1e-3, 3e-3)
    all_four = [
        Setting(width=0.5, width_mode="relative", rate=r, average=a, smooth=0.2, weight_decay=d)
        for r, a, d in product(rates, (AVERAGE, 2 * AVERAGE), decay)
    ]
    # Batch norm makes the spread of z the same everywhere.
    without_batch_norm = {
        "relative width": relative,
        "relative width, averaged weights, smoothed labels": [replace(s, width_mode="relative") for s in both],
        "soft hinge, weight decay": [replace(s, weight_decay=d) for s in fewer for d in decay],
        "relative width, averaged weights, smoothed labels, weight decay": all_four,
        "curvature, relative width, averaged weights, smoothed labels, weight decay": [
            replace(s, solver="curvature-flip") for s in all_four
        ],
    }
    return (without_batch_norm if model == "convnet4" else {}) | {
        "soft hinge": soft,
        "soft hinge, 16 epochs": [replace(s, epochs=2 * EPOCHS) for s in soft],
        "soft hinge, longer": [replace(s, epochs=4 * EPOCHS) for s in soft],
        "saturated STE": [replace(s, rule="saturated-ste") for s in soft],
        "noise": [replace(s, noise=x) for s in fewer for x in (0.2, 0.5)],
        "hardening": [replace(s, harden=x) for s in fewer for x in (0.4, 0.8)],
        "smoothed labels": [replace(s, smooth=x) for s in fewer for x in (0.1, 0.2)],
        "averaged weights": [replace(s, average=AVERAGE) for s in soft],
        "averaged weights, smoothed labels": both,
        "averaged weights, smoothed labels, 16 epochs": [replace(s, epochs=2 * EPOCHS) for s in both],
        "curvature, last layer": curvature,
        "curvature, averaged weights": [replace(s, average=AVERAGE) for s in curvature],
        "curvature, averaged weights, smoothed labels": [replace(s, solver="curvature-flip") for s in both],
        "curvature, averaged weights, smoothed labels, 16 epochs": [
            replace(s, solver="curvature-flip", epochs=2 * EPOCHS) for s in both
        ],
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("command", choices=tuple(LOGS))
    parser.add_argument("--model", choices=tuple(IMAGES), default="mlp")
    parser.add_argument("--strategy", action="append", choices=tuple(strategies("convnet4")), help="default: all")
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    chosen = given.strategy or list(strategies(given.model))
    seeds = 1 if given.command == "time" else given.seeds
    jobs = tuning(given.model, chosen) if given.command == "tune" else final(given.model, chosen, seeds)
    log = LOGS[given.command]
    done = {key(row) for row in log.read()}
    for strategy, setting, seed in jobs:
        row = {"model": given.model, "strategy": strategy, "seed": seed, **asdict(setting)}
        if key(row) in done or is_elsewhere(key(row)):
            continue
        try:
            row |= train(given.model, setting, seed)
        except Exception as error:  # A run that fails is a row with its reason, not the end of the benchmark.
            row["failed"] = f"{type(error).__name__}: {error}"
        print({k: v for k, v in row.items() if k != "curve"}, flush=True)
        log.append(row)


def tuning(model: str, chosen: list[str]) -> Iterator[tuple[str, Setting, int]]:
    for strategy in chosen:
        for setting in strategies(model)[strategy]:
            for seed in TUNE_SEEDS:
                yield strategy, setting, seed


def final(model: str, chosen: list[str], seeds: int) -> Iterator[tuple[str, Setting, int]]:
    """The best setting of each strategy, seed by seed."""
    for seed in range(seeds):
        for strategy in chosen:
            yield strategy, best(model, strategy), seed


def best(model: str, strategy: str) -> Setting:
    """The setting of `strategy` with the highest mean validation accuracy in the tuning."""
    scores: dict[Setting, list[float]] = {setting: [] for setting in strategies(model)[strategy]}
    for row in TUNING.read():
        setting = Setting(**{name: value for name, value in row.items() if name in asdict(Setting())})
        if (row["model"], row["strategy"]) == (model, strategy) and setting in scores:
            scores[setting].append(row.get("validation", -math.inf))
    missing = sum(len(of) < len(TUNE_SEEDS) for of in scores.values())
    if missing:
        raise SystemExit(f"{strategy}: {missing} settings are not tuned yet; run the command tune first.")
    return max(scores, key=lambda setting: sum(scores[setting]) / len(scores[setting]))


def train(model_name: str, setting: Setting, seed: int) -> dict[str, Any]:
    """Train one network; accuracies in percent, or the reason why there are none.

    Seconds are of the processor, in training alone: other work on the machine hardly changes them.
    """
    data = images(IMAGES[model_name])
    torch.manual_seed(seed)
    mixture = [0.0]
    model = build(model_name, setting, mixture)
    averaged = averaged_weights(model, setting.average) if setting.average else None
    optimizer = torch.optim.Adam(model.parameters(), lr=setting.rate, weight_decay=setting.weight_decay, fused=True)
    x, y = data["train"]
    steps, curve = len(x) // BATCH * setting.epochs, []
    backward = backward_of(setting)
    step, seconds = 0, 0.0
    for epoch in range(setting.epochs):
        started = time.process_time()
        model.train()
        for batch in torch.randperm(len(x)).split(BATCH)[: len(x) // BATCH]:
            if not averaged:
                optimizer.param_groups[0]["lr"] = setting.rate * (1 + math.cos(math.pi * step / steps)) / 2
            mixture[0] = max(0.0, 1 - step / (setting.harden * steps)) if setting.harden else 0.0
            optimizer.zero_grad()
            loss = backward(model, x[batch], y[batch])
            if not math.isfinite(loss):
                return {"failed": f"the loss became {loss} at step {step}", "seconds": seconds}
            optimizer.step()
            if averaged is not None:
                averaged.update_parameters(model)
            step += 1
        seconds += time.process_time() - started
        if averaged is None and (epoch + 1) % CURVE_EPOCHS[model_name] == 0:
            curve.append(accuracy(model, *data["validation"]))
    judged = model
    if averaged is not None:
        started = time.process_time()
        estimate_batch_norm(averaged, x.split(BATCH))
        judged, seconds = averaged, seconds + time.process_time() - started
    parts = {name: accuracy(judged, *data[name]) for name in ("train", "validation", "test")}
    return {**parts, "curve": curve, "seconds": seconds}


def backward_of(setting: Setting) -> Callable[[nn.Module, Tensor, Tensor], float]:
    """What computes the gradients of one batch and returns its loss."""
    # A search takes a loss that it knows: the cross-entropy itself.
    loss_of = partial(cross_entropy, label_smoothing=setting.smooth) if setting.smooth else cross_entropy

    def closed_form(model: nn.Module, x: Tensor, y: Tensor) -> float:
        loss = loss_of(model(x), y)
        loss.backward()
        return loss.item()

    def searched(model: nn.Module, x: Tensor, y: Tensor) -> float:
        solvers: dict[str | int, Solver | str] = {-1: setting.solver}
        importance = setting.importance
        report = target_backward(model, x, y, loss_of, solver=solvers, budget=Budget(steps=1), importance=importance)
        return report.loss.item()

    return searched if setting.solver else closed_form


def build(name: str, setting: Setting, mixture: list[float]) -> nn.Module:
    def activation() -> nn.Module:
        threshold = HardThreshold(setting.rule, width=setting.width, width_mode=setting.width_mode)
        if setting.noise or setting.harden:
            return Disturbed(threshold, setting.noise, setting.width, mixture)
        return threshold

    if name == "mlp":
        return mlp((1, 28, 28), 10, activation, (128, 128, 128), batch_norm=True)
    network = convnet4((1, 28, 28), 10, activation)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class Disturbed(nn.Module):
    """A threshold with Gaussian noise before it, or mixed with tanh(z / width); in training alone."""

    def __init__(self, threshold: nn.Module, noise: float, width: float, mixture: list[float]):
        super().__init__()
        self.threshold, self.noise, self.width, self.mixture = threshold, noise, width, mixture

    def forward(self, z: Tensor) -> Tensor:
        if not self.training:
            return self.threshold(z)
        h = self.threshold(z + self.noise * torch.randn_like(z) if self.noise else z)
        share = self.mixture[0]
        return h if not share else share * torch.tanh(z / self.width) + (1 - share) * h


@cache
def images(count: int) -> dict[str, tuple[Tensor, Tensor]]:
    """`count` images to train on, 10,000 others to validate, and the test set; standardised."""
    folder = os.environ.get("TPSOLVE_DATA")
    if folder is None:
        raise SystemExit("Set TPSOLVE_DATA to the folder with Fashion-MNIST's four files.")
    read_ = load_fashion_mnist(Path(folder))
    order = torch.randperm(len(read_.inputs), generator=torch.Generator().manual_seed(0))
    mean, std = read_.mean[0], read_.std[0]

    def part(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return (x.float() - mean) / std, y

    pick = {"train": order[:count], "validation": order[-10_000:]}
    parts = {name: part(read_.inputs[rows], read_.labels[rows]) for name, rows in pick.items()}
    return parts | {"test": part(read_.test_inputs, read_.test_labels)}


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    model.eval()
    hits = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True))
    return 100 * hits / len(y)


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    given = asdict(Setting()) | row
    return tuple(given[name] for name in ("model", "strategy", "seed", *asdict(Setting())))


if __name__ == "__main__":
    main()
