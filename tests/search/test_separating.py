"""The master that looks at hyperplanes while it searches: its circuits and its answers against fractions."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fraction_oracle import columns, fewest
from support.network_oracle import random_table

from tpsolve import Budget, NetworkProblem, Status, solve
from tpsolve.search import Report
from tpsolve.search.network.circuits._climb import Climber
from tpsolve.search.network.circuits._sat_master import SatMaster
from tpsolve.search.network.circuits._search_state import SearchState
from tpsolve.search.network.separating._conflict_finder import ConflictFinder
from tpsolve.search.network.separating._separating_master import SeparatingMaster


def state_of(problem: NetworkProblem) -> SearchState:
    """Without any circuits."""
    report = Report(problem, Budget(seconds=60), None)
    state = SearchState(problem, report, torch.Generator().manual_seed(0), 0, 5)
    state.prepare()
    return state


def opened(state: SearchState, problem: NetworkProblem, finder: Any = None) -> SeparatingMaster:
    finder = finder or ConflictFinder(problem.inputs.numpy(), problem.exact)
    most = state.upper
    made = state.open_master(
        lambda _: SeparatingMaster(state.formula, state.clauses(), state.costs, most, finder, state.keep)
    )
    assert isinstance(made, SeparatingMaster)
    return made


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_circuit_is_found_where_no_hyperplane_gives_the_signs(data: st.DataObject):
    p, scale = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1.0, 1e-3, 0.1]))
    point = st.tuples(*[st.integers(0, 3)] * p)
    points = data.draw(st.lists(point, min_size=3, max_size=6, unique=True))
    signs = np.array(data.draw(st.lists(st.sampled_from([-1, 1]), min_size=len(points), max_size=len(points))))
    rows = np.array(points) * scale
    finder = ConflictFinder(rows, None)
    hyperplane = np.zeros(finder.size)
    # Some points are not assigned.
    samples = np.array(sorted(data.draw(st.sets(st.integers(0, len(points) - 1), min_size=2))))
    circuit, own = finder.find(samples, signs[samples], hyperplane)
    given_signs = tuple(signs[samples].tolist())
    assert (len(circuit) == 0) == (given_signs in columns(rows[samples].tolist()))
    if len(circuit):
        assert set(circuit) <= set(samples)
        assert (signs[circuit] == own).all()
        assert tuple(own.tolist()) not in columns(rows[circuit].tolist())
        for k in range(len(circuit)):
            fewer = np.delete(circuit, k)
            assert tuple(signs[fewer].tolist()) in columns(rows[fewer].tolist())
    else:
        again = np.array(hyperplane)
        assert len(finder.find(samples, signs[samples], again)[0]) == 0
        assert (again == hyperplane).all()


def test_numbers_that_float64_rounds_have_their_own_circuits():
    # On one line, from which float64 moves the last one.
    rows = [[Fraction(0), Fraction(0)], [Fraction(1, 10), Fraction(3, 10)], [Fraction(3, 10), Fraction(9, 10)]]
    rows.append([Fraction(1), Fraction(0)])
    problem = NetworkProblem(rows, [0, 1, 0, 1], [1], exact=rows)
    finder = ConflictFinder(problem.inputs.numpy(), problem.exact)
    for last in (-1, 1):
        circuit, own = finder.find(np.arange(4), np.array([-1, 1, -1, last]), np.zeros(3))
        assert (circuit.tolist(), own.tolist()) == ([0, 1, 2], [-1, 1, -1])
    assert len(finder.find(np.arange(4), np.array([-1, 1, 1, 1]), np.zeros(3))[0]) == 0


@pytest.mark.parametrize("points", [[[0.0], [1.0], [2.0]], [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]])
def test_a_wrong_guess_of_floating_point_is_no_circuit(points: list[list[float]]):
    class Guessing(ConflictFinder):
        def _mixture(self, signed: np.ndarray, hyperplane: np.ndarray) -> np.ndarray:
            return np.arange(len(signed))

    finder = Guessing(np.array(points), None)
    for signs, found in (([-1, -1, 1], 0), ([-1, 1, -1], 3), ([1, 1, 1], 0)):
        assert len(finder.find(np.arange(3), np.array(signs), np.zeros(finder.size))[0]) == found


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_the_optimum_is_that_of_brute_force_and_follows_from_the_circuits(data: st.DataObject):
    count, units = data.draw(st.integers(3, 5)), data.draw(st.integers(1, 2))
    X = data.draw(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), min_size=count, max_size=count))
    y = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    weight = data.draw(st.none() | st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=count, max_size=count))
    problem = NetworkProblem(X, y, [units], weight).flatten()
    state = state_of(problem)
    with opened(state, problem) as master:
        Climber(problem, state).work(master, True, None, lambda: False)
    optimum = fewest(X, y, units, weight)
    assert state.closed
    assert state.proved == optimum
    with SatMaster("glucose4", state.formula.count, state.clauses(), state.costs, state.upper) as other:
        assert state.lower == 0 or other.solve(state.lower - 1, None, lambda: False) is False


def test_more_points_with_two_units():
    X, y = random_table(3, 30)
    problem = NetworkProblem(X, y, [2]).flatten()
    state = state_of(problem)
    with opened(state, problem) as master:
        Climber(problem, state).work(master, True, None, lambda: False)
        assert master.conflicts > 0
    result = solve(problem, "circuits:engine=glucose4", budget=Budget(seconds=60))
    assert result.status == [Status.OPTIMAL]
    assert state.proved == result.objective.item()
    with SatMaster("cadical195", state.formula.count, state.clauses(), state.costs, state.upper) as other:
        assert other.solve(state.lower - 1, None, lambda: False) is False


def test_it_ends_when_it_is_told_to_and_nothing_is_refuted():
    X, y = random_table(4, 60)
    problem = NetworkProblem(X, y, [2]).flatten()
    state = state_of(problem)
    asked = []
    with opened(state, problem) as master:
        assert master.solve(6, 50, lambda: False) is None
        # Where it is told to stop while it solves, models are not looked at; whoever gets them does that.
        assert master.solve(6, None, lambda: len(asked) > 9 or bool(asked.append(0))) is not False
    assert state.lower == 0


def test_a_failure_while_it_looks_is_raised_and_conflicts_may_be_asked_for_meanwhile():
    X, y = random_table(2, 12)
    problem = NetworkProblem(X, y, [1]).flatten()
    state, seen = state_of(problem), []

    class Failing(ConflictFinder):
        def find(self, samples: np.ndarray, signs: np.ndarray, hyperplane: np.ndarray) -> Any:
            # While it solves, the engine ends the process if it is asked itself.
            seen.append(master.conflicts)
            if len(seen) > 3:
                raise ZeroDivisionError("looked too often")
            return super().find(samples, signs, hyperplane)

    finder = Failing(problem.inputs.numpy(), None)
    with opened(state, problem, finder) as master, pytest.raises(ZeroDivisionError, match="looked too often"):
        master.solve(1, None, lambda: False)
    assert seen[0] == 0
