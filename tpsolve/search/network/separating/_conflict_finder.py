"""Circuits that forbid the signs of some points, found in floating point and confirmed in exact arithmetic."""

import numpy as np

from tpsolve.units.checking._null_vectors import exact_circuit_of, null_vectors
from tpsolve.units.checking._unrounded import ExactRows
from tpsolve.units.checking._verification import to_integers

_TINY = 1e-9
"""Sums and shares below are taken for 0: a wrong guess costs a look, or leaves a conflict for later."""
_NEAR, _ROUNDS = 4, 8
"""Points of a first look, for each feature; and how often further ones are looked at."""


class ConflictFinder:
    """Finds circuits that forbid signs of points, one column of signs after another.

    Signs are those of no hyperplane if and only if some point of the origin's is a mixture of the points `(x, 1)` times
    their signs (Gordan's theorem). Non-negative least squares looks for this mixture. It ends with a mixture of at most
    p + 2 points, among which there is a circuit, or with a hyperplane, which is tried first the next time.

    Args:
        points: `(M, p)` float64, distinct.
        exact: the points before rounding, if they differ.

    Attributes:
        size: numbers of a hyperplane.
    """

    def __init__(self, points: np.ndarray, exact: ExactRows | None) -> None:
        spread = points.std(axis=0)
        scaled = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        self._rows = np.concatenate([scaled, np.ones((len(points), 1))], axis=1)
        self._points = points if exact is None else None
        with_one = np.concatenate([points, np.ones((len(points), 1))], axis=1)
        self._whole = (
            list(zip(*to_integers(with_one.T, together=False), strict=True)) if exact is None else list(exact.whole)
        )
        self.size = self._rows.shape[1]
        self._right = np.eye(self.size + 1)[-1]

    def find(self, samples: np.ndarray, signs: np.ndarray, hyperplane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A circuit that forbids `signs (k,)` in {-1, +1} of the points `samples (k,)`: its points, and their signs.

        None has no points. Then `hyperplane (p + 1,)`, which was tried first, is one that separates them, as far as
        floating point knows.
        """
        signed = self._rows[samples] * signs[:, None]
        chosen = self._mixture(signed, hyperplane)
        if len(chosen) and self._is_circuit(samples[chosen], signs[chosen]):
            return samples[chosen], signs[chosen]
        if len(chosen):
            found = exact_circuit_of([self._whole[k] for k in samples[chosen].tolist()])
            if found is not None:
                circuit = chosen[found[0]]
                if abs(signs[circuit] @ np.array(found[1])) == len(circuit):
                    return samples[circuit], signs[circuit]
        return samples[:0], signs[:0]

    def _mixture(self, signed: np.ndarray, hyperplane: np.ndarray) -> np.ndarray:
        """Rows of `signed (k, p + 1)` of which some mixture is the origin; none: `hyperplane` has them on one side."""
        from scipy.optimize import nnls

        held = np.zeros(0, dtype=np.int64)
        for _ in range(_ROUNDS):
            above = signed @ hyperplane
            if (above > _TINY).all():
                return held[:0]
            count = min(_NEAR * signed.shape[1], len(signed))
            near = np.union1d(np.argpartition(above, count - 1)[:count], held)
            system = np.concatenate([signed[near].T, np.ones((1, len(near)))])
            try:
                shares, left = nnls(system, self._right)
            except RuntimeError:
                # Too many iterations: nothing is known.
                return held[:0]
            held = near[shares > _TINY]
            if left < _TINY:
                return held
            hyperplane[:] = (system @ shares - self._right)[:-1]
            hyperplane /= max(np.abs(hyperplane).max(), 1e-300)
        return held[:0]

    def _is_circuit(self, samples: np.ndarray, signs: np.ndarray) -> bool:
        """Whether floating point proves it."""
        if self._points is None or len(samples) != self.size + 1:
            return False
        dependency, proved = null_vectors(self._points[samples][None])
        return bool(proved[0]) and abs(np.sign(dependency[0]) @ signs) == len(signs)
