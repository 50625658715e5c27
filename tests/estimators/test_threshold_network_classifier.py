"""The estimator of small networks: scikit-learn's checks, proofs, weights, penalties, and where it works."""

import pickle
import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import polars
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from support.network_oracle import parity_table, random_table

from tpsolve import Budget, NetworkProblem, Status, solve
from tpsolve.errors import ArgumentError, BudgetError, NotAcceptedError, UnknownNameError
from tpsolve.estimators import ThresholdNetworkClassifier, UnitClassifier
from tpsolve.estimators._early_stopping import held_out
from tpsolve.estimators._sample_weights import MAX_TOTAL, whole_weights
from tpsolve.estimators._threshold_network_classifier import AUTO_PENALTIES
from tpsolve.estimators._voting import vote
from tpsolve.models._layers import Layers, read_layers
from tpsolve.search import Circuits, Report, find_solver, verify_proof
from tpsolve.search.network.circuits._search_state import SearchState
from tpsolve.search.network.packing._packing import Packing

QUICK = "circuits:engine=cp-sat,workers=1,max_drawn=100,max_cuts=5,local_seconds=0"


def quick(widths: Any = 2, **settings) -> ThresholdNetworkClassifier:
    return ThresholdNetworkClassifier(widths, **{"solver": QUICK, "seconds": None, "steps": 3000, **settings})


