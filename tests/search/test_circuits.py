"""Circuits: proofs against brute force, known optima, symmetries, engines, limits."""

import itertools
import math
from fractions import Fraction
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.network_oracle import fewest_errors, output_functions, parity_table, random_table, separable_columns
from torch import Tensor

from tpsolve import Budget, NetworkProblem, Progress, Status, solve
from tpsolve.errors import (
    ArgumentError,
    ContradictionError,
    MissingLibraryError,
    NotAcceptedError,
    TooLargeError,
    UnknownNameError,
)
from tpsolve.search import Circuits, LineSearch, Report
from tpsolve.search.network._error_measure import error_measure
from tpsolve.search.network.circuits import _circuits as circuits
from tpsolve.search.network.circuits._cp_sat_master import CpSatMaster
from tpsolve.search.network.circuits._formula import MAX_COUNTED, NetworkFormula, asummable, totalizer
from tpsolve.search.network.circuits._pool import CircuitPool
from tpsolve.search.network.circuits._race import Race
from tpsolve.search.network.circuits._sat_master import SatMaster
from tpsolve.search.network.circuits._search_state import SearchState
from tpsolve.search.network.seekers._seekers import local_searches
from tpsolve.units import Separability
from tpsolve.units.checking._null_vectors import exact_circuit, null_vectors
from tpsolve.units.checking._verification import CircuitChecker

pytestmark = pytest.mark.rounding

ENGINES = ("glucose4", "minisat22", "cadical195", "maplechrono", "cp-sat")
QUICK = Budget(seconds=60)


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@st.composite
def problems(draw: st.DrawFn, classes: int = 2, widths: list[list[int]] | None = None) -> NetworkProblem:
    """Small grids with duplicates, points on lines, parallel features, contradictions and weights."""
    count, p = draw(st.integers(2, 6)), draw(st.integers(1, 2))
    X = draw(st.lists(st.lists(st.integers(0, 2), min_size=p, max_size=p), min_size=count, max_size=count))
    if draw(st.booleans()):
        X = [[*row, 2 * row[0] + 1] for row in X]
    y = draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    weight = draw(st.none() | st.lists(st.sampled_from([0, 0.5, 1, 3]), min_size=count, max_size=count))
    return NetworkProblem(X, y, draw(st.sampled_from(widths or [[1], [2], [3]])), weight)


@settings(max_examples=25, deadline=None)
@given(problems(), st.sampled_from(["glucose4", "cp-sat"]), st.integers(0, 40), st.integers(1, 2))
def test_optimum_is_that_of_brute_force(problem: NetworkProblem, engine: str, drawn: int, workers: int):
    result = solve(problem, Circuits(engine=engine, max_drawn=drawn, workers=workers), budget=QUICK)
    assert result.status is Status.OPTIMAL
    assert result.objective.item() == fewest_errors(problem)


def class_errors(problem: NetworkProblem, codes: list[Any], functions: frozenset[tuple[int, ...]]) -> float:
    """The fewest errors of output units, one a class or one for two, over points with these codes."""
    numbers = {code: i for i, code in enumerate(itertools.product((-1, 1), repeat=len(codes[0])))}
    places = [numbers[code] for code in codes]
    columns = {tuple(f[k] for k in places) for f in functions}
    chosen = torch.tensor(list(itertools.product(columns, repeat=problem.layers[-1])))
    return problem.errors(chosen.mT).min().item()


@settings(max_examples=10, deadline=None)
@given(problems(classes=3, widths=[[1], [2]]))
def test_optimum_with_several_classes_is_that_of_brute_force(problem: NetworkProblem):
    (units,) = problem.widths
    columns = separable_columns(problem.inputs).long().tolist()
    best = min(
        class_errors(problem, list(zip(*chosen, strict=True)), output_functions(units))
        for chosen in itertools.combinations_with_replacement(columns, units)
    )
    assert solve(problem, Circuits(), budget=QUICK).objective.item() == best


