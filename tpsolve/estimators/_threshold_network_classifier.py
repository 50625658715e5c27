"""A small network of threshold units with scikit-learn's manners, its errors proved where the solver can."""

import dataclasses
import math
import warnings
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from tpsolve._check_arguments import check_count
from tpsolve._plain import is_real, plain_number
from tpsolve._result import Budget, Result, Status
from tpsolve.errors import ArgumentError
from tpsolve.estimators._early_stopping import KEPT, held_out, stopped_early
from tpsolve.estimators._sample_weights import whole_weights
from tpsolve.estimators._search_widths import Found, search_widths
from tpsolve.estimators._voting import averaged
from tpsolve.models import Model, make_model
from tpsolve.problems import NetworkProblem
from tpsolve.problems.network._labels import decode
from tpsolve.search import Circuits, IntegerSearch, Proof, Solver, find_solver
from tpsolve.search.network.circuits._prove import has_proof
from tpsolve.units._for_sklearn import labels_for_sklearn, samples_for_sklearn, weights_for_sklearn

AUTO_WIDTHS = (1, 2, 3, 4)
"""Units of the hidden layer that `widths="auto"` compares."""
MAX_VOTERS = 100
"""Networks of a vote: each needs a share of the seconds."""
AUTO_PENALTIES = (1.0, 4.0)
"""What a unit, or a weight of a set, may cost besides 0 where `penalty="auto"` chooses."""
_FOLDS = 3


@dataclass(frozen=True)
class _Choice:
    """Shapes that are searched, in the order of rising numbers of units, and what a unit costs."""

    shapes: list[tuple[int, ...]]
    penalty: float