@pytest.mark.slow
def test_scikit_learn_accepts_the_estimator():
    # The widths, and the price of a unit, are the usual ones.
    estimator = quick((3,), solver=QUICK.replace("cp-sat", "glucose4"), steps=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Of numpy, about an array of scikit-learn's own.
        warnings.filterwarnings("ignore", ".*copy keyword.*", DeprecationWarning)
        rows = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(rows) > 50
    for row in rows:
        assert row["status"] in ("passed", "skipped"), (row["check_name"], row["exception"])


WHOLE = {"weight_set": "ternary", "solver": "integer-search:copies=4,first_steps=40", "seconds": None, "steps": 60}


def test_a_margin_costs_what_sums_lack():
    X, y = parity_table(3)
    weight = np.array([1, 2, 1, 1, 3, 1, 1, 1])
    found = ThresholdNetworkClassifier(3, margin=2, margin_price=0.125, penalty=0.0625, **WHOLE).fit(X, y, weight)
    sums, wanted = found.decision_function(X), y == found.classes_[1]
    short = np.maximum(0, 2 - np.where(wanted, sums, -1 - sums))
    wrong = (found.predict(X) != y) @ weight
    assert found.errors_ == wrong
    assert found.objective_ == wrong + 0.125 * (short @ weight) + 0.0625 * found.model_.size
    assert found.proof_ is None


def test_early_stopping_takes_the_network_that_names_most_of_the_samples_held_out():
    g = np.random.default_rng(1)
    X = g.integers(0, 2, (80, 12)).astype(float)
    y = (X[:, 0] + X[:, 1] + X[:, 2] + g.integers(0, 3, 80) > 2).astype(int)
    found = ThresholdNetworkClassifier(4, validation_fraction=0.4, random_state=3, **WHOLE).fit(X, y)
    # As the estimator sorts them.
    order = np.lexsort((y, *X.T[::-1]))
    held = order[held_out(y[order], 0.4, 3)]
    seen = order[~held_out(y[order], 0.4, 3)]
    assert set(y[held]) == set(y[seen]) == {0, 1}
    assert abs(len(held) - 32) <= 1
    problem = NetworkProblem(X[seen], y[seen].tolist(), [4], weight_set="ternary")
    solver = find_solver(WHOLE["solver"] + ",kept=200")
    result = solve(problem, solver, budget=Budget(steps=60), generator=torch.Generator().manual_seed(3))
    path = result.stats["path"]
    costs = [problem.objective(problem.from_weights(w), w).item() for w in path]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == result.objective.item()
    right = [(read_layers(w).classes(X[held]) == y[held]).sum() for w in path]
    assert (found.predict(X[held]) == y[held]).sum() == max(right) > right[-1]
    assert found.errors_ == (found.predict(X) != y).sum()
    assert found.proof_ is None
    with pytest.raises(ArgumentError, match="validation_fraction: got a class of one sample"):
        found.fit(X, [2] + [0, 1] * 39 + [0])


@pytest.mark.nightly
@pytest.mark.slow
def test_scikit_learn_accepts_whole_weights():
    rows = check_estimator(ThresholdNetworkClassifier(3, penalty=0.5, **WHOLE), on_fail=None, on_skip=None)
    assert len(rows) > 50
    for row in rows:
        assert row["status"] in ("passed", "skipped"), (row["check_name"], row["exception"])


def test_weights_of_a_set_have_a_price_and_a_proof():
    X, y = parity_table(3)
    names = np.where(y > 0, "odd", "even")
    exact = ThresholdNetworkClassifier(2, weight_set="ternary", penalty=0.125, seconds=30, solver="weight-box")
    found = exact.fit(X, names)
    assert found.status_ is Status.OPTIMAL
    assert found.objective_ == found.errors_ + 0.125 * found.model_.size == found.bound_
    assert all(set(w.ravel()) <= {-1, 0, 1} for w, _ in found.model_.layers.weights)
    assert found.errors_ == (found.predict(X) != names).sum()
    assert found.proof_ is not None
    assert all(finding.holds for finding in verify_proof(found.proof_, X, names))
    # Errors alone are not proved: networks with more weights may make fewer.
    assert found.model_.bound <= found.errors_
    fresh: Any = clone(found)
    dear = fresh.set_params(penalty=100.0).fit(X, names)
    assert (dear.model_.size, dear.errors_) == (0, 4)
    # Parity neither rises nor falls.
    rising: Any = clone(found)
    rising.set_params(monotone=[1, 1, 1], penalty=0.0, solver="all-columns").fit(X, names)
    assert (rising.errors_, rising.status_) == (3, Status.OPTIMAL)
    assert min(w.min() for w, _ in rising.model_.layers.weights) >= 0
    # The price is in the unit of the weights of samples.
    light = fresh.set_params(penalty=0.125, solver=None, seconds=None, steps=60).fit(
        X, names, sample_weight=np.full(8, 0.25)
    )
    assert light.objective_ == light.errors_ + 0.125 * light.model_.size <= 1


def test_the_proof_is_that_of_the_samples_as_they_were_given():
    X, y = random_table(2, 24)
    found = quick().fit(X, y)
    assert found.status_ is Status.OPTIMAL
    assert found.errors_ == found.bound_ == (found.predict(X) != y).sum()
    assert found.proof_ is not None
    assert all(f.holds for f in verify_proof(found.proof_, X, y, engine="cadical195"))
    order = np.random.default_rng(0).permutation(len(y))
    assert found.errors_ == quick().fit(X[order], y[order]).errors_
    # Weights of 0 keep their samples in the proof, which is of all samples.
    weight = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    found = quick().fit(X, y, sample_weight=weight)
    assert found.errors_ == weight[found.predict(X) != y].sum() == found.bound_
    assert found.proof_ is not None
    assert all(f.holds for f in verify_proof(found.proof_, X, y, weight.tolist(), engine="cadical195"))


@dataclass(frozen=True)
class OnlyPacking(Circuits):
    """A search that ends with a bound of circuits which share costs, as that of one unit on many points may."""

    def run(self, problem: Any, budget: Budget, generator: torch.Generator, report: Report) -> None:
        state = SearchState(problem, report, generator, 0, 5)
        packing = Packing(problem, state, generator)
        packing.run(lambda: state.proved > 0)
        report.stats["engine"], report.stats["proved_by"] = "glucose4", state.proved_by
        report.stats["circuits"], report.stats["shares"] = packing.evidence()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_proof_of_circuits_that_share_costs_is_kept():
    X, y = random_table(2, 30)
    weight = np.where(np.arange(30) % 7 == 0, 0.0, 1.0 + np.arange(30) % 3)
    found = ThresholdNetworkClassifier(1, solver=OnlyPacking(), seconds=5).fit(X, y, weight)
    assert found.proof_ is not None
    assert found.proof_.method == "packing"
    assert found.bound_ > 0
    assert all(f.holds for f in verify_proof(found.proof_, X, y, weight.tolist()))


@pytest.mark.slow
def test_equal_seeds_give_equal_networks_and_copies():
    X, y = random_table(2, 20, 1)
    one, other = (quick(random_state=3).fit(X, y) for _ in range(2))
    assert one.rules_ == other.rules_
    again = pickle.loads(pickle.dumps(one))
    assert np.array_equal(again.predict(X), one.predict(X))
    assert again.model_.rules == one.rules_
    fresh: Any = clone(one)
    assert fresh.get_params() == one.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(X)


def test_a_penalty_trades_units_for_errors():
    X, y = parity_table(2)
    for penalty, errors, units in ((0.2, 0, 2), (0.7, 0, 2), (3.0, 2, 0)):
        found = quick(3, penalty=penalty).fit(X, y)
        assert (found.errors_, round(found.objective_ - found.errors_, 6)) == (errors, penalty * units), penalty
        assert found.status_ is Status.OPTIMAL
        assert found.bound_ == pytest.approx(found.objective_)
    assert len(set(found.predict(X))) == 1
    assert found.rules_ == [f"{found.predict(X)[0]}: always"]


@pytest.mark.slow
def test_widths_are_chosen_on_held_out_samples():
    corners, _ = parity_table(2)
    X = np.concatenate([corners + shift for shift in np.random.default_rng(0).uniform(-0.3, 0.3, (9, 1, 2))])
    y = X.prod(axis=1) > 0
    found = quick("auto", steps=500).fit(X, y)
    assert found.widths_ == (2,)
    assert found.errors_ == 0
    line = quick("auto", steps=500).fit(X, X[:, 0] > 0)
    assert line.widths_ == (1,)
    # Too few samples of a class to hold any out.
    assert quick("auto", steps=50).fit(X[:2], [0, 1]).widths_ == (1,)


@pytest.mark.slow
def test_weights_of_classes_count():
    X, y = parity_table(2)
    even = quick(1).fit(X, y)
    assert even.errors_ == 1
    heavy = quick(1, class_weight={1: 5.0}).fit(X, y)
    assert heavy.errors_ == 1
    assert (heavy.predict(X)[y == 1] == 1).all()
    assert heavy.proof_ is None
    balanced = quick(1, class_weight="balanced").fit(X[:3], y[:3])
    assert balanced.errors_ == 0
    X, y = random_table(2, 25, 2)
    balanced = quick(1, class_weight="balanced").fit(X, y)
    share = len(y) / 2 / np.array([(y == label).sum() for label in y])
    assert balanced.errors_ == pytest.approx(share[balanced.predict(X) != y].sum())
    assert balanced.status_ is Status.OPTIMAL
    assert balanced.bound_ <= balanced.errors_ + 1e-9


def test_weights_become_whole_numbers_and_say_what_rounding_costs():
    assert whole_weights(None).exact
    assert whole_weights(np.array([2.0, 3.0])).exact
    simple = whole_weights(np.array([0.1, 0.3, 0.25]))
    assert simple.values is not None
    assert simple.values.tolist() == [2, 6, 5]
    assert simple.slack < 1e-15
    odd = np.random.default_rng(0).uniform(size=50)
    rounded = whole_weights(odd)
    assert rounded.values is not None
    assert rounded.values.sum() <= MAX_TOTAL + 50
    assert rounded.slack == pytest.approx(np.abs(rounded.values * rounded.unit - odd).sum())
    assert not rounded.exact
    X, y = random_table(2, 12)
    found = quick(1).fit(X, y, sample_weight=odd[:12])
    assert found.errors_ - 12 * 2 * odd.sum() / MAX_TOTAL <= found.bound_ <= found.errors_
    assert found.proof_ is None


def test_weights_that_together_count_less_than_a_step_become_nothing():
    tiny = whole_weights(np.array([1000.0] * 5 + [1e-4] * 5))
    assert tiny.values is not None
    assert tiny.values[5:].tolist() == [0] * 5
    assert tiny.slack == pytest.approx(5 * abs(52429 * tiny.unit - 1000) + 5e-4)
    # As many as weigh more than that together are counted, each of them.
    many = whole_weights(np.array([1.0] * 2 + [1e-7] * 300))
    assert many.values is not None
    assert many.values.min() == 1
    X, y = random_table(2, 12)
    found = quick(2, class_weight={y.min(): 1e-4, y.max(): 1000.0}).fit(X, y)
    assert (found.predict(X) == y.max()).all()
    assert found.errors_ == pytest.approx(1e-4 * (y == y.min()).sum())
    assert found.bound_ <= found.errors_
    three = quick(2, class_weight={0: 1000.0, 1: 1e-4, 2: 1e-4}).fit(X, np.arange(12) % 3)
    assert three.classes_.tolist() == [0, 1, 2]
    assert (three.predict(X) == 0).all()


@pytest.mark.slow
def test_a_search_that_ends_without_a_proof_warns():
    X, y = random_table(2, 40)
    with pytest.warns(ConvergenceWarning, match=r"costs \d+, and the fewest is at least 0"):
        quick(3, steps=1).fit(X, y)
    # A search that proves nothing doesn't claim to.
    found = ThresholdNetworkClassifier(solver="column-search", seconds=None, steps=30).fit(X, y)
    assert found.status_ is Status.FEASIBLE
    assert found.proof_ is None
    assert found.errors_ < 12


@pytest.mark.slow
def test_a_search_without_time_is_no_worse_than_logistic_units():
    table: Any = load_iris()
    for widths, errors in ((1, 5), ((3, 2), 5), (2, 150)):
        keep = table.target > 0 if widths != 2 else slice(None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = quick(widths, steps=1).fit(table.data[keep], table.target[keep])
        assert found.bound_ <= found.errors_ <= errors
        assert (found.predict(table.data[keep]) != table.target[keep]).sum() <= found.errors_


@pytest.mark.slow
def test_three_classes_have_a_unit_each():
    X, y = load_iris(return_X_y=True)
    labels = np.array(["setosa", "versicolor", "virginica"])[y]
    found = ThresholdNetworkClassifier(2, solver="ftprop", seconds=None, steps=30).fit(X, labels)
    assert found.decision_function(X).shape == (150, 3)
    assert (found.predict(X) == found.classes_[found.decision_function(X).argmax(1)]).all()
    assert (found.predict(X) != labels).sum() <= found.errors_ < 50


@pytest.mark.slow
def test_it_works_where_scikit_learn_does():
    table: Any = load_iris(as_frame=True)
    X, y = table.data[table.target > 0], table.target[table.target > 0]
    estimator = quick(1, seconds=5, steps=None)
    pipeline: Any = make_pipeline(StandardScaler(), estimator).set_output(transform="pandas").fit(X, y)
    assert pipeline.score(X, y) >= 0.98
    assert pipeline[-1].model_.features == tuple(X.columns)
    assert pipeline[-1].model_.target == "target"
    assert "petal width (cm)" in pipeline[-1].rules_[0]
    assert cross_val_score(estimator, X, y, cv=2).mean() > 0.85
    calibrated = CalibratedClassifierCV(estimator, cv=2).fit(X, y)
    assert calibrated.predict_proba(X).shape == (100, 2)
    assert not hasattr(estimator, "predict_proba")
    named = estimator.fit(X, y).model_
    assert named.predict(X[X.columns[::-1]]).tolist() == estimator.predict(X).tolist()
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(X[X.columns[::-1]])
    with pytest.raises(ArgumentError, match="columns without names"):
        named.predict(X.to_numpy())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.nightly
@pytest.mark.slow
def test_grids_are_searched_in_processes():
    X, y = random_table(2, 30, 3)
    search = GridSearchCV(quick(), {"widths": [(1,), (2,)], "penalty": [0.0, 1.0]}, cv=2, n_jobs=2).fit(X, y)
    assert set(search.best_params_) == {"widths", "penalty"}


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"widths": "3"}, ArgumentError, "widths: got '3'"),
        ({"widths": (2.5,)}, ArgumentError, "widths"),
        ({"widths": ()}, ArgumentError, "widths"),
        ({"widths": 0}, ArgumentError, "at least 1"),
        ({"widths": (2, 2), "penalty": 1.0}, ArgumentError, "penalty: got 1.0, expected 0"),
        ({"penalty": -1}, ArgumentError, "penalty"),
        ({"penalty": float("nan")}, ArgumentError, "penalty"),
        ({"solver": "circits"}, UnknownNameError, "circuits"),
        ({"solver": "column-search", "prefer": "margin"}, ArgumentError, "prefer: got 'margin'"),
        ({"weight_set": "quaternary"}, UnknownNameError, "weight_set"),
        ({"max_fan_in": 2}, ArgumentError, "max_fan_in.*without a weight_set"),
        ({"margin": 2}, ArgumentError, "margin.*without a weight_set"),
        ({"validation_fraction": 0.5}, ArgumentError, "validation_fraction: got 0.5 for .*integer-search"),
        ({"validation_fraction": 1.0, "weight_set": "ternary", "solver": None}, ArgumentError, "validation_fraction"),
        ({"weight_set": "ternary", "solver": "circuits"}, NotAcceptedError, "integer-search"),
        ({"weight_set": "ternary", "solver": None, "prefer": "margin"}, ArgumentError, "prefer"),
        ({"bias_set": [0]}, ArgumentError, "bias_set"),
        ({"prefer": "best"}, UnknownNameError, "prefer"),
        ({"seconds": -1}, BudgetError, "seconds"),
        ({"seconds": "3"}, BudgetError, "seconds: got 3"),
        ({"penalty": True}, ArgumentError, "penalty: got True"),
        ({"penalty": "some"}, ArgumentError, "penalty: got 'some', expected 'auto'"),
        ({"average": 0}, ArgumentError, "average: got 0"),
        ({"average": 3, "weight_set": "ternary", "solver": None}, ArgumentError, "average: got 3"),
        ({"average": 3, "prefer": "units"}, ArgumentError, "prefer"),
        ({"class_weight": {-1: 1, 1: -2}}, ArgumentError, "class_weight: got .*-2"),
        ({"seconds": None, "steps": None}, BudgetError, "no limit"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, error, words):
    X, y = parity_table(2)
    with pytest.raises(error, match=words):
        quick(**settings).fit(X, y)


