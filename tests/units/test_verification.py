"""What is proved about units, against exact arithmetic on data where rounding decides."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from flint import fmpq, fmpq_mat
from torch import Tensor

from tpsolve.units import Certificate
from tpsolve.units.checking._enclosure import dependency_signs
from tpsolve.units.checking._null_vectors import null_vectors
from tpsolve.units.checking._verification import CircuitChecker, separates, to_integers

pytestmark = pytest.mark.rounding


def exact_margin(x: Sequence[float], weight: Sequence[float], bias: float) -> Fraction:
    return sum((Fraction(a) * Fraction(w) for a, w in zip(x, weight, strict=True)), Fraction(bias))


def exact_signs(equations: np.ndarray) -> list[int] | None:
    """Signs of the numbers y, the last of them 1, with `equations (k - 1, k)` @ y = 0; None if they are not unique."""
    rows = [[fmpq(*v.as_integer_ratio()) for v in row] for row in equations.tolist()]
    try:
        solution: Any = fmpq_mat([row[:-1] for row in rows]).solve(fmpq_mat([[-row[-1]] for row in rows]))
    except ZeroDivisionError:
        return None
    return [*(1 if v > 0 else -1 if v < 0 else 0 for v in solution.entries()), 1]


# --- weights ----------------------------------------------------------------------------------------------------------


def on_the_edge(rows: int, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A sample of target +1 for each unit, and biases that make its margin the rounding of a sum."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, n, generator=generator, dtype=torch.float64)
    weight = torch.randn(rows, n, generator=generator, dtype=torch.float64)
    bias = -(weight @ x[0])
    # Some units are a step of the last place to either side.
    step = torch.randint(-2, 3, (rows,), generator=generator).double() * 2.0**-53
    return x, weight, bias + step * bias.abs()


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_margins_of_a_rounding_are_judged_as_in_exact_arithmetic(n: int):
    x, weight, bias = on_the_edge(400, n, seed=n)
    targets = torch.ones(1, 400, dtype=torch.float64)
    margins = [exact_margin(x[0].tolist(), w, b) for w, b in zip(weight.tolist(), bias.tolist(), strict=True)]
    computed = (weight @ x[0] + bias) > 0
    for sign in (1, -1):
        expected = [sign * margin > 0 for margin in margins]
        assert separates(x, sign * targets, weight, bias).tolist() == expected
        assert 50 < sum(expected) < 350
    assert computed.tolist() != [margin > 0 for margin in margins], "rounding decides, or nothing is shown"


def test_products_too_small_for_float64_are_judged_as_in_exact_arithmetic():
    # Units of 2^-1074, the least float64: 0.6 is rounded to 1, and 0.45 to 0.
    for parts in ([0.6, -0.45, -0.45], [-0.45, 0.6, -0.45], [0.6, -0.45, 0.0], [0.6, 0.0, 0.0]):
        x = torch.tensor([[2.0**-537] * 3], dtype=torch.float64)
        weight = torch.tensor([parts], dtype=torch.float64) * 2.0**-537
        expected = exact_margin(x[0].tolist(), weight[0].tolist(), 0.0) > 0
        bias = torch.zeros(1, dtype=torch.float64)
        assert bool(separates(x, torch.ones(1, 1).double(), weight, bias)) == expected


def test_a_sample_on_the_hyperplane_is_not_separated():
    x, weight = torch.tensor([[0.1, 0.1]]).double(), torch.tensor([[1.0, -1.0]]).double()
    for target in (1.0, -1.0):
        assert not separates(x, torch.tensor([[target]]).double(), weight, torch.zeros(1).double())


def test_weights_that_are_no_numbers_prove_nothing_even_without_samples_to_separate():
    weight = torch.tensor([[float("inf")], [float("nan")], [1.0]], dtype=torch.float64)
    x, targets = torch.ones(1, 1).double(), torch.zeros(1, 3).double()
    assert separates(x, targets, weight, torch.zeros(3).double()).tolist() == [False, False, True]
    assert separates(x, targets, torch.ones(3, 1).double(), weight[:, 0]).tolist() == [False, False, True]


def test_exact_weights_with_a_bias_are_no_proof_for_a_unit_without():
    # Too small for float64, so that the rounded bias is 0. At the origin nothing but a bias decides.
    weights = {0: (Fraction(0), Fraction(1, 2**2000))}
    one = torch.ones(1, dtype=torch.int8)
    claim = Certificate(
        torch.zeros(1, 1).double(), torch.zeros(1).double(), one, torch.zeros(1, 0).long(), True, weights
    )
    without = Certificate(claim.weight, claim.bias, one, claim.support, False, weights)
    origin, target = torch.zeros(1, 1), torch.ones(1, 1)
    assert claim.verify(origin, target).tolist() == [1]
    assert without.verify(origin, target).tolist() == [0]


@pytest.mark.parametrize("together", [True, False])
def test_whole_numbers_of_64_bits_and_more_are_exact(together: bool):
    for shift in range(8, 16):
        for sign in (1, -1):
            numbers = [sign * (2**53 - 1) << shift, 1]
            assert to_integers(np.array([numbers], dtype=np.float64), together=together) == [numbers]


# --- circuits ---------------------------------------------------------------------------------------------------------


def test_samples_without_a_target_are_in_no_circuit():
    xor = CircuitChecker(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).double(), True)
    assert xor.is_circuit([0, 1, 2, 3], [1, -1, -1, 1])
    assert not xor.is_circuit([0, 1, 2, 3], [0, 0, 0, 0])
    assert not CircuitChecker(torch.zeros(1, 1).double(), False).is_circuit([0], [0])


def test_a_sample_is_in_a_circuit_once():
    checker = CircuitChecker(torch.tensor([[1.0], [1.0]]).double(), True)
    assert checker.is_circuit([0, 1], [1, -1])
    assert not checker.is_circuit([0, 0], [1, -1])


def test_negative_numbers_name_no_samples():
    checker = CircuitChecker(torch.tensor([[1.0], [1.0]]).double(), True)
    assert not checker.is_circuit([-2, 1], [1, -1])
    assert not checker.is_circuit([0, 2], [1, -1])


def test_points_are_independent_though_a_prime_divides_their_determinant():
    # 2^30 2^31 - 1 is the prime 2^61 - 1, modulo which ranks are computed.
    points = torch.tensor([[2.0**30, 1.0], [1.0, 2.0**31], [2.0**31, 2.0]], dtype=torch.float64)
    checker = CircuitChecker(points, False)
    assert checker.dependency([0, 1]) is None
    assert not checker.is_circuit([0, 1], [1, -1])
    assert not checker.is_circuit([0, 1], [1, 1])
    # The third is twice the first, so that the three hold a smaller circuit.
    assert checker.dependency([0, 2]) is not None
    assert checker.dependency([0, 1, 2]) is None


def test_signs_of_numbers_of_very_different_size_are_those_of_exact_arithmetic():
    # Divided by the first of a row, the others are units of the least float64, of which eighths are lost.
    generator, size, many = np.random.default_rng(0), 4, 2000
    equations = np.zeros((many, size - 1, size))
    equations[:, :, 0] = generator.choice([-3, -2, -1, 1, 2, 3], (many, size - 1)) * 2.0**600
    rest = (many, size - 1, size - 1)
    equations[:, :, 1:] = (4 * generator.integers(-3, 4, rest) + generator.integers(-8, 9, rest) / 8) * 2.0**-474
    signs = dependency_signs(equations)
    assert all(found in (None, exact_signs(rows)) for rows, found in zip(equations, signs, strict=True))


def nearly_degenerate(size: int, many: int, seed: int) -> np.ndarray:
    """Points `(many, size, size - 2)` of which the last is nearly in the hull of some others."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(many, size, size - 2))
    share = generator.random((many, size - 2))
    share /= share.sum(1, keepdims=True)
    points[:, -1] = (share[:, :, None] * points[:, : size - 2]).sum(1)
    return points


