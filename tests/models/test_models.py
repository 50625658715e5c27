"""Models: exact outputs, readable weights, rules in words, named columns, and files."""

import itertools
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.network_oracle import parity_table

import tpsolve
from tpsolve.errors import (
    ArgumentError,
    FileFormatError,
    NotAcceptedError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
    ValueSetError,
)
from tpsolve.models import Model, load_model, make_model
from tpsolve.models._layers import Layers, read_layers
from tpsolve.models._tidy import MAX_WEIGHT, MIN_MARGIN, tidy
from tpsolve.models._words import inequality, left_out, number, rules, scorecard, unscaled, votes
from tpsolve.search import load_proof, verify_proof
from tpsolve.tables import read_table

FLOATS = st.floats(-1e300, 1e300, allow_nan=False, allow_subnormal=True)


def solved(X, y, widths=(2,), **settings) -> Model:
    problem = tpsolve.NetworkProblem(X, y, widths)
    solver = tpsolve.search.Circuits(engine="cp-sat", workers=1, local_seconds=0, max_drawn=50)
    result = tpsolve.solve(problem, solver, budget=tpsolve.Budget(steps=2000))
    return make_model(problem, result, **settings)


@pytest.fixture(scope="module")
def xor() -> Model:
    return solved(
        [[0.0, 0], [0, 1], [1, 0], [1, 1]], ["same", "other", "other", "same"], features=["a", "b"], target="t"
    )


# --- exact outputs ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(st.lists(FLOATS, min_size=3, max_size=3), st.lists(FLOATS, min_size=4, max_size=4))
def test_outputs_are_those_of_fractions(x: list[float], unit: list[float]):
    layers = read_layers([(np.array([unit[:3]]), np.array(unit[3:]))])
    exact = sum((Fraction(w) * Fraction(v) for w, v in zip(unit, x, strict=False)), Fraction(unit[3]))
    assert layers.outputs(np.array([x]))[0].item() == (1 if exact >= 0 else -1)


def test_sums_that_float64_rounds_to_zero_or_beyond_have_their_own_signs():
    tiny = 2.0**-60
    layers = read_layers([(np.array([[1.0, 1.0, -1.0]]), np.array([0.0]))])
    rows = np.array([[1, -tiny, 1], [1, tiny, 1], [1, 0, 1], [1e308, 1e308, 1.5e308], [-1e308, -1e308, 1e308]])
    assert layers.outputs(rows)[0][:, 0].tolist() == [-1, 1, 1, 1, -1]
    # 2 - 1.5 in any order; float64 loses the ones beside 1e16 in most of them.
    rows = np.array(list(itertools.permutations([1e16, 1, 1, -1e16])))
    assert (read_layers([(np.ones((1, 4)), np.array([-1.5]))]).outputs(rows)[0] == 1).all()


def test_several_outputs_are_compared_exactly_and_the_first_of_equal_ones_is_taken():
    third = 1 / 3
    layers = read_layers([(np.eye(2), np.zeros(2)), (np.array([[third, third], [1, -1], [third, third]]), np.zeros(3))])
    assert layers.classes(np.array([[1.0, 1], [1, -1], [-1, -1]])).tolist() == [0, 1, 1]
    assert {bias for _, bias in layers.whole()[-1]} == {0}
    # Scaled together, since their sums are compared.
    assert layers.whole()[-1][0][0][0] < layers.whole()[-1][1][0][0]


@given(st.lists(FLOATS, min_size=2, max_size=2), FLOATS)
def test_whole_weights_are_the_same_unit(weight: list[float], bias: float):
    layers = read_layers([(np.array([weight]), np.array([bias]))])
    (whole, b), ratio = layers.whole()[0][0], None
    for exact, found in zip((*weight, bias), (*whole, b), strict=True):
        assert (exact == 0) == (found == 0)
        if found:
            ratio = ratio or Fraction(found) / Fraction(exact)
            assert Fraction(found) / Fraction(exact) == ratio > 0