@pytest.mark.parametrize(("outputs", "count"), [(1, 3), (1, 4), (3, 3), (3, 2)])
def test_a_vote_is_that_of_its_networks_and_the_first_one_decides_ties(outputs: int, count: int):
    g = np.random.default_rng(count)
    sizes = [(3, 4), (4, 2), (2, outputs)]
    networks = [read_layers([(g.normal(size=(m, n)), g.normal(size=m) / 9) for n, m in sizes]) for _ in range(count)]
    X = g.normal(size=(200, 3))
    fires = np.array([network.outputs(X)[-1] > 0 for network in networks]).astype(int)
    votes = 2 * fires.sum(axis=0) + fires[0]
    expected = votes.argmax(axis=1) if outputs > 1 else (2 * votes[:, 0] > 2 * count).astype(int)
    assert vote(networks).classes(X).tolist() == expected.tolist()
    assert len(set(expected.tolist())) > 1


def test_optima_and_seeds_vote(tmp_path):
    X, y = random_table(4, 14, 2)
    # Where the optimum is proved, all networks that vote are optimal and different.
    found = quick(2, average=3, seconds=None, steps=3000).fit(X, y)
    assert found.widths_ == (6, 3)
    assert found.proof_ is None
    assert found.errors_ == (found.predict(X) != y).sum() <= 3 * quick(2).fit(X, y).errors_
    assert "are equal" in str(found.model_.export(tmp_path / "vote.py"))
    first = found.model_.layers.weights
    parts = [Layers(((first[0][0][k : k + 2], first[0][1][k : k + 2]), *_block(first[1], k))) for k in (0, 2, 4)]
    each = [network.classes(X) for network in parts]
    best = (quick(2).fit(X, y).predict(X) != y).sum()
    assert [int((found.classes_[one] != y).sum()) for one in each] == [best] * 3
    assert len({tuple(part.outputs(X)[0].ravel().tolist()) for part in parts}) == 3
    # Elsewhere seeds do.
    settings = {"solver": "column-search", "seconds": None, "steps": 3}
    found = ThresholdNetworkClassifier(2, average=3, **settings).fit(X, y)
    alone = [ThresholdNetworkClassifier(2, random_state=k, **settings).fit(X, y).predict(X) for k in range(3)]
    assert found.predict(X).tolist() == np.sign(np.sum(alone, axis=0)).tolist()


