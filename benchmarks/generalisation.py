"""New data: accuracy and size of small threshold networks and of other classifiers, five folds a table.

    python -m benchmarks.generalisation --data-root FOLDER --minutes 25

FOLDER holds tabular/NAME.csv with the column `target`, and names of columns of words that end in `:c`; `split` is left
out. Other tables come with scikit-learn, or are drawn by `DRAWN`. The tables are taken in one random order, and all
methods are run on a table before the next one: so a run that is stopped has a fair sample of the tables. One row a
fold, table and method in results/generalisation.jsonl, from which docs/generalisation.py draws; a run goes on where it
was stopped. Larger tables are cut to `MAX_ROWS` rows at random. Peers that are not installed are left out; see
`generalisation_peers`.
"""

import csv
import lzma
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_circles,
    make_classification,
    make_gaussian_quantiles,
    make_hastie_10_2,
    make_moons,
)
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from benchmarks.generalisation_peers import Cuts, installed
from benchmarks.record import RESULTS, Rows, code_state, is_elsewhere, parser_of, where
from tpsolve.errors import TooLargeError
from tpsolve.estimators import ThresholdNetworkClassifier
from tpsolve.tables import TableOptions, read_table

FILES = (
    *("soybean_small", "spect", "sonar", "votes", "cleveland", "heart", "haberman", "ionosphere", "monks1", "monks2"),
    *("monks3", "balance", "pima", "tictactoe", "banknote", "car", "mushroom", "adult"),
)


def _vote(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether most of 7 bits out of 12 are 1; one label in ten is the other one."""
    g = np.random.default_rng(seed)
    X = g.integers(0, 2, (500, 12)).astype(float)
    return X, (X[:, :7].sum(axis=1) > 3) ^ (g.uniform(size=500) < 0.1)


DRAWN: dict[str, Callable[[], Any]] = {
    "iris": lambda: load_iris(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    "digits": lambda: load_digits(return_X_y=True),
    "moons": lambda: make_moons(500, noise=0.3, random_state=0),
    "circles": lambda: make_circles(500, noise=0.15, factor=0.5, random_state=0),
    "classification": lambda: make_classification(500, 10, n_informative=5, n_classes=3, random_state=0),
    "quantiles": lambda: make_gaussian_quantiles(n_samples=500, n_features=4, n_classes=3, random_state=0),
    "hastie": lambda: make_hastie_10_2(1000, random_state=0),
    "vote": lambda: _vote(0),
}
TABLES = tuple(np.random.default_rng(0).permutation([*FILES, *DRAWN]).tolist())
MAX_ROWS = 1500
SECONDS = 1.5
"""Of the processor, for each search of a network of given widths. One of widths "auto" gets twice as much."""


def network(**settings: Any) -> Callable[[], Any]:
    """A maker of networks."""
    return lambda: ThresholdNetworkClassifier(**{"seconds": SECONDS, **settings})


METHODS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
    "RBF SVM": lambda: make_pipeline(StandardScaler(), SVC()),
    "random forest": lambda: RandomForestClassifier(random_state=0),
    "tree of 8 leaves": lambda: DecisionTreeClassifier(max_leaf_nodes=8, random_state=0),
    "one unit": network(widths=1),
    "three units": network(widths=3),
    **installed(),
    "auto": network(widths="auto", seconds=2 * SECONDS),
    "margin": network(widths=3, prefer="margin"),
    "penalty": network(widths=3, penalty=3.0),
    "whole weights": lambda: make_pipeline(Cuts(), network(widths=3, weight_set=range(-5, 6), penalty=1.0)()),
    "five voting": lambda: VotingClassifier(
        [(str(k), network(widths=3, seconds=SECONDS / 3, random_state=k)()) for k in range(5)]
    ),
}
"""The last one is the vote of what five seeds find, in more time together than that of one search."""


def load(name: str, root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of a table; gaps have columns of their own."""
    X, y = DRAWN[name]() if name in DRAWN else _read(name, root / "tabular")
    if len(y) > MAX_ROWS:
        kept = np.random.default_rng(0).choice(len(y), MAX_ROWS, replace=False)
        X, y = X[kept], y[kept]
    return X, y


def _read(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    path = next(p for p in (folder / f"{name}.csv", folder / f"{name}.csv.xz") if p.exists())
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as stream:
        header = next(csv.reader(stream))
    words, drop = [c for c in header if c.endswith(":c")], [c for c in header if c == "split"]
    read = read_table(path, "target", TableOptions(missing="indicator", drop=drop, words=words))
    return read.inputs.numpy(), np.array(read.labels)


def size(fitted: Any) -> int:
    """How many numbers decide: weights that are not 0, thresholds of trees, all numbers of support vectors."""
    model: Any = fitted[-1] if isinstance(fitted, Pipeline) else fitted
    if hasattr(model, "size_"):
        return model.size_
    if isinstance(model, VotingClassifier):
        return sum(map(size, model.estimators_))
    if isinstance(model, ThresholdNetworkClassifier):
        return sum(int((weight != 0).sum()) for weight, _ in model.model_.layers.weights)
    if isinstance(model, LogisticRegression):
        return int((model.coef_ != 0).sum())
    if isinstance(model, SVC):
        return int(model.support_vectors_.size + model.dual_coef_.size)
    trees = model.estimators_ if isinstance(model, RandomForestClassifier) else [model]
    return sum(int((tree.tree_.children_left >= 0).sum()) for tree in trees)


def row_of(name: str, method: str, fold: int, root: Path, seed: int = 0) -> dict[str, Any]:
    """Train on four fifths of a table, and count on the last."""
    X, y = load(name, root)
    train, test = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y))[fold]
    began, busy, model = time.perf_counter(), time.process_time(), METHODS[method]()
    # Searches read their seconds from the processor's clock, so that a machine that others use too is fair to all.
    with warnings.catch_warnings(), mock.patch("time.perf_counter", time.process_time):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[train], y[train])
    inner: Any = model[-1] if isinstance(model, Pipeline) else model
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    return {
        "table": name,
        "method": method,
        "fold": fold,
        "rows": len(y),
        "features": X.shape[1],
        "classes": len(np.unique(y)),
        "accuracy": float(model.score(X[test], y[test])),
        "train_accuracy": float(model.score(X[train], y[train])),
        "size": size(model),
        "proved": bool(inner.status_.value == "optimal") if hasattr(inner, "status_") else None,
        "seconds": seconds,
        "processor_seconds": busy,
    }


