"""Proofs of networks with weights of a set: written, read, checked by trying all weights, and refused if changed."""

import dataclasses
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.network_oracle import parity_table
from support.whole_oracle import least_objective

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.errors import ArgumentError, FileFormatError, NotAcceptedError
from tpsolve.search import Proof, WeightBox, make_proof, verify_proof
from tpsolve.search.proofs._proof import load_proof
from tpsolve.search.proofs._recount_whole import whole_weights

X, Y = parity_table(3)
SETS: dict[str, Any] = {"weight_set": "ternary", "bias_set": [-2, -1, 0, 1], "penalty": 0.125}


def prove(x: Any, y: Any, widths: list[int], **sets: Any) -> Proof:
    problem = NetworkProblem(x, y, widths, **sets)
    return make_proof(problem, solve(problem, WeightBox(workers=1), budget=Budget(seconds=60)))


@pytest.fixture(scope="module")
def proof() -> Proof:
    found = prove(X, Y, [2], **SETS)
    assert found.bound == found.objective > 0
    return found


def test_a_proof_survives_its_file_and_holds(proof: Proof, tmp_path: Path):
    proof.save(tmp_path / "proof.npz")
    loaded = load_proof(tmp_path / "proof.npz")
    same = {"weights": [], "circuits": proof.circuits}
    assert dataclasses.replace(loaded, **same) == dataclasses.replace(proof, **same)
    findings = verify_proof(loaded, X, Y)
    assert [(f.part, f.holds) for f in findings] == [("data", True), ("set", True), ("weights", True), ("bound", True)]
    assert "all weights of the set were tried" in findings[-1].words
    with pytest.raises(ArgumentError, match="engine"):
        verify_proof(loaded, X, Y, engine="cadical195")


def with_weight(proof: Proof, value: float, *, bias: bool = False) -> Proof:
    weights = [(w.clone(), b.clone()) for w, b in proof.weights]
    weights[0][bias].view(-1)[0] = value
    return dataclasses.replace(proof, weights=weights)


MUTATED = {
    "a weight that is not of the set": (lambda p: with_weight(p, 2.0), "set"),
    "half a weight": (lambda p: with_weight(p, 0.5), "set"),
    "no number": (lambda p: with_weight(p, float("nan")), "set"),
    "a bias that is not of the set": (lambda p: with_weight(p, 7.0, bias=True), "set"),
    "an infinite bias": (lambda p: with_weight(dataclasses.replace(p, bias_set=None), float("inf"), bias=True), "set"),
    "an empty set": (lambda p: dataclasses.replace(p, weight_set=(), bias_set=None), "set"),
    "a set that float64 does not hold": (lambda p: dataclasses.replace(p, weight_set=(-1, 0, 1, 10**400)), "set"),
    "such a set of biases": (lambda p: dataclasses.replace(p, bias_set=(*p.bias_set, -(10**400))), "set"),
    "half a bias": (lambda p: with_weight(dataclasses.replace(p, bias_set=None), 0.5, bias=True), "set"),
    "a gain for each weight": (lambda p: dataclasses.replace(p, penalty=Fraction(-1, 8)), "set"),
    "a lower penalty": (lambda p: dataclasses.replace(p, penalty=Fraction(1, 16)), "weights"),
    "fewer errors": (lambda p: dataclasses.replace(p, objective=p.objective - 1, bound=p.bound - 1), "weights"),
    "a bound above": (lambda p: dataclasses.replace(p, bound=p.objective + 1), "bound"),
    "other data": (lambda p: dataclasses.replace(p, data="0"), "data"),
}


@pytest.mark.parametrize("name", MUTATED)
def test_every_mutated_proof_is_rejected(proof: Proof, name: str):
    change, part = MUTATED[name]
    changed = change(proof)
    last = verify_proof(changed, X, Y)[-1]
    assert (last.part, last.holds) == (part, False), last


@pytest.mark.parametrize("sets", [{"weight_set": (-1, 0, 1, 10**400)}, {"bias_set": (-(2**53) - 1, 0, 1)}], ids=str)
def test_a_file_with_a_set_that_float64_does_not_hold_is_refused(proof: Proof, sets: dict[str, Any], tmp_path: Path):
    dataclasses.replace(proof, **sets).save(tmp_path / "proof.npz")
    with pytest.raises(FileFormatError, match=next(iter(sets))):
        load_proof(tmp_path / "proof.npz")


