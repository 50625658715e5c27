"""Networks and units of numbers that float64 rounds: what is proved is proved for the numbers before rounding."""

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.fraction_oracle import columns, fewest

import tpsolve
from tpsolve._storage._archive import read_archive, write_archive
from tpsolve.errors import ArgumentError, ExportError, NotAcceptedError, TooLargeError, ValueSetError
from tpsolve.models import load_model, make_model
from tpsolve.problems import load_problem
from tpsolve.search import Circuits, load_proof, make_proof, verify_proof
from tpsolve.units.checking._unrounded import ExactRows, exact_weights
from tpsolve.units.separability._separability import separate_unrounded

Rows = list[tuple[Fraction, ...]]
PHASES = (Phase.explicit, Phase.generate)
"""Without shrinking, which takes minutes here."""
TINY = Fraction(1, 10**18)
SOLVER = Circuits(engine="cp-sat", workers=1, local_seconds=0, max_drawn=20)


def floats(rows: Rows) -> torch.Tensor:
    return torch.tensor([[float(v) for v in row] for row in rows], dtype=torch.float64)


@st.composite
def near_a_line(draw: st.DrawFn) -> Rows:
    """Points of which many lie on lines but for what float64 rounds, and some are one in float64."""
    count = draw(st.integers(3, 6))
    numbers = st.tuples(st.integers(0, 3), st.integers(-1, 1), st.integers(0, 2), st.integers(-1, 1))
    drawn = draw(st.lists(numbers, min_size=count, max_size=count))
    return [(Fraction(a, 3) + b * TINY, Fraction(c, 7) + d * TINY) for a, b, c, d in drawn]


@given(near_a_line(), st.integers(0, 2**6 - 1))
@settings(max_examples=15, deadline=None, phases=PHASES)
def test_units_are_those_of_the_exact_rows(rows: Rows, bits: int):
    points = list(dict.fromkeys(rows))
    signs = [1 if bits >> k & 1 else -1 for k in range(len(points))]
    targets = torch.tensor([signs], dtype=torch.float64).T
    exact = ExactRows(points)
    certificate = separate_unrounded(floats(points), targets, exact)
    assert (int(certificate.status[0]) > 0) == (tuple(signs) in columns(points))
    if int(certificate.status[0]) > 0:
        *weight, bias = exact_weights(certificate, 0)
        assert all(
            s * (sum(w * v for w, v in zip(weight, p, strict=True)) + bias) > 0
            for p, s in zip(points, signs, strict=True)
        )
    else:
        circuit = certificate.circuit(0).tolist()
        shares = exact.multipliers(circuit, [signs[k] for k in circuit])
        assert sum(shares) == 1
        for column in (*zip(*(points[k] for k in circuit), strict=True), [1] * len(circuit)):
            assert sum(s * signs[k] * v for s, k, v in zip(shares, circuit, column, strict=True)) == 0


def test_dependencies_of_other_signs_are_no_circuits():
    rows = ExactRows([(Fraction(k, 3),) for k in range(4)])
    assert rows.multipliers([0, 1, 2], [1, -1, 1]) == [Fraction(1, 4), Fraction(1, 2), Fraction(1, 4)]
    assert rows.multipliers([0, 1, 2], [-1, 1, -1]) == [Fraction(1, 4), Fraction(1, 2), Fraction(1, 4)]
    assert rows.multipliers([0, 1, 2], [1, 1, -1]) == []
    assert rows.multipliers([0, 1, 2, 3], [1, -1, -1, 1]) == [], "several dependencies"
    assert rows.multipliers([0, 1], [1, -1]) == []


@given(near_a_line(), st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=6, deadline=None, phases=PHASES)
def test_networks_have_the_fewest_errors_on_the_exact_rows(rows: Rows, labels: list[bool]):
    y = [*map(int, labels[: len(rows) - 1]), 1 - labels[0]]
    problem = tpsolve.NetworkProblem(floats(rows), y, [1], exact=rows)
    result = tpsolve.solve(problem, SOLVER, budget=tpsolve.Budget(steps=2000))
    assert result.objective.item() == result.bound.item() == fewest(rows, y, 1)
    proof = make_proof(problem, result)
    findings = verify_proof(proof, floats(rows).numpy(), y, engine="glucose4", exact=rows)
    assert all(finding.holds for finding in findings)
    named = make_model(problem, result).layers.classes(floats(rows).numpy(), rows)
    assert (named != np.array(y)).sum() == result.objective.item()