def main(tables: list[str], methods: list[str], minutes: float, root: Path, *, again: bool = False) -> None:
    """Add the rows that are missing, until the time is over; `again`: also those of another state of the code."""
    log, code = Rows(RESULTS / "generalisation.jsonl", ("table", "method", "fold"), ("accuracy",)), code_state()
    rows = [row for row in log.read() if not again or row.get("code") == code]
    done = {(row["table"], row["method"], row["fold"]) for row in rows}
    end = time.monotonic() + 60 * minutes
    for name in tables:
        for method in methods:
            for fold in range(5):
                if is_elsewhere((name, method, fold)):
                    continue
                if (name, method, fold) not in done and time.monotonic() < end:
                    try:
                        row = row_of(name, method, fold, root)
                    except TooLargeError as error:
                        row = {"table": name, "method": method, "fold": fold, "error": str(error)}
                    log.append({**row, **where(), "code": code})
            print(name, method, flush=True)


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("--table", action="append", choices=TABLES)
    parser.add_argument("--method", action="append", choices=list(METHODS))
    parser.add_argument("--data-root", type=Path, required=True, help="the folder that holds tabular/")
    parser.add_argument("--minutes", type=float, default=60.0, help="no fold begins later")
    again = "run rows of another state of the package again; the last row of a fold counts"
    parser.add_argument("--again", action="store_true", help=again)
    chosen = parser.parse_args()
    named = chosen.table or list(TABLES), chosen.method or list(METHODS)
    main(*named, chosen.minutes, chosen.data_root, again=chosen.again)
