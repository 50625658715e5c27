"""Layer problems as models for exact solvers of your own: MPS files, and CP-SAT models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._storage._write_whole import write_whole
from tpsolve.errors import ArgumentError, MissingLibraryError, NotAcceptedError
from tpsolve.problems import LayerProblem
from tpsolve.search.exact._cp_sat import CpSat, IntegerModel
from tpsolve.search.exact._linear_model import LinearModel, linear_model
from tpsolve.search.exact._sample_model import SampleModel, first_touch, sample_model
from tpsolve.spins import from_bits


def to_mps(problem: LayerProblem, path: str | PathLike[str], sample: int = 0) -> None:
    """Write one sample of `problem` as a mixed-integer linear program to `path`, in free MPS format.

    The variables t0, t1, ... are the targets, 1 for +1 and 0 for -1; `read_targets` reads them back.
    For piecewise-linear losses the minimum of the program is the optimum of the sample, but for rounding.
    For smooth losses, which enter as lines below them, and for zero-one losses whose pre-activations come
    within 1e-4 of 0, it is a lower bound. `problem.objective` judges the targets either way. Numbers
    are written with all their digits.

    Args:
        sample: its index in the flat batch.

    Raises:
        NotAcceptedError: no layer problem.
        ArgumentError: there is no such sample.
        FolderError: the folder does not exist or can't be written.
    """
    linear = linear_model(_sample(problem, sample))
    text = "".join(f"{line}\n" for line in _mps(linear, problem.n_vars)).encode()
    write_whole(path, lambda stream: stream.write(text))


def read_targets(values: Mapping[str, float], n: int) -> Tensor:
    """Targets `(n,)` float32 from a solver's values of the variables t0, t1, ... by name.

    Raises:
        ArgumentError: one is missing, or neither 0 nor 1 within 1e-4.
    """
    missing = [f"t{j}" for j in range(n) if f"t{j}" not in values]
    if missing:
        raise ArgumentError("values", f"none of {missing[0]}", f"t0 to t{n - 1}", "Keep the names of the file.")
    bits = torch.tensor([float(values[f"t{j}"]) for j in range(n)], dtype=torch.float64)
    if not bool(((bits - bits.round()).abs() <= 1e-4).all() and ((bits.round() == 0) | (bits.round() == 1)).all()):
        raise ArgumentError("values", bits.tolist(), "0 or 1 for every target", "Let the solver keep them whole.")
    return from_bits(bits.round())


@dataclass(frozen=True)
class CpSampleModel:
    """One sample as a CP-SAT model.

    It can be copied, but not pickled, since OR-tools' models can't: give the problem to the other process, and
    call `to_cp_model` there.

    Args:
        model: an `ortools.sat.python.cp_model.CpModel` that minimises a whole number.
        bits: its variables of the n targets, true for +1, named t0, t1, ...
    """

    model: Any
    bits: list[Any]
    _integer: IntegerModel

    def targets(self, solver: Any) -> Tensor:
        """Targets `(n,)` float32 of a `CpSolver` that has solved the model."""
        return from_bits(torch.tensor([solver.boolean_value(bit) for bit in self.bits]))

    def bound(self, value: float) -> float:
        """The lower bound on the objective of the sample that a bound on the model's own objective proves."""
        return self._integer.bound(value)


def to_cp_model(problem: LayerProblem, sample: int = 0) -> CpSampleModel:
    """One sample of `problem` as the integer model that `CpSat` solves first, certainly below the problem.

    Add constraints of your own, or solve it with parameters of your own; a bound on the model becomes
    one on the problem by `bound`. Keep `cp_model_presolve` off: OR-tools 9.15 has given wrong proofs
    with it (https://github.com/google/or-tools/issues/5293).

    Args:
        sample: its index in the flat batch.

    Raises:
        NotAcceptedError: no layer problem.
        ArgumentError: there is no such sample.
        MissingLibraryError: ortools is not installed.
    """
    if not CpSat.installed():
        raise MissingLibraryError("a CP-SAT model", "ortools", "ortools")
    integer = IntegerModel(_sample(problem, sample))
    start = problem.flatten().start
    hint = torch.ones(problem.n_vars) if start is None else start[sample]
    return CpSampleModel(*integer.build(hint), integer)


def _sample(problem: LayerProblem, sample: int) -> SampleModel:
    if not isinstance(problem, LayerProblem):
        raise NotAcceptedError("problem", type(problem).__name__, "a LayerProblem")
    check_count("sample", sample, 0)
    if sample >= problem.n_samples:
        raise ArgumentError("sample", sample, f"an index below {problem.n_samples}")
    energy = problem.energy64.select(torch.tensor([sample], device=problem.device))
    return sample_model(energy, first_touch(energy))


def _mps(linear: LinearModel, n: int) -> Iterator[str]:
    """The lines of the file. OR-tools' own writer rounds to six digits."""
    names = [f"t{j}" if j < n else f"v{j - n}" for j in range(len(linear.price))]
    price = linear.factor * linear.price
    equal = linear.low == linear.high
    yield from ("NAME tpsolve", "ROWS", " N cost")
    yield from (f" {'E' if equal[i] else 'G'} r{i}" for i in range(len(linear.left)))
    yield "COLUMNS"
    for whole in (1, 0):
        if whole:
            yield " marker1 'MARKER' 'INTORG'"
        for j in np.flatnonzero(linear.whole == whole):
            # Every column is named, also one that no row reads.
            yield f" {names[j]} cost {float(price[j])!r}"
            for i in np.flatnonzero(linear.left[:, j]):
                yield f" {names[j]} r{i} {float(linear.left[i, j])!r}"
        if whole:
            yield " marker2 'MARKER' 'INTEND'"
    yield from ("RHS", f" rhs cost {-linear.constant!r}")
    yield from (f" rhs r{i} {float(linear.low[i])!r}" for i in range(len(linear.left)))
    yield "BOUNDS"
    yield from (f" UP bound {names[j]} {float(linear.upper[j])!r}" for j in range(len(names)))
    yield "ENDATA"
