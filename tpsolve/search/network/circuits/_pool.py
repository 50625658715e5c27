"""Circuits of some points in large numbers: drawn at random, proved, and looked up by the columns that they forbid."""

import math
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from tpsolve.problems.network._network_problem import fit_separators
from tpsolve.units.checking._null_vectors import exact_circuit, exact_circuit_of, null_vectors
from tpsolve.units.checking._unrounded import ExactRows

_MAX_EXACT = 3000
"""Draws that are worked out in exact arithmetic where floating point proves nothing; about 0.1 ms each."""
_NEAR_DRAWS = 1000
_SECOND = 4
"""Circuits from a first exchange of points that are exchanged again where these are too few."""


class CircuitPool:
    """Circuits over M points, each a row of `samples` and `signs` `(C, p + 2)`, filled up with 0 and sign 0.

    p + 2 points in general position have exactly one circuit, and floating point with an error bound proves
    its signs; the others are worked out in exact arithmetic.

    Args:
        inputs: `(M, p)` float64, distinct.
        max_count: the maximum number to draw; all there are if there are no more.
        generator: of the draws.
        exact: the points before rounding: circuits are those of these then, and `inputs` only guide the draws.
    """

    def __init__(
        self, inputs: Tensor, max_count: int, generator: torch.Generator, exact: ExactRows | None = None
    ) -> None:
        self.inputs, self._exact = inputs.cpu(), exact
        self._points = self.inputs.numpy()
        self._random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        size = self._points.shape[1] + 2
        self.samples, self.signs = np.zeros((0, size), dtype=np.int32), np.zeros((0, size), dtype=np.int8)
        self._known: dict[tuple[int, ...], int] = {}
        self.draw(max_count)

    def draw(self, max_count: int) -> None:
        """Draw further circuits, none of them twice."""
        if self.samples.shape[1] <= len(self._points):
            known = set(map(tuple, self.samples.tolist()))
            drawn = self._draw(np.arange(len(self._points)), max_count)
            self._add(drawn[np.array([tuple(row) not in known for row in drawn.tolist()], dtype=bool)])

    def __len__(self) -> int:
        return len(self.samples)

    def circuit(self, row: int) -> tuple[list[int], list[int]]:
        """Samples and signs of circuit number `row`."""
        used = self.signs[row] != 0
        return self.samples[row, used].tolist(), self.signs[row, used].tolist()

    def include(self, circuits: list[tuple[list[int], list[int]]]) -> list[int]:
        """Add circuits that are proved, samples and signs; their numbers."""
        self._append([(tuple(samples), tuple(signs)) for samples, signs in circuits])
        return [self._known[tuple(samples)] for samples, _ in circuits]

    def violated(self, columns: np.ndarray, max_count: int) -> list[int]:
        """For each of `columns (M, U)` in {-1, +1} up to `max_count` circuits that forbid it, at random.

        None only if all are separable. If the pool holds none, `Separability` decides, and circuits like those that
        it finds join the pool.
        """
        found = [self._matching(column, 0) for column in columns.T]
        if not any(map(len, found)):
            certificate = fit_separators(self.inputs, torch.from_numpy(columns).double(), self._exact)
            for unit, column in enumerate(columns.T):
                if support := certificate.circuit(unit).tolist():
                    found[unit] = self._around(np.array(support), column, max_count)
        chosen = [
            rows if len(rows) <= max_count else self._random.choice(rows, max_count, replace=False) for rows in found
        ]
        return list(dict.fromkeys(np.concatenate(chosen).tolist()))

    def _around(self, support: np.ndarray, column: np.ndarray, max_count: int) -> np.ndarray:
        """Add the circuit `support` of points that `column` separates not, and some near it; their numbers."""
        before = len(self)
        self._append([(tuple(support.tolist()), tuple(column[support].tolist()))])
        if len(support) < self.samples.shape[1]:
            self._add(self._draw(self._near(column, support), _NEAR_DRAWS), column)
        else:
            self._add(self._exchanged(support, column), column)
            second = [self._exchanged(row, column) for row in self.samples[before + 1 :][:_SECOND]]
            if len(self) - before < max_count and second:
                self._add(np.unique(np.concatenate(second), axis=0), column)
        return self._matching(column, before)

    def _exchanged(self, support: np.ndarray, column: np.ndarray) -> np.ndarray:
        """For each other point the `p + 2` points, in rising order, that are a circuit once it takes the place of one.

        Signed by `column`, the points of a circuit have a positive combination that is 0, and so has each other
        point with some of them (the ratio test of the simplex method).
        """
        signed = column[:, None] * np.concatenate([self._points, np.ones((len(column), 1))], axis=1)
        others = np.setdiff1d(np.arange(len(column)), support)
        basis, last = signed[support[:-1]], signed[support[-1:]]
        weights = np.linalg.lstsq(basis.T, -np.concatenate([last, signed[others]]).T, rcond=None)[0].T
        ratio = -weights[1:] / np.where(weights[0] > 0, weights[0], np.nan)
        leaving = np.nan_to_num(np.concatenate([ratio, np.zeros((len(others), 1))], axis=1), nan=-np.inf).argmax(axis=1)
        sets = np.repeat(support[None], len(others), axis=0)
        sets[np.arange(len(others)), leaving] = others
        return np.sort(sets, axis=1)

    def _matching(self, column: np.ndarray, first: int) -> np.ndarray:
        agreement = column.astype(np.int8)[self.samples[first:]] * self.signs[first:]
        forbids = np.logical_or((agreement >= 0).all(axis=1), (agreement <= 0).all(axis=1))
        return first + np.flatnonzero(forbids)

    def _near(self, column: np.ndarray, support: np.ndarray) -> np.ndarray:
        """The points of a circuit and those nearest to the boundary of a least-squares fit."""
        x = np.concatenate([self._points, np.ones((len(column), 1))], axis=1)
        weights = np.linalg.lstsq(x, column.astype(float), rcond=None)[0]
        nearest = (column * (x @ weights)).argsort()[: 3 * self.samples.shape[1]]
        return np.union1d(nearest, support)

    def _draw(self, among: np.ndarray, max_count: int) -> np.ndarray:
        """`(c, p + 2)`: distinct sets of points, each in rising order."""
        size = self.samples.shape[1]
        if size > len(among):
            return np.zeros((0, size), dtype=np.int32)
        if math.comb(len(among), size) <= max_count:
            return among[np.array(list(combinations(range(len(among)), size)))]
        keys = self._random.random((max_count, len(among)), dtype=np.float32)
        chosen = np.sort(np.argpartition(keys, size, axis=1)[:, :size], axis=1)
        return among[np.unique(chosen, axis=0)]

    def _add(self, drawn: np.ndarray, column: np.ndarray | None = None) -> None:
        """Circuits of the sets `drawn (c, p + 2)`; with `column`, only those that forbid it."""
        if self._exact is not None:
            self._append_exact(drawn, column)
            return
        dependency, proved = null_vectors(self._points[drawn])
        signs = np.sign(dependency).astype(np.int8)
        if column is not None:
            agreement = column[drawn] * signs
            proved &= (agreement > 0).all(axis=1) | (agreement < 0).all(axis=1)
            self._append(
                [(tuple(s), tuple(t)) for s, t in zip(drawn[proved].tolist(), signs[proved].tolist(), strict=True)]
            )
            return
        self.samples = np.concatenate([self.samples, drawn[proved].astype(np.int32)])
        self.signs = np.concatenate([self.signs, signs[proved]])
        found = []
        for row in drawn[~proved][:_MAX_EXACT]:
            circuit = exact_circuit(self._points[row])
            if circuit is not None:
                found.append((tuple(row[circuit[0]].tolist()), tuple(circuit[1])))
        self._append(found)

    def _append_exact(self, drawn: np.ndarray, column: np.ndarray | None) -> None:
        """As `_add`, in exact arithmetic."""
        assert self._exact is not None
        found = []
        for row in drawn[:_MAX_EXACT].tolist():
            circuit = exact_circuit_of([self._exact.whole[k] for k in row])
            if circuit is None:
                continue
            samples = [row[k] for k in circuit[0]]
            if column is None or len({int(column[k]) * sign for k, sign in zip(samples, circuit[1], strict=True)}) == 1:
                found.append((tuple(samples), tuple(circuit[1])))
        self._append(found)

    def _append(self, circuits: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        size = self.samples.shape[1]
        fresh = []
        for samples, signs in circuits:
            if samples not in self._known:
                self._known[samples] = len(self) + len(fresh)
                fresh.append((samples, signs))
        if fresh:
            padded = [[*s, *[0] * (size - len(s))] for s, _ in fresh]
            self.samples = np.concatenate([self.samples, np.array(padded, dtype=np.int32)])
            padded = [[*t, *[0] * (size - len(t))] for _, t in fresh]
            self.signs = np.concatenate([self.signs, np.array(padded, dtype=np.int8)])