class ThresholdNetworkClassifier(ClassifierMixin, BaseEstimator):
    """The network of threshold units with the fewest training errors, with a proof where the solver gives one.

    It minimises the weight of the samples whose label the network does not name, plus `penalty` for each hidden unit.
    With two classes, one output unit names the class. With more there is one unit a class, and an error is a sample at
    which not just its own unit outputs +1; `predict` then takes the class whose unit has the largest sum.

    Args:
        widths: units of each hidden layer, such as 3 or (3, 2). "auto": of `AUTO_WIDTHS`, those that name most held-out
            samples in a threefold cross-validation, the fewest units of equal ones. Half of `seconds` goes to that.
        solver: what searches: a name with its settings such as "circuits:engine=cp-sat", or a solver. "circuits" proves
            how few errors are possible; "column-search" is for two classes and larger tables. None: "circuits", or
            "integer-search" with a `weight_set`, which proves nothing; "all-columns" and, for whole inputs,
            "weight-box" do.
        seconds: wall-clock limit of `fit`; None: there is none, for a search that `steps` ends.
        prefer: which of all optimal networks: "any", "margin", "units" or "weights"; see `Circuits`.
        penalty: what a hidden unit costs, in errors. Networks with fewer units are then searched too, each in its
            share of the limit, and one that names the same class everywhere needs none. With a `weight_set`: what a
            weight other than 0 costs instead. "auto": of `AUTO_PENALTIES`, chosen as widths are.
        class_weight: None, "balanced", or a dict from classes to what an error there counts.
        random_state: seed of the search: an int, a numpy RandomState, or None for 0. Equal seeds give equal networks
            where `steps` is the only limit.
        steps: limit in steps of the solver for each search.
        weight_set: the whole numbers that weights may be: "ternary" (-1, 0, +1), "binary" (-1, +1), a range or a
            sequence; None: all real numbers. See `NetworkProblem`.
        bias_set: the whole numbers that biases may be, with a `weight_set`; None: any bias.
        average: so many networks vote, up to 100, each searched in its share of the limit. They are different optimal
            ones where circuits prove the optimum, and otherwise what equally many seeds find. Where there are fewer
            optimal ones, fewer vote, with a warning. The vote is a network of more units; its bound is only what rows
            with equal features and different labels cost.
        margin, margin_price: how far sums of output units should be beyond their thresholds, and what each step that
            they lack costs, in errors; with a `weight_set`. See `NetworkProblem`.
        validation_fraction: share of the samples that the search does not see. Of the networks that were the best so
            far in turn, the one is taken that names most of these samples: early stopping. Only with "integer-search".
            None: the search sees all samples, and the best one is taken.
        monotone, max_fan_in, groups: rules that weights of a set keep to: signs of features, and how many weights of a
            unit, or of a group of features in it, may be other than 0. See `NetworkProblem`.
        shared_bias: with a `weight_set`, whether all units of a hidden layer have the same bias.

    Attributes:
        classes_: labels in sorted order.
        n_features_in_, feature_names_in_: as in scikit-learn.
        errors_: weight of the training samples whose label the network does not name.
        objective_: `errors_`, the penalty, and the price of what sums lack of the margin.
        bound_: no network of these widths has a smaller objective.
        status_: a `Status`, optimal where `objective_` meets `bound_`.
        proof_: a `Proof` for `verify_proof(proof_, X, y)`, with `sample_weight` where that was given; None where the
            solver gives none, where weights were rounded, and of a class weight.
        widths_: units of each hidden layer.
        penalty_: the penalty, where it was chosen too.
        model_: the `Model`, which can be saved and exported.
        network_: the layers as a torch module.
        rules_: the rules of the network in words.
        n_iter_: steps of the search.

    A search by an exact solver that ends without a proof gives scikit-learn's ConvergenceWarning. There is no
    `predict_proba`: thresholds say nothing of how sure they are. `CalibratedClassifierCV` estimates probabilities.
    """

    classes_: np.ndarray
    errors_: float
    objective_: float
    bound_: float
    status_: Status
    proof_: Proof | None
    widths_: tuple[int, ...]
    penalty_: float
    model_: Model
    network_: torch.nn.Sequential
    rules_: list[str]
    n_iter_: int

    def __init__(
        self,
        widths: Any = (3,),
        *,
        solver: Any = None,
        seconds: float | None = 60,
        prefer: str = "any",
        penalty: Any = 0.0,
        class_weight: Any = None,
        random_state: Any = None,
        steps: int | None = None,
        weight_set: Any = None,
        bias_set: Any = None,
        average: int = 1,
        monotone: Any = None,
        max_fan_in: int | None = None,
        groups: Any = None,
        shared_bias: bool | None = None,
        margin: int | None = None,
        margin_price: float | None = None,
        validation_fraction: float | None = None,
    ) -> None:
        self.widths = widths
        self.solver = solver
        self.seconds = seconds
        self.prefer = prefer
        self.penalty = penalty
        self.class_weight = class_weight
        self.random_state = random_state
        self.steps = steps
        self.weight_set = weight_set
        self.bias_set = bias_set
        self.average = average
        self.monotone = monotone
        self.max_fan_in = max_fan_in
        self.groups = groups
        self.shared_bias = shared_bias
        self.margin = margin
        self.margin_price = margin_price
        self.validation_fraction = validation_fraction

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ThresholdNetworkClassifier":
        """Fit to `X (samples, features)`, labels `y (samples,)` and `sample_weight (samples,)` of at least 0.

        Raises:
            ValueError: scikit-learn's checks fail, or there is one class only.
            ArgumentError, TooLargeError, NotAcceptedError: a setting makes no sense, or the solver can't take the data.
        """
        solver, choices, sets = self._solver(), self._choices(), self._sets()
        Budget(seconds=self.seconds, steps=self.steps)
        X = samples_for_sklearn("X", X)
        target = str(getattr(y, "name", None) or "")
        y, sample_weight = labels_for_sklearn("y", y), weights_for_sklearn("sample_weight", sample_weight)
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        given = weight
        if self.class_weight is not None:
            if isinstance(self.class_weight, dict):
                for label, value in self.class_weight.items():
                    if not is_real(value):
                        raise ArgumentError("class_weight", f"{value!r} for {label!r}", "a finite number of at least 0")
            own = compute_sample_weight(self.class_weight, y)
            if not (np.isfinite(own).all() and (own >= 0).all()):
                raise ArgumentError("class_weight", repr(self.class_weight), "finite numbers of at least 0")
            weight = own if weight is None else own * weight
        kept = np.arange(len(y)) if weight is None else np.flatnonzero(weight > 0)
        self.classes_, codes = np.unique(y[kept], return_inverse=True)
        if len(self.classes_) < 2:
            left = "no class is" if not len(self.classes_) else "only one class is"
            named = f": {self.classes_[0]}" if len(self.classes_) else ""
            gone = ", ".join(map(str, np.setdiff1d(y, self.classes_)))
            others = f", since samples of weight 0 are left out: all those of {gone}" if len(kept) < len(y) else ""
            raise ValueError(f"Classifier can't train when {left} present{named}{others}.")
        share = 1.0 if len(choices) == 1 else 0.5
        chosen = choices[0] if share == 1 else self._validated(choices, X[kept], y[kept], weight, kept)
        self.penalty_ = chosen.penalty
        # Sorted, so that equal data give equal searches whatever the order of their samples.
        X = X + 0.0
        order = np.lexsort((codes, *X[kept].T[::-1]))
        rows, codes = kept[order], codes[order]
        own = None if weight is None else weight[rows]
        seed = self._seed()
        seen = np.ones(len(codes), dtype=bool)
        if self.validation_fraction is not None:
            seen = ~held_out(codes, float(self.validation_fraction), seed)
        whole = whole_weights(None if own is None else own[seen])

        def search(number: int) -> Found:
            return search_widths(
                X[rows[seen]],
                self.classes_[codes[seen]],
                whole,
                solver,
                chosen.shapes,
                penalty=chosen.penalty,
                seconds=None if self.seconds is None else share * float(self.seconds) / self.average,
                steps=self.steps,
                seed=seed + number,
                sets=sets,
            )

        found = search(0)
        if not seen.all():
            found = stopped_early(found, X[rows[~seen]], codes[~seen], None if own is None else own[~seen])
        if self.average > 1:
            found = averaged(found, self.average, search, whole)
        # As the caller knows the samples, so that he can check the proof.
        provable = (
            self.class_weight is None and whole.exact and bool(seen.all()) and len(self.classes_) == len(np.unique(y))
        )
        told = (X, y, given) if provable else (X[rows], y[rows], None)
        names = getattr(self, "feature_names_in_", None)
        model = make_model(
            *_as_told(found, *told, provable, sets),
            features=None if names is None else [str(name) for name in names],
            target=target,
            readable=False,
        )
        wrong = decode(torch.tensor(model.layers.outputs(X[rows])[-1])).numpy() != codes
        self.errors_ = float(wrong.sum() if own is None else own[wrong].sum())
        self.objective_ = self.errors_ + self.penalty_ * (model.size if sets else found.units)
        if found.problem.margin is not None:
            self.objective_ += found.problem.margin_price * _shortfall(found.problem, model, X[rows], codes, own)
        self.bound_ = max(0.0, found.least)
        self.model_ = dataclasses.replace(
            model, objective=self.errors_, bound=max(0.0, whole.unit * found.bound - whole.slack)
        )
        self.widths_ = model.widths
        self.status_ = Result(torch.empty(0), torch.tensor(self.objective_), torch.tensor(self.bound_)).status
        self.proof_, self.rules_, self.network_ = model.proof, model.rules, model.network()
        self.n_iter_ = max(1, found.steps)
        # Rounded weights keep the gap open, but no longer search would close it.
        open_ = self.objective_ - self.bound_ > 2 * whole.slack
        if solver.exact and open_ and self.average == 1 and self.status_ is not Status.OPTIMAL:
            warnings.warn(
                f"The network found costs {self.objective_:g}, and the fewest is at least {self.bound_:g}. "
                "Give it more seconds or steps, or fewer units.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Sums of the output units: `(samples,)` for two classes, at least 0 for the second; else `(samples, classes)`.

        They are votes of the hidden units, and no distances to a boundary.
        """
        check_is_fitted(self)
        X = samples_for_sklearn("X", X)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        sums = self.model_.layers.sums(X)
        if sums.shape[1] > 1:
            return sums
        # Sums of real weights that rounding moves across 0 stay on their side.
        out = self.model_.layers.outputs(X)[-1][:, 0]
        return np.where(np.sign(sums[:, 0]) == out, sums[:, 0], out * np.finfo(np.float64).tiny)

    def predict(self, X: Any) -> np.ndarray:
        """Labels `(samples,)`."""
        check_is_fitted(self)
        X = samples_for_sklearn("X", X)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self.classes_[self.model_.layers.classes(X)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the samples, by weight, whose label `predict` names."""
        weight = weights_for_sklearn("sample_weight", sample_weight)
        return super().score(X, labels_for_sklearn("y", y), weight)

    def _solver(self) -> Solver:
        usual = "circuits" if self.weight_set is None else "integer-search"
        solver = find_solver(usual if self.solver is None else self.solver)
        check_count("average", self.average, 1)
        if self.average > MAX_VOTERS:
            raise ArgumentError("average", self.average, f"at most {MAX_VOTERS}", "Each needs a search of its own.")
        if self.average > 1 and self.prefer != "any":
            raise ArgumentError("prefer", repr(self.prefer), "'any', with average", "Or leave out average.")
        if self.average > 1 and self.weight_set is not None:
            raise ArgumentError("average", self.average, "1, with a weight_set")
        if self.average > 1 and isinstance(solver, Circuits):
            solver = dataclasses.replace(solver, solutions=int(self.average))
        fraction = self.validation_fraction
        if fraction is not None:
            if not (is_real(fraction) and 0 < fraction < 1):
                raise ArgumentError("validation_fraction", repr(fraction), "None, or a share above 0 and below 1")
            if not isinstance(solver, IntegerSearch):
                mend = 'Give weight_set too, such as weight_set="ternary", and leave out solver.'
                raise ArgumentError("validation_fraction", f"{fraction} for {solver.name}", "integer-search", mend)
            return dataclasses.replace(solver, kept=max(solver.kept, KEPT))
        if self.prefer == "any":
            return solver
        if not isinstance(solver, Circuits):
            raise ArgumentError("prefer", repr(self.prefer), "'any', for a solver other than circuits")
        return dataclasses.replace(solver, prefer=self.prefer)

    def _validated(
        self, choices: list["_Choice"], X: np.ndarray, y: np.ndarray, weight: Any, kept: np.ndarray
    ) -> "_Choice":
        """The one with which most held-out samples, by weight, get their labels."""
        folds = min(_FOLDS, int(np.unique(y, return_counts=True)[1].min()))
        if folds < 2:
            return choices[0]
        each = np.ones(len(y)) if weight is None else weight[kept]
        splits = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(X, y))
        seconds = None if self.seconds is None else self.seconds / (2 * len(choices) * folds)
        right = []
        for one in choices:
            settings = {**self.get_params(deep=False), "seconds": seconds, "class_weight": None, "average": 1}
            settings |= {"widths": one.shapes[-1], "penalty": one.penalty, "random_state": self._seed()}
            total = 0.0
            for train, test in splits:
                with warnings.catch_warnings():
                    # Of networks that are thrown away.
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    fitted = type(self)(**settings).fit(X[train], y[train], each[train])
                total += float(each[test][fitted.predict(X[test]) == y[test]].sum())
            right.append(total)
        return choices[right.index(max(right))]

    def _choices(self) -> list["_Choice"]:
        """The one that is searched; with "auto" those of which one is chosen."""
        auto = isinstance(self.penalty, str) and self.penalty == "auto"
        penalty: Any = 0.0 if auto else plain_number(self.penalty)
        if not auto and (not is_real(penalty) or not 0 <= penalty < math.inf):
            raise ArgumentError("penalty", repr(self.penalty), "'auto', or a number of at least 0")
        widths = self._given_widths()
        if not auto:
            return [_Choice(self._with_fewer(one, penalty), penalty) for one in widths]
        # With a price fewer units are searched too, so that the largest widths stand for all.
        free = [_Choice([one], 0.0) for one in widths]
        return free + [_Choice(self._with_fewer(widths[-1], price), price) for price in AUTO_PENALTIES]

    def _given_widths(self) -> list[tuple[int, ...]]:
        if isinstance(self.widths, str) and self.widths == "auto":
            return [(width,) for width in AUTO_WIDTHS]
        widths = plain_number(self.widths)
        given: Any = [widths] if isinstance(widths, int) else widths
        try:
            widths = tuple(index(width) for width in given)
        except TypeError as error:
            expected = "'auto', or whole numbers of at least 1, the units of each hidden layer"
            raise ArgumentError("widths", repr(self.widths), expected, "For example widths=(3,).") from error
        return [widths]

    def _with_fewer(self, widths: tuple[int, ...], penalty: float) -> list[tuple[int, ...]]:
        if not penalty or self.weight_set is not None:
            return [widths]
        if len(widths) != 1:
            raise ArgumentError("penalty", repr(self.penalty), "0, with several hidden layers")
        return [(k,) for k in range(1, widths[0] + 1)]

    def _sets(self) -> dict[str, Any]:
        """What says to a problem which weights are allowed; empty: all real ones."""
        rules = {"monotone": self.monotone, "max_fan_in": self.max_fan_in, "groups": self.groups}
        rules["shared_bias"] = self.shared_bias
        rules |= {"margin": self.margin, "margin_price": self.margin_price}
        if self.weight_set is None:
            for name, value in {"bias_set": self.bias_set, **rules}.items():
                if value is not None:
                    raise ArgumentError(name, repr(value), "None, without a weight_set")
            return {}
        return {"weight_set": self.weight_set, "bias_set": self.bias_set, **rules}

    def _seed(self) -> int:
        state = 0 if self.random_state is None else self.random_state
        return int(state) if isinstance(state, int | np.integer) else int(check_random_state(state).randint(2**31 - 1))


