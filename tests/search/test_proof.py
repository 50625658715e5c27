"""Proofs: written, read, checked; and refused after any change."""

import dataclasses
import itertools
import math
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.network_oracle import fewest_errors, parity_table, random_table

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.errors import ArgumentError, FileFormatError, NotAcceptedError, UnknownNameError
from tpsolve.search import Circuits, ColumnSearch, make_proof, verify_proof
from tpsolve.search.proofs import _check_bound as bound_module
from tpsolve.search.proofs._check_proof import holds_unrounded
from tpsolve.search.proofs._proof import Proof, clause_hash, data_hash, load_proof

X, Y = random_table(2, 16, seed=1)
ENGINES = ("cadical195", "cp-sat")


def prove(x: Any, y: Any, widths: list[int], weight: Any = None, **settings_: Any) -> tuple[NetworkProblem, Proof]:
    problem = NetworkProblem(x, y, widths, weight)
    result = solve(problem, Circuits(**{"max_drawn": 300, **settings_}), budget=Budget(seconds=60))
    assert result.optimal
    return problem, make_proof(problem, result)


def verdict(proof: Proof, x: Any = X, y: Any = Y, **options: Any) -> bool | None:
    return verify_proof(proof, x, y, **options)[-1].holds


@pytest.fixture(scope="module")
def proof() -> Proof:
    return prove(X, Y, [2])[1]


def test_a_proof_survives_its_file_and_holds(proof: Proof, tmp_path: Path):
    proof.save(tmp_path / "proof.npz")
    loaded = load_proof(tmp_path / "proof.npz")
    assert dataclasses.replace(loaded, weights=[], circuits=proof.circuits) == dataclasses.replace(proof, weights=[])
    for engine in ENGINES:
        findings = verify_proof(loaded, X, Y, engine=engine)
        assert [(f.part, f.holds) for f in findings] == [
            ("data", True),
            ("weights", True),
            ("circuits", True),
            ("clauses", True),
            ("bound", True),
        ]
        assert engine in findings[-1].words
        assert findings[1].words == f"errors: {proof.objective}"


def test_a_proof_is_checked_for_numbers_that_its_own_round():
    third = Fraction(1, 3)
    exact = [[Fraction(0)], [third], [third * 2], [Fraction(1)]]
    rounded, y = [[float(v)] for (v,) in exact], [0, 1, 0, 1]
    proof = prove(rounded, y, [1], engine="cp-sat", workers=1)[1]
    assert verdict(proof, rounded, y, exact=exact)
    assert holds_unrounded(proof, np.array(rounded), y, exact, 10.0)
    for wrong in (exact[:3], [[v + Fraction(1, 10**9)] for (v,) in exact]):
        with pytest.raises(ArgumentError, match="exact: got other rows"):
            verify_proof(proof, rounded, y, exact=wrong)


def test_a_proof_of_what_rounding_made_does_not_hold_before_it():
    # Three points on a line, whose float64 numbers are not on one.
    exact = [[Fraction(k, 10) + Fraction(11 * k, 10**20), Fraction(k)] for k in (1, 2, 3)]
    rounded = [[float(v) for v in row] for row in exact]
    parts = [Fraction(row[0]) for row in rounded]
    assert parts[0] + parts[2] != 2 * parts[1]
    # Two classes on the line, and one beside it that makes a conflict of four points, or of three.
    exact, y = [*exact, [Fraction(1, 10), Fraction(3)]], [0, 1, 0, 1]
    rounded = [[float(v) for v in row] for row in exact]
    proof = prove(rounded, y, [1], engine="cp-sat", workers=1)[1]
    assert verdict(proof, rounded, y)
    findings = verify_proof(proof, rounded, y, exact=exact)
    assert findings[0].holds is True
    assert (findings[-1].part, findings[-1].holds) == ("circuits", False)
    assert holds_unrounded(proof, np.array(rounded), y, exact, 10.0) is False


@pytest.mark.parametrize("X", [{}, "abc", {1}, [[1], [1, 2]], [[1j]], np.array([[2**53 + 1]])])
def test_numbers_that_are_none_or_that_float64_rounds_are_refused(proof: Proof, X: Any):
    with pytest.raises(ArgumentError, match=r"^X: "):
        verify_proof(proof, X, Y)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.data())
