"""Checks a proof of an exact answer from the raw data; nothing here is shared with the search that found it.

Weights and circuits are checked in exact arithmetic. That no network makes fewer errors than the bound is
refuted anew, by another engine than the one that found it: see `verify_bound`.
"""

import importlib.util
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil, gcd, lcm
from typing import Any

import numpy as np

from tpsolve._plain import MAX_WHOLE, float64_array, plain_labels
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, UnknownNameError
from tpsolve.search.proofs._check_bound import CLAUSAL, ENGINES, Formula, refutes
from tpsolve.search.proofs._proof import Proof, ProofPart, clause_hash, data_hash
from tpsolve.search.proofs._recount import OutOfTimeError, one_unit, several_units
from tpsolve.search.proofs._recount_whole import Rules, whole_weights
from tpsolve.search.proofs._shared_costs import packed

MAX_INPUTS = 10
"""A table of n inputs has 2^n entries, and its clauses are the square of that."""

_Rows = Sequence[Sequence[float | Fraction]]
_Costs = dict[tuple[float | Fraction, ...], dict[Any, Fraction]]


@dataclass(frozen=True)
class Finding:
    """What was found of one part of a proof; `holds` None: not checked, since time ran out."""

    part: str
    holds: bool | None
    words: str


def verify_proof(
    proof: Proof,
    X: Any,
    y: Any,
    weight: Sequence[float] | None = None,
    *,
    engine: str | None = None,
    seconds: float = 3600.0,
    exact: Sequence[Sequence[Fraction]] | None = None,
) -> list[Finding]:
    """One finding for data, weights, circuits, clauses and bound each; the first that fails ends the check.

    Where weights are of a set there are no circuits and clauses. The bound is checked by trying all weights, for two
    classes, one hidden layer and few inputs; else it is not checked, and `holds` is None.

    Args:
        X: `(N, p)` numbers; y: N labels; weight: `(N,)` or None.
        engine: what refutes fewer errors; None: another one than found the proof; "clausal" and "clausal-cadical":
            none, as each lemma of a refutation that Glucose or CaDiCaL logs is checked.
        seconds: limit of that refutation; reached, the bound is not checked, and `holds` is None.
        exact: N rows of p numbers that `X` rounds; all but the data are then checked for these. None: `X` is exact.

    Raises:
        BudgetError: `seconds` is not positive and finite.
        UnknownNameError: no such engine.
        ArgumentError: no numbers, or such as float64 rounds; the engine that found the proof, or none is left; an
            engine for weights of a set; or `X` is not what `exact` is rounded to.
    """
    Budget(seconds=seconds)
    if proof.weight_set is not None and engine is not None:
        raise ArgumentError("engine", engine, "none for weights of a set, all of which are tried")
    engine = "" if proof.weight_set is not None else another_engine(proof.engine, engine)
    samples = float64_array("X", X)
    labels = plain_labels("y", y)
    rows = _exact_rows(samples, exact)
    findings: list[Finding] = []
    given, read = (proof, samples, labels, weight), (proof, rows, labels, weight)
    checks = [partial(_check_data, *given), partial(_check_weights, *read)]
    if proof.weight_set is None:
        checks += [partial(_check_circuits, *read), partial(_check_clauses, *read)]
    else:
        checks.insert(1, partial(_check_set, *given, whole=exact is None and _has_whole_sums(proof, samples)))
    for check in checks:
        findings.append(check())
        if not findings[-1].holds:
            return findings
    return [*findings, _check_bound(proof, rows, labels, weight, engine, seconds)]


def holds_unrounded(
    proof: Proof, X: np.ndarray, y: Sequence[Any], exact: Sequence[Sequence[Fraction]], seconds: float
) -> bool | None:
    """Whether what was proved of `X (N, p)` holds for the numbers `exact` that it rounds; None: not decided in time.

    The bound is refuted anew only where it was found from hyperplanes and not from circuits: from the same circuits the
    same bound follows. `y` are N labels.
    """
    rows, labels, until = _exact_rows(X, exact), list(y), time.monotonic() + seconds
    try:
        if not _check_weights(proof, rows, labels, None).holds:
            return False
        if not _check_circuits(proof, rows, labels, None, until).holds:
            return False
    except OutOfTimeError:
        return None
    methods = {proof.method, *(part.method for part in proof.parts)}
    if methods <= {"circuits", "labels", "packing", "parts"}:
        return True
    left = max(until - time.monotonic(), 1e-3)
    return _check_bound(proof, rows, labels, None, another_engine(proof.engine), left).holds


