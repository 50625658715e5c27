import importlib
import itertools
import os
import sys
from dataclasses import replace
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import pytest
import torch
from flint import fmpq, fmpq_mat
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsolve._result import Budget
from tpsolve.errors import NotFiniteError, ShapeError, TpsolveError, ValueSetError
from tpsolve.units import Certificate, Separability, circuits
from tpsolve.units.checking._enclosure import dependency_signs
from tpsolve.units.checking._verification import CircuitChecker, to_integers
from tpsolve.units.separability._class_rows import class_rows
from tpsolve.units.separability._rational import decide_exactly

pytestmark = pytest.mark.rounding

XOR = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def all_columns(rows: int) -> torch.Tensor:
    return (torch.arange(2**rows)[None] >> torch.arange(rows)[:, None] & 1).double() * 2 - 1


def cube(n: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=n)), dtype=torch.float64)


def decided(inputs, targets, **settings) -> Certificate:
    certificate = Separability(**settings).fit(inputs, targets)
    assert torch.equal(certificate.verify(inputs, targets), certificate.status)
    assert bool((certificate.status != 0).all())
    return certificate


@pytest.mark.parametrize(("n", "count"), [(1, 4), (2, 14), (3, 104), pytest.param(4, 1882, marks=pytest.mark.nightly)])
@pytest.mark.slow
def test_threshold_functions_of_boolean_inputs_are_counted_exactly(n, count):
    certificate = decided(cube(n), all_columns(2**n))
    assert int((certificate.status == 1).sum()) == count
    assert int((certificate.status == -1).sum()) == 2**2**n - count


@pytest.mark.slow
@given(st.integers(3, 9), st.integers(1, 3), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_dichotomies_of_points_in_general_position_follow_cover(rows, n, bias, seed):
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    size = n + bias
    expected = 2 * sum(comb(rows - 1, k) for k in range(size))
    assert int((decided(x, all_columns(rows), bias=bias).status == 1).sum()) == expected


@given(st.integers(2, 9), st.integers(1, 3), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_degenerate_points_agree_with_exact_arithmetic(rows, n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 3, (rows, n), generator=g).double()
    t = torch.randint(-1, 2, (rows, 5), generator=g).double()
    certificate = decided(x, t)
    for k in range(5):
        cares = (t[:, k] != 0).nonzero()[:, 0].tolist()
        points = torch.cat([x, torch.ones(rows, 1)], 1)[cares].tolist()
        signs = [int(v) for v in t[cares, k].tolist()]
        exact = decide_exactly(points, signs, range(len(cares))) if cares else None
        assert (certificate.status[k] == 1) == (exact is None or exact.weights is not None)


def test_xor_and_parity_are_refuted_by_irreducible_circuits():
    xor = torch.tensor([[-1.0], [1.0], [1.0], [-1.0]])
    certificate = decided(XOR, xor)
    assert certificate.circuit(0).tolist() == [0, 1, 2, 3]
    assert certificate.multipliers(XOR, xor, 0) == [Fraction(1, 4)] * 4
    x = cube(5)
    parity = decided(x, x.prod(dim=1, keepdim=True))
    support = parity.circuit(0)
    assert int(parity.status) == -1
    for left_out in support.tolist():
        rest = support[support != left_out]
        assert int(decided(x[rest], x.prod(dim=1)[rest, None]).status) == 1


def test_collinear_and_duplicated_points():
    line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [1.0, 1.0]])
    t = torch.tensor([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, -1]])
    certificate = decided(line, t)
    assert certificate.status.tolist() == [-1, -1, 1]
    assert len(certificate.circuit(0)) == 3
    assert certificate.circuit(1).tolist() == [1, 3]


def test_without_bias_the_origin_alone_is_a_circuit():
    certificate = decided(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [1.0]]), bias=False)
    assert certificate.status.tolist() == [-1]
    assert certificate.circuit(0).tolist() == [0]


def test_dont_cares_and_single_classes_are_separable():
    t = torch.tensor([[0.0, 1, -1, 1], [0, 1, -1, 0], [0, 1, -1, 0], [0, 1, -1, 1]])
    certificate = decided(XOR, t)
    assert certificate.status.tolist() == [1, 1, 1, 1]
    assert float(certificate.weight[0].abs().sum() + certificate.bias[0].abs()) == 0


def test_weight_zero_counts_as_dont_care():
    xor = torch.tensor([[-1.0], [1.0], [1.0], [-1.0]])
    weight = torch.tensor([[1.0], [1], [1], [0]])
    certificate = Separability().fit(XOR, xor, weight)
    assert int(certificate.status) == 1
    assert int(certificate.verify(XOR, xor * weight)) == 1
    assert int(certificate.verify(XOR, xor)) == 0