def test_a_network_of_digits_beyond_float64_is_saved_and_refused_to_programs_that_round(tmp_path):
    rows = [(Fraction(k) + j * TINY,) for k in (0, 1) for j in (1, 2)]
    y = ["a", "b", "a", "b"]
    X = np.array([[float(v) for v in row] for row in rows])
    assert len(np.unique(X)) == 3, "0 is where float64 is finest"
    problem = tpsolve.NetworkProblem(X, y, [3], exact=rows)
    result = tpsolve.solve(problem, SOLVER, budget=tpsolve.Budget(steps=2000))
    model = make_model(problem, result)
    assert result.objective == 0
    assert model.layers.rationals
    model.save(tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    assert again.layers.classes(X, rows).tolist() == [0, 1, 0, 1]
    assert again.rules == model.rules
    assert model.proof is not None
    assert again.proof is not None
    assert load_proof(tmp_path / "m.npz").digest == again.proof.digest == model.proof.digest
    assert all(f.holds for f in verify_proof(again.proof, X, y, engine="glucose4", exact=rows))
    with pytest.raises(ExportError, match="1 rows whose class is another one once float64 has rounded them"):
        again.export(tmp_path / "m.c")
    assert again.export(tmp_path / "m.json").rows > 0


def test_who_proves_of_float64_only_refuses_exact_rows():
    rows = [(Fraction(1, 3),), (Fraction(2, 3),)]
    problem = tpsolve.NetworkProblem(floats(rows), [0, 1], [1], exact=rows)
    for refused in ("sweep", "circuits:prefer=weights"):
        with pytest.raises(NotAcceptedError, match="numbers that float64 rounds"):
            tpsolve.solve(problem, refused, budget=tpsolve.Budget(steps=1))
    for wrong in (rows[:1], [(Fraction(1, 3),), (Fraction(1, 2),)]):
        with pytest.raises(ArgumentError, match="exact: got other rows than X"):
            tpsolve.NetworkProblem(floats(rows), [0, 1], [1], exact=wrong)
    whole = tpsolve.NetworkProblem(floats(rows), [0, 1], [1], exact=rows, weight_set="ternary")
    with pytest.raises(NotAcceptedError, match="numbers that float64 rounds"):
        tpsolve.solve(whole, "weight-box", budget=tpsolve.Budget(steps=1))
    other = [(Fraction(1, 3) + TINY,), rows[1]]
    assert tpsolve.NetworkProblem(floats(other), [0, 1], [1], exact=other).fingerprint != problem.fingerprint


def test_a_preference_is_that_of_the_exact_rows():
    # In float64 the first two are one point, of which one unit makes as few errors as two.
    rows = [(Fraction(1),), (1 + TINY,), (Fraction(2),)]
    problem = tpsolve.NetworkProblem(floats(rows), [0, 1, 0], [2], exact=rows)
    result = tpsolve.solve(problem, dataclasses.replace(SOLVER, prefer="units"), budget=tpsolve.Budget(steps=2000))
    assert (result.objective.item(), result.stats["preferred"], result.stats["preference_proved"]) == (0, 2, True)
    third = [(Fraction(k, 3),) for k in (0, 1, 3)]
    problem = tpsolve.NetworkProblem(floats(third), [0, 1, 1], [1], exact=third)
    result = tpsolve.solve(problem, dataclasses.replace(SOLVER, prefer="margin"), budget=tpsolve.Budget(steps=2000))
    assert result.stats["preference_proved"]
    assert result.stats["preferred"] == pytest.approx(1 / 6, rel=1e-15)


@given(near_a_line(), st.lists(st.sampled_from((-1, 0, 1)), min_size=2, max_size=2), st.integers(-2, 2))
@settings(max_examples=15, deadline=None, phases=PHASES)
def test_whole_weights_are_judged_at_the_exact_rows(rows: Rows, weight: list[int], number: int):
    problem = tpsolve.NetworkProblem(floats(rows), [0, *[1] * (len(rows) - 1)], [1], exact=rows, weight_set="ternary")
    # At the first point the sum is as near to 0 as a float allows.
    bias = float(-sum(w * v for w, v in zip(weight, rows[0], strict=True))) + number * 2.0**-54
    first = torch.tensor([weight]).double(), torch.tensor([bias], dtype=torch.float64)
    network = [first, (torch.ones(1, 1), torch.zeros(1))]
    given = problem.check_weights(network)
    hidden = problem.columns(problem.from_weights(given))[0][:, 0].tolist()
    points = list(dict.fromkeys(rows))
    sums = [sum(w * v for w, v in zip(weight, point, strict=True)) + Fraction(bias) for point in points]
    assert hidden == [1 if total >= 0 else -1 for total in sums]


def test_a_saved_problem_keeps_the_exact_rows(tmp_path):
    rows = [(Fraction(1, 3), Fraction(1, 2)), (Fraction(1, 3) + TINY, Fraction(1)), (Fraction(1, 3), Fraction(1, 2))]
    problem = tpsolve.NetworkProblem(floats(rows), ["a", "b", "a"], [1], exact=rows)
    problem.save(tmp_path / "p.npz")
    again = load_problem(tmp_path / "p.npz")
    assert isinstance(again, tpsolve.NetworkProblem)
    assert again.fingerprint == problem.fingerprint
    assert again.exact_rows() == rows
    assert again.exact is not None
    assert problem.rounded().exact is None
    (header,) = (read_archive(tmp_path / "p.npz", "network-problem", dict[str, Any], ("X", "y"))[1],)
    assert list(header["exact"]) == ["0"], "the second column needs none"
    for wrong in ({"2": ["1", "1", "1"]}, {"0": ["1/3", "1/3"]}, {"x": []}):
        header["exact"] = wrong
        about = {k: v for k, v in header.items() if k not in ("format", "version", "kind", "arrays")}
        write_archive(tmp_path / "w.npz", "network-problem", problem._tensors(), about)
        with pytest.raises(ValueSetError, match="exact: got"):
            load_problem(tmp_path / "w.npz")


def test_exact_weights_of_too_many_digits_are_not_saved(tmp_path):
    rows = [(Fraction(0),), (Fraction(1),)]
    problem = tpsolve.NetworkProblem(floats(rows), [0, 1], [1], exact=rows)
    result = tpsolve.solve(problem, SOLVER, budget=tpsolve.Budget(steps=100))
    half = (Fraction(2), Fraction(-1) + Fraction(1, 10**1400))
    proof = dataclasses.replace(make_proof(problem, result), rationals={0: half})
    with pytest.raises(TooLargeError, match=r"fractions of 46\d\d bits"):
        proof.save(tmp_path / "p.npz")