def recount(
    X: Sequence[Sequence[Fraction]],
    y: Sequence[Any],
    weight: Sequence[float] | None,
    classes: tuple[Any, ...],
    widths: tuple[int, ...],
    bound: Fraction,
    seconds: float,
) -> bool | None:
    """Whether all hyperplanes through points say that networks of these `widths` make errors of at least `bound`.

    None: not decided in time, or there is no such count: of several hidden layers, or of several units and more than
    two classes.

    Args:
        X: N rows of exact numbers; y: N labels; weight: N numbers or None.
    """
    if len(widths) != 1:
        return None
    (width,) = widths
    if width > 1 and len(classes) > 2:
        return None
    costs, until = _costs(X, list(y), weight), time.monotonic() + seconds
    points, every = _whole_points(list(costs)), list(costs.values())
    try:
        if width == 1:
            return one_unit(points, every, bound, until)
        return several_units(points, every, classes, width, bound, until)
    except OutOfTimeError:
        return None


def another_engine(found_by: str, wanted: str | None = None) -> str:
    """The engine `wanted`, or else the first one installed that has not found the proof.

    Raises:
        UnknownNameError: no such engine.
        ArgumentError: the engine that found the proof, or none is left.
    """
    if wanted is not None and wanted not in (*ENGINES, *CLAUSAL):
        raise UnknownNameError("engine", wanted, (*ENGINES, *CLAUSAL))
    if wanted is not None and wanted == found_by:
        raise ArgumentError("engine", wanted, "another engine than the one that found the proof")
    sat = importlib.util.find_spec("pysat") is not None
    if wanted in CLAUSAL and sat:
        return wanted
    left = [e for e in ENGINES if e != found_by and (sat or e == "cp-sat") and wanted in (None, e)]
    if not left:
        raise ArgumentError("engine", wanted, "an engine that is installed", "Run: pip install python-sat")
    return left[0]


# --- exact arithmetic -------------------------------------------------------------------------------------------------


def _exact_rows(X: np.ndarray, exact: Sequence[Sequence[Fraction]] | None) -> _Rows:
    """The numbers that are checked: those of `X`, or those that it rounds."""
    rows = (X + 0.0).tolist()
    if exact is None:
        return rows
    if [[float(v) for v in row] for row in exact] != rows:
        raise ArgumentError("exact", "other rows than X", "numbers that X rounds to the nearest float64")
    return exact


def _check_data(proof: Proof, X: np.ndarray, y: list[Any], weight: Any) -> Finding:
    same = X.ndim == 2 and len(X) == len(y) and data_hash(X, y, weight) == proof.data
    same = same and tuple(sorted(set(y))) == proof.classes
    return Finding("data", same, f"{len(y)} samples, the proof's" if same else "not the data of the proof")


def _check_weights(proof: Proof, X: _Rows, y: list[Any], weight: Any) -> Finding:
    outputs = len(proof.classes) if len(proof.classes) > 2 else 1
    sizes = [*map(len, X[:1]), *proof.widths, outputs]
    shapes = [(tuple(w.shape), tuple(b.shape)) for w, b in proof.weights]
    if shapes != [((n, m), (n,)) for m, n in itertools.pairwise(sizes)]:
        return Finding("weights", False, f"shapes {shapes} are not those of the network")
    if not all(bool(part.isfinite().all()) for layer in proof.weights for part in layer):
        return Finding("weights", False, "weights that are NaN or infinite")
    if proof.penalty and proof.weight_set is None:
        return Finding("weights", False, "a penalty, which only weights of a set have")
    layers = [
        [
            ([Fraction(v) for v in row], Fraction(b))
            for row, b in zip(w.double().tolist(), bias.double().tolist(), strict=True)
        ]
        for w, bias in proof.weights
    ]
    for unit, exact in proof.rationals.items():
        if proof.weight_set is not None or unit >= len(layers[0]) or len(exact) != sizes[0] + 1:
            return Finding("weights", False, f"exact weights of unit {unit}, which has none")
        layers[0][unit] = (list(exact[:-1]), exact[-1])
    costs = _costs(X, y, weight)
    wrong = sum(
        sum(c for label, c in cost.items() if label != _named(layers, point, proof.classes))
        for point, cost in costs.items()
    )
    what = f"errors: {wrong}"
    if proof.penalty:
        wrong += proof.penalty * sum(w != 0 for layer in layers for row, _ in layer for w in row)
        what += f", with the penalty {wrong}"
    holds = wrong == proof.objective
    return Finding("weights", holds, what + ("" if holds else f", not {proof.objective} as claimed"))