@settings(max_examples=10, deadline=None)
@given(problems(widths=[[2, 1], [2, 2]]))
def test_optimum_with_two_hidden_layers_is_that_of_brute_force(problem: NetworkProblem):
    functions, best = output_functions(2), float("inf")
    numbers = {code: i for i, code in enumerate(itertools.product((-1, 1), repeat=2))}
    columns = separable_columns(problem.inputs).long().tolist()
    for chosen in itertools.combinations_with_replacement(columns, 2):
        places = [numbers[code] for code in zip(*chosen, strict=True)]
        second = {tuple(f[k] for k in places) for f in functions}
        for pair in itertools.combinations_with_replacement(second, problem.widths[1]):
            best = min(best, class_errors(problem, list(zip(*pair, strict=True)), output_functions(problem.widths[1])))
    result = solve(problem, Circuits(), budget=QUICK)
    assert result.status is Status.OPTIMAL
    assert result.objective.item() == best


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "units", "optimum"),
    [
        (parity_table(4), 3, 1),
        (parity_table(4), 4, 0),
        (random_table(2, 40), 2, 8),
        (random_table(2, 40), 3, 5),
        (random_table(3, 32, seed=3), 2, 5),
    ],
)
def test_known_optima(table: tuple[np.ndarray, np.ndarray], units: int, optimum: int):
    problem = NetworkProblem(*table, [units])
    result = solve(problem, Circuits(), budget=QUICK)
    assert (result.objective.item(), result.bound.item()) == (optimum, optimum)
    wrong = (problem.network(result.targets)(problem.inputs) != problem.wanted).sum()
    assert wrong == optimum
    assert result.stats["engine"] == "glucose4"


@pytest.mark.parametrize("engine", ENGINES)
def test_contradictory_labels_are_part_of_what_is_proved(engine: str):
    # The labels of XOR cost one unit an error, and of four more samples at one point one is always wrong.
    x, y = [[0, 0], [0, 1], [1, 0], [1, 1], *[[0, 0]] * 4], [0, 1, 1, 0, 0, 0, 0, 1]
    result = solve(NetworkProblem(x, y, [1]), Circuits(engine=engine), budget=QUICK)
    assert (result.objective.item(), result.bound.item()) == (2, 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_proves_the_same(engine: str):
    problem = NetworkProblem(*random_table(2, 20), [2])
    result = solve(problem, Circuits(engine=engine, max_drawn=500), budget=QUICK)
    assert (result.objective.item(), result.status) == (3, Status.OPTIMAL)


SYMMETRIES: dict[str, Any] = {
    "samples permuted": lambda x, y: (x[::-1].copy(), y[::-1].copy()),
    "labels negated": lambda x, y: (x, -y),
    "features permuted": lambda x, y: (x[:, ::-1].copy(), y),
    "affine map": lambda x, y: (x @ np.array([[3, 1], [-1, 2]]) + 7, y),
    "a copy of a feature": lambda x, y: (np.concatenate([x, x[:, :1]], axis=1), y),
    "a constant feature": lambda x, y: (np.concatenate([x, np.ones_like(x[:, :1])], axis=1), y),
    "every sample twice": lambda x, y: (np.concatenate([x, x]), np.concatenate([y, y])),
}


def moved(name: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = random_table(2, 24, seed=3)
    x = np.round(100 * x)
    return SYMMETRIES[name](x, y) if name else (x, y)


@cache
def optimum_of_moved(name: str) -> float:
    result = solve(NetworkProblem(*moved(name), [2]), Circuits(), budget=QUICK)
    assert result.status is Status.OPTIMAL
    return result.objective.item()


@pytest.mark.parametrize("name", SYMMETRIES)
def test_optimum_survives_symmetries(name: str):
    assert optimum_of_moved(name) == optimum_of_moved("") * (2 if "twice" in name else 1)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "units", "steps"), [("glucose4", 3, 1500), ("cp-sat", 2, 60)])
