"""A zoo of layer problems with known optimum, and a slow judge that shares no code with tpsolve.

The judge computes in exact rational arithmetic; exponentials and logarithms are decimals of 50 digits.
So "never above the optimum" can be asserted without any tolerance.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import cache
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from tpsolve import SOLVERS, LayerProblem, Result
from tpsolve.search import Solver
from tpsolve.testing._cases import random_layer_problem
from tpsolve.testing._laws import require_valid

make_problem = random_layer_problem

UNIT_LOSSES = ("perceptron", "hinge", "saturated-hinge", "soft-hinge", "logistic", "squared", "zero-one")
SMOOTH_LOSSES = ("soft-hinge", "logistic", "squared", "cross-entropy")
ALL_LOSSES = (*UNIT_LOSSES, "cross-entropy")

_DIGITS = Context(prec=50, Emax=10**9, Emin=-(10**9))


# --- the slow judge ---------------------------------------------------------------------------------------------------


def _decimal(x: Fraction) -> Decimal:
    return _DIGITS.divide(Decimal(x.numerator), Decimal(x.denominator))


def exp(x: Fraction) -> Fraction:
    """e^x to 50 digits."""
    return Fraction(_DIGITS.exp(_decimal(x)))


def log(x: Fraction) -> Fraction:
    """ln x to 50 digits."""
    return Fraction(_DIGITS.ln(_decimal(x)))


def unit_loss(name: str, z: Fraction, s: int) -> Fraction:
    """The loss of one unit, from its textbook formula."""
    u, zero, one = s * z, Fraction(0), Fraction(1)
    if name == "perceptron":
        return max(zero, -u)
    if name == "hinge":
        return max(zero, one - u)
    if name == "saturated-hinge":
        return min(Fraction(2), max(zero, one - u))
    if name == "soft-hinge":
        return 2 / (1 + exp(2 * u))  # 1 + tanh(-u)
    if name == "logistic":
        return log(1 + exp(-u))
    if name == "squared":
        return (z - s) ** 2
    assert name == "zero-one"
    return one if (z >= 0) != (s > 0) else zero


def class_loss(z: Sequence[Fraction], label: int) -> Fraction:
    """The cross-entropy."""
    return log(sum((exp(v - z[label]) for v in z), Fraction(0)))


def as_fractions(values: Tensor) -> list[Fraction]:
    """The numbers of a tensor, exactly, row by row."""
    return [Fraction(v) for v in values.double().flatten().tolist()]


class Judge:
    """The objective of a layer problem, sample by sample, in exact arithmetic."""

    def __init__(self, problem: LayerProblem):
        (m, n), batch = problem.weight.shape, problem.batch_shape
        self.loss, self.n, self.samples = problem.loss, n, math.prod(batch)
        weight, bias = as_fractions(problem.weight), as_fractions(problem.bias)
        # Floats are dyadic: over one power of two, pre-activations are sums of whole numbers.
        self._below = max(v.denominator for v in (*weight, *bias))
        whole = [int(v * self._below) for v in weight]
        self._rows = [whole[k * n : (k + 1) * n] for k in range(m)]
        self._bias = [int(v * self._below) for v in bias]
        self._targets = [int(v) for v in problem.targets.flatten().tolist()]
        per_sample = 1 if self.loss == "cross-entropy" else m
        ones = torch.ones(self.samples * per_sample)
        self._c = as_fractions(ones if problem.unit_weight is None else problem.unit_weight)
        kappa = torch.ones(*batch, n) if problem.stay_weight is None else problem.stay_weight
        self._stay = [Fraction(problem.stay) * v for v in as_fractions(kappa)]
        self._start = None if problem.start is None else [int(v) for v in problem.start.flatten().tolist()]

    def pre(self, spins: Sequence[int]) -> list[Fraction]:
        """V t + b."""
        return [
            Fraction(sum(v if t > 0 else -v for v, t in zip(row, spins, strict=True)) + b, self._below)
            for row, b in zip(self._rows, self._bias, strict=True)
        ]

    def objective(self, sample: int, spins: Sequence[int]) -> Fraction:
        """E of one sample."""
        z, m = self.pre(spins), len(self._rows)
        if self.loss == "cross-entropy":
            total = self._c[sample] * class_loss(z, self._targets[sample])
        else:
            units = range(sample * m, (sample + 1) * m)
            total = sum(
                (
                    self._c[i] * unit_loss(self.loss, z[k], self._targets[i])
                    for k, i in enumerate(units)
                    if self._targets[i] and self._c[i]
                ),
                Fraction(0),
            )
        if self._start is not None:
            places = range(sample * self.n, (sample + 1) * self.n)
            total += sum((self._stay[i] for j, i in enumerate(places) if spins[j] != self._start[i]), Fraction(0))
        return total

    def objectives(self, targets: Tensor) -> list[Fraction]:
        """E of every sample at `targets (*batch, n)`."""
        rows = targets.reshape(-1, self.n).long().tolist()
        return [self.objective(b, row) for b, row in enumerate(rows)]

    def optima(self) -> list[Fraction]:
        """The least E of every sample, over all 2^n targets."""
        every = list(itertools.product((-1, 1), repeat=self.n))
        return [min(self.objective(b, spins) for spins in every) for b in range(self.samples)]


# --- the zoo ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Instance:
    """A problem and its optimum, found by reasoning: one number a sample, of the flat batch."""

    name: str
    problem: LayerProblem
    optimum: tuple[float, ...]

    def __str__(self) -> str:
        return self.name


def _tensor(values: Any, dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def _make(name: str, optimum: Sequence[float], weight: Any, targets: Any, dtype: torch.dtype, **rest: Any) -> Instance:
    return Instance(name, LayerProblem(_tensor(weight, dtype), targets, **rest), tuple(optimum))


def _one_weight() -> list[Instance]:
    # V = 2, s = +1: t = +1 gives the margin 2, and every monotone loss prefers it; squared: (2 - 1)^2 < (-2 - 1)^2.
    least = {
        "perceptron": 0,
        "hinge": 0,
        "saturated-hinge": 0,
        "soft-hinge": 1 - math.tanh(2),
        "logistic": math.log1p(math.exp(-2)),
        "squared": 1,
        "zero-one": 0,
    }
    made = [_make(f"one-weight-{loss}", [least[loss]], [[2.0]], [1], torch.float32, loss=loss) for loss in UNIT_LOSSES]
    # One class alone is certain.
    return [*made, _make("one-class", [0.0], [[2.0]], 0, torch.float64, loss="cross-entropy")]


def _conflict() -> list[Instance]:
    # Two equal units want opposite outputs of the one target: margins +1 and -1 whatever t is, so both t tie.
    least = {
        "perceptron": 1,
        "hinge": 2,
        "saturated-hinge": 2,
        "soft-hinge": 2,
        "logistic": math.log1p(math.exp(1)) + math.log1p(math.exp(-1)),
        "squared": 4,
        "zero-one": 1,
    }
    made = [
        _make(f"conflict-{loss}", [least[loss]], [[1.0], [1.0]], [1, -1], torch.float64, loss=loss)
        for loss in UNIT_LOSSES
    ]
    # Equal rows leave two classes at even odds.
    even = _make("conflict-cross-entropy", [math.log(2)], [[1.0], [1.0]], 1, torch.float32, loss="cross-entropy")
    return [*made, even]


@cache
def zoo() -> tuple[Instance, ...]:
    """Every instance; their optima are also held against brute force, in test_zoo.py."""
    f32, f64 = torch.float32, torch.float64
    tail = math.exp(-4)
    return (
        *_one_weight(),
        *_conflict(),
        # z = t1 + t2 for both units, weights 3 and 1. Wanted (+, -): z = 2 costs 0 + 3, z = 0 costs 3 + 1, z = -2
        # costs 9 + 0. Wanted (don't care, -): z = -2 costs nothing. Wanted nothing: nothing.
        _make(
            "unit-weights-and-dont-cares",
            [3, 0, 0],
            [[1.0, 1.0], [1.0, 1.0]],
            [[1, -1], [0, -1], [0, 0]],
            f32,
            unit_weight=[3.0, 1.0],
        ),
        # As the first sample above, but each sample has weights of its own: (3, 1), (1, 3), (1, 1), (0, 5).
        _make(
            "weights-of-each-sample",
            [3, 3, 2, 0],
            [[1.0, 1.0], [1.0, 1.0]],
            [[1, -1]] * 4,
            f64,
            unit_weight=[[3.0, 1.0], [1.0, 3.0], [1.0, 1.0], [0.0, 5.0]],
        ),
        # Duplicate rows, z in {-3, -1, 1, 3}: agreeing units are both content, disagreeing ones cost 2 at any z.
        _make(
            "duplicate-rows",
            [0, 2, 0, 0],
            [[1.0, 2.0], [1.0, 2.0]],
            [[[1, 1], [1, -1]], [[-1, -1], [0, 0]]],
            f64,
            loss="saturated-hinge",
        ),
        # No weight at all: z = b = (2, -3) against (-, +) costs 2 + 3, and all targets tie.
        _make("zero-rows", [5], [[0.0, 0.0], [0.0, 0.0]], [-1, 1], f32, bias=[2.0, -3.0], loss="perceptron"),
        # A zero row costs 1 + 1 at b = -1 whatever t is, so staying at the activations is best.
        _make("zero-row-and-stay", [2], [[0.0] * 3], [1], f64, bias=[-1.0], start=[1, -1, 1], stay=0.5),
        # From (-, -) with kappa (1, 1/4) and stay 2: keep 3, flip the second 1 + 1/2, the first 1 + 2, both 0 + 5/2.
        _make("stay-of-each-target", [1.5], [[1.0, 1.0]], [1], f32, start=[-1, -1], stay=2.0, stay_weight=[1.0, 0.25]),
        # Nothing is wanted, so nothing is left.
        _make("all-dont-care", [0, 0], [[1.0, -2.0, 0.5]], [[0], [0]], f32, start=[1, -1, -1], stay=0.25),
        # z in {0, 2, 4}, and 0 counts as +1: right for the first sample, wrong for the second at any t.
        _make("zero-counts-as-plus", [0, 1], [[1.0, 1.0]], [[1], [-1]], f64, bias=[2.0], loss="zero-one"),
        # Sums of +-3 +-5 +-9 are +-1, +-7, +-11, +-17. Near 1, with the bias 1: 1 + 1 and -1 + 1 tie, at distance 1.
        _make("subset-sum", [1], [[3.0, 5.0, 9.0]], [1], f64, bias=[1.0], loss="squared"),
        # The same with a second sample of weight 1/2 and target -1, to which -1 + 1 is nearest.
        _make(
            "subset-sum-weighted",
            [1, 0.5],
            [[3.0, 5.0, 9.0]],
            [[1], [-1]],
            f32,
            bias=[1.0],
            loss="squared",
            unit_weight=[[1.0], [0.5]],
        ),
        # z = (2 t1, 2 t2, -t1 - t2). For class 0 the best is (+, -): z = (2, -2, 0); class 1 by symmetry; for class 2
        # it is (-, -): z = (-2, -2, 2). Sample weights 1/2, 1, 2.
        _make(
            "three-classes",
            [0.5 * math.log1p(math.exp(-2) + tail), math.log1p(math.exp(-2) + tail), 2 * math.log1p(2 * tail)],
            [[2.0, 0.0], [0.0, 2.0], [-1.0, -1.0]],
            [0, 1, 2],
            f64,
            loss="cross-entropy",
            unit_weight=[0.5, 1.0, 2.0],
        ),
        # Class 0 again, from (-, -), where it costs ln(2 + e^4) = 4.04. Flipping t1 costs 0.14 and the stay: 1.5 is
        # worth it, 12 is not.
        _make(
            "class-and-stay",
            [1.5 + math.log1p(math.exp(-2) + tail), math.log(2 + math.exp(4))],
            [[2.0, 0.0], [0.0, 2.0], [-1.0, -1.0]],
            [0, 0],
            f32,
            loss="cross-entropy",
            start=[-1, -1],
            stay=1.5,
            stay_weight=[[1.0, 1.0], [8.0, 8.0]],
        ),
    )


_OPTIMA: dict[str, tuple[Fraction, ...]] = {}


def optima(problem: LayerProblem) -> tuple[Fraction, ...]:
    """The exact optimum of each sample, by brute force; computed once for all solvers of equal problems."""
    if problem.fingerprint not in _OPTIMA:
        _OPTIMA[problem.fingerprint] = tuple(Judge(problem).optima())
    return _OPTIMA[problem.fingerprint]


@st.composite
def layer_problems(draw: st.DrawFn, loss: str, most_targets: int = 6, most_units: int = 5) -> LayerProblem:
    """Any small problem: ties, don't-cares, zero and duplicate rows, weights of units and samples, stay penalties."""
    n, m = draw(st.integers(1, most_targets)), draw(st.integers(1, most_units))
    batch = draw(st.sampled_from([(), (), (2,), (1, 2)]))
    samples = math.prod(batch)
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))

    # Whole multiples of one number tie often; normal numbers never. Sums of tenths are not exact, which the
    # zero-one loss would notice at z = 0.
    grid = draw(st.sampled_from([1.0, 0.25, None] if loss == "zero-one" else [1.0, 0.25, 0.1, 37.5, None]))
    if grid is None:
        g = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
        weight, bias = torch.randn(m, n, generator=g, dtype=dtype), torch.randn(m, generator=g, dtype=dtype)
    else:
        numbers = draw(st.lists(st.integers(-4, 4), min_size=m * (n + 1), max_size=m * (n + 1)))
        table = grid * torch.tensor(numbers, dtype=dtype).reshape(m, n + 1)
        weight, bias = table[:, :n], table[:, n]
    degenerate = draw(st.sampled_from(["no", "no", "duplicate row", "duplicate column", "zero row"]))
    if degenerate == "duplicate row":
        weight[-1], bias[-1] = weight[0], bias[0]
    elif degenerate == "duplicate column":
        weight[:, -1] = weight[:, 0]
    elif degenerate == "zero row":
        weight[0] = 0.0

    def some(values: Sequence[float], *shape: int) -> Tensor:
        count = math.prod(shape)
        drawn = draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))
        return torch.tensor(drawn, dtype=torch.float64).reshape(shape)

    by_class = loss == "cross-entropy"
    targets = some(range(m), samples) if by_class else some([-1, 0, 1, 1, -1], samples, m)
    unit_shape = batch if by_class else (*batch, m)
    c = None
    if draw(st.booleans()):
        c = some([0.0, 0.5, 1.0, 3.0], samples if by_class else samples * m).reshape(unit_shape)
    stay = draw(st.sampled_from([0.0, 0.25, 1.0]))
    start = some([-1, 1], samples * n).reshape(*batch, n) if stay or draw(st.booleans()) else None
    kappa = some([0.0, 0.5, 1.0, 3.0], n) if stay and draw(st.booleans()) else None
    return LayerProblem(weight, targets.reshape(unit_shape), bias, loss, c, start, stay, kappa)