def _has_whole_sums(proof: Proof, X: np.ndarray) -> bool:
    """Whether float64 holds all sums of units of the first layer, and their biases, as whole numbers."""
    if X.ndim != 2 or not (np.round(X) == X).all():
        return False
    largest = float(np.abs(X).sum(1).max())
    return math.isfinite(largest) and 2 * max(map(abs, proof.weight_set or (0,))) * int(largest) + 1 <= MAX_WHOLE


def _check_set(proof: Proof, X: np.ndarray, y: list[Any], weight: Any, *, whole: bool) -> Finding:
    """Whether all weights, and biases, are of their sets; biases above `whole` sums are whole."""
    allowed = set(proof.weight_set or ())
    if max(map(abs, (*allowed, *(proof.bias_set or ()))), default=0) > MAX_WHOLE:
        return Finding("set", False, "a number beyond 2**53")
    strange = [v for w, _ in proof.weights for v in w.flatten().tolist() if v not in allowed]
    if strange:
        return Finding("set", False, f"a weight {strange[0]:g} that is not of the set")
    for number, (_, bias) in enumerate(proof.weights):
        free = number == 0 and not whole
        for value in bias.tolist():
            if not math.isfinite(value):
                return Finding("set", False, f"a bias {value:g} that is no number")
            if value not in proof.bias_set if proof.bias_set is not None else not free and value != round(value):
                return Finding("set", False, f"a bias {value:g} that is not of the set")
    if proof.penalty < 0:
        return Finding("set", False, f"a penalty of {proof.penalty}")
    rules = _rules(proof)
    if not _are_rules(rules, X.shape[1]):
        return Finding("set", False, "rules of weights that make no sense")
    for number, (weights, _) in enumerate(proof.weights):
        broken = rules.broken(weights.tolist(), lowest=number == 0)
        if broken:
            return Finding("set", False, broken)
    return Finding("set", True, f"all weights are of {len(allowed)} whole numbers")


def _rules(proof: Proof) -> Rules:
    return Rules(proof.monotone, proof.max_fan_in, proof.groups)


def _are_rules(rules: Rules, features: int) -> bool:
    signs = len(rules.monotone) in (0, features) and set(rules.monotone) <= {-1, 0, 1}
    inputs = {k for group, _ in rules.groups for k in group}
    return signs and inputs <= set(range(features)) and all(most >= 0 for _, most in rules.groups)


def _costs(X: _Rows, y: list[Any], weight: Any) -> _Costs:
    """For each distinct point, in the order of first samples, the weight of each label there."""
    each = [1] * len(y) if weight is None else [float(w) for w in weight]
    costs: _Costs = {}
    for row, label, w in zip(X, y, each, strict=True):
        cost = costs.setdefault(tuple(row), defaultdict(Fraction))
        cost[label] += Fraction(w)
    return costs


def _always_paid(costs: Sequence[dict[Any, Fraction]]) -> Fraction:
    """What contradictory labels cost any network."""
    return sum((sum(cost.values()) - max(cost.values()) for cost in costs), Fraction(0))


def _named(layers: list[Any], point: tuple[float | Fraction, ...], classes: tuple[Any, ...]) -> Any:
    h = [Fraction(v) for v in point]
    for layer in layers:
        h = [Fraction(1 if sum((a * b for a, b in zip(w, h, strict=True)), bias) >= 0 else -1) for w, bias in layer]
    if len(h) == 1:
        return classes[h[0] > 0] if len(classes) == 2 or h[0] < 0 else None
    fired = [k for k, v in enumerate(h) if v > 0]
    return classes[fired[0]] if len(fired) == 1 else None


