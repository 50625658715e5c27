"""The recount of a proof: bounds against brute force in fractions, and no larger ones; the number of dichotomies."""

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fraction_oracle import columns, fewest

from tpsolve.search.proofs._recount import OutOfTimeError, one_unit, recounted_dichotomies, two_units
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
    y = [0, 1, *data.draw(st.lists(st.integers(0, 3 - units), min_size=count - 2, max_size=count - 2))]
    if units == 2:
        y = [min(label, 1) for label in y]
    weight = data.draw(st.lists(st.sampled_from([1.0, 2.0, 0.1, 1e-12, 1e12]), min_size=count, max_size=count))
    # The oracle reads float64.
    best = fewest([[float(v) for v in row] for row in X], y, units, weight) if size < 2**53 else None
    costs = [{label: Fraction(w)} for label, w in zip(y, weight, strict=True)]
    until = time.monotonic() + 60

    def check(bound: Fraction) -> bool | None:
        return (
            one_unit(whole(X), costs, bound, until) if units == 1 else two_units(whole(X), costs, (0, 1), bound, until)
        )

    if best is not None:
        least = min(map(Fraction, weight)) / 2
        assert (check(best), check(best + least)) in {(True, False), (None, None)}
        assert units == 2 or check(best)
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


def test_it_gives_up_in_time():
    points = np.random.default_rng(0).integers(0, 100, (60, 3)).tolist()
    with pytest.raises(OutOfTimeError):
        one_unit(whole(points), [{k % 2: Fraction(1)} for k in range(60)], Fraction(10), time.monotonic() - 1)