@pytest.mark.parametrize("low", [1e-12, 1e-6, 1.0])
@pytest.mark.parametrize("high", [1.0, 1e6, 1e12])
def test_scales_do_not_change_the_verdict(low, high):
    g = torch.Generator().manual_seed(3)
    x = torch.randn(12, 3, generator=g, dtype=torch.float64)
    t = torch.where(torch.rand(12, 60, generator=g) < 0.5, -1.0, 1.0).double()
    t[:, ::2] = torch.where(x @ torch.randn(3, 30, generator=g, dtype=torch.float64) > 0.1, 1.0, -1.0)
    # Powers of two scale without rounding, so the problems are the same.
    scale = 2.0 ** torch.log2(torch.tensor([low, 1.0, high], dtype=torch.float64)).round()
    assert torch.equal(decided(x * scale, t).status, decided(x, t).status)


def test_samples_of_mixed_scale_are_decided():
    g = torch.Generator().manual_seed(5)
    x = torch.randn(10, 2, generator=g, dtype=torch.float64) * 10.0 ** torch.arange(-12, 13, 2.5)[:10, None]
    t = torch.where(torch.rand(10, 40, generator=g) < 0.5, -1.0, 1.0).double()
    decided(x, t)


def test_nearly_separable_data_are_decided_exactly():
    step = 2.0**-52
    line = torch.tensor([[1.0], [1 + step], [1 + 2 * step], [1 + 3 * step]], dtype=torch.float64)
    t = torch.tensor([[1.0, 1, 1], [1, -1, 1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert decided(line, t).status.tolist() == [1, -1, -1]


def test_weights_that_no_float_can_hold_are_rational():
    # Between 2^53 - 1 and 2^53 float64 has no number, and the second feature leaves no other freedom.
    big = 2.0**53
    x = torch.tensor([[big, 1.0], [big - 1, 1.0], [1.0, big], [1.0, big - 1]], dtype=torch.float64)
    t = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
    certificate = decided(x, t)
    assert certificate.status.tolist() == [1]
    assert list(certificate.rationals) == [0]
    nudged = tuple(v + Fraction(1, 2**40) for v in certificate.rationals[0])
    assert int(replace(certificate, rationals={0: nudged}).verify(x, t)) == 0
    assert int(replace(certificate, rationals={}).verify(x, t)) == 0


@pytest.fixture(scope="module")
def example():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 3, generator=g, dtype=torch.float64)
    t = torch.where(torch.rand(30, 6, generator=g) < 0.5, -1.0, 1.0).double()
    t[:, :3] = torch.where(x @ torch.randn(3, 3, generator=g, dtype=torch.float64) > 0, 1.0, -1.0)
    return x, t, decided(x, t)


def test_the_example_has_both_verdicts(example):
    assert example[2].status.tolist() == [1, 1, 1, -1, -1, -1]


@pytest.mark.parametrize("unit", [0, 1, 2])
def test_corrupted_weights_are_rejected(example, unit):
    x, t, certificate = example

    def verdict(**changes):
        return int(replace(certificate, **changes).verify(x, t)[unit])

    for factor in (-1.0, 0.0, float("nan"), float("inf")):
        weight, bias = certificate.weight.clone(), certificate.bias.clone()
        weight[unit] *= factor
        assert verdict(weight=weight) == 0
        bias[unit] = bias[unit] + factor * 1e3 + (1e6 if factor in (-1.0, 0.0) else 0)
        assert verdict(bias=bias) == 0
    status = certificate.status.clone()
    for wrong in (-1, 0, 2):
        status[unit] = wrong
        assert verdict(status=status) == 0
    support = certificate.support.clone()
    support[unit, 0] = 3
    assert verdict(support=support) == 0
    assert verdict(has_bias=False) == 0
    assert verdict(rationals={unit: (Fraction(1), Fraction(0), Fraction(0), Fraction(0))}) == 0


@pytest.mark.parametrize("unit", [3, 4, 5])
def test_corrupted_circuits_are_rejected(example, unit):
    x, t, certificate = example
    good = certificate.circuit(unit).tolist()

    def verdict(members, **changes):
        support = torch.full((6, len(members) + 1), -1)
        support[unit, : len(members)] = torch.tensor(members, dtype=torch.int64)
        return int(replace(certificate, support=support, **changes).verify(x, t)[unit])

    assert verdict(good) == -1
    assert verdict([]) == 0
    for member in good:
        assert verdict([i for i in good if i != member]) == 0
    for extra in set(range(30)) - set(good):
        assert verdict(sorted([*good, extra])) == 0
    assert verdict(sorted([*good, good[0]])) == 0
    assert verdict(good[::-1]) == 0
    assert verdict([*good[:-1], 30]) == 0
    assert verdict([-2, *good[1:]]) == 0
    assert verdict(good, has_bias=False) == 0
    status = certificate.status.clone()
    for wrong in (0, 1):
        status[unit] = wrong
        assert verdict(good, status=status) == 0
    weight = certificate.weight.clone()
    weight[unit, 0] = 1.0
    assert verdict(good, weight=weight) == 0


def test_a_changed_target_or_input_of_a_circuit_is_noticed(example):
    x, t, certificate = example
    for member in certificate.circuit(4).tolist():
        flipped = t.clone()
        flipped[member, 4] *= -1
        assert int(certificate.verify(x, flipped)[4]) == 0
        flipped[member, 4] = 0
        assert int(certificate.verify(x, flipped)[4]) == 0
    # A circuit forbids the negated pattern too.
    assert int(certificate.verify(x, -t)[4]) == -1


def test_a_margin_smaller_than_rounding_is_decided_exactly():
    # 0.1 + 0.2 - 0.3 in exact arithmetic of the floats is positive, 2^-54 or so; in floating point too,
    # but with the order changed it is not.
    x = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    w = torch.tensor([[1.0, 1.0, -1.0]], dtype=torch.float64)
    exact = Fraction(0.1) + Fraction(0.2) - Fraction(0.3)
    claim = Certificate(w, torch.zeros(1).double(), torch.ones(1, dtype=torch.int8), torch.zeros(1, 0).long())
    for sign in (1, -1):
        assert int(claim.verify(x, torch.tensor([[float(sign)]]))) == (1 if exact * sign > 0 else 0)


@given(st.lists(st.lists(st.floats(-1e300, 1e300), min_size=3, max_size=3), min_size=1, max_size=4), st.booleans())
@settings(max_examples=100, deadline=None)
def test_integers_are_the_floats_exactly(rows, together):
    import numpy as np

    found = to_integers(np.array(rows), together=together)
    ratios = [
        [Fraction(i) / Fraction(v) for i, v in zip(numbers, row, strict=True) if v]
        for numbers, row in zip(found, rows, strict=True)
    ]
    for group in [[v for row in ratios for v in row]] if together else ratios:
        assert len(set(group)) <= 1
    assert all(
        (i == 0) == (v == 0)
        for numbers, row in zip(found, rows, strict=True)
        for i, v in zip(numbers, row, strict=True)
    )


@given(st.integers(2, 7), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_circuit_checker_agrees_with_the_rank(rows, n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(-1, 2, (rows, n), generator=g).double()
    points = torch.cat([x, torch.ones(rows, 1)], 1).int().tolist()

    def rank(members):
        return fmpq_mat([points[i] for i in members]).rank() if members else 0

    everything = list(range(rows))
    irreducible = rank(everything) == rows - 1 and all(
        rank([i for i in everything if i != left]) == rows - 1 for left in everything
    )
    assert (CircuitChecker(x, True).dependency(everything) is not None) == irreducible


def test_circuits_are_distinct_proved_and_small_first():
    g = torch.Generator().manual_seed(2)
    x = torch.rand(40, 2, generator=g, dtype=torch.float64)
    t = torch.where(torch.rand(40, generator=g) < 0.5, -1.0, 1.0).double()
    found = circuits(x, t, 20, torch.Generator().manual_seed(0))
    assert len(found) == 20
    assert len({tuple(c.samples.tolist()) for c in found}) == 20
    sizes = [len(c.samples) for c in found]
    assert sizes == sorted(sizes)
    assert max(sizes) <= 4
    checker = CircuitChecker(x, True)
    assert all(checker.is_circuit(c.samples.tolist(), c.targets.int().tolist()) for c in found)
    again = circuits(x, t, 20, torch.Generator().manual_seed(0))
    assert [c.samples.tolist() for c in again] == [c.samples.tolist() for c in found]


def test_circuits_of_a_separable_column_are_none_and_of_xor_one():
    assert circuits(XOR, torch.tensor([-1.0, 1, 1, 1]), 5) == []
    (only,) = circuits(XOR, torch.tensor([-1.0, 1, 1, -1]), 5)
    assert only.samples.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("inputs", "targets", "error"),
    [
        ([[float("nan")]], [[1.0]], NotFiniteError),
        ([[float("inf")]], [[1.0]], NotFiniteError),
        ([[1.0]], [[0.5]], ValueSetError),
        ([[1.0]], [1.0], ShapeError),
        ([[1.0]], [[1.0], [1.0]], ShapeError),
        (torch.zeros(0, 2), torch.zeros(0, 1), ShapeError),
        (torch.zeros(2, 0), torch.zeros(2, 1), ShapeError),
        (torch.tensor([[2**60]]), [[1.0]], TpsolveError),
    ],
)
def test_senseless_input_is_refused(inputs, targets, error):
    with pytest.raises(error):
        Separability().fit(inputs, targets)


def test_a_budget_leaves_units_undecided_and_says_so():
    x = torch.randn(300, 5, generator=torch.Generator().manual_seed(0)).double()
    t = torch.where(x[:, :2] + 0.01 * x[:, 2:4] > 0, 1.0, -1.0)
    t[0] *= -1
    certificate = Separability().fit(x, t, budget=Budget(steps=1))
    assert certificate.status.tolist() == [0, 0]
    assert not bool(certificate.converged.any())
    assert certificate.verify(x, t).tolist() == [0, 0]


def test_verified_weights_start_warm():
    x, t = XOR, torch.tensor([[-1.0], [1], [1], [1]])
    first = Separability().fit(x, t)
    seen = []
    again = Separability().fit(x, t, start=first, callback=lambda p: seen.append(p))
    assert torch.equal(again.weight, first.weight.float().double())
    assert seen == []


def loader() -> Any:
    root = Path(os.environ.get("TPSOLVE_DATA", ""))
    if not (root / "load.py").is_file():
        pytest.skip("no data folder: set TPSOLVE_DATA to the folder that holds load.py")
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module("load")
    finally:
        sys.path.pop(0)


@pytest.mark.data
def test_circuits_of_hundreds_of_images():
    x = torch.tensor(loader().load_mnist()[0][:2000].reshape(2000, -1) / 255.0)
    teacher = (x - x.mean(0)) @ torch.randn(784, 2, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    t = torch.where(teacher > 0, 1.0, -1.0).double()
    t[:300, 1] *= -1
    certificate = decided(x, t)
    assert certificate.status.tolist() == [1, -1]
    assert 300 < len(certificate.circuit(1)) <= 786


@pytest.mark.parametrize(("name", "separable"), [("monks1", False), ("monks2", False), ("monks3", False)])
@pytest.mark.data
def test_monks_tables(name, separable):
    table = loader().load_tabular(name)
    rows = ~table.is_test
    t = torch.where(torch.as_tensor(table.y[rows]) > 0, 1.0, -1.0).double()[:, None]
    certificate = decided(torch.as_tensor(table.x[rows]), t)
    assert bool(certificate.status == 1) == separable


def test_the_report_names_the_classes_that_a_unit_can_tell_apart():
    x = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 3.0], [2.0, 1.0]], dtype=torch.float64)
    rows, certificate = class_rows(x, ["a", "b", "c", "inside"])
    assert [row.label for row in rows] == ["a", "b", "c", "inside"]
    assert [row.status for row in rows] == [1, 1, 1, -1]
    assert rows[3].circuit == (0, 1, 2, 3)
    # (2, 1) is a third of each corner; both sides weigh a half.
    assert rows[3].weights == pytest.approx((50 / 3, 50 / 3, 50 / 3, 50))
    assert rows[0].margin is not None
    assert 0 < rows[0].margin < 2.0
    assert bool(certificate.converged.all())
    with pytest.raises(TpsolveError):
        class_rows(x, ["a"] * 4)


@given(st.integers(2, 8), st.integers(0, 10**6), st.integers(-300, 300))
@settings(max_examples=60, deadline=None)
def test_signs_proved_in_floating_point_are_those_of_exact_arithmetic(size, seed, exponent):
    g = torch.Generator().manual_seed(seed)
    equations = torch.randint(-3, 4, (20, size - 1, size), generator=g).double()
    # Rows and columns of very different scale, and some equations that nearly repeat another.
    equations *= 2.0 ** torch.randint(-40, 41, (20, size - 1, 1), generator=g).double()
    equations *= 2.0 ** torch.randint(-40, 41, (20, 1, size), generator=g).double() * 2.0**exponent
    if size > 2:
        equations[::4, 0] = equations[::4, 1] * (1 + 2.0**-50)
    for rows, signs in zip(equations.numpy(), dependency_signs(equations.numpy()), strict=True):
        exact = fmpq_mat([[fmpq(*v.as_integer_ratio()) for v in row] for row in rows.tolist()])
        if signs is not None:
            assert exact.rank() == size - 1
            left, right = fmpq_mat([list(r[:-1]) for r in exact.tolist()]), fmpq_mat([[-r[-1]] for r in exact.tolist()])
            solution: Any = left.solve(right)
            assert [1 if v > 0 else -1 if v < 0 else 0 for v in solution.entries()] == signs[:-1]
            assert signs[-1] == 1


def test_signs_are_proved_where_rounding_allows():
    equations = torch.tensor([[[1.0, 1.0, -1.0], [1.0, -1.0, 0.25]], [[1.0, 2.0, -1.0], [1.0, 2.0, -1.0]]]).double()
    assert dependency_signs(equations.numpy()) == [[1, 1, 1], None]