@pytest.mark.parametrize("size", [3, 4, 6, 9])
def test_multipliers_of_a_rounding_are_proved_with_the_signs_of_exact_arithmetic(size: int):
    points = nearly_degenerate(size, 300, seed=size)
    equations = np.concatenate([points, np.ones((300, size, 1))], axis=2).transpose(0, 2, 1)
    exact = [exact_signs(rows) for rows in equations]
    signs = dependency_signs(equations)
    assert all(found in (None, true) for found, true in zip(signs, exact, strict=True))
    values, proved = null_vectors(points)
    for value, sure, true in zip(np.sign(values).astype(int).tolist(), proved.tolist(), exact, strict=True):
        assert not sure or value == true
    # In floating point alone the signs are often wrong.
    computed = np.sign(np.linalg.solve(equations[:, :, :-1], -equations[:, :, -1:])[:, :, 0]).astype(int).tolist()
    wrong = sum([*value, 1] != true for value, true in zip(computed, exact, strict=True))
    assert wrong > 10


@pytest.mark.parametrize("size", [4, 6, 9])
def test_nearly_singular_systems_are_proved_with_the_signs_of_exact_arithmetic(size: int):
    # All but the last point lie on a hyperplane, but for rounding.
    generator = np.random.default_rng(size)
    points = generator.normal(size=(300, size, size - 2))
    normal = generator.normal(size=size - 3)
    points[:, :-1, -1] = points[:, :-1, :-1] @ normal
    equations = np.concatenate([points, np.ones((300, size, 1))], axis=2).transpose(0, 2, 1)
    exact = [exact_signs(rows) for rows in equations]
    assert all(found in (None, true) for found, true in zip(dependency_signs(equations), exact, strict=True))
    values, proved = null_vectors(points)
    for value, sure, true in zip(np.sign(values).astype(int).tolist(), proved.tolist(), exact, strict=True):
        assert not sure or value == true