def test_verify_refutes_one_error_fewer_and_not_the_optimum(data: st.DataObject):
    count, p = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 2))
    x = data.draw(st.lists(st.lists(st.integers(0, 2), min_size=p, max_size=p), min_size=count, max_size=count))
    y = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    weight = data.draw(st.none() | st.lists(st.sampled_from([0, 0.5, 1, 3]), min_size=count, max_size=count))
    problem, proof = prove(x, y, [data.draw(st.integers(1, 3))], weight)
    assert proof.objective == Fraction(fewest_errors(problem))
    for engine in ENGINES:
        assert verdict(proof, x, y, weight=weight, engine=engine)
    # The bound alone can't be too high by the smallest weight: what refutes it must be able to fail.
    high = dataclasses.replace(proof, bound=proof.objective + Fraction(1, 2), objective=proof.objective + 1)
    from tpsolve.search.proofs._check_proof import _check_bound  # pyright: ignore[reportPrivateUsage]

    labels = np.asarray(y).tolist()
    for engine in ENGINES:
        assert not _check_bound(high, np.asarray(x, dtype=float).tolist(), labels, weight, engine, 60.0).holds


@pytest.mark.parametrize(
    ("y", "widths"), [([0, 1, 2, 0, 1, 2], [2]), ([0, 1, 0, 0, 1, 1], [2, 2]), ([0, 1, 0, 1, 0, 1], [2, 1])]
)
def test_several_classes_and_layers_verify(y: list[int], widths: list[int]):
    x = np.array([[0.0, 1], [1, 0], [2, 2], [1, 2], [0, 0], [2, 1]])
    _, proof = prove(x, y, widths)
    for engine in ENGINES:
        assert verdict(proof, x, y, engine=engine)


def test_points_without_weight_verify():
    x, y, weight = np.arange(6.0)[:, None], ["a", "b", "c", "a", "b", "c"], [1, 1, 1, 1, 1, 0]
    _, proof = prove(x, y, [1], weight)
    # One cut of the line: the first a, then both b among b, c, a, b.
    assert proof.objective == proof.bound == 2
    for engine in ENGINES:
        assert verdict(proof, x, y, weight=weight, engine=engine)


def test_a_proof_needs_no_sums_that_float64_holds():
    # Points a few units of the last place apart: exact sums are above 0 where float64 rounds them to below.
    ulp = 2.0**-52
    x, y = 1 + ulp * np.array([[2, 3], [0, 3], [2, 1]]), [1, 0, 0]
    problem = NetworkProblem(x, y, [1])
    result = solve(problem, "circuits", budget=Budget(seconds=60))
    result = dataclasses.replace(result, targets=problem.pack(-problem.wanted, problem.wanted))
    with pytest.raises(
        ArgumentError, match=r"margins so narrow that the oracle's weights give other targets in float64"
    ):
        problem.network(result.targets)
    proof = make_proof(problem, result)
    for engine in ENGINES:
        assert [finding.holds for finding in verify_proof(proof, x, y, engine=engine)] == [True] * 5


def test_weights_that_float64_can_t_hold_make_no_proof():
    ulp = 2.0**-52
    problem = NetworkProblem(1 + ulp * np.array([[3, 2], [2, 0], [2, 1]]), ["u", "u", "v"], [1])
    targets = problem.pack(torch.tensor([[-1.0], [-1.0], [1.0]]), problem.wanted)
    assert problem.separable(targets[None]).item()
    with pytest.raises(ArgumentError, match="unit 0 of layer 0, for which the oracle has no float64 weights"):
        problem.weights(targets)


def test_another_engine_than_found_it_checks_it(proof: Proof):
    assert "cadical195" in verify_proof(proof, X, Y)[-1].words
    other = dataclasses.replace(proof, engine="cadical195")
    assert "glucose4" in verify_proof(other, X, Y)[-1].words
    with pytest.raises(ArgumentError, match="another engine"):
        verify_proof(proof, X, Y, engine=proof.engine)
    with pytest.raises(UnknownNameError):
        verify_proof(proof, X, Y, engine="z3")


