"""The tables of `whole_numbers`: inputs in {-1, +1}, two classes, and training and test rows.

Settings are chosen on the tables of `TUNING`. Those of `FURTHER` were chosen before, and nothing is tuned on them. Two
come with statsmodels and one with palmerpenguins; only their files are read:

    pip install --no-deps --target FOLDER statsmodels palmerpenguins

and FOLDER on PYTHONPATH.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes

from benchmarks.generalisation import load
from benchmarks.generalisation_peers import Cuts

TUNING = (*("breast_cancer", "digits", "tictactoe", "heart", "sonar", "ionosphere", "pima", "votes", "car", "monks2"),)
FURTHER = (
    *("anes96", "fair", "penguins", "diabetes", "hastie", "quantiles", "classification", "moons", "circles", "vote"),
)
MAX_ROWS = 1500
MORE_CUTS = 12
"""Of columns where a table has fewer than 4; else 4."""


def _package_file(package: str, *parts: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"{package} is not installed: see the head of benchmarks/whole_numbers_tables.py.")
    return Path(found.origin).parent.joinpath(*parts)


def _read(name: str, root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and whether the label is the second of two."""
    if name == "anes96":
        path = _package_file("statsmodels", "datasets", "anes96", "anes96.csv")
        table = pd.read_csv(path, sep="\t", quotechar="'")
        return table.drop(columns="vote").to_numpy(float), table["vote"].to_numpy() == 1
    if name == "fair":
        table = pd.read_csv(_package_file("statsmodels", "datasets", "fair", "fair.csv"))
        return table.drop(columns="affairs").to_numpy(float), table["affairs"].to_numpy() > 0
    if name == "penguins":
        table = pd.read_csv(_package_file("palmerpenguins", "data", "penguins.csv")).dropna()
        words = pd.get_dummies(table[["species", "island"]]).to_numpy(float)
        numbers = table[["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]].to_numpy(float)
        return np.hstack([words, numbers]), table["sex"].to_numpy() == "male"
    if name == "diabetes":
        X, y = load_diabetes(return_X_y=True)
        return np.asarray(X), np.asarray(y) > np.median(np.asarray(y))
    X, y = load(name, root)
    if name == "digits":
        return X, y % 2 == 1
    # Where there are more classes, the largest one against the others.
    classes, counts = np.unique(y, return_counts=True)
    return X, y == (classes[1] if len(classes) == 2 else classes[counts.argmax()])


def split(name: str, seed: int, root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs in {-1, +1} and labels 0 and 1 of the training rows, 60 % drawn by `seed`, then those of the test rows.

    Public tables stand in `root`/tabular.
    """
    X, y = _read(name, root)
    if len(y) > MAX_ROWS:
        kept = np.random.default_rng(0).choice(len(y), MAX_ROWS, replace=False)
        X, y = X[kept], y[kept]
    y = y.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[: 6 * len(y) // 10], order[6 * len(y) // 10 :]
    cuts = Cuts(MORE_CUTS) if X.shape[1] < 4 else Cuts()
    bits = X > 7 if name == "digits" else cuts.fit(X[train]).transform(X)
    return 2.0 * bits[train] - 1, y[train], 2.0 * bits[test] - 1, y[test]