def test_a_vote_of_fewer_says_so_and_knows_what_labels_cost():
    # One threshold between two points, and labels that contradict each other at a third.
    X, y = [[0.0], [1.0], [1.0], [1.0]], [0, 1, 1, 0]
    with pytest.warns(UserWarning, match="1 of 3 networks vote: .* there are no others"):
        found = quick(1, average=3).fit(X, y)
    assert (found.errors_, found.bound_, found.status_) == (1, 1, Status.OPTIMAL)
    assert found.proof_ is not None
    table, labels = random_table(4, 14, 2)
    table, labels = np.concatenate([table, table[:3]]), np.concatenate([labels, -labels[:3]])
    settings: dict[str, Any] = {"solver": "column-search", "seconds": None, "steps": 3}
    weight = np.full(len(labels), 0.5)
    found = ThresholdNetworkClassifier(2, average=3, penalty=0.01, **settings).fit(table, labels, weight)
    assert found.bound_ == pytest.approx(1.5)
    assert found.objective_ - found.errors_ == pytest.approx(0.01 * sum(found.widths_))


def _block(layer, k: int):
    """Of a layer of outputs the one that reads the units k and k + 1."""
    weight, bias = layer
    return [(weight[k // 2 : k // 2 + 1, k : k + 2], bias[k // 2 : k // 2 + 1])]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_penalty_is_chosen_on_held_out_samples():
    X, y = parity_table(2)
    repeated = np.repeat(X, 4, axis=0), np.repeat(y, 4)
    assert quick(2, penalty="auto", steps=300).fit(*repeated).penalty_ == 0
    # Noise, of which a network without hidden units names most.
    x = np.arange(24.0)[:, None]
    noise = np.where(np.random.default_rng(0).uniform(size=24) < 0.25, 1, -1)
    found = quick(2, penalty="auto", steps=100).fit(x, noise)
    assert found.penalty_ in AUTO_PENALTIES
    assert (found.objective_ - found.errors_) / found.penalty_ in (0, 1, 2)


def test_settings_of_numpy_are_numbers():
    X, y = parity_table(2)
    plain = quick(2, penalty=0.5, random_state=3).fit(X, y)
    given = {"penalty": np.float32(0.5), "random_state": np.int64(3), "steps": np.int32(3000)}
    found = quick(np.array(2), **given).fit(X, y)
    assert (found.objective_, found.rules_) == (plain.objective_, plain.rules_)


@pytest.mark.parametrize("make", [quick, UnitClassifier], ids=["network", "unit"])
def test_what_scikit_learn_would_take_for_other_numbers_is_refused_by_name(make):
    X, y = parity_table(2)
    fitted = make().fit(np.ma.MaskedArray(X), y)
    dates = np.array([["2024-01-01"] * 2] * 4, dtype="datetime64[D]")
    whole = np.array([[2**53 + 1, 0]] * 4)
    for rows, words in (
        (np.ma.MaskedArray(X, mask=X > 0), r"X: got an array with \d+ masked values.*filled"),
        (dates, "X: got an array of dates.*read_table"),
        (pd.DataFrame({"t": dates[:, 0], "u": 1.0}), "column 't': got an array of dates"),
        (whole, r"X: got whole numbers beyond 2\*\*53"),
        (-whole, r"beyond 2\*\*53"),
        (whole.astype(object), r"beyond 2\*\*53"),
        (whole.astype(np.uint64).tolist(), r"beyond 2\*\*53"),
        (polars.DataFrame({"a": whole[:, 0], "b": 0.5}), r"column 'a': got whole numbers beyond 2\*\*53"),
        (polars.LazyFrame({"a": [1]}), "a LazyFrame.*collect"),
        (torch.tensor(X, dtype=torch.float64, requires_grad=True), "requires grad.*detach"),
        (torch.tensor(X).bfloat16(), r"torch.bfloat16.*double"),
        (torch.tensor(X).to_sparse(), r"sparse_coo.*to_dense"),
        (scipy.sparse.csr_array(X), r"X: got a sparse matrix \(csr_array\).*toarray"),
        (scipy.sparse.dok_array(X), r"a sparse matrix \(dok_array\).*toarray"),
        (
            pd.DataFrame({"t": pd.Categorical(["u", "v"] * 2), "u": 1.0}),
            "column 't': got a column of categories.*read_t",
        ),
        (pd.DataFrame({"t": ["u", "v"] * 2, "u": 1.0}), "column 't': got a cell of type str.*read_table"),
        (polars.DataFrame({"t": [[1]] * 4, "u": [1.0] * 4}), "column 't': got a column of the type List"),
        (X.astype(str), "X: got an array of words.*read_table"),
        ([*X.tolist()[:3], [1]], "X: got what numpy does not read"),
        (1j * X, "X: got complex numbers"),
        (pd.DataFrame(X, columns=["a", "a"]), "two columns named 'a'"),
        ({"a": [1]}, "X: got dict"),
    ):
        for call in (fitted.predict, fitted.decision_function, lambda rows: make().fit(rows, y)):
            with pytest.raises(ArgumentError, match=words):
                call(rows)
    with pytest.raises(ArgumentError, match="y: got an array with 1 masked"):
        make().fit(X, np.ma.MaskedArray(y, mask=[True, False, False, False]))
    with pytest.raises(ArgumentError, match="y: got 1 values that are null"):
        make().fit(X, polars.Series(["a", None, "b", "a"]))
    with pytest.raises(ArgumentError, match="sample_weight: got an array with 1 masked"):
        make().fit(X, y, np.ma.MaskedArray(np.ones(4), mask=[True, False, False, False]))
    for labels, words in (
        (["n", "y", "y", float("nan")], "y: got nan at sample 3"),
        ([0, "y", "y", 0], "y: got numbers mixed with words"),
        (polars.DataFrame({"y": y}), r"y: got a DataFrame.*df\[name\]"),
        (scipy.sparse.csr_array(y[:, None] * 1.0), "y: got a sparse matrix"),
        (np.array([Fraction(1, 3), Fraction(2)] * 2), "y: got a label of type Fraction.*words"),
        ([10**30, 1, 1, 1], "y: got whole numbers of more than 64 bits"),
        (1j * y, "y: got labels that are complex numbers"),
    ):
        for call in (lambda labels=labels: make().fit(X, labels), lambda labels=labels: fitted.score(X, labels)):
            with pytest.raises(ArgumentError, match=words):
                call()


@pytest.mark.parametrize("make", [quick, UnitClassifier], ids=["network", "unit"])
def test_tables_and_labels_of_every_make_are_taken_as_their_numbers(make):
    X, y = parity_table(2)
    expected = make().fit(X, y).decision_function(X).tolist()
    named = pd.DataFrame(X, columns=["a", "b"])
    for rows, labels in (
        (named.astype(pd.SparseDtype("float64", 0.0)), pd.Series(y, dtype="Int64")),
        (named.astype({"a": pd.SparseDtype("float64", 0.0)}), y.astype(object)),
        (named.astype("Int64"), pd.Series(y, dtype="category")),
        (polars.DataFrame(X, schema=["a", "b"]).cast(polars.Int128), polars.Series(y).cast(polars.Int128)),
        (torch.tensor(-X)._neg_view(), torch.tensor(y).bfloat16()),
    ):
        found = make().fit(rows, labels)
        assert found.decision_function(rows).tolist() == expected
        assert found.score(rows, labels) == 1 or make is UnitClassifier
    assert make().fit(X, pd.Series((y > 0) + 2**53, dtype="Int64")).classes_.tolist() == [2**53, 2**53 + 1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_targets_whose_weights_float64_can_not_hold_are_not_taken():
    # The numbers 0.1, 0.2 and 0.3 of float64 are beside a line by less than weights of float64 can tell.
    X, y = [[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]], [0, 1, 0]
    problem = NetworkProblem(X, y, [1])
    with pytest.raises(ArgumentError, match="no float64 weights"):
        problem.weights(solve(problem, QUICK, budget=Budget(steps=3000)).targets)
    found = quick(1).fit(X, y)
    assert (found.errors_, found.bound_) == (1, 0)
    assert (found.predict(X) != y).sum() == 1


def test_whole_weights_are_preferred_where_asked_for():
    X, y = parity_table(2)
    found = quick(2, prefer="weights", solver=Circuits(engine="cp-sat", workers=1, local_seconds=0)).fit(X, y)
    assert max(np.abs(found.model_.layers.weights[0][0]).ravel()) == 1
    assert found.errors_ == 0


def test_the_estimator_of_units_is_exported_beside_it():
    frame = pd.DataFrame({"x": [0.0, 1, 2, 3]})
    assert UnitClassifier("hinge").fit(frame, [0, 0, 1, 1]).score(frame, [0, 0, 1, 1]) == 1


@pytest.mark.parametrize(
    ("settings", "words"), [({"average": 101}, "average"), ({"average": 2, "prefer": "margin"}, "prefer")]
)
def test_votes_that_can_not_be_are_refused_before_any_search(settings: dict[str, Any], words: str):
    with pytest.raises(ArgumentError, match=f"^{words}: "):
        ThresholdNetworkClassifier(**settings).fit(np.eye(4), [0, 1, 0, 1])


def test_the_class_that_is_left_is_named():
    X, y = [[0.0], [1.0], [2.0]], ["a", "b", "b"]
    with pytest.raises(ValueError, match=r"only one class is present: b, since samples of weight 0 are left out"):
        ThresholdNetworkClassifier(class_weight={"a": 0, "b": 1}).fit(X, y)
    # Newer versions of scikit-learn say so themselves.
    with pytest.raises(
        ValueError, match=r"no class is present, since samples of weight 0|at least one non-zero number"
    ):
        ThresholdNetworkClassifier().fit(X, y, sample_weight=[0, 0, 0])