def _check_circuits(proof: Proof, X: _Rows, y: list[Any], weight: Any, until: float = math.inf) -> Finding:
    points = _whole_points(list(_costs(X, y, weight)))
    rows = [row for one in (proof, *proof.parts) for row in one.circuits.tolist()]
    for number, row in enumerate(rows):
        if time.monotonic() > until:
            raise OutOfTimeError
        used = [v for v in row if v]
        if len({abs(v) for v in used}) < len(used) or not used or max(map(abs, used)) > len(points):
            return Finding("circuits", False, f"circuit {number} names no points")
        vectors = [[(1 if v > 0 else -1) * a for a in points[abs(v) - 1]] for v in used]
        if not _sum_to_zero(vectors):
            return Finding("circuits", False, f"circuit {number} is none: a hyperplane gives its signs")
    return Finding("circuits", True, f"{len(rows)} circuits, each a conflict")


def _check_clauses(proof: Proof, X: _Rows, y: list[Any], weight: Any) -> Finding:
    every = range(len(_costs(X, y, weight)))
    learned = list(_learned(proof.circuits.tolist(), every, proof.widths[0]))
    same = clause_hash(learned) == proof.clauses
    words = f"{len(learned)} learned by the master" + (", the circuits'" if same else " are not those of the circuits")
    return Finding("clauses", same, words)


def _learned(circuits: list[list[int]], points: Sequence[int], width: int) -> Iterator[list[int]]:
    """No unit of the first layer outputs a circuit's signs, or their negation; variables count the given points."""
    place = {point: k for k, point in enumerate(points)}
    for row in circuits:
        for unit in range(width):
            literals = [(place[abs(v) - 1] * width + unit + 1) * (1 if v > 0 else -1) for v in row if v]
            yield literals
            yield [-literal for literal in literals]


def _whole_points(points: list[Any]) -> list[list[int]]:
    """Each coordinate times its common denominator, which changes no hyperplane's signs; and a coordinate of 1."""
    exact = [[Fraction(v) for v in point] for point in points]
    scale = [lcm(*(v.denominator for v in values)) for values in zip(*exact, strict=True)]
    return [[*(int(v * s) for v, s in zip(point, scale, strict=True)), 1] for point in exact]