def mutants(proof: Proof) -> dict[str, Proof]:
    replace = dataclasses.replace
    weight, bias = proof.weights[0]
    circuits = proof.circuits.clone()
    signs, points, beyond, twice = (circuits.clone() for _ in range(4))
    signs[0, 0] *= -1
    points[0, 0] = next(k for k in range(1, 17) if k not in circuits[0].abs().tolist()) * circuits[0, 0].sign()
    beyond[3, 1] = 99
    twice[2, 1] = twice[2, 0]
    return {
        "data": replace(proof, data="0" * 64),
        "classes": replace(proof, classes=(-1, 2)),
        "classes swapped": replace(proof, classes=proof.classes[::-1]),
        "fewer errors": replace(proof, objective=proof.objective - 1, bound=proof.bound - 1),
        "more errors": replace(proof, objective=proof.objective + 1),
        "bound above objective": replace(proof, bound=proof.bound + 1),
        "weights negated": replace(proof, weights=[(-weight, -bias), *proof.weights[1:]]),
        "bias moved": replace(proof, weights=[(weight, bias + 100), *proof.weights[1:]]),
        "weights that are NaN": replace(proof, weights=[(weight * math.nan, bias), *proof.weights[1:]]),
        "a bias that is infinite": replace(proof, weights=[(weight, bias + math.inf), *proof.weights[1:]]),
        "a unit less": replace(proof, weights=[(weight[:1], bias[:1]), *proof.weights[1:]]),
        "wider": replace(proof, widths=(3,)),
        "a layer less": replace(proof, weights=proof.weights[:1]),
        "sign of a circuit": replace(proof, circuits=signs),
        "point of a circuit": replace(proof, circuits=points),
        "point that is none": replace(proof, circuits=beyond),
        "point twice": replace(proof, circuits=twice),
        "empty circuit": replace(proof, circuits=torch.zeros(1, 4, dtype=torch.int32)),
        "no circuits": replace(proof, circuits=circuits[:0]),
        "too few circuits": replace(proof, circuits=circuits[:3]),
        "one circuit less": replace(proof, circuits=circuits[1:]),
        "other clauses": replace(proof, clauses="0" * 64),
    }


@pytest.mark.parametrize(
    "name",
    mutants(
        Proof(
            "",
            (2,),
            (-1, 1),
            Fraction(0),
            Fraction(0),
            "",
            [(torch.zeros(2, 2), torch.zeros(2))] * 2,
            torch.ones(4, 4, dtype=torch.int32),
            "",
        )
    ),
)
def test_every_mutated_proof_is_rejected(proof: Proof, name: str):
    assert not verdict(mutants(proof)[name])


def with_circuits(proof: Proof, rows: list[list[int]]) -> Proof:
    """The proof with other circuits, whose clauses are said to be the master's."""
    (width,) = proof.widths
    clauses = [
        [c * (1 if v > 0 else -1) * (width * (abs(v) - 1) + 1 + unit) for v in row if v]
        for row in rows
        for unit in range(width)
        for c in (1, -1)
    ]
    return dataclasses.replace(proof, circuits=torch.tensor(rows, dtype=torch.int32), clauses=clause_hash(clauses))


# Numbers from 1 of the points (0, 0), (1, 0), (2, 0), (0, 1), (1, 1), and the signs that are forbidden.
@pytest.mark.parametrize(
    ("row", "holds"),
    [
        ([1, -2, 3, 0], True),
        ([-1, 2, -3, 0], True),
        ([1, -2, -4, 5], True),
        ([1, 2, 3, 0], False),
        ([1, -2, -3, 0], False),
        ([1, -2, 4, 5], False),
        # All but point 4, or 5, are a circuit.
        ([4, 1, -2, 3], False),
        ([1, -2, 3, 4], False),
        ([1, -2, 4, 0], False),
        ([1, 0, 0, 0], False),
        ([1, -1, 0, 0], False),
        ([1, -6, 3, 0], False),
    ],
)
def test_circuits_are_those_of_exact_arithmetic(row: list[int], holds: bool):
    x, y = np.array([[0.0, 0], [1, 0], [2, 0], [0, 1], [1, 1]]), [0, 1, 0, 0, 0]
    _, proof = prove(x, y, [1])
    for rows in ([row], [[1, -2, 3, 0], row]):
        finding = verify_proof(with_circuits(proof, rows), x, y)[2]
        assert (finding.part, finding.holds) == ("circuits", holds)


