"""Scalars of numpy as settings, and arrays and tables of every make as inputs: taken, or refused by name."""

import copy
import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import polars
import pytest
import scipy.sparse
import torch

from tpsolve import Budget, LayerProblem, NetworkProblem
from tpsolve._plain import plain_array
from tpsolve.errors import ArgumentError, NotFiniteError, TpsolveError
from tpsolve.nn import HardThreshold
from tpsolve.search import SOLVERS, Anneal, Circuits, HillClimb, make_proof, solve, solver_text, verify_proof
from tpsolve.units import LEARNERS, Hinge, Logistic, UnitClassifier

X = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
Y = [0, 1, 1, 0]
SIGNS: Any = 2.0 * np.array(Y)[:, None] - 1


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.setflags(write=False)
    return array


MAKES: dict[str, Callable[[np.ndarray], Any]] = {
    "read-only": read_only,
    "flipped": lambda array: array[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda array: array.astype(">f8"),
    "big-endian whole": lambda array: array.astype(">i4"),
    "Fortran": np.asfortranarray,
    "masked": np.ma.MaskedArray,
    "matrix": lambda array: array.view(np.matrix),
    "objects": lambda array: array.astype(object),
    "fractions": lambda array: np.vectorize(Fraction, otypes=[object])(array),
    "decimals": lambda array: np.vectorize(Decimal, otypes=[object])(array),
    "bool": lambda array: array.astype(bool),
    "long": lambda array: array.astype(np.longdouble),
    "half": lambda array: array.astype(np.float16),
    "uint64": lambda array: array.astype(np.uint64),
    "uint16": lambda array: array.astype(np.uint16),
    "list": lambda array: array.tolist(),
    "list of arrays": list,
    "list of lists of scalars": lambda array: [list(row) for row in array],
    "tuple of read-only arrays": lambda array: tuple(map(read_only, array)),
    "polars": lambda array: polars.DataFrame(array),
    "polars of types": lambda array: polars.DataFrame({"a": array[:, 0].astype(int), "b": array[:, 1] > 0}),
    "torch": torch.tensor,
    "torch seen as negative": lambda array: torch.tensor(-array)._neg_view(),
    "list of tensors": lambda array: [torch.tensor(row) for row in array],
    "polars of 128 bits": lambda array: polars.DataFrame(array).cast(polars.Int128),
}


def pandas_makes() -> dict[str, Callable[[np.ndarray], Any]]:
    pd = pytest.importorskip("pandas")
    return {
        "frame": pd.DataFrame,
        "nullable": lambda array: pd.DataFrame(array).astype("Int64"),
        "mixed": lambda array: pd.DataFrame({"a": array[:, 0].astype(int), "b": array[:, 1].astype(np.float32)}),
        "sparse": lambda array: pd.DataFrame(array).astype(pd.SparseDtype("float64", 0.0)),
        "nullable bool": lambda array: pd.DataFrame(array > 0).astype("boolean"),
    }


@pytest.mark.parametrize("make", MAKES)
def test_arrays_of_every_make_give_the_same_problem(make: str):
    given = MAKES[make](X)
    before = copy.deepcopy(given)
    assert NetworkProblem(given, Y, [2]).inputs.tolist() == X.tolist()
    assert Hinge().fit(given, SIGNS).weight.shape == (1, 2)
    assert LayerProblem(given, np.ones((3, 4))).weight.tolist() == X.tolist()
    assert repr(given) == repr(before), "nothing is changed"


@pytest.mark.parametrize("make", ["frame", "nullable", "mixed", "sparse", "nullable bool"])
def test_tables_of_pandas_give_the_same_problem(make: str):
    given = pandas_makes()[make](X)
    assert NetworkProblem(given, Y, [2]).inputs.tolist() == X.tolist()
    assert Logistic().fit(given, SIGNS).weight.shape == (1, 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (scipy.sparse.csr_matrix(X), r"a sparse matrix \(csr_matrix\).*toarray"),
        (scipy.sparse.coo_array(X), "a sparse matrix.*toarray"),
        (torch.tensor(X).to_sparse(), "layout torch.sparse_coo.*to_dense"),
        (torch.empty(2, 2, device="meta"), "a tensor on meta.*to_empty"),
        (polars.DataFrame({"x": [{"y": 1}]}), "X, column 'x': got a column of the type Struct"),
        (np.ma.MaskedArray(X, mask=X > 0), "4 masked values.*filled"),
        (np.array([["a", "b"]]), "an array of words.*read_table"),
        (np.array([["2020-01-01"]], dtype="datetime64[D]"), "an array of dates.*read_table"),
        (np.array([[2**60, 0.5]], dtype=object), r"whole numbers beyond 2\*\*53"),
        (np.array([[1 + np.finfo(np.longdouble).eps]]), "would round"),
        (np.array([[2**64 - 1]], dtype=np.uint64), "would round"),
        (np.array([[2**53 + 1]]), r"whole numbers beyond 2\*\*53"),
        ([[2**53 + 1, 0.5]], r"whole numbers beyond 2\*\*53"),
        (np.array([[object()]]), "a cell of type object"),
        ([np.ones(2), np.ones(3)], "rows of several lengths"),
        ([np.ma.MaskedArray([1, 2], mask=[False, True])], "1 masked values"),
        (polars.DataFrame({"x": ["a", "b"]}), "column 'x'.*a cell of type str.*read_table"),
        (polars.DataFrame({"x": ["a"]}, schema={"x": polars.Categorical}), "a column of categories"),
        (polars.LazyFrame({"x": [1]}), "collect"),
        (polars.DataFrame({"x": [2**60], "y": [0.5]}), r"beyond 2\*\*53 in column 'x'"),
        (7j * X, "real numbers"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_is_no_array_of_numbers_is_refused_by_name(value: Any, message: str):
    with pytest.raises(ArgumentError, match=message):
        NetworkProblem(value, [0, 1], [2])


def test_a_layer_problem_names_what_is_no_array_of_numbers():
    for weight, targets, words in (
        (torch.eye(2).to_sparse(), [[1, 1]], "layout torch.sparse_coo"),
        (np.eye(2), [np.ma.MaskedArray([1, 1], mask=[False, True])], "1 masked values"),
        (np.eye(2), [[Fraction(1, 3), 1]], "such as 0.333"),
    ):
        with pytest.raises(TpsolveError, match=words):
            LayerProblem(weight, targets)


def test_missing_values_of_tables_are_named_as_such():
    for value in (
        polars.DataFrame({"x": [1, None, 3, 4]}),
        np.array([[1], [None], [3], [4]], dtype=object),
        polars.DataFrame({"x": [2**53 + 0, None, 3, 4]}),
    ):
        with pytest.raises(NotFiniteError, match="1 NaN"):
            NetworkProblem(value, Y, [2])


def test_whole_numbers_with_gaps_are_not_rounded_first():
    with pytest.raises(ArgumentError, match=r"beyond 2\*\*53"):
        plain_array("X", polars.DataFrame({"x": [2**53 + 1, None]}))


@pytest.mark.parametrize(
    "labels",
    [
        list(np.array(Y)),
        list(np.array(Y) > 0),
        np.array(Y, dtype=">i2"),
        np.array(["no", "yes", "yes", "no"]),
        list(np.array(["no", "yes", "yes", "no"])),
        np.array(["no", "yes", "yes", "no"], dtype=object),
        polars.Series(["no", "yes", "yes", "no"]),
        polars.Series(Y, dtype=polars.Int8),
        read_only(np.array(Y)),
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_labels_of_every_make_are_those_of_python(labels: Any):
    problem = NetworkProblem(X, labels, [2])
    assert problem.index.tolist() == [0, 1, 1, 0]
    assert all(type(label) in (int, bool, str) for label in problem.classes)
    json.dumps(problem.classes)


def test_labels_that_are_missing_are_named():
    masked: Any = np.ma.masked_equal([0, 1, 9, 1], 9)
    for labels in (polars.Series([0, 1, None, 1]), masked, [0, 1, None, 1]):
        with pytest.raises(NotFiniteError, match="no label at sample 2"):
            NetworkProblem(X, labels, [2])


def test_whole_numbers_that_a_layer_problem_would_round_are_refused():
    for number in (2**53 + 1, 2**24 + 1):
        with pytest.raises(ArgumentError, match=r"weight: got whole numbers that float32 would round"):
            LayerProblem(np.array([[number, 1]]), np.ones((3, 1)))
    assert LayerProblem(np.array([[2**24, 1]]), np.ones((3, 1))).weight[0, 0] == 2**24


def test_labels_that_are_a_table_are_refused():
    with pytest.raises(ArgumentError, match=r"y: got a DataFrame.*df\[name\]"):
        NetworkProblem(X, polars.DataFrame({"k": Y}), [2])


def test_a_proof_is_checked_on_tables_and_labels_of_numpy():
    problem = NetworkProblem(X, Y, [2])
    proof = make_proof(problem, solve(problem, Circuits(), budget=Budget(seconds=30)))
    findings = verify_proof(proof, polars.DataFrame(X), list(np.array(Y)))
    assert all(finding.holds for finding in findings)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_settings_of_numpy_are_those_of_python_in_every_solver(name: str):
    kind = SOLVERS[name]
    try:
        plain = kind()
    except TypeError:
        pytest.skip("needs other solvers")
    given = {
        field: np.asarray(value)[()] for field, value in vars(plain).items() if isinstance(value, bool | int | float)
    }
    again = kind(**given)
    assert again == plain
    assert solver_text(again) == solver_text(plain)
    assert all(type(value) is type(getattr(plain, field)) for field, value in vars(again).items())


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_settings_of_numpy_are_those_of_python_in_every_learner(name: str):
    plain = LEARNERS[name]()
    given: dict[str, Any] = {k: np.asarray(v)[()] for k, v in vars(plain).items() if isinstance(v, bool | int | float)}
    assert given
    assert repr(LEARNERS[name](**given)) == repr(plain)


def test_numbers_of_numpy_are_numbers_wherever_one_is_checked():
    budget = Budget(seconds=np.float32(0.5), steps=np.int64(5))  # pyright: ignore
    assert (budget, type(budget.steps)) == (Budget(seconds=0.5, steps=5), int)
    for widths in (np.array([3]), list(np.array([3])), (np.int8(3),)):
        assert NetworkProblem(X, Y, widths).widths == (3,)  # pyright: ignore
    assert HardThreshold(width=np.float32(0.5)).width == 0.5  # pyright: ignore
    assert solver_text(HillClimb(restarts=np.int64(4))) == solver_text(HillClimb(restarts=4))  # pyright: ignore
    assert LayerProblem(X, np.ones((3, 4)), start=np.ones((3, 2)), stay=np.float64(0.5)).stay == 0.5
    UnitClassifier(l2=np.float32(1e-3), bias=np.True_).fit(X, Y)  # pyright: ignore


@pytest.mark.parametrize("wrong", [np.float64(2.5), np.True_, np.str_("3"), np.int64(-1), np.array([3])])
def test_wrong_numbers_of_numpy_are_refused_as_those_of_python_are(wrong: Any):
    for call in (lambda: HillClimb(restarts=wrong), lambda: Anneal(sweeps=wrong), lambda: Circuits(solutions=wrong)):
        with pytest.raises(ArgumentError):
            call()