def test_equal_seeds_and_steps_give_equal_results(engine: str, units: int, steps: int):
    problem = NetworkProblem(*random_table(2, 40), [units])
    settings_ = Circuits(engine=engine, max_drawn=2000)
    runs = [solve(problem, settings_, budget=Budget(steps=steps), generator=seed(4)) for _ in range(2)]
    assert torch.equal(runs[0].targets, runs[1].targets)
    assert torch.equal(runs[0].bound, runs[1].bound)
    assert runs[0].stats["steps"] == runs[1].stats["steps"]
    assert runs[0].bound.item() < runs[0].objective.item(), "cut short, so that the steps matter"


def test_many_features_begin_with_no_more_errors_than_a_linear_fit():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (150, 15)).astype(float)
    y = np.where(x @ rng.normal(size=15) + 0.5 * rng.normal(size=150) > 0, 1, -1)
    with_one = np.concatenate([x, np.ones((150, 1))], axis=1)
    fit = with_one @ np.linalg.lstsq(with_one, y, rcond=None)[0]
    errors = int((np.where(fit >= 0, 1, -1) != y).sum())
    assert 0 < errors < 50
    problem = NetworkProblem(x, y, [2])
    for solver in ("column-search", Circuits()):
        result = solve(problem, solver, budget=Budget(steps=1), generator=seed())
        assert result.objective.item() <= errors


def test_local_searches_by_shape():
    x, y = random_table(9, 12)
    columns, refit, surrogate = "column-search", "refit-search", LineSearch().first
    lines = ["line-search", "line-search:first=None"]
    every = [refit, lines[0], columns, lines[1], surrogate]
    assert local_searches(NetworkProblem(x[:, :8], y, [2])) == ([columns, refit], every)
    assert local_searches(NetworkProblem(x, y, [2])) == ([refit], every)
    for problem in (NetworkProblem(x, y, [2, 2]), NetworkProblem(x[:, :8], np.arange(12) % 3, [2])):
        assert local_searches(problem) == ([refit], [refit, *lines, surrogate])
    many = np.random.default_rng(0).normal(size=(11_000, 10))
    assert local_searches(NetworkProblem(many, np.arange(11_000) % 2, [2])) == ([refit], every)
    wide = np.eye(120, 502)
    assert local_searches(NetworkProblem(wide, np.arange(120) % 2, [2]))[0] == [columns, lines[0]]


def test_bound_rises_from_the_start_and_is_heard():
    heard: list[Progress] = []
    problem = NetworkProblem(*random_table(2, 40), [4])

    def listen(progress: Progress) -> bool:
        heard.append(progress)
        return progress.bound >= 2

    solve(problem, Circuits(workers=1), budget=Budget(seconds=300), callback=listen)
    assert 2 <= heard[-1].bound < heard[-1].objective


def test_what_is_refuted_raises_the_bound_by_one_error_and_never_lowers_it():
    problem = NetworkProblem([[float(k)] for k in range(6)], [0, 1] * 3, [1], weight=[0.5] * 6)
    report = Report(problem.flatten(), Budget(steps=1), None)
    state = SearchState(problem, report, seed(), max_drawn=0, max_cuts=1)
    # Costs are counted in halves, the measure of the weights; one unit makes two errors.
    for limit, lower in ((0, 1), (1, 2), (0, 2)):
        state.refute(limit)
        assert (state.lower, report.bound.tolist()) == (lower, [lower / 2])
    assert not state.closed


@pytest.mark.slow
def test_a_master_is_made_while_others_add_circuits():
    points = list(itertools.product((0.0, 1.0), repeat=3))
    problem = NetworkProblem(points, [int(sum(point)) % 2 for point in points], [2])
    report = Report(problem.flatten(), Budget(seconds=9), None)
    state = SearchState(problem, report, seed(), max_drawn=100, max_cuts=1)
    state.prepare()
    pool, rest = state._pool, state._added[3:]
    del state._added[3:]
    state._used -= set(rest)

    class Pool:
        samples = pool.samples

        @property
        def signs(self) -> np.ndarray:
            # As if it were another thread.
            state._use(rest)
            return pool.signs

    state._pool = Pool()  # type: ignore[assignment]  # only what `clauses` reads of it
    assert list(state.clauses())
    assert rest
    assert len(state._added) == 3 + len(rest)