def by_hand(
    x: list[list[float]], y: list[int], objective: int, weights: list[tuple[Any, Any]], bound: int = 0
) -> Proof:
    """A proof without circuits of a network with one hidden unit, given its weights."""
    layers = [(torch.tensor(w, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)) for w, b in weights]
    return Proof(
        data_hash(np.array(x), y),
        (1,),
        tuple(sorted(set(y))),
        Fraction(objective),
        Fraction(bound),
        "glucose4",
        layers,
        torch.zeros(0, 3, dtype=torch.int32),
        clause_hash([]),
    )


def test_a_sum_of_zero_gives_the_output_plus_one():
    x, y = [[0.0], [1.0]], [1, 0]
    layers = [([[-1.0]], [0.0]), ([[1.0]], [0.0])]
    for objective, holds in ((0, True), (1, False)):
        finding = verify_proof(by_hand(x, y, objective, layers), x, y)[1]
        assert (finding.part, finding.holds) == ("weights", holds)


def test_outputs_that_name_two_classes_name_none():
    x, y = [[0.0], [1.0], [2.0]], [0, 1, 2]
    layers = [([[0.0]], [0.0]), ([[0.0]] * 3, [0.0, 0.0, -1.0])]
    for objective, holds in ((3, True), (2, False)):
        finding = verify_proof(by_hand(x, y, objective, layers), x, y)[1]
        assert (finding.part, finding.holds) == ("weights", holds)


def test_contradictory_labels_prove_no_more_than_they_cost():
    # One of the two samples at 0 is wrong; the constant 1 is wrong at two of the others.
    x, y = [[0.0], [0.0], [1.0], [2.0]], [0, 1, 0, 0]
    layers = [([[0.0]], [0.0]), ([[0.0]], [0.0])]
    for bound, holds in ((1, True), (2, False), (3, False), (4, False)):
        for engine in ENGINES:
            finding = verify_proof(by_hand(x, y, 3, layers, bound), x, y, engine=engine)[-1]
            assert (finding.part, finding.holds) == ("bound", holds)


def test_other_data_are_rejected(proof: Proof):
    moved, flipped = X.copy(), Y.copy()
    moved[5, 1] += 0.01
    flipped[3] *= -1
    for x, y, weight in ((moved, Y, None), (X, flipped, None), (X[1:], Y[1:], None), (X, Y, [2.0] * 16)):
        findings = verify_proof(proof, x, y, weight)
        assert [f.holds for f in findings] == [False]
    for classes in ((-1, 2), (1, -1), (-1, 1, 2)):
        findings = verify_proof(dataclasses.replace(proof, classes=classes), X, Y)
        assert [(f.part, f.holds) for f in findings] == [("data", False)]


def test_a_file_with_any_byte_changed_is_refused_or_the_same(proof: Proof, tmp_path: Path):
    proof.save(tmp_path / "proof.npz")
    whole = (tmp_path / "proof.npz").read_bytes()
    refused = 0
    for place in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            found = load_proof(tmp_path / "damaged.npz")
        except FileFormatError:
            refused += 1
        else:
            assert torch.equal(found.circuits, proof.circuits)
            assert (found.data, found.objective, found.bound) == (proof.data, proof.objective, proof.bound)
    assert refused > len(whole) / 97 / 2


def test_header_edited_with_arrays_kept_is_refused(proof: Proof, tmp_path: Path):
    proof.save(tmp_path / "proof.npz")
    with np.load(tmp_path / "proof.npz") as archive:
        arrays = dict(archive)
    arrays["header"] = np.array(str(arrays["header"]).replace(f'"bound": "{proof.bound}"', '"bound": "0"'))
    np.savez(tmp_path / "edited.npz", allow_pickle=False, **arrays)
    with pytest.raises(FileFormatError, match="changed since it was written"):
        load_proof(tmp_path / "edited.npz")