# --- readable weights -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
def test_tidy_weights_are_whole_and_give_every_unit_the_same_outputs(seed: int):
    generator = np.random.default_rng(seed)
    X = np.round(generator.normal(size=(30, 3)) * 10.0 ** generator.integers(-3, 4, 3), 4)
    sizes = [3, *generator.integers(1, 4, generator.integers(1, 3)).tolist(), 1]
    layers = Layers(
        tuple((generator.normal(size=(m, n)), generator.normal(size=m)) for n, m in itertools.pairwise(sizes))
    )
    found = tidy(layers, X)
    for one, other in zip(layers.outputs(X), found.outputs(X), strict=True):
        assert np.array_equal(one, other)
    for (weight, bias), (old, _) in zip(found.weights, layers.weights, strict=True):
        for row, b, before in zip(weight, bias, old, strict=True):
            assert np.array_equal(row, before) or (np.array_equal(row, row.round()) and b == round(b))
    for weight, bias in found.weights[1:]:
        # No sum of a unit above the first layer is 0, so that votes never end in a draw.
        patterns = np.array(list(itertools.product((-1.0, 1.0), repeat=weight.shape[1])))
        assert (patterns @ weight.T + bias != 0).all() or not np.array_equal(weight, weight.round())


def test_a_tidy_unit_keeps_half_its_margin_and_becomes_small():
    X = np.array([[39.1, 1.0], [41.0, 0.0], [46.5, 1.0], [50.0, 0.0]])
    layers = read_layers(
        [(np.array([[0.7312345, 0.0001234]]), np.array([-31.98])), (np.array([[1.0]]), np.array([0.0]))]
    )
    (weight, bias), _ = tidy(layers, X).weights
    assert weight.tolist() == [[1, 0]]
    assert -45.2 < bias.item() < -42.3
    assert MIN_MARGIN == 0.5


def test_units_that_no_whole_weights_give_stay_as_they_are():
    X = np.array([[0.0, 1.0], [1e300, 0.0]])
    unit = (np.array([[1e-300, 0.5]]), np.array([-0.75]))
    assert tidy(read_layers([unit]), X).weights[0][0].tolist() == unit[0].tolist()
    assert MAX_WEIGHT < 2**53


# --- words ------------------------------------------------------------------------------------------------------------


def test_inequalities_in_words():
    assert inequality([2, -1], Fraction(-3), ["x", "y"]) == "2 x - y >= 3"
    assert inequality([-1, -2], Fraction(4), ["x", "y"]) == "x + 2 y <= 4"
    assert inequality([0, 0], Fraction(-1), ["x", "y"]) == "0 >= 1"
    assert [number(Fraction(v)) for v in ("1/3", "-1/8", "12", "0.05", "-7/5")] == [
        "1/3",
        "-0.125",
        "12",
        "0.05",
        "-1.4",
    ]


def test_votes_in_words():
    names = ["a", "b", "c"]
    for weight, bias, words in (
        ([1, 1, -1], 0, "at least 2 of 3 hold: a, b, not c"),
        ([1, 1, 1], 2, "a or b or c"),
        ([2, 2, 2], -4, "a and b and c"),
        ([0, -3, 0], 0, "not b"),
        ([2, 1, 1], 1, "at least 2 points: 2 for a, 1 for b, 1 for c"),
        ([1, 1, 1], -5, "never"),
        ([1, 1, 1], 3, "always"),
    ):
        assert votes(weight, bias, names) == words


