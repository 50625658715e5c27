"""Named, seeded layer problems: for tests, benchmarks and first steps."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.errors import ArgumentError, UnknownNameError
from tpsolve.problems._base import Problem
from tpsolve.problems.layer._layer_problem import LayerProblem
from tpsolve.spins import random_spins, sign

MAX_NUMBERS = 100_000_000
"""The maximum size of a problem, 0.4 to 0.8 GB: a slip such as a million targets too many would fill the memory."""

P_co = TypeVar("P_co", bound=Problem, covariant=True)


@dataclass(frozen=True)
class Instance(Generic[P_co]):
    """A problem with a name, and its optimum `(*batch,)` where that is known by construction."""

    name: str
    problem: P_co
    optimum: Tensor | None = None


Generator = Callable[[int, int, int, torch.Generator], Instance[LayerProblem]]
"""(n targets, m units above, samples, generator) -> instance."""


def planted(n: int, m: int, samples: int, generator: torch.Generator) -> Instance[LayerProblem]:
    """Hinge problems that hidden targets solve with every margin at least 1: optimum 0.

    Units whose pre-activation at the hidden targets is nearly 0 are don't-cares.
    """
    weight = torch.randn(m, n, generator=generator) / math.sqrt(n)
    hidden = random_spins((samples, n), generator)
    z = hidden @ weight.T
    cared = z.abs() >= 0.05
    # Each row is scaled until the weakest of its margins is 1, with room for rounding.
    weakest = torch.where(cared, z.abs(), 1.0).amin(0)
    weight = weight * (1.001 / weakest).clamp(min=1)[:, None]
    problem = LayerProblem(weight, sign(z) * cared, start=random_spins((samples, n), generator))
    return Instance("planted", problem, torch.zeros(samples, dtype=torch.float64))


def random(n: int, m: int, samples: int, generator: torch.Generator) -> Instance[LayerProblem]:
    """Hinge problems of normal weights scaled by 1 / sqrt(n), coin-flip targets and activations."""
    weight = torch.randn(m, n, generator=generator) / math.sqrt(n)
    targets, start = random_spins((samples, m), generator), random_spins((samples, n), generator)
    return Instance("random", LayerProblem(weight, targets, start=start))


def qubo(n: int, m: int, samples: int, generator: torch.Generator) -> Instance[LayerProblem]:
    """The squared loss of the same weights: quadratic unconstrained binary optimisation."""
    weight = torch.randn(m, n, generator=generator) / math.sqrt(n)
    targets, start = random_spins((samples, m), generator), random_spins((samples, n), generator)
    return Instance("qubo", LayerProblem(weight, targets, loss="squared", start=start))


def parity(n: int, m: int, samples: int, generator: torch.Generator) -> Instance[LayerProblem]:
    """Zero-one problems of m units that count the +1s, wanted to fire in a random pattern.

    Unit k fires from k + 1 ones on, so a target set is its count, and the optimum the best of n + 1.
    Single flips change the count by 1 only: long plateaus, as in parity. At most n units.
    """
    m = min(m, n)
    weight = torch.ones(m, n)
    # z = 2 ones - n + bias, which is at least 0 from k + 1 ones on.
    bias = n - 2.0 * torch.arange(1, m + 1)
    targets, start = random_spins((samples, m), generator), random_spins((samples, n), generator)
    problem = LayerProblem(weight, targets, bias=bias, loss="zero-one", start=start)
    ones = torch.arange(n + 1)[:, None]
    outputs = sign(2.0 * ones - n + bias)
    optimum = (outputs[:, None] != targets).sum(-1).amin(0).double()
    return Instance("parity", problem, optimum)


def ill_scaled(n: int, m: int, samples: int, generator: torch.Generator) -> Instance[LayerProblem]:
    """Hinge problems in float64 whose rows and columns span four powers of ten each."""
    rows = 10 ** (4 * torch.rand(m, 1, generator=generator, dtype=torch.float64) - 2)
    columns = 10 ** (4 * torch.rand(1, n, generator=generator, dtype=torch.float64) - 2)
    weight = rows * columns * torch.randn(m, n, generator=generator, dtype=torch.float64)
    targets, start = random_spins((samples, m), generator), random_spins((samples, n), generator)
    return Instance("ill-scaled", LayerProblem(weight, targets, start=start))


def ties(n: int, m: int, samples: int, generator: torch.Generator) -> Instance[LayerProblem]:
    """Perceptron problems of weights in {-1, 0, +1}, each column twice: many equal optima, many z = 0."""
    half = torch.randint(-1, 2, (m, (n + 1) // 2), generator=generator).float()
    weight = torch.cat([half, half], dim=1)[:, :n]
    targets, start = random_spins((samples, m), generator), random_spins((samples, n), generator)
    return Instance("ties", LayerProblem(weight, targets, loss="perceptron", start=start))


def dont_care(n: int, m: int, samples: int, generator: torch.Generator) -> Instance[LayerProblem]:
    """Hinge problems all of whose targets are 0, with a stay penalty: optimum 0, at the activations."""
    weight = torch.randn(m, n, generator=generator) / math.sqrt(n)
    start = random_spins((samples, n), generator)
    problem = LayerProblem(weight, torch.zeros(samples, m), start=start, stay=0.5)
    return Instance("dont-care", problem, torch.zeros(samples, dtype=torch.float64))


GENERATORS: dict[str, Generator] = {
    "planted": planted,
    "random": random,
    "qubo": qubo,
    "parity": parity,
    "ill-scaled": ill_scaled,
    "ties": ties,
    "dont-care": dont_care,
}


def make_instance(name: str, *, n: int = 16, m: int = 10, samples: int = 8, seed: int = 0) -> Instance[LayerProblem]:
    """The instance of this generator; equal arguments give equal problems.

    Args:
        n: targets sought.
        m: units above that read them.
        samples: of the batch.

    Raises:
        UnknownNameError: no generator has this name.
        ArgumentError: a size below 1, or more than `MAX_NUMBERS` weights, targets and activations.
    """
    if name not in GENERATORS:
        raise UnknownNameError("name", name, GENERATORS)
    for argument, size in (("n", n), ("m", m), ("samples", samples)):
        check_count(argument, size, 1)
    if n * m + samples * (n + m) > MAX_NUMBERS:
        got = f"{n:,} targets below {m:,} units, {samples:,} samples"
        raise ArgumentError("n, m, samples", got, f"at most {MAX_NUMBERS:,} numbers in all")
    # Not the plain seed: a solver of the same seed would draw the very numbers that made the problem.
    own_seed = int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:7])
    return GENERATORS[name](n, m, samples, torch.Generator().manual_seed(own_seed))