def test_arrays_edited_with_header_kept_are_refused(proof: Proof, tmp_path: Path):
    proof.save(tmp_path / "proof.npz")
    with np.load(tmp_path / "proof.npz") as archive:
        arrays = dict(archive)
    circuits = arrays["circuits"]
    for changed in (circuits[1:], -circuits, circuits.reshape(-1, 2), circuits.view(np.float32)):
        np.savez(tmp_path / "edited.npz", allow_pickle=False, **{**arrays, "circuits": changed})
        with pytest.raises(FileFormatError, match="changed since it was written"):
            load_proof(tmp_path / "edited.npz")


@pytest.mark.slow
def test_a_bound_that_is_not_the_optimum_can_be_proved_too():
    problem = NetworkProblem(*random_table(2, 40), [3])
    result = solve(problem, Circuits(max_drawn=2000), budget=Budget(steps=3000))
    assert 0 < result.bound < result.objective
    part = make_proof(problem, result)
    assert verdict(part, *random_table(2, 40))


def test_results_of_other_solvers_are_no_proofs():
    problem = NetworkProblem(*parity_table(3), [2])
    with pytest.raises(NotAcceptedError, match="a result of column-search"):
        make_proof(problem, solve(problem, ColumnSearch(), budget=Budget(steps=3)))


@pytest.fixture(scope="module")
def hard() -> Proof:
    """It claims more than was proved, and it takes long to say whether that is right."""
    problem = NetworkProblem(*random_table(2, 80), [4])
    result = solve(problem, Circuits(max_drawn=2000), budget=Budget(steps=1000))
    return dataclasses.replace(make_proof(problem, result), bound=Fraction(result.objective.item()))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_limit_reached_is_not_checked(hard: Proof, engine: str):
    finding = verify_proof(hard, *random_table(2, 80), engine=engine, seconds=0.01)[-1]
    assert finding.holds is None
    assert f"not checked, {engine} gave no answer within 0.01 s" in finding.words


def test_an_engine_that_does_not_end_is_ended(proof: Proof, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bound_module, "_PROGRAM", "import time; time.sleep(600)")
    began = time.perf_counter()
    assert verify_proof(proof, X, Y, engine="cadical195", seconds=0.1)[-1].holds is None
    assert time.perf_counter() - began < 300


def test_an_engine_that_fails_refutes_nothing(proof: Proof, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bound_module, "_PROGRAM", "raise SystemExit(3)")
    assert verify_proof(proof, X, Y, engine="cadical195")[-1].holds is None


def test_an_engine_that_crashes_after_its_answer_refutes_nothing(proof: Proof, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bound_module, "_PROGRAM", "print('refuted'); raise SystemExit(3)")
    assert verify_proof(proof, X, Y, engine="cadical195")[-1].holds is None


@pytest.mark.slow
@pytest.mark.parametrize("costs", [[3], [1, 2], [2, 2, 3]])
def test_costs_up_to_the_limit_are_allowed_and_no_others(costs: list[int]):
    formula = bound_module.Formula((1,), (0, 1), [{0: Fraction(1)}], 1, [])
    formula.clauses, formula.costs = [], list(enumerate(costs, start=1))
    for number, paid in enumerate(itertools.product((False, True), repeat=len(costs))):
        total = sum(cost for cost, pays in zip(costs, paid, strict=True) if pays)
        # One case says what is paid; another one, before or behind it, contradicts itself.
        cases = [[[k if pays else -k] for k, pays in enumerate(paid, start=1)], [[1], [-1]]]
        for engine, limit in itertools.product(("cp-sat", "glucose4"), {max(0, total - 1), total}):
            formula.count, formula.cases = len(costs), cases[:: 1 if number % 2 else -1]
            assert bound_module.refutes(formula, limit, engine, 60.0) is (total > limit)


