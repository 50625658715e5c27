"""The recount of a proof: bounds against brute force in fractions, and no larger ones; the number of dichotomies."""

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fraction_oracle import columns, fewest

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.search.proofs._recount import OutOfTimeError, one_unit, recounted_dichotomies, several_units
from tpsolve.units.patterns._all_dichotomies import dichotomy_count


def whole(points: list[list[int]]) -> list[list[int]]:
    return [[*point, 1] for point in points]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_optimum_holds_and_no_larger_bound(data: st.DataObject):
    units = data.draw(st.integers(1, 2))
    count, p = data.draw(st.integers(2, 7 if units == 1 else 5)), data.draw(st.integers(1, 4 if units == 1 else 2))
    size = data.draw(st.sampled_from([2, 2**53 - 1, 10**20]))
    coordinate = st.integers(-1, 1) if size == 2 else st.integers(-size, size)
    point = st.lists(coordinate, min_size=p, max_size=p)
    X = data.draw(st.lists(point, min_size=count, max_size=count, unique_by=tuple))
    y = [0, 1, *data.draw(st.lists(st.integers(0, 2 if units == 1 else 1), min_size=count - 2, max_size=count - 2))]
    weight = data.draw(st.lists(st.sampled_from([1.0, 2.0, 0.1, 1e-12, 1e12]), min_size=count, max_size=count))
    # The oracle reads float64.
    best = fewest([[float(v) for v in row] for row in X], y, units, weight) if size < 2**53 else None
    costs = [{label: Fraction(w)} for label, w in zip(y, weight, strict=True)]
    until = time.monotonic() + 60

    def check(bound: Fraction) -> bool | None:
        if units == 1:
            return one_unit(whole(X), costs, bound, until)
        return several_units(whole(X), costs, (0, 1), units, bound, until)

    if best is not None:
        least = min(map(Fraction, weight)) / 2
        assert (check(best), check(best + least)) in {(True, False), (None, None)}
        assert units > 1 or check(best)
    else:
        assert check(sum(map(Fraction, weight), Fraction(0))) in {False, None}


@pytest.mark.parametrize(("p", "count"), [(1, 6), (2, 7), (3, 7)])
def test_dichotomies_of_points_in_general_position_are_as_many_as_there_are(p: int, count: int):
    rng = np.random.default_rng(p)
    points = rng.integers(-1000, 1000, (count, p)).tolist()
    found = recounted_dichotomies(whole(points), time.monotonic() + 60)
    assert len(found) == dichotomy_count(count, p)


def test_dichotomies_of_a_grid_are_those_of_fractions():
    points = [[x, y] for x in range(3) for y in range(3)]
    found = recounted_dichotomies(whole(points), time.monotonic() + 60)
    assert {tuple(row) for row in found.tolist()} == {c for c in columns(points) if c[0] > 0}


@pytest.mark.parametrize(("count", "units"), [(12, 3), pytest.param(8, 4, marks=pytest.mark.slow)])
def test_the_optimum_of_more_units_holds_and_no_larger_bound(count: int, units: int):
    X, y = [[x] for x in range(count)], [k % 2 for k in range(count)]
    best = Fraction(int(solve(NetworkProblem(X, y, [units]), "dichotomies", budget=Budget(seconds=60)).objective))
    assert best > 0
    costs: list[dict[object, Fraction]] = [{label: Fraction(1)} for label in y]
    until = time.monotonic() + 60
    assert several_units(whole(X), costs, (0, 1), units, best, until)
    assert not several_units(whole(X), costs, (0, 1), units, best + 1, until)


def test_both_sides_of_each_hyperplane_are_looked_at():
    # Four points and one more on each line through two of them: all planes near the dichotomy hold six points, and on
    # each of them all lines near it hold three. So no side of one plane, and of one line on it, is enough.
    points = [[-3, 0, 1], [1, 2, 5], [3, 0, -1], [3, 4, -3]]
    points += [[3, 3, 7], [0, 0, 0], [0, 2, -1], [4, -1, -4], [4, 5, -7], [3, 2, -2]]
    costs: list[dict[object, Fraction]] = [{label: Fraction(1)} for label in (1, 0, 1, 1, 0, 1, 1, 1, 1, 1)]
    assert not one_unit(whole(points), costs, Fraction(1), time.monotonic() + 60)


def test_it_gives_up_in_time():
    points = np.random.default_rng(0).integers(0, 100, (60, 3)).tolist()
    with pytest.raises(OutOfTimeError):
        one_unit(whole(points), [{k % 2: Fraction(1)} for k in range(60)], Fraction(10), time.monotonic() - 1)