def _sum_to_zero(vectors: list[list[int]]) -> bool:
    """Whether one combination of the vectors, and no other up to scale, is 0, and all its coefficients are positive."""
    rows = [list(row) for row in zip(*vectors, strict=True)]
    size, pivots = len(vectors), []
    for column in range(size):
        at = next((r for r in range(len(pivots), len(rows)) if rows[r][column]), None)
        if at is None:
            continue
        here = len(pivots)
        rows[here], rows[at] = rows[at], rows[here]
        pivot = rows[here]
        for r, row in enumerate(rows):
            if r != here and row[column]:
                mixed = [row[k] * pivot[column] - pivot[k] * row[column] for k in range(size)]
                divisor = gcd(*mixed) or 1
                rows[r] = [v // divisor for v in mixed]
        pivots.append(column)
    if pivots != list(range(size - 1)):
        return False
    # pivot * lambda_k + last * lambda_last = 0
    return all(rows[k][k] * rows[k][size - 1] < 0 for k in range(size - 1))


def _check_bound(proof: Proof, X: _Rows, y: list[Any], weight: Any, engine: str, seconds: float) -> Finding:
    if proof.bound > proof.objective:
        return Finding("bound", False, f"{proof.bound}: above the {proof.objective} errors of the weights")
    costs = _costs(X, y, weight)
    until = time.monotonic() + seconds
    if proof.weight_set is not None:
        return _tried(proof, costs, until)
    if proof.method == "packing":
        return _packed(proof, list(costs.values()))
    if proof.method != "parts":
        return _bound_of(proof, proof, range(len(costs)), costs, engine, seconds, until)
    used = [point for part in proof.parts for point in part.points.tolist()]
    if len(set(used)) < len(used) or not set(used) <= set(range(len(costs))):
        return Finding("bound", False, "the parts are not disjoint, or not of these points")
    summed = sum((part.bound for part in proof.parts), Fraction(0))
    if summed < proof.bound:
        return Finding("bound", False, f"{proof.bound}: the parts sum up to {summed}")
    for number, part in enumerate(proof.parts):
        found = _bound_of(proof, part, part.points.tolist(), costs, engine, seconds, until)
        if not found.holds:
            return Finding("bound", found.holds, f"part {number} of {len(proof.parts)}: {found.words}")
    return Finding("bound", True, f"{proof.bound}: the sum of {len(proof.parts)} disjoint parts, each checked")


def _packed(proof: Proof, costs: list[dict[Any, Fraction]]) -> Finding:
    """Whether circuits that share the costs of their points say so."""
    if proof.widths[0] != 1 or proof.shares is None or proof.shares.shape[1] != len(proof.circuits):
        return Finding("bound", False, f"{proof.bound}: no shares of circuits for one unit")
    circuits = [[v for v in row if v] for row in proof.circuits.tolist()]
    shown = packed(circuits, proof.shares.tolist(), costs, proof.classes)
    if shown is None or shown < proof.bound:
        return Finding("bound", False, f"{proof.bound}: the circuits' shares prove {shown}")
    return Finding("bound", True, f"{proof.bound}: {len(circuits)} circuits share the costs of their points")


def _bound_of(
    proof: Proof,
    part: Proof | ProofPart,
    points: Sequence[int],
    costs: _Costs,
    engine: str,
    seconds: float,
    until: float,
) -> Finding:
    """Whether networks make errors of at least the bound of `part` on its points."""
    bound, width = part.bound, proof.widths[0]
    places, every = _whole_points(list(costs)), list(costs.values())
    own = [every[k] for k in points]
    paid = _always_paid(own)
    if bound <= paid:
        return Finding("bound", True, f"{bound}: contradictory labels already cost {paid}")
    if part.method in ("sweep", "dichotomies"):
        return _recounted(proof, bound, [places[k] for k in points], own, until)
    if not {abs(v) - 1 for row in part.circuits.tolist() for v in row if v} <= set(points):
        return Finding("bound", False, f"{bound}: a circuit is not of these points")
    if max(proof.widths) > MAX_INPUTS:
        words = f"not checked: the tables of units that read more than {MAX_INPUTS} others are too large"
        return Finding("bound", None, f"{bound}: {words}")
    below = lcm(*(w.denominator for cost in own for w in cost.values()))
    learned = _learned(part.circuits.tolist(), points, width)
    formula = Formula(proof.widths, proof.classes, own, below, learned)
    # The largest number that is less than the bound.
    limit = ceil((bound - paid) * below) - 1
    refuted = refutes(formula, limit, engine, max(until - time.monotonic(), 1e-3))
    if refuted is None:
        return Finding("bound", None, f"{bound}: not checked, {engine} gave no answer within {seconds:g} s")
    by = "a log whose lemmas were all checked" if engine in CLAUSAL else engine
    words = f"fewer errors refuted by {by}" if refuted else f"{engine} refutes no smaller number of errors"
    return Finding("bound", refuted, f"{bound}: {words}")


def _tried(proof: Proof, costs: _Costs, until: float) -> Finding:
    """Whether no weights of the set cost less."""
    bound, every = proof.bound, list(costs.values())
    paid = _always_paid(every)
    if paid >= bound:
        return Finding("bound", True, f"{bound}: contradictory labels already cost {paid}")
    unit = lcm(*(Fraction(v).denominator for point in costs for v in point))
    points = [[int(Fraction(v) * unit) for v in point] for point in costs]
    sets = proof.weight_set or (), proof.bias_set
    holds: bool | None = None
    words = "not checked: several hidden layers, more than two classes, or too many weights to try"
    try:
        if len(proof.widths) == 1 and len(proof.classes) == 2:
            holds = whole_weights(
                points, unit, every, proof.classes, proof.widths[0], *sets, proof.penalty, bound, until, _rules(proof)
            )
    except OutOfTimeError:
        return Finding("bound", None, f"{bound}: not checked, not all weights were tried in time")
    if holds is not None:
        words = "all weights of the set were tried" if holds else "some weights of the set cost less"
    return Finding("bound", holds, f"{bound}: {words}")


def _recounted(
    proof: Proof, bound: Fraction, points: list[list[int]], costs: list[dict[Any, Fraction]], until: float
) -> Finding:
    """Whether all hyperplanes through points say so."""
    holds: bool | None = None
    words = "not checked: there is no recount for several layers or classes, nor for sums that float64 rounds"
    try:
        if proof.widths[0] == 1:
            holds = one_unit(points, costs, bound, until)
        elif len(proof.widths) == 1 and len(proof.classes) == 2:
            holds = several_units(points, costs, proof.classes, proof.widths[0], bound, until)
    except OutOfTimeError:
        return Finding("bound", None, f"{bound}: not checked, the recount did not end in time")
    if holds is not None:
        words = "no hyperplanes through points make fewer errors" if holds else "some hyperplanes make fewer errors"
    return Finding("bound", holds, f"{bound}: {words}")