@given(st.lists(st.integers(-4, 4), min_size=3, max_size=3).filter(any), st.integers(-12, 12))
def test_votes_count_what_the_sum_says(weight: list[int], bias: int):
    words = votes(weight, bias, ["a", "b", "c"])
    fires = [
        sum(w * v for w, v in zip(weight, h, strict=True)) + bias >= 0 for h in itertools.product((-1, 1), repeat=3)
    ]
    assert (words == "always") == all(fires)
    assert (words == "never") == (not any(fires))
    if words.startswith("at least") and "points" in words:
        needed = int(words.split()[2])
        for h, fired in zip(itertools.product((-1, 1), repeat=3), fires, strict=True):
            assert (sum(abs(w) for w, v in zip(weight, h, strict=True) if w * v > 0) >= needed) == fired


@pytest.mark.slow
@given(
    st.lists(st.integers(-9, 9), min_size=2, max_size=2).filter(any),
    st.integers(-99, 99),
    st.lists(st.tuples(st.fractions(-5, 5), st.fractions(Fraction(1, 100), 100)), min_size=2, max_size=2),
    st.lists(st.fractions(-20, 20), min_size=2, max_size=2),
)
def test_rules_are_told_in_the_numbers_of_the_table(weight, bias, scaling, values):
    read = [(v - offset) * scale for v, (offset, scale) in zip(values, scaling, strict=True)]
    own, moved = unscaled(weight, bias, scaling)
    before = sum(w * v for w, v in zip(weight, read, strict=True)) + bias
    after = sum(w * v for w, v in zip(own, values, strict=True)) + moved
    assert (before > 0, before < 0) == (after > 0, after < 0)


def test_scorecards_of_single_units_in_both_directions():
    for sign in (1.0, -1.0):
        layers = read_layers([(np.array([[-2.0, -3.0]]), np.array([7.0])), (np.array([[sign]]), np.array([0.0]))])
        points, words = scorecard(layers, ["x", "y"], ["no", "yes"])
        assert points == [("y", 3), ("x", 2)]
        named, other = ("no", "yes") if sign > 0 else ("yes", "no")
        assert words == f"{named} if the score is more than 7, else {other}"
    assert scorecard(layers, ["x", "y"], ["a", "b", "c"]) == ([], "")