def test_a_bound_for_fewer_biases_or_weights_is_none_for_more():
    bound = prove(X, Y, [2], weight_set="ternary", bias_set=[1])
    assert bound.bound > prove(X, Y, [2], weight_set="ternary").objective
    assert verify_proof(bound, X, Y)[-1].holds
    assert verify_proof(dataclasses.replace(bound, bias_set=None), X, Y)[-1].holds is False
    priced = dataclasses.replace(bound, weight_set=None, penalty=Fraction(-1, 8))
    assert verify_proof(priced, X, Y)[-1].part == "weights"
    assert verify_proof(dataclasses.replace(bound, weight_set=None), X, Y, engine="glucose4")[-1].holds is False


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_trying_all_weights_refutes_less_than_the_optimum_alone(data: st.DataObject):
    count = data.draw(st.integers(2, 6))
    point = st.lists(st.sampled_from([-1, 0, 0.5, 2]), min_size=2, max_size=2)
    x = data.draw(st.lists(point, min_size=count, max_size=count))
    y = data.draw(st.lists(st.integers(0, 1), min_size=count - 2, max_size=count - 2))
    y += [0, 1]
    sets = {
        "weight_set": data.draw(st.sampled_from([(-1, 0, 1), (-1, 1), (-2, 0, 3)])),
        "bias_set": data.draw(st.sampled_from([(-1, 0, 1), (0,), (-3, 2)])),
        "penalty": data.draw(st.sampled_from([0.0, 0.25])),
    }
    width = data.draw(st.integers(1, 2))
    problem = NetworkProblem(x, y, [width], **sets)
    least = Fraction(least_objective(problem))
    costs = [{k: Fraction(c) for k, c in enumerate(row) if c} for row in problem.counts.tolist()]
    points = [[int(2 * v) for v in row] for row in problem.inputs.tolist()]
    own = sets["weight_set"], sets["bias_set"], Fraction(sets["penalty"])
    for bound, holds in ((least, True), (least + Fraction(1, 8), False)):
        found = whole_weights(points, 2, costs, (0, 1), width, *own, bound, time.monotonic() + 60)
        assert found is holds


def test_cheap_weights_of_a_column_count():
    # x >= 1, and with a second input that says the same: one weight for the unit, one above.
    costs = [{0: Fraction(9)}, {1: Fraction(9)}]
    for bound, holds in ((2, True), (3, False)):
        args = [[0, 0], [1, 1]], 1, costs, (0, 1), 1, (-1, 0, 1), None, Fraction(1), Fraction(bound)
        assert whole_weights(*args, time.monotonic() + 60) is holds


def test_what_is_not_checked_says_so():
    generator = torch.Generator().manual_seed(0)
    x = 2.0 * torch.randint(0, 2, (20, 20), generator=generator) - 1
    problem = NetworkProblem(x, [k % 2 for k in range(20)], [1], weight_set="ternary")
    weights = problem.start_weights
    assert weights is not None
    found = dataclasses.replace(
        solve(problem, "weight-box:workers=1", budget=Budget(steps=1)), bound=torch.tensor(1.0).double()
    )
    # Nobody can try so many weights.
    last = verify_proof(make_proof(problem, found), x.numpy(), [k % 2 for k in range(20)])[-1]
    assert last.holds is None or found.objective < 1
    for widths, y in (([1, 1], Y), ([1], [0, 1, 2, 0, 1, 2, 0, 1])):
        own = prove(X, y, widths, weight_set="ternary")
        last = verify_proof(own, X, y)[-1]
        assert (own.bound > 0, last.holds) == (True, None)
        assert "not checked" in last.words
    assert verify_proof(prove(X, Y, [2], **SETS), X, Y, seconds=1e-9)[-1].holds is None


def test_results_of_a_search_have_no_proof():
    problem = NetworkProblem(X, Y, [2], weight_set="ternary")
    result = solve(problem, "integer-search", budget=Budget(steps=20))
    with pytest.raises(NotAcceptedError, match="weight-box"):
        make_proof(problem, result)


def test_three_units_are_tried_together():
    x = torch.cartesian_prod(*[torch.tensor([-1, 1])] * 3).tolist()
    points = NetworkProblem(x, [0, 1, 1, 0, 1, 0, 0, 1], [3], weight_set="binary", penalty=0.125)
    least = Fraction(solve(points, "all-columns", budget=Budget(seconds=60)).objective.item())
    costs = [{k: Fraction(c) for k, c in enumerate(row) if c} for row in points.counts.tolist()]
    for bound, holds in ((least, True), (least + Fraction(1, 16), False)):
        sets = costs, (0, 1), 3, (-1, 1), None, Fraction(1, 8), bound
        assert whole_weights(x, 1, *sets, time.monotonic() + 60) is holds
