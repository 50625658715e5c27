"""Proofs: written, read, checked; and refused after any change."""

import dataclasses
import itertools
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
from tpsolve.search.proofs._proof import Proof, clause_hash, load_proof

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
        assert not _check_bound(high, np.asarray(x, dtype=float), labels, weight, engine, 60.0).holds


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
    assert "cp-sat" in verify_proof(other, X, Y)[-1].words
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


def test_other_data_are_rejected(proof: Proof):
    moved, flipped = X.copy(), Y.copy()
    moved[5, 1] += 0.01
    flipped[3] *= -1
    for x, y, weight in ((moved, Y, None), (X, flipped, None), (X[1:], Y[1:], None), (X, Y, [2.0] * 16)):
        findings = verify_proof(proof, x, y, weight)
        assert [f.holds for f in findings] == [False]


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


@pytest.mark.parametrize("engine", ENGINES)
def test_a_limit_reached_is_not_checked(engine: str):
    problem = NetworkProblem(*random_table(2, 80), [4])
    result = solve(problem, Circuits(max_drawn=2000), budget=Budget(steps=5000))
    hard = dataclasses.replace(make_proof(problem, result), bound=Fraction(result.objective.item()))
    finding = verify_proof(hard, *random_table(2, 80), engine=engine, seconds=0.01)[-1]
    assert finding.holds is None
    assert f"not checked, {engine} gave no answer within 0.01 s" in finding.words


def test_an_engine_that_does_not_end_is_ended(proof: Proof, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bound_module, "_PROGRAM", "import time; time.sleep(600)")
    began = time.perf_counter()
    assert verify_proof(proof, X, Y, engine="cadical195", seconds=0.5)[-1].holds is None
    assert time.perf_counter() - began < 300


def test_an_engine_that_fails_refutes_nothing(proof: Proof, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bound_module, "_PROGRAM", "raise SystemExit(3)")
    assert verify_proof(proof, X, Y, engine="cadical195")[-1].holds is None


def test_the_clauses_of_a_proof_are_those_that_two_encoders_write(proof: Proof):
    # By hand: literal 1 + 2 i + j for unit j at point i, of each circuit and its negation.
    expected = []
    for row in proof.circuits.tolist():
        for unit in range(2):
            clause = [(1 if v > 0 else -1) * (2 * abs(v) - 1 + unit) for v in row if v]
            expected += [clause, [-v for v in clause]]
    assert clause_hash(expected[::-1]) == proof.clauses
    assert clause_hash(expected[1:]) != proof.clauses


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
    columns = np.unique(np.where((x @ weight.T)[:, :, None] > bias, 1, -1).reshape(len(x), -1), axis=1)
    rows = []
    for size in range(2, 5):
        for chosen in itertools.combinations(range(len(x)), size):
            given = set(zip(*columns[list(chosen)].tolist(), strict=True))
            for rest in itertools.product((1, -1), repeat=size - 1):
                if (1, *rest) not in given:
                    rows.append(list(zip(chosen, (1, *rest), strict=True)))
    return [[c * v * (1 + units * i + j) for i, v in row] for row in rows for j in range(units) for c in (1, -1)]


def test_cases_are_refuted_one_by_one_and_one_model_is_enough():
    # The labels of XOR: one unit whose column may be any but theirs makes one error, any column none.
    labels = [{k: Fraction(1)} for k in (0, 1, 1, 0)]
    xor = [[1, -2, -3, 4], [-1, 2, 3, -4]]
    for engine in (*ENGINES, "glucose4"):
        assert bound_module.refutes(bound_module.Formula((1,), (0, 1), labels, 1, xor), 0, engine, 60.0)
        assert not bound_module.refutes(bound_module.Formula((1,), (0, 1), labels, 1, []), 0, engine, 60.0)
        assert not bound_module.refutes(bound_module.Formula((1,), (0, 1), labels, 1, xor), 1, engine, 60.0)