def test_callback_stops_both_workers():
    problem = NetworkProblem(*random_table(2, 80), [5])
    result = solve(problem, Circuits(workers=2), budget=Budget(seconds=600), callback=lambda p: p.seconds > 0.2)
    assert result.stats["seconds"] < 30
    assert result.status is Status.FEASIBLE


def test_work_ends_by_the_clock_also_while_a_check_holds_the_state():
    problem = NetworkProblem(*random_table(2, 12), [1]).flatten()
    for seconds, late in ((1e-9, True), (60.0, False)):
        state = SearchState(problem, Report(problem, Budget(seconds=seconds), None), seed(), 0, 5)
        race: Any = SimpleNamespace(_state=state)
        assert not state.ended
        assert Race._ended(race, lambda: 0.0) is late  # pyright: ignore[reportPrivateUsage]


def test_a_failure_in_a_worker_is_raised(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("from the second worker")

    monkeypatch.setattr("tpsolve.search.network.columns._column_search.improve_columns", fail)
    with pytest.raises(RuntimeError, match="from the second worker"):
        solve(NetworkProblem(*random_table(2, 80), [4]), Circuits(workers=2), budget=Budget(seconds=30))


def test_almost_no_budget_is_a_result():
    problem = NetworkProblem(*random_table(2, 40), [3])
    for budget in (Budget(seconds=1e-6), Budget(steps=1)):
        result = solve(problem, Circuits(), budget=budget)
        assert result.objective.item() <= problem.objective(problem.start).item()
        assert result.bound.item() < result.objective.item()


def test_all_optima_are_listed_up_to_symmetry():
    # Three points on a line, the middle one different: one unit gets two of them right.
    problem = NetworkProblem([[0.0], [1.0], [2.0]], [0, 1, 0], [1])
    result = solve(problem, Circuits(solutions=50), budget=QUICK)
    found: Tensor = result.stats["solutions"]
    assert result.stats["all_solutions"]
    assert (problem.objective(found) == 1).all()
    names = {tuple(problem.columns(row)[-1][:, 0].tolist()) for row in found}
    # Either side of the middle joins it, or all are called 0.
    assert names == {(1, 1, -1), (-1, 1, 1), (-1, -1, -1)}
    keys = [
        frozenset([t := tuple(row.tolist()), tuple(-v for v in t)])
        for c in found
        for row in [problem.columns(c)[0][:, 0]]
    ]
    outputs = [tuple(problem.columns(row)[-1][:, 0].tolist()) for row in found]
    assert len(set(zip(keys, outputs, strict=True))) == len(found)


def test_fewer_optima_than_there_are():
    problem = NetworkProblem([[0.0], [1.0], [2.0]], [0, 1, 0], [1])
    result = solve(problem, Circuits(solutions=2), budget=QUICK)
    assert len(result.stats["solutions"]) == 2
    assert not result.stats["all_solutions"]


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_it_can_t_take_is_refused():
    x, y = random_table(2, 20)
    budget = Budget(steps=1)
    with pytest.raises(TooLargeError, match=r"9 units in hidden layer 1.*at most 8.*ColumnSearch"):
        solve(NetworkProblem(x, y, [9]), Circuits(), budget=budget)
    with pytest.raises(TooLargeError, match=r"7 units in hidden layer 1.*at most 6"):
        solve(NetworkProblem(x, y, [7, 2]), Circuits(), budget=budget)
    with pytest.raises(TooLargeError, match="clauses"):
        solve(
            NetworkProblem(np.random.default_rng(0).normal(size=(20_000, 2)), np.arange(20_000) % 2, [8]),
            Circuits(engine="cp-sat"),
            budget=budget,
        )
    with pytest.raises(NotAcceptedError, match="Round the weights"):
        solve(
            NetworkProblem(x, y, [2], weight=np.random.default_rng(0).random(20)), Circuits(solutions=2), budget=budget
        )
    with pytest.raises(TooLargeError, match=r"to count.*at most 1000.*engine=cp-sat"):
        solve(NetworkProblem(x, y, [2], weight=np.arange(20) + 1000), Circuits(engine="glucose4"), budget=budget)
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"engine": "glucose"}, UnknownNameError),
        ({"max_drawn": -1}, ArgumentError),
        ({"max_cuts": 0}, ArgumentError),
        ({"solutions": 0}, ArgumentError),
        ({"workers": 0}, ArgumentError),
        ({"local_seconds": -1.0}, ArgumentError),
    ]
    for settings_, error in wrong:
        with pytest.raises(error):
            Circuits(**settings_)


