"""Other readable classifiers in the manners of scikit-learn: optimal trees, scoring systems, Tsetlin machines.

They read columns of 0 and 1: `Cuts` makes those of each column, at quantiles of the training rows. All settings are
fixed ones; none was tuned on a table. The packages are no dependencies:

    pip install --no-deps pystreed scikit-survival gosdt fasterrisk tmu xxhash numpy==1.26.4 scikit-learn==1.7.2 \\
        pandas==2.2.3 pytz

pystreed imports scikit-survival, and tmu xxhash and cffi. They need numpy below 2, so they want an environment of
their own.
"""

import importlib.util
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin

SECONDS = 5
"""Limit of a search for a tree, of wall-clock time; GOSDT takes longer than it is told."""


class Cuts(TransformerMixin, BaseEstimator):
    """Columns of 0 and 1: whether a value is at most a cut, at up to `cuts` quantiles of each column."""

    cuts_: list[tuple[int, float]]

    def __init__(self, cuts: int = 4) -> None:
        self.cuts = cuts

    def fit(self, X: np.ndarray, y: Any = None) -> "Cuts":
        self.cuts_ = []
        for column, values in enumerate(X.T):
            known = np.unique(values)
            middles = (known[:-1] + known[1:]) / 2
            if len(middles) > self.cuts:
                shares = np.arange(1, self.cuts + 1) / (self.cuts + 1)
                middles = np.unique(middles[np.searchsorted(middles, np.quantile(values, shares)) % len(middles)])
            self.cuts_ += [(column, float(cut)) for cut in middles]
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return np.column_stack([X[:, column] <= cut for column, cut in self.cuts_]).astype(np.int64)


class _Peer(ClassifierMixin, BaseEstimator, ABC):
    """Classes as numbers, columns of 0 and 1. After `fit`, `size_` says how many numbers decide."""

    size_: int
    model_: Any

    def fit(self, X: np.ndarray, y: np.ndarray) -> "_Peer":
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.cuts_ = Cuts().fit(X)
        with _quiet():
            self.size_ = self._fit(self.cuts_.transform(X), codes)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        with _quiet():
            return self.classes_[np.asarray(self._predict(self.cuts_.transform(X))).astype(int)]

    @abstractmethod
    def _fit(self, B: np.ndarray, codes: np.ndarray) -> int:
        """Set `model_`; how many numbers decide."""

    def _predict(self, B: np.ndarray) -> Any:
        return self.model_.predict(B)


class OptimalTree(_Peer):
    """STreeD (van der Linden et al. 2023): the tree of depth 3 with the fewest training errors, for each node 0.2 %."""

    def _fit(self, B: np.ndarray, codes: np.ndarray) -> int:
        task = "cost-complex-accuracy"
        self.model_ = import_module("pystreed").STreeDClassifier(
            task, max_depth=3, cost_complexity=0.002, time_limit=SECONDS
        )
        self.model_.fit(B, codes)
        return self.model_.get_n_leaves() - 1


class SparseTree(_Peer):
    """GOSDT (McTavish et al. 2022): the tree of depth up to 4 with the fewest errors; a leaf costs 1 % of the rows."""

    def _fit(self, B: np.ndarray, codes: np.ndarray) -> int:
        self.model_ = (
            import_module("gosdt")
            .GOSDTClassifier(regularization=0.01, depth_budget=4, time_limit=SECONDS)
            .fit(B, codes)
        )
        return str(self.model_.trees_[0]).count("feature:")


class ScoringSystem(_Peer):
    """FasterRisk (Liu et al. 2022): at most 10 columns with points from -5 to 5; with several classes, one for each."""

    def _fit(self, B: np.ndarray, codes: np.ndarray) -> int:
        wanted = [1] if len(self.classes_) == 2 else range(len(self.classes_))
        self.model_, size = [], 0
        ones = np.column_stack([np.ones(len(B)), B]).astype(float)
        for code in wanted:
            search = import_module("fasterrisk.fasterrisk").RiskScoreOptimizer(
                ones, np.where(codes == code, 1.0, -1.0), k=min(10, B.shape[1]), parent_size=5
            )
            search.optimize()
            multipliers, intercepts, points = search.get_models()
            if np.size(multipliers) == 0:
                raise ValueError("no scoring system was found")
            # The first column is that of the intercept.
            self.model_.append((np.ravel(multipliers)[0], np.ravel(intercepts)[0], np.atleast_2d(points)[0][1:]))
            size += int((self.model_[-1][2] != 0).sum())
        return size

    def _predict(self, B: np.ndarray) -> Any:
        scores = np.column_stack([(base + B @ points) / multiplier for multiplier, base, points in self.model_])
        return scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(axis=1)


class TsetlinMachine(_Peer):
    """A Tsetlin machine (Granmo 2018) of tmu: 100 weighted clauses a class, T = 50, s = 5, 30 epochs."""

    def _fit(self, B: np.ndarray, codes: np.ndarray) -> int:
        self.model_ = import_module("tmu.models.classification.vanilla_classifier").TMClassifier(
            100, T=50, s=5.0, weighted_clauses=True, seed=1
        )
        bits, codes = B.astype(np.uint32), codes.astype(np.uint32)
        for _ in range(30):
            self.model_.fit(bits, codes)
        literals = self.model_.number_of_include_actions
        return sum(int(literals(code, k)) for code in range(len(self.classes_)) for k in range(100))

    def _predict(self, B: np.ndarray) -> Any:
        return self.model_.predict(B.astype(np.uint32))


PEERS: dict[str, tuple[str, type[_Peer]]] = {
    "STreeD": ("pystreed", OptimalTree),
    "GOSDT": ("gosdt", SparseTree),
    "FasterRisk": ("fasterrisk", ScoringSystem),
    "Tsetlin machine": ("tmu", TsetlinMachine),
}


def installed() -> dict[str, type[_Peer]]:
    """The peers whose package is there."""
    return {name: kind for name, (package, kind) in PEERS.items() if importlib.util.find_spec(package)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the packages, some in C, print."""
    logging.disable(logging.CRITICAL)
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
        logging.disable(logging.NOTSET)