def test_rules_leave_out_units_that_never_change_and_name_layers():
    layers = read_layers(
        [
            (np.array([[1.0], [0.0]]), np.array([-2.0, 1.0])),
            (np.array([[1.0, 1.0]]), np.array([-1.0])),
            ([[1.0]], [0.0]),
        ]
    )
    assert rules(layers, ["x\x1b[31m"], ["n", "y"]) == [
        "unit 1.1: x\\x1b[31m >= 2",
        "unit 2.1: unit 1.1",
        "y if unit 2.1, else n",
    ]
    assert left_out(layers) == ["unit 1.2"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rules_name_no_unit_that_they_leave_out_and_say_what_the_network_does(data: st.DataObject):
    number, units = st.integers(-3, 3), data.draw(st.integers(1, 3))
    constant = st.tuples(st.just(0), number)
    first = data.draw(st.lists(st.tuples(number, number) | constant, min_size=units, max_size=units))
    last = data.draw(st.lists(number, min_size=units, max_size=units)), data.draw(number)
    layers = read_layers([([[w] for w, _ in first], [b for _, b in first]), ([last[0]], [last[1]])])
    *lines, answer = rules(layers, ["x"], ["n", "y"])
    names = [line.partition(":")[0] for line in lines]
    gone = left_out(layers)
    assert sorted(names + gone) == [f"unit {k + 1}" for k in range(units)]
    assert not any(name in answer for name in gone)
    for x in range(-4, 5):
        holds = {name: _read_inequality(line.partition(": ")[2], x) for name, line in zip(names, lines, strict=True)}
        said = _read_votes(answer, holds)
        assert said == bool(layers.classes(np.array([[float(x)]]))[0]), (lines, answer, x)


def _read_inequality(words: str, x: int) -> bool:
    """What a line such as `2 x >= 3` says of x."""
    left, sign, right = words.partition(" >= ") if " >= " in words else words.partition(" <= ")
    value = int(left.removesuffix("x").strip() or 1) * x - Fraction(right)
    return value >= 0 if ">=" in sign else value <= 0


def _read_votes(words: str, holds: dict[str, bool]) -> bool:
    """What the last line of rules says, given which units hold."""
    if words.endswith(": always"):
        return words == "y: always"
    words = words.removeprefix("y if ").removesuffix(", else n")

    def one(text: str) -> bool:
        return not holds[text.removeprefix("not ")] if text.startswith("not ") else holds[text]

    if words in ("always", "never"):
        return words == "always"
    if words.startswith("at least"):
        head, _, tail = words.partition(": ")
        parts = [part.partition(" for ") for part in tail.split(", ")]
        counts = [(int(n), name) if name else (1, n) for n, _, name in parts]
        return sum(n for n, name in counts if one(name)) >= int(head.split()[2])
    if " or " in words:
        return any(map(one, words.split(" or ")))
    return all(map(one, words.split(" and ")))


# --- models -----------------------------------------------------------------------------------------------------------


def test_a_model_names_what_it_was_trained_on(xor: Model):
    assert xor.predict({"b": [1, 1, 0], "a": [0, 1, 0]}).tolist() == ["other", "same", "same"]
    frame = pd.DataFrame({"b": [1], "a": [0]})
    assert xor.predict(frame).tolist() == ["other"]
    assert xor.predict([[1, 0]], columns=["b", "a"]).tolist() == ["other"]
    assert xor.predict(frame.assign(t="other")).tolist() == ["other"]
    assert (xor.status, xor.objective, xor.bound, xor.widths) == (tpsolve.Status.OPTIMAL, 0, 0, (2,))
    network = xor.network()
    assert network(torch.tensor([[0.0, 1], [1, 1]], dtype=torch.float64)).tolist() == [[-1], [1]]
    assert "errors=0 of 4" in repr(xor)


@pytest.mark.parametrize(
    ("rows", "settings", "error", "words"),
    [
        ([[0, 1]], {}, ArgumentError, "columns without names"),
        ({"a": [0]}, {}, UnknownNameError, "no column b"),
        ({"a": [0], "b": [1], "c": [1]}, {}, UnknownNameError, "'c'"),
        ({"a": [0], "b": [1, 2]}, {}, ShapeError, "different lengths"),
        ({"a": [0], "b": ["x"]}, {}, ArgumentError, "no numbers"),
        ({"a": [2**53 + 1], "b": [0]}, {}, ArgumentError, "beyond"),
        ({"a": [0], "b": np.array([1j])}, {}, ArgumentError, "complex numbers"),
        (polars.LazyFrame({"a": [0], "b": [1]}), {}, ArgumentError, "collect"),
        ({"a": [0], "b": [float("nan")]}, {}, NotFiniteError, "b in row 0"),
        ([[0, 1]], {"columns": ["a", "a"]}, ArgumentError, "two columns named 'a'"),
        ([[0, 1]], {"columns": ["a"]}, ShapeError, "2 columns, expected 1"),
        ([[[0, 1]]], {"columns": ["a", "b"]}, ShapeError, "one row a sample"),
    ],
)
def test_rows_that_don_t_fit_are_refused(xor: Model, rows, settings, error, words):
    with pytest.raises(error, match=words):
        xor.predict(rows, **settings)


def test_probabilities_are_refused_by_name(xor: Model):
    with pytest.raises(NotAcceptedError, match=r"predict_proba.*CalibratedClassifierCV"):
        xor.predict_proba({"a": [0], "b": [0]})


def test_a_saved_model_is_the_same_with_its_proof_and_without_rows(xor: Model, tmp_path: Path):
    xor.save(tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    for name in ("features", "named", "classes", "target", "objective", "bound", "count", "widths", "rules", "status"):
        assert getattr(again, name) == getattr(xor, name), name
    assert again.rows is None
    assert again.proof is not None
    assert xor.proof is not None
    assert load_proof(tmp_path / "m.npz").digest == again.proof.digest == xor.proof.digest
    X, y = [[0.0, 0], [0, 1], [1, 0], [1, 1]], ["same", "other", "other", "same"]
    assert all(finding.holds for finding in verify_proof(again.proof, X, y, engine="cadical195"))


def test_files_that_are_no_models_are_refused(xor: Model, tmp_path: Path):
    path = tmp_path / "m.npz"
    xor.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    arrays["header"] = np.array(json.dumps(header | {"features": ["b", "a"]}))
    np.savez(path, allow_pickle=False, **arrays)
    with pytest.raises(FileFormatError, match="changed since it was written"):
        load_model(path)
    assert xor.proof is not None
    xor.proof.save(path)
    with pytest.raises(FileFormatError, match="a proof without the names of its columns"):
        load_model(path)
    path.write_bytes(b"no")
    with pytest.raises(FileFormatError, match="not a tpsolve file"):
        load_model(path)


def test_a_model_of_another_solver_has_no_proof(tmp_path: Path):
    X, y = parity_table(2)
    problem = tpsolve.NetworkProblem(X, y, [2])
    result = tpsolve.solve(problem, "column-search", budget=tpsolve.Budget(steps=20))
    model = make_model(problem, result)
    assert model.proof is None
    assert (model.predict(X) == y).all()
    with pytest.raises(ShapeError, match="3 columns"):
        model.predict(np.zeros((1, 3)))
    model.save(tmp_path / "m.npz")
    with pytest.raises(FileFormatError, match="a model without a proof"):
        load_proof(tmp_path / "m.npz")
    with pytest.raises(ShapeError, match="features"):
        make_model(problem, result, features=["a"])


def test_rules_and_programs_count_dates_in_the_unit_that_their_name_has(tmp_path: Path):
    (tmp_path / "t.csv").write_text("when,k\n1970-01-03,a\n1970-01-05,a\n1970-01-12,b\n1970-01-30,b\n")
    read = read_table(tmp_path / "t.csv", "k")
    model = solved(read.inputs, read.labels, (1,), features=read.features, target="k", schema=read.schema)
    found = re.search(r"when \(days\) (>=|<=) (\d+)", model.rules[0])
    assert found is not None, model.rules
    assert 4 <= int(found[2]) <= 11
    model.export(tmp_path / "t.py", tmp_path / "t.csv")
    space: dict[str, Any] = {}
    exec((tmp_path / "t.py").read_text(), space)
    assert [space["predict"]({"when (days)": day}) for day in (2, 4, 11, 29)] == ["a", "a", "b", "b"]


def test_a_model_of_a_table_reads_new_rows_alike(tmp_path: Path):
    (tmp_path / "t.csv").write_text("w,x,c\nred,0.1,a\nred,0.7,b\nblue,0.2,b\nblue,0.9,a\n")
    read = read_table(tmp_path / "t.csv", "c")
    model = solved(read.inputs, read.labels, features=read.features, target="c", schema=read.schema)
    assert model.predict(tmp_path / "t.csv").tolist() == list(read.labels)
    model.save(tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    (tmp_path / "new.csv").write_text("x,w\n0.9,blue\n0.70,red\n")
    assert again.predict(tmp_path / "new.csv").tolist() == ["a", "b"]
    assert again.predict(pd.DataFrame({"x": [0.9], "w": ["blue"]})).tolist() == ["a"]
    (tmp_path / "new.csv").write_text("x,w\n0.9,green\n")
    with pytest.raises(ValueSetError, match="green"):
        again.predict(tmp_path / "new.csv")
    (tmp_path / "new.csv").write_text("x\n0.9\n")
    with pytest.raises(ArgumentError, match="no column 'w'"):
        again.predict(tmp_path / "new.csv")
    # Rules are told in the numbers of the table, where the network reads tenths.
    assert any("0." in rule or "x" in rule for rule in again.rules)