def _shortfall(
    problem: NetworkProblem, model: Model, X: np.ndarray, codes: np.ndarray, weight: np.ndarray | None
) -> float:
    """By how much sums of output units at `X` lack the margin of `problem`, times `weight (N,)`."""
    assert problem.margin is not None
    sums = model.layers.sums(X)
    outputs = np.arange(sums.shape[1]) if sums.shape[1] > 1 else np.ones(1, dtype=int)
    has = np.where(codes[:, None] == outputs, sums, -1 - sums)
    short = np.maximum(0.0, problem.margin - has).sum(axis=1)
    return float(short.sum() if weight is None else weight @ short)


def _as_told(
    found: Found, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, provable: bool, sets: dict[str, Any]
) -> tuple[NetworkProblem, Result]:
    """The problem of the samples `X`, and its result; circuits name their points by the numbers that they have there.

    Without a proof, if it is not `provable`.
    """
    problem = NetworkProblem(X, y.tolist(), found.problem.widths, weight, **sets)
    columns = [torch.tensor(out, dtype=torch.float64) for out in found.layers.outputs(problem.inputs.numpy())]
    stats: dict[str, Any] = {"weights": [(torch.tensor(w), torch.tensor(b)) for w, b in found.layers.weights]}
    if provable and has_proof(problem, found.stats.get("solver")):
        place = {row.tobytes(): k + 1 for k, row in enumerate(problem.inputs.numpy() + 0.0)}
        number = torch.tensor([0] + [place[row.tobytes()] for row in found.problem.inputs.numpy()])
        stats |= {
            name: found.stats[name]
            for name in ("solver", "proved_by", "engine", "refuted_by", "shares")
            if name in found.stats
        }
        if "circuits" in found.stats:
            circuits = found.stats["circuits"].long()
            stats["circuits"] = circuits.sign() * number[circuits.abs()]
        # The circuits of a part name its points by their places in the part.
        stats["parts"] = [(number[points.cpu() + 1] - 1, *rest) for points, *rest in found.stats.get("parts", [])]
    objective = problem.errors(columns[-1])
    return problem, Result(problem.pack(*columns), objective, objective.new_tensor(found.bound), stats=stats)
