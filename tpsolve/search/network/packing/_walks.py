"""Circuits of few points of a small price: walks from vertex to vertex of a polytope."""

import numpy as np

_SOLID = 1e-9
"""A share of a vertex that is more than rounding."""
_ELEMENTS = 2**19
"""Numbers that a step computes at most."""
_MAX_WALKS = 16
_ROAM, _SHAKE = 0.5, 0.02
"""How much chance adds to prices: in the first steps of a round, and in the others, so that ties are broken."""
_ROAMING = 2


class Walks:
    """Several walks over the vertices of {lambda >= 0: sum of lambda_i a_i = 0, sum of lambda_i = 1}.

    Rows a are points with a coordinate of 1, times their labels in {-1, +1}. The points with lambda > 0 at a vertex are
    a circuit with these signs (Gleeson and Ryan, "Identifying minimally infeasible subsystems of inequalities", 1990).
    A step exchanges one point of a basis for another. All exchanges are compared at once by the price of the circuit
    that each leads to. Everything is computed in floating point, so whoever needs a circuit checks it.

    Args:
        rows: `(n, d)` of rank d.
        random: of the walks.
    """

    def __init__(self, rows: np.ndarray, random: np.random.Generator) -> None:
        # Any linear map of the rows leaves lambda as it is: this one makes them well conditioned.
        largest = np.abs(rows).max(axis=0)
        scaled = rows / np.where(largest > 0, largest, 1)
        left, _, _ = np.linalg.svd(scaled, full_matrices=False)
        self._table = np.concatenate([left * np.sqrt(len(rows)), np.ones((len(rows), 1))], axis=1).T
        self._random = random
        self._bases = np.zeros((0, len(self._table)), dtype=np.int64)
        self._one = np.zeros(len(self._table))
        self._one[-1] = 1

    def begin(self) -> bool:
        """Find vertices to start from; whether there are any: else some unit gives all points their labels."""
        from scipy.optimize import linprog

        size, count = self._table.shape
        bases = []
        for _ in range(max(1, min(_MAX_WALKS, _ELEMENTS // (size * count)))):
            answer = linprog(self._random.random(count), A_eq=self._table, b_eq=self._one, method="highs-ds")
            if answer.x is None:
                break
            basis = self._completed(np.flatnonzero(answer.x > _SOLID))
            if basis is not None:
                bases.append(basis)
        self._bases = np.array(bases, dtype=np.int64).reshape(len(bases), size)
        return bool(bases)

    def round(self, price: np.ndarray, steps: int) -> set[tuple[int, ...]]:
        """Points in rising order of the circuits whose price is less than 1, met in so many steps of each walk.

        Args:
            price: `(n,)` of each point; a circuit costs their sum.
        """
        met: set[tuple[int, ...]] = set()
        walks = np.arange(len(self._bases))
        for step in range(steps):
            basis = self._table[:, self._bases].transpose(1, 0, 2)
            try:
                inverse = np.linalg.inv(basis)
            except np.linalg.LinAlgError:
                self.begin()
                return met
            share = inverse @ self._one
            solid = share > _SOLID
            own = price[self._bases] * solid
            for walk in np.flatnonzero(own.sum(axis=1) < 1 - 1e-6):
                met.add(tuple(sorted(self._bases[walk, solid[walk]].tolist())))
            rates = inverse @ self._table
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(rates > _SOLID, np.maximum(share, 0)[:, :, None] / rates, np.inf)
            leaving = ratio.argmin(axis=1)
            chance = self._random.random(leaving.shape) * (_ROAM if step < _ROAMING else _SHAKE)
            after = price + own.sum(axis=1, keepdims=True) - np.take_along_axis(own, leaving, axis=1) + chance
            after[np.isinf(np.take_along_axis(ratio, leaving[:, None], axis=1)[:, 0])] = np.inf
            np.put_along_axis(after, self._bases, np.inf, axis=1)
            entering = after.argmin(axis=1)
            self._bases[walks, leaving[walks, entering]] = entering
        return met

    def _completed(self, support: np.ndarray) -> np.ndarray | None:
        """A basis with the points `support`; None: rounding found none."""
        size, count = self._table.shape
        others = self._random.permutation(np.setdiff1d(np.arange(count), support))
        basis: list[int] = []
        spanned = np.zeros((size, 0))
        for point in [*support.tolist(), *others.tolist()]:
            column = self._table[:, point]
            for _ in range(2):
                column = column - spanned @ (spanned.T @ column)
            norm = np.linalg.norm(column)
            if norm > 1e-6:
                basis.append(point)
                spanned = np.concatenate([spanned, column[:, None] / norm], axis=1)
                if len(basis) == size:
                    return np.array(basis)
        return None
