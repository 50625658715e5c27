"""What does a searched step cost? `target_backward` against a training step of the same network with `nn.ReLU`.

`convnet4` on batches of 64 images of 3 x 32 x 32, and a transformer encoder of two layers (width 64, 4 heads, 128
units, 16 tokens) on batches of 32, in float32, on one thread. curvature-flip takes one step, hill-climb 20, or the
passes that it is given, at the last threshold or at all. Times are those of the processor, so that other work on the
machine matters less. A ratio is a median over rounds in which all run in turns, after a short warm-up.
Run: `python -m benchmarks.search_costs [ROUNDS]`; a round takes a minute. With `--against FOLDER` behind it, the
tpsolve in that folder, such as an earlier commit's, runs the same searches in a second process, in the same turns.
`--only transformer` measures one network, and keeps the rows of the other one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.record import RESULTS, median_ratio, save
from tpsolve import Budget
from tpsolve.nn import HardThreshold, target_backward
from tpsolve.train.models import convnet4

ROUNDS = 5
RELU_STEPS = 5
"""Of a round, of which the median counts."""
SHAPE, CLASSES = (3, 32, 32), 10
NETWORKS = ("convnet4", "transformer")


class Transformer(nn.Module):
    """Two encoder layers, and a class from the mean over the tokens."""

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        layers = [
            nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, activation=activation(), batch_first=True)
            for _ in range(2)
        ]
        self.layers, self.top = nn.Sequential(*layers), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.layers(x).mean(1))


def networks(name: str) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """The network with ReLU and the one with thresholds, of equal weights, and a batch."""
    torch.manual_seed(0)
    if name == "convnet4":
        x, make = torch.randn(64, *SHAPE), lambda activation: convnet4(SHAPE, CLASSES, activation)
    else:
        x, make = torch.randn(32, 16, 64), Transformer
    y = torch.randint(CLASSES, (len(x),))
    relu, hard = make(nn.ReLU), make(HardThreshold)
    hard.load_state_dict(relu.state_dict(), strict=False)
    return relu, hard, x, y


SEARCHES: dict[str, tuple[str, dict[str, int]]] = {
    "curvature-flip": ("curvature-flip", {"steps": 1}),
    "hill-climb, 20 steps": ("hill-climb", {"steps": 20}),
    "hill-climb, 3 passes": ("hill-climb", {"passes": 3}),
    "hill-climb, 40 passes": ("hill-climb", {"passes": 40}),
}
PLACES = {"last": -1, "all": None}


def searched(network: str, search: str, place: str) -> Callable[[], Any]:
    """A searched step."""
    _, hard, x, y = networks(network)
    solver, limits = SEARCHES[search]
    chosen: Any = solver if PLACES[place] is None else {PLACES[place]: solver}

    def step() -> Any:
        hard.zero_grad()
        return target_backward(hard, x, y, cross_entropy, solver=chosen, budget=Budget(**limits))

    return step


def trained(network: str) -> Callable[[], None]:
    """A step of the network with ReLU."""
    relu, _, x, y = networks(network)

    def step() -> None:
        relu.zero_grad()
        cross_entropy(relu(x), y).backward()

    return step


def answer() -> None:
    """Run the searched steps that the other process names, one a line, and tell the seconds."""
    torch.set_num_threads(1)
    steps: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        key = line.strip()
        if key not in steps:
            steps[key] = searched(*key.split("|"))
        began = time.process_time()
        steps[key]()
        print(time.process_time() - began, flush=True)


class Searches:
    """The searches of the tpsolve in a folder, in a process of its own."""

    def __init__(self, folder: str) -> None:
        # The package, and what it measures with, are that folder's; the searches are this file's.
        code = (
            "import importlib.util as find\n"
            f"spec = find.spec_from_file_location('search_costs', {__file__!r})\n"
            "module = find.module_from_spec(spec)\n"
            "spec.loader.exec_module(module)\n"
            "module.answer()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(folder).resolve())},
            cwd=folder,
        )

    def seconds(self, network: str, search: str, place: str) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(f"{network}|{search}|{place}", file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def measure(network: str, rounds: int, sides: dict[str, Searches]) -> Iterator[dict[str, Any]]:
    """A row for each search and place."""
    step = trained(network)
    step()
    for side in sides.values():
        side.seconds(network, "curvature-flip", "all")
    for search in SEARCHES:
        for place in PLACES:
            # Passes are counted since, so that there is nothing to compare with.
            asked = {name: side for name, side in sides.items() if name == "search" or "passes" not in search}
            seconds: dict[str, list[float]] = {name: [] for name in ("relu", *asked)}
            for _ in range(rounds):
                seconds["relu"].append(statistics.median(spent(step) for _ in range(RELU_STEPS)))
                for name, side in asked.items():
                    seconds[name].append(side.seconds(network, search, place))
            report = searched(network, search, place)()
            row = {
                "network": network,
                "search": search,
                "thresholds": place,
                "rounds": rounds,
                "relu_ms": 1e3 * statistics.median(seconds["relu"]),
                "search_ms": 1e3 * statistics.median(seconds["search"]),
                "ratio": median_ratio(seconds, "search", "relu"),
                "passes": max(int(report[name].stats["passes"].max()) for name in report.rows),
            }
            if "before" in seconds:
                row["ratio_before"] = median_ratio(seconds, "before", "relu")
                row["times_quicker"] = median_ratio(seconds, "before", "search")
            yield row


def spent(step: Callable[[], object]) -> float:
    """Seconds of the processor that a step takes."""
    began = time.process_time()
    step()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=NETWORKS, help="the rows of the other network stay")
    parser.add_argument("--against", help="the folder of another tpsolve")
    given = parser.parse_args()
    sides = {"search": Searches(str(Path(__file__).parent.parent))}
    if given.against:
        sides["before"] = Searches(given.against)
    lines = map(json.loads, (RESULTS / "search_costs.jsonl").read_text().splitlines())
    rows: dict[str, list[dict[str, Any]]] = {network: [] for network in NETWORKS}
    for row in lines:
        rows[row["network"]].append(row)
    for network in [given.only] if given.only else NETWORKS:
        rows[network] = list(measure(network, given.rounds, sides))
    save("search_costs", [row for network in NETWORKS for row in rows[network]])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
