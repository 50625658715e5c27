"""The circuits of many small sets of points at once, signs proved in floating point; and one set exactly."""

from collections.abc import Sequence

import numpy as np
from flint import fmpz_mat

from tpsolve.units.checking._verification import to_integers

_ROUNDING = 2.0**-52
_TINY = 1e-290


def null_vectors(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solutions mu of `sum_i mu_i (x_i, 1) = 0` for c sets of p + 2 points, and where their signs are proved.

    Proved means: mu is unique up to scale and has no 0, so the set is a circuit with these signs. With R near
    the inverse of the system A and beta = |I - R A| < 1, the solution of A mu = b lies within
    |R (b - A m)| / (1 - beta) of any m (Rump, "Verification methods", Acta Numerica 2010, section 10).
    The rounding of every product is bounded and added.

    Args:
        points: `(c, p + 2, p)` float64.

    Returns:
        `(c, p + 2)` float64, the last entry 1, and `(c,)` bool.
    """
    # Powers of two scale without rounding, and scaling a feature changes no dependency.
    largest = np.abs(points).max(axis=(0, 1), initial=0.0)
    points = points / np.exp2(np.frexp(largest)[1])
    vectors = np.concatenate([points, np.ones_like(points[:, :, :1])], axis=2)
    system, right = vectors[:, :-1].transpose(0, 2, 1), -vectors[:, -1]
    size = system.shape[1]
    regular = np.abs(np.linalg.det(system)) > 1e-14
    system = np.where(regular[:, None, None], system, np.eye(size))
    inverse = np.linalg.inv(system)
    mu = (inverse @ right[:, :, None])[:, :, 0]
    gamma = (size + 3) * _ROUNDING
    residual = np.abs((system @ mu[:, :, None])[:, :, 0] - right)
    residual += gamma * ((np.abs(system) @ np.abs(mu)[:, :, None])[:, :, 0] + np.abs(right)) + _TINY
    defect = np.abs(np.eye(size) - inverse @ system) + gamma * (np.abs(inverse) @ np.abs(system)) + _TINY
    beta = defect.sum(axis=2).max(axis=1)
    error = (np.abs(inverse) @ residual[:, :, None])[:, :, 0].max(axis=1) / np.maximum(1 - beta, 0.5)
    proved = regular & (beta < 0.5) & (np.abs(mu) > 2 * error[:, None]).all(axis=1)
    return np.concatenate([mu, np.ones((len(mu), 1))], axis=1), proved


def exact_circuit(points: np.ndarray) -> tuple[list[int], list[int]] | None:
    """A circuit among `points (k, p)`, in exact arithmetic: rows in rising order and their signs, the first +1.

    None if the points are affinely independent.
    """
    return exact_circuit_of([list(row) for row in zip(*to_integers(_with_one(points).T, together=False), strict=True)])


def exact_circuit_of(points: Sequence[Sequence[int]]) -> tuple[list[int], list[int]] | None:
    """As `exact_circuit`, of points whose features are whole, a 1 at the end of each."""
    rows = list(range(len(points)))
    while True:
        matrix = fmpz_mat([list(column) for column in zip(*(points[k] for k in rows), strict=True)])
        null, nullity = matrix.nullspace()
        if nullity == 0:
            return None
        vector = [null[k, 0] for k in range(len(rows))]
        used = [k for k, v in enumerate(vector) if v != 0]
        if nullity == 1:
            flip = -1 if vector[used[0]] < 0 else 1
            return [rows[k] for k in used], [flip if vector[k] > 0 else -flip for k in used]
        # Several dependencies: the points of one of them have fewer.
        rows = [rows[k] for k in used] if len(used) < len(rows) else rows[:-1]


def _with_one(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)