# --- solvers and results ----------------------------------------------------------------------------------------------

LAYER_SOLVERS = tuple(kind for kind in SOLVERS.values() if issubclass(LayerProblem, kind.accepts) and not kind.losses)
"""Every registered solver of layer problems of any loss."""
EXACT_SOLVERS = tuple(kind for kind in LAYER_SOLVERS if kind.exact)


def one_worker(kind: type[Solver]) -> Solver:
    """The default settings; solvers with threads get one, which starts faster on small problems.

    A warm start begins with a short annealing, since its exact solver proves the rest. dwave-samplers' tabu search
    makes at least 500,000 flips a restart, and restarts until its time is up, unless it is told otherwise.
    """
    solver: Any = kind()
    names = {field.name for field in dataclasses.fields(solver)}
    if kind.name == "dimod":
        return dataclasses.replace(
            solver, options=(("num_restarts", 10), ("lower_bound_z", 500), ("coefficient_z_first", 10))
        )
    if kind.name == "warm-start":
        return dataclasses.replace(solver, local="anneal:restarts=1,sweeps=8")
    return dataclasses.replace(solver, workers=1) if "workers" in names else solver


def with_start(problem: LayerProblem) -> LayerProblem:
    """The same problem with activations to begin at; without a stay penalty they change no optimum."""
    if problem.start is not None:
        return problem
    return LayerProblem(
        problem.weight,
        problem.targets,
        problem.bias,
        problem.loss,
        problem.unit_weight,
        start=torch.ones(problem.n_vars, dtype=problem.dtype),
    )


