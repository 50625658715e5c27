"""Test accuracy by activation and rule, a row a run: `python benchmarks/training.py digits`.

Every row of a table has the same network, recipe and seeds; only the activation and its rule change. A row is
on disk as soon as its run has ended, and the same command goes on where it stopped. A run that diverges is a
row with the reason. The tables are drawn by `python docs/training_tables.py`.

digits takes minutes on a CPU core, fashion-mnist-small about half an hour, fashion-mnist hours; cifar10, the paper's
table, is for a GPU:

    python benchmarks/training.py cifar10 --data-root DIR --device cuda --set launch=graphs --set precision=tf32
"""

import argparse
import platform
import tempfile
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, Rows, is_elsewhere, parser_of

from tpsolve.errors import NotFiniteError
from tpsolve.nn import RULES
from tpsolve.train import Recipe, load_recipe, train
from tpsolve.train._recipe import parse_settings

WITHOUT_RULE = ("relu", "saturated-relu")


@dataclass(frozen=True)
class Table:
    """Which runs make a table; each rule for the sign and for the staircase of four levels, and the two others."""

    recipes: tuple[str, ...]
    rules: tuple[str, ...]
    seeds: int
    settings: tuple[str, ...] = ()


# "saturated-hinge" is another name of "saturated-ste".
ALL_RULES = tuple(rule for rule in RULES if rule != "saturated-hinge")
TABLES = {
    "digits": Table(("digits-mlp",), ALL_RULES, seeds=5),
    "fashion-mnist": Table(("fashion-mnist-convnet4",), ALL_RULES, seeds=3),
    "fashion-mnist-small": Table(
        ("fashion-mnist-convnet4",),
        ("ste", "saturated-ste", "soft-hinge"),
        seeds=3,
        settings=("images=6000", "epochs=10", "milestones=7,9"),
    ),
    "cifar10": Table(("cifar10-convnet4", "cifar10-convnet8"), ("saturated-ste", "soft-hinge"), seeds=3),
}


def runs_of(table: Table) -> list[dict[str, Any]]:
    """Settings of every run, seed by seed, so that an early end leaves whole tables of fewer seeds."""
    kinds: list[dict[str, Any]] = [
        {"activation": activation, "rule": rule} for activation in ("sign", "staircase") for rule in table.rules
    ]
    kinds += [{"activation": activation} for activation in WITHOUT_RULE]
    return [
        {"recipe": recipe, **kind, "seed": seed}
        for seed, recipe, kind in product(range(table.seeds), table.recipes, kinds)
    ]


def measure(recipe: Recipe, arguments: argparse.Namespace) -> dict[str, Any]:
    """What one run reached."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows = train(recipe, Path(folder), data_root=arguments.data_root, device=arguments.device)
        except NotFiniteError as error:
            return {"error": str(error)}
    best = max(rows, key=lambda row: row["test_accuracy"])
    return {
        "final_accuracy": rows[-1]["test_accuracy"],
        "best_accuracy": best["test_accuracy"],
        "best_epoch": best["epoch"],
        "train_accuracy": rows[-1]["train_accuracy"],
        "seconds": sum(row["seconds"] for row in rows),
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="for every run of the table")
    parser.add_argument("--seeds", type=int, help="by default the table's")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the rows")
    arguments = parser.parse_args()
    table = TABLES[arguments.table]
    if arguments.seeds is not None:
        table = replace(table, seeds=arguments.seeds)
    settings = [*table.settings, *arguments.set]
    changed = parse_settings(settings)
    log = Rows(arguments.out / f"training_{arguments.table}.jsonl", ("key",))
    done = [row["key"] for row in log.read()]
    gpu = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else platform.machine()
    where = {"machine": gpu, "python": platform.python_version()}
    where |= {library: metadata.version(library) for library in ("tpsolve", "torch")}
    runs = runs_of(table)
    for number, run in enumerate(runs, start=1):
        key = {**run, "set": sorted(settings)}
        if key in done or is_elsewhere(key):
            continue
        of_run = {name: value for name, value in run.items() if name != "recipe"}
        recipe = load_recipe(run["recipe"], {**changed, **of_run})
        row = {**run, "epochs": recipe.epochs, "images": recipe.images, **measure(recipe, arguments)}
        log.append({"key": key, **row, **where})
        reached = row.get("error") or f"{row['final_accuracy']:.2%}"
        print(f"{number}/{len(runs)} ", *run.values(), reached, flush=True)


if __name__ == "__main__":
    main()