def test_without_python_sat_cp_sat_does_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(circuits, "sat_installed", lambda: False)
    problem = NetworkProblem(*parity_table(3), [2])
    result = solve(problem, Circuits(), budget=QUICK)
    assert (result.stats["engine"], result.status) == ("cp-sat", Status.OPTIMAL)
    with pytest.raises(MissingLibraryError, match="pip install python-sat"):
        solve(problem, Circuits(engine="glucose4"), budget=QUICK)


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(30, 1), (30, 2), (25, 4), (20, 7)])
@pytest.mark.parametrize("values", ["grid", "real"])
def test_pool_holds_circuits_alone(shape: tuple[int, int], values: str):
    rng = np.random.default_rng(1)
    x = np.unique(rng.integers(0, 3, shape) if values == "grid" else 1e3 + 1e-3 * rng.normal(size=shape), axis=0)
    pool = CircuitPool(torch.tensor(x, dtype=torch.float64), 200, seed())
    checker = CircuitChecker(torch.tensor(x, dtype=torch.float64), True)
    assert len(pool) >= min(20, math.comb(len(x), shape[1] + 2))
    assert all(checker.is_circuit(*pool.circuit(row)) for row in range(len(pool)))
    columns = rng.choice([-1, 1], (len(x), 3))
    assert_forbids(pool, columns, pool.violated(columns, 5))
    separated = np.where(x @ rng.normal(size=shape[1]) > 0, 1, -1)[:, None]
    assert pool.violated(separated, 5) == []


def assert_forbids(pool: CircuitPool, columns: np.ndarray, rows: list[int]) -> None:
    """Each circuit has the signs of one of the columns, or their negation."""
    for row in rows:
        samples, signs = pool.circuit(row)
        assert (abs((columns[samples] * np.array(signs)[:, None]).sum(axis=0)) == len(samples)).any()


@pytest.mark.parametrize("shape", [(30, 1), (30, 2), (25, 4), (20, 7)])
@pytest.mark.parametrize("values", ["grid", "real"])
def test_empty_pool_finds_circuits_of_every_column(shape: tuple[int, int], values: str):
    rng = np.random.default_rng(2)
    x = np.unique(rng.integers(0, 3, shape) if values == "grid" else rng.normal(size=shape), axis=0)
    pool = CircuitPool(torch.tensor(x, dtype=torch.float64), 0, seed())
    checker = CircuitChecker(torch.tensor(x, dtype=torch.float64), True)
    columns = rng.choice([-1, 1], (len(x), 3))
    rows = pool.violated(columns, 50)
    assert_forbids(pool, columns, rows)
    certificate = Separability().fit(torch.tensor(x, dtype=torch.float64), torch.tensor(columns).double())
    assert [bool(pool.violated(columns[:, [k]], 1)) for k in range(3)] == [
        bool(len(certificate.circuit(k))) for k in range(3)
    ]
    assert all(checker.is_circuit(*pool.circuit(row)) for row in range(len(pool)))
    # Other points take the place of one: many circuits of one certificate.
    assert values == "grid" or len(rows) >= 20


