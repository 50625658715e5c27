"""Unit learners with scikit-learn's manners: one unit for two classes, one versus the rest for more."""

import inspect
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from tpsolve.errors import ArgumentError
from tpsolve.units._base import UnitFit
from tpsolve.units._for_sklearn import labels_for_sklearn, samples_for_sklearn, weights_for_sklearn
from tpsolve.units._learner_registry import find_learner
from tpsolve.units.separability._separability import Separability


class UnitClassifier(ClassifierMixin, BaseEstimator):
    """A classifier made of threshold units, all fitted at once.

    Args:
        learner: a name in `LEARNERS`, other than "separability".
        l2: the penalty, for learners that have one.
        bias: whether the units have a bias.
        random_state: seed of learners that draw: an int, a numpy RandomState, or None for 0.

    `fit` warns with scikit-learn's `ConvergenceWarning` if a unit has not converged.

    After `fit` it has `classes_`, `coef_ (units, features)`, `intercept_ (units,)`, `n_iter_` and `fit_` (the
    `UnitFit`).
    """

    classes_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray
    n_iter_: int
    fit_: UnitFit

    def __init__(
        self, learner: str = "squared-hinge", *, l2: float = 1e-4, bias: bool = True, random_state: Any = None
    ) -> None:
        self.learner = learner
        self.l2 = l2
        self.bias = bias
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "UnitClassifier":
        """Fit to `X (samples, features)` and labels `y (samples,)`.

        Raises:
            ValueError: scikit-learn's checks fail, or there is one class only.
            ArgumentError: arrays, labels or weights that scikit-learn would take for others, or refuse without a name.
        """
        X = samples_for_sklearn("X", X)
        y, sample_weight = labels_for_sklearn("y", y), weights_for_sklearn("sample_weight", sample_weight)
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[0]}.")
        chosen = [1] if len(self.classes_) == 2 else range(len(self.classes_))
        targets = np.where(codes[:, None] == np.array(list(chosen))[None], 1.0, -1.0)
        weight = None
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
            weight = torch.as_tensor(np.broadcast_to(sample_weight[:, None], targets.shape).copy())
        # A copy in plain order: torch takes no flipped array, and warns of one that is read-only.
        x = torch.from_numpy(np.array(X, order="C"))
        fit = self._learner().fit(x, torch.as_tensor(targets), weight, generator=self._generator())
        assert isinstance(fit, UnitFit)
        self.fit_ = fit
        self.coef_, self.intercept_ = fit.weight.numpy(), fit.bias.numpy()
        self.n_iter_ = max(1, int(fit.steps.max()))
        if not bool(fit.converged.all()):
            open_units = int((~fit.converged).sum())
            warnings.warn(
                f"{self.learner}: {open_units} of {len(fit.converged)} units did not converge in {self.n_iter_} steps. "
                "Scale the features, raise l2, or take another learner.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Pre-activations: `(samples,)` for two classes, else `(samples, classes)`."""
        check_is_fitted(self)
        X = samples_for_sklearn("X", X)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        z = X @ self.coef_.T + self.intercept_
        return z[:, 0] if len(self.classes_) == 2 else z

    def predict(self, X: Any) -> np.ndarray:
        """Labels `(samples,)`: of the unit with the largest pre-activation."""
        z = self.decision_function(X)
        return self.classes_[(z >= 0).astype(int) if z.ndim == 1 else z.argmax(axis=1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the samples, by weight, whose label `predict` names."""
        weight = weights_for_sklearn("sample_weight", sample_weight)
        return super().score(X, labels_for_sklearn("y", y), weight)

    def _learner(self) -> Any:
        kind = find_learner(self.learner)
        if kind is Separability:
            raise ArgumentError("learner", repr(self.learner), "a learner whose units predict, such as 'hinge'")
        takes = inspect.signature(kind).parameters
        settings: dict[str, Any] = {"l2": self.l2} if "l2" in takes else {}
        return kind(bias=self.bias, **settings)

    def _generator(self) -> torch.Generator:
        state = 0 if self.random_state is None else self.random_state
        seed = int(state.randint(2**31)) if isinstance(state, np.random.RandomState) else int(state)
        return torch.Generator().manual_seed(seed)