def test_labels_that_contradict_each_other_are_not_counted_twice():
    # The labels of XOR, at each point twice, and once the other one: 4 errors always, and a fifth.
    x, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]] * 3), [0, 1, 1, 0] * 2 + [1, 0, 0, 1]
    _, proof = prove(x, y, [1])
    assert proof.objective == 5
    from tpsolve.search.proofs._check_proof import _check_bound  # pyright: ignore[reportPrivateUsage]

    high = dataclasses.replace(proof, bound=Fraction(6), objective=Fraction(6))
    for engine in ENGINES:
        assert _check_bound(proof, x.tolist(), y, None, engine, 60.0).holds
        assert not _check_bound(high, x.tolist(), y, None, engine, 60.0).holds


def test_the_clauses_of_a_proof_are_those_that_two_encoders_write(proof: Proof):
    # By hand: literal 1 + 2 i + j for unit j at point i, of each circuit and its negation.
    expected = []
    for row in proof.circuits.tolist():
        for unit in range(2):
            clause = [(1 if v > 0 else -1) * (2 * abs(v) - 1 + unit) for v in row if v]
            expected += [clause, [-v for v in clause]]
    assert clause_hash(expected[::-1]) == proof.clauses
    assert clause_hash(expected[1:]) != proof.clauses
    assert clause_hash([[-v for v in expected[0]], *expected[2:]]) != clause_hash([expected[0], *expected[2:]])


@pytest.mark.parametrize(("inputs", "count"), [(1, 3), (2, 5), (3, 10), (4, 27)])
def test_the_cases_are_all_threshold_functions_up_to_symmetry(inputs: int, count: int):
    # From falling whole weights; up to 4 inputs none above 3 is needed.
    patterns = [[b >> j & 1 for j in range(inputs)] for b in range(2**inputs)]
    falling = itertools.combinations_with_replacement(range(3, -1, -1), inputs)
    expected = {
        tuple(int(sum(w * bit for w, bit in zip(weights, bits, strict=True)) >= bias) for bits in patterns)
        for weights in falling
        for bias in range(sum(weights) + 2)
    }
    found = bound_module.tables(inputs)
    assert set(found) == expected
    assert len(found) == count


@pytest.mark.parametrize(("widths", "count"), [((2,), 2), ((3,), 5), ((4,), 17), ((6,), 1), ((2, 1), 2), ((2, 2), 5)])
def test_cases_need_every_unit_only_where_one_unit_reads_them(widths: tuple[int, ...], count: int):
    formula = bound_module.Formula(widths, (0, 1), [{0: Fraction(1)}], 1, [])
    assert len(formula.cases) == count


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_what_a_network_reaches_is_never_refuted(data: st.DataObject):
    # Whatever the table: the labels are those of a network of whole weights, which makes no errors.
    widths = data.draw(st.sampled_from([[1], [2], [4], [6], [2, 2], [3, 2], [2, 1]]))
    classes = data.draw(st.sampled_from([2, 3]))
    sizes = [2, *widths, 1 if classes == 2 else 3]
    generator = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    x = generator.integers(-2, 3, (8, 2))
    h = x
    for inputs, units in itertools.pairwise(sizes):
        h = np.where(h @ generator.integers(-3, 4, (inputs, units)) + generator.integers(-2, 3, units) >= 0, 1, -1)
    # Points that name no class have none.
    named = np.flatnonzero((h > 0).sum(1) == 1) if classes == 3 else np.arange(8)
    assume(len(named))
    y = h.argmax(1) if classes == 3 else (h[:, 0] > 0).astype(int)
    costs = [{int(y[i]): Fraction(1)} for i in named]
    labels = tuple(range(classes))
    formula = bound_module.Formula(tuple(widths), labels, costs, 1, _all_circuits(x[named], widths[0]))
    assert bound_module.refutes(formula, 0, "glucose4", 60.0) is False