def test_null_vectors_are_proved_or_not_claimed():
    x = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    line = np.array([[0.0, 0], [1, 1], [2, 2], [0.3, 0.7]])
    mu, proved = null_vectors(np.stack([x, line]))
    assert proved.tolist() == [True, False]
    assert np.sign(mu[0]).tolist() == [1, -1, -1, 1]
    assert exact_circuit(line) == ([0, 1, 2], [1, -1, 1])
    assert exact_circuit(np.array([[0.0, 0], [1, 0], [0, 1]])) is None


@pytest.mark.parametrize("inputs", [2, 3, 4])
def test_truth_tables_of_the_clauses_are_the_threshold_functions(inputs: int):
    from pysat.solvers import Solver as Sat

    formula = NetworkFormula(NetworkProblem([[0.0]], [0], [1]))
    for kind, expected in (("threshold", {2: 14, 3: 104, 4: 1882}), ("monotone", {2: 5, 3: 10, 4: 27})):
        formula.clauses, formula.count = [], 0
        gate = formula.new(2**inputs)
        getattr(formula, kind)(gate, inputs)
        with Sat(bootstrap_with=formula.clauses) as sat:
            # A variable in no clause is in no model: each enters here.
            sat.append_formula([[int(v), -int(v)] for v in gate])
            tables = {tuple(v > 0 for v in model if abs(v) in gate) for model in sat.enum_models() or ()}
        assert len(tables) == expected[inputs]


def test_six_inputs_have_no_tables_but_threshold_functions():
    from pysat.solvers import Solver as Sat

    formula = NetworkFormula(NetworkProblem([[0.0]], [0], [1]))
    formula.clauses, formula.count = [], 0
    gate = formula.new(2**6)
    formula.monotone(gate, 6)
    with Sat(bootstrap_with=formula.clauses) as sat:
        assert sat.solve()
        # Weights w would give w.a + w.b > w.c + w.d.
        for (a, b), (c, d) in asummable(6):
            assert not sat.solve(assumptions=[int(gate[a]), int(gate[b]), -int(gate[c]), -int(gate[d])])


def test_targets_that_no_network_gives_are_a_contradiction(monkeypatch: pytest.MonkeyPatch):
    # A pool that knows no circuits lets pass a column that is not separable.
    monkeypatch.setattr(CircuitPool, "violated", lambda *_: [])
    with pytest.raises(ContradictionError, match="no network's"):
        solve(NetworkProblem(*parity_table(2), [1]), Circuits(max_drawn=0, workers=1), budget=Budget(steps=100))


def pigeons(holes: int) -> tuple[int, list[list[int]]]:
    """One pigeon more than there are holes: refuted after many conflicts."""
    places = np.arange(1, holes * (holes + 1) + 1).reshape(holes + 1, holes)
    pairs = [(a, b) for column in places.T.tolist() for a, b in itertools.combinations(column, 2)]
    return places.size, places.tolist() + [[-a, -b] for a, b in pairs]


def test_a_master_without_budget_refutes_nothing():
    few, many = pigeons(7), pigeons(10)
    for master in (CpSatMaster(*few, [], 0, 1), SatMaster("glucose4", *few, [], 0)):
        with master:
            assert master.solve(0, 3, lambda: False) is None
            assert master.solve(0, None, lambda: False) is False
    # Stopped after the first few thousand conflicts.
    for engine in ENGINES[:-1]:
        asked = iter([False, True])
        with SatMaster(engine, *many, [], 0) as master:
            assert master.solve(0, None, lambda asked=asked: next(asked)) is None


@pytest.mark.parametrize("widths", [[2], [3], [4], [2, 2]])
def test_every_network_is_a_model_of_its_formula_in_some_order(widths: list[int]):
    from pysat.solvers import Solver as Sat

    for number in range(20):
        rng = np.random.default_rng(number)
        x = np.unique(rng.integers(-3, 4, (25, 2)), axis=0)
        h, columns = x, []
        for inputs, units in itertools.pairwise([2, *widths, 1]):
            h = np.where(h @ rng.integers(-3, 4, (inputs, units)) + rng.integers(-2, 3, units) >= 0, 1, -1)
            columns.append(h)
        formula = NetworkFormula(NetworkProblem(x, columns[-1][:, 0], widths))
        free = [-literal for literal, _ in formula.costs]
        with Sat(bootstrap_with=formula.clauses) as sat:
            # Units may be permuted and negated; those of a second layer are left to the formula.
            arranged = (
                columns[0][:, list(order)] * np.array(signs)
                for order in itertools.permutations(range(widths[0]))
                for signs in itertools.product((1, -1), repeat=widths[0])
            )
            assert any(sat.solve([*free, *(formula.hidden[0] * c).ravel().tolist()]) for c in arranged)


