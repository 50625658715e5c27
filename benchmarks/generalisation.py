"""New data: accuracy and size of small threshold networks and of what scikit-learn has, five folds a table.

    TPSOLVE_DATA=FOLDER python -m benchmarks.generalisation

FOLDER holds tabular/NAME.csv with the column `target`, and names of columns of words that end in `:c`; `split` is left
out. One row a fold, table and method in
results/generalisation.jsonl, from which docs/generalisation.py draws; a run goes on where it was stopped. Larger
tables are cut to `MAX_ROWS` rows at random.
"""

import argparse
import csv
import lzma
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from benchmarks.record import RESULTS, where
from tpsolve._storage._row_log import RowLog
from tpsolve.estimators import ThresholdNetworkClassifier
from tpsolve.tables import TableOptions, read_table

TABLES = (
    *("soybean_small", "spect", "sonar", "votes", "cleveland", "heart", "haberman", "ionosphere", "monks1", "monks2"),
    *("monks3", "balance", "pima", "tictactoe", "banknote", "car", "mushroom", "adult"),
)
MAX_ROWS = 1500
SECONDS = 1.5
"""Of each search of a network of given widths. One of widths "auto" gets twice as much, each averaged one a third."""


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
    "penalty 2": network(widths=3, penalty=2.0),
    "auto": network(widths="auto", seconds=2 * SECONDS),
    "five averaged": lambda: BaggingClassifier(network(widths=1, seconds=SECONDS / 3)(), 5, random_state=0),
}


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of a table; gaps have columns of their own."""
    folder = Path(os.environ["TPSOLVE_DATA"]) / "tabular"
    path = next(p for p in (folder / f"{name}.csv", folder / f"{name}.csv.xz") if p.exists())
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as stream:
        header = next(csv.reader(stream))
    words, drop = [c for c in header if c.endswith(":c")], [c for c in header if c == "split"]
    read = read_table(path, "target", TableOptions(missing="indicator", drop=drop, words=words))
    X, y = read.inputs.numpy(), np.array(read.labels)
    if len(y) > MAX_ROWS:
        kept = np.random.default_rng(0).choice(len(y), MAX_ROWS, replace=False)
        X, y = X[kept], y[kept]
    return X, y


def size(fitted: Any) -> int:
    """How many numbers decide: weights that are not 0, thresholds of trees, all numbers of support vectors."""
    model: Any = fitted[-1] if isinstance(fitted, Pipeline) else fitted
    if isinstance(model, BaggingClassifier):
        return sum(map(size, model.estimators_))
    if isinstance(model, ThresholdNetworkClassifier):
        return sum(int((weight != 0).sum()) for weight, _ in model.model_.layers.weights)
    if isinstance(model, LogisticRegression):
        return int((model.coef_ != 0).sum())
    if isinstance(model, SVC):
        return int(model.support_vectors_.size + model.dual_coef_.size)
    trees = model.estimators_ if isinstance(model, RandomForestClassifier) else [model]
    return sum(int((tree.tree_.children_left >= 0).sum()) for tree in trees)


def row_of(name: str, method: str, fold: int, seed: int = 0) -> dict[str, Any]:
    """Train on four fifths of a table, and count on the last."""
    X, y = load(name)
    train, test = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y))[fold]
    began, model = time.perf_counter(), METHODS[method]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[train], y[train])
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
        "proved": bool(model.status_.value == "optimal") if hasattr(model, "status_") else None,
        "seconds": time.perf_counter() - began,
    }


def main(tables: list[str], methods: list[str]) -> None:
    """Add the rows that are missing."""
    log = RowLog(RESULTS / "generalisation.jsonl", ("table", "method", "fold", "accuracy"))
    done = {(row["table"], row["method"], row["fold"]) for row in log.read()}
    for name in tables:
        for method in methods:
            for fold in range(5):
                if (name, method, fold) not in done:
                    log.append({**row_of(name, method, fold), **where()})
            print(name, method, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="append", choices=TABLES)
    parser.add_argument("--method", action="append", choices=list(METHODS))
    chosen = parser.parse_args()
    main(chosen.table or list(TABLES), chosen.method or list(METHODS))