def _all_circuits(x: np.ndarray, units: int) -> list[list[int]]:
    """Clauses of the sets of up to 4 points, one a point, whose signs no line gives.

    Of points on the grid of 5 by 5, whole weights up to 8 give all signs that lines give: the weights of a pattern
    form an open cone whose edges are at right angles to differences of points, which are at most 4, and the cone holds
    the sum of its edges. If it is a half-plane, it holds a difference.
    """
    weight = np.array(list(itertools.product(range(-8, 9), repeat=2)))
    bias = np.arange(-33, 33) + 0.5
    above = ((x @ weight.T)[:, :, None] > bias).reshape(len(x), -1)
    _, first = np.unique((1 << np.arange(len(x))) @ above, return_index=True)
    columns = np.where(above[:, first], 1, -1)
    rows = []
    for size in range(2, 5):
        for chosen in itertools.combinations(range(len(x)), size):
            given = set(zip(*columns[list(chosen)].tolist(), strict=True))
            for rest in itertools.product((1, -1), repeat=size - 1):
                if (1, *rest) not in given:
                    rows.append(list(zip(chosen, (1, *rest), strict=True)))
    return [[c * v * (1 + units * i + j) for i, v in row] for row in rows for j in range(units) for c in (1, -1)]


@pytest.mark.slow
@pytest.mark.parametrize(("units", "classes"), [(2, 2), (3, 2), (4, 2), (6, 2), (2, 3), (3, 3)])
def test_every_network_is_a_model_of_some_case_in_some_order(units: int, classes: int):
    from pysat.solvers import Solver as Sat

    outputs = 1 if classes == 2 else classes
    patterns = np.array(list(itertools.product((-1, 1), repeat=units)))
    tried = 0
    for number in range(25):
        generator = np.random.default_rng(number)
        x = np.unique(generator.integers(-3, 4, (25, 2)), axis=0)
        h = np.where(x @ generator.integers(-3, 4, (2, units)) + generator.integers(-2, 3, units) >= 0, 1, -1)
        weight, bias = generator.integers(-4, 5, (units, outputs)), generator.integers(-3, 4, outputs)
        # The strongest unit first, all rising, as the table of the first output has them if it has no ties.
        strength = np.argsort(-np.abs(weight[:, 0]), kind="stable")
        h, weight = h[:, strength] * np.where(weight[strength, 0] < 0, -1, 1), weight[strength]
        weight = weight * np.where(weight[:, :1] < 0, -1, 1)
        table = np.where(patterns @ weight + bias >= 0, 1, -1)
        matters = [(table[patterns[:, j] > 0] != table[patterns[:, j] < 0]).any() for j in range(units)]
        fired = np.where(h @ weight + bias >= 0, 1, -1)
        named = np.flatnonzero((fired > 0).sum(1) == 1) if outputs > 1 else np.arange(len(x))
        if not all(matters) or not len(named):
            continue
        tried += 1
        y = fired.argmax(1) if outputs > 1 else (fired[:, 0] > 0).astype(int)
        costs = [{int(y[i]): Fraction(1)} for i in named]
        formula = bound_module.Formula((units,), tuple(range(classes)), costs, 1, [])
        number_of = np.arange(1, units * len(named) + 1).reshape(len(named), units)
        free = [-literal for literal, _ in formula.costs]
        orders = itertools.permutations(range(units)) if units < 6 else [tuple(range(units))]
        given_ = [[*free, *(number_of * h[named][:, list(order)]).ravel().tolist()] for order in orders]
        solved = False
        for case in formula.cases:
            with Sat(bootstrap_with=[*formula.clauses, *case]) as sat:
                solved = solved or any(sat.solve(assumptions) for assumptions in given_)
        assert solved, f"network {number} is excluded"
    assert tried > 5


def test_cases_are_refuted_one_by_one_and_one_model_is_enough():
    # The labels of XOR: one unit whose column may be any but theirs makes one error, any column none.
    labels = [{k: Fraction(1)} for k in (0, 1, 1, 0)]
    xor = [[1, -2, -3, 4], [-1, 2, 3, -4]]
    for engine in (*ENGINES, "glucose4"):
        assert bound_module.refutes(bound_module.Formula((1,), (0, 1), labels, 1, xor), 0, engine, 60.0)
        assert not bound_module.refutes(bound_module.Formula((1,), (0, 1), labels, 1, []), 0, engine, 60.0)
        assert not bound_module.refutes(bound_module.Formula((1,), (0, 1), labels, 1, xor), 1, engine, 60.0)