def test_asummable_pairs_have_equal_sums():
    for (a, b), (c, d) in asummable(3):
        assert sum((a >> j & 1) + (b >> j & 1) - (c >> j & 1) - (d >> j & 1) == 0 for j in range(3)) == 3
        assert {a, b} != {c, d}
    assert len(list(asummable(3))) == 3 * 2 + 6


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 12))
@settings(max_examples=30, deadline=None)
def test_totalizer_limits_the_sum(weights: list[int], limit: int):
    from pysat.solvers import Solver as Sat

    clauses, reached, _ = totalizer(len(weights), [(k + 1, w) for k, w in enumerate(weights)], limit)
    above = [v for value, v in reached.items() if value > limit]
    with Sat(bootstrap_with=clauses) as sat:
        for bits in itertools.product((0, 1), repeat=len(weights)):
            chosen = [k + 1 if bit else -k - 1 for k, bit in enumerate(bits)]
            total = sum(w for w, bit in zip(weights, bits, strict=True) if bit)
            assert sat.solve(assumptions=chosen + [-v for v in above]) == (total <= limit)


@pytest.mark.slow
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 30))
@settings(max_examples=20, deadline=None)
def test_masters_limit_the_sum(weights: list[int], limit: int):
    # Variable 1, the negation of 2, and so on cost; of three neighbours one must be paid.
    costs = [((-1) ** k * (k + 1), w) for k, w in enumerate(weights)]
    literals = [literal for literal, _ in costs]
    clauses = [literals[k : k + 3] for k in range(len(literals))]
    values = itertools.product((0, 1), repeat=len(weights))
    least = min(
        sum(w for bit, w in zip(bits, weights, strict=True) if bit)
        for bits in values
        if all(any(bits[k : k + 3]) for k in range(len(bits)))
    )
    # Counted by clauses, and by a linear constraint.
    masters = [(most, CpSatMaster(len(weights), clauses, costs, most, 1)) for most in (sum(weights), MAX_COUNTED + 1)]
    for most, master in [*masters, (sum(weights), SatMaster("glucose4", len(weights), clauses, costs, sum(weights)))]:
        for asked in (limit, 0, limit):
            model = master.solve(min(asked, most), None, lambda: False)
            assert isinstance(model, np.ndarray) == (asked >= least)
            if isinstance(model, np.ndarray):
                assert sum(w for literal, w in costs if model[abs(literal)] == (literal > 0)) <= asked


def test_many_errors_to_count_are_left_to_cp_sat():
    x, y = random_table(2, 20)
    # 1,000 and 1,001 have no common measure but 1: thousands to count, and the order of sums stays.
    light, heavy = np.arange(20) % 2 + 1, 1000 * (np.arange(20) % 2 + 1) + np.arange(20) % 2
    results = [solve(NetworkProblem(x, y, [1], weight=weight), Circuits(), budget=QUICK) for weight in (light, heavy)]
    assert [result.stats["engine"] for result in results] == ["glucose4", "cp-sat"]
    assert [result.status for result in results] == [Status.OPTIMAL] * 2
    assert results[1].objective.item() // 1000 == results[0].objective.item()


def test_common_measure_of_weights():
    problem = NetworkProblem([[0.0], [1.0], [2.0]], [0, 1, 0], [1], weight=[0.5, 1.25, 0])
    assert error_measure(problem) == Fraction(1, 4)
    assert error_measure(NetworkProblem([[0.0]], [0], [1], weight=[0])) == 1