def assert_valid(problem: LayerProblem, result: Result, optimum: Sequence[Fraction] | None = None) -> None:
    """Assert everything that a result promises; `optimum`: of the flat batch, where it is known."""
    require_valid(problem, result)
    objective, bound = result.objective.flatten().tolist(), result.bound.flatten().tolist()
    assert all(math.isfinite(v) for v in objective)
    exact, slack = Judge(problem).objectives(result.targets), problem.rounding().flatten().tolist()
    for value, true, most in zip(objective, exact, slack, strict=True):
        assert abs(Fraction(value) - true) <= Fraction(most), "the objective is the formula's value, but for rounding"

    if optimum is not None:
        least = [Fraction(b) for b in bound if math.isfinite(b)]
        assert len(least) == len(bound), "a loss is never negative, so every bound is finite"
        for b, best, value, most in zip(least, optimum, objective, slack, strict=True):
            assert b <= best, f"the bound {float(b)!r} exceeds the optimum {float(best)!r}"
            assert Fraction(value) >= best - Fraction(most), "no targets beat the optimum"
        mean = sum(optimum, Fraction(0)) / len(optimum)
        for moment in result.trace:
            assert Fraction(moment.bound) <= mean * (1 + Fraction(1, 10**12)) + Fraction(1, 10**12)
