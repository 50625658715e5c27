"""Curves, expected running times and fixed budgets: by hand, and against a slow walk through the traces."""

import math
import random

import numpy as np
import pytest
from support.pages import Row, drawn_rows

from tpsolve.compare._anytime import (
    TARGETS,
    Curve,
    Run,
    expected_times,
    fixed_budgets,
    found_at,
    hits,
    mean_left,
    reached,
    runs_of,
    share_done,
    thinned,
)
from tpsolve.compare._statistics import Solved, known_of
from tpsolve.compare._summary import Findings


def run(instance: str, *points: tuple[float, float], spent: float = 10.0, failed: bool = False) -> Run:
    seconds, left = np.array(points).T if points else (np.empty(0), np.empty(0))
    return Run(instance, seconds, left, spent, failed)


def some(curve: Curve | None) -> Curve:
    assert curve is not None
    return curve


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_running_times_by_hand():
    runs = [
        run("a", (1, 0.6), (2, 0.05), spent=4),
        run("b", (1, 0.4), spent=8),
        run("c", (3, 0.0), spent=3),
        run("d", spent=5, failed=True),
    ]
    half, tenth, none = expected_times(runs, (0.5, 0.1, 0.0))
    assert half.seconds == pytest.approx((2 + 1 + 3 + 5) / 3)
    assert half.reached == pytest.approx(3 / 4)
    assert tenth.seconds == pytest.approx((2 + 8 + 3 + 5) / 2)
    assert none.seconds == pytest.approx((4 + 8 + 3 + 5) / 1)
    assert none.high == math.inf, "in some draws of the instances no run reaches it"
    assert half.low <= half.seconds <= half.high
    never = expected_times(runs[1:2], (0.1,))[0]
    assert (never.seconds, never.reached) == (math.inf, 0.0)
    assert math.isnan(never.low), "one instance has no interval"
    assert expected_times([]) == []


def test_running_time_is_that_of_a_solver_started_again_and_again():
    # It succeeds with probability 0.3 after 1 second, else stops after 2.
    generator = np.random.default_rng(0)
    runs = [run(f"i{k}", (1, 0.0)) if generator.random() < 0.3 else run(f"i{k}", spent=2) for k in range(4000)]
    (found,) = expected_times(runs, (0.0,))
    waited = []
    for _ in range(4000):
        seconds = 0.0
        while generator.random() >= 0.3:
            seconds += 2
        waited.append(seconds + 1)
    assert found.low < np.mean(waited) < found.high
    assert found.seconds == pytest.approx(1 + 2 * 0.7 / 0.3, rel=0.1)


def test_fixed_budgets_by_hand():
    runs = [run("a", (1, 0.8), (3, 0.2)), run("a", (1, 0.4)), run("b", (2, 0.5)), run("b", failed=True)]
    one, two, three = fixed_budgets(runs, (1.0, 2.0, 3.0))
    assert math.isnan(one.left), "nothing is known on b yet"
    assert [(each.nothing, each.instances) for each in (one, two, three)] == [(1, 2), (0, 2), (0, 2)]
    assert two.left == pytest.approx(((0.8 + 0.4) / 2 + 0.5) / 2)
    assert three.left == pytest.approx(((0.2 + 0.4) / 2 + 0.5) / 2)
    assert (three.low, three.high) == (0.0, 1.0), "two instances say next to nothing"


def test_mean_curve_begins_where_every_run_has_something():
    seconds, left = some(mean_left([run("a", (1, 0.8), (3, 0.2)), run("b", (2, 0.5), (4, 0.0)), run("b", failed=True)]))
    assert seconds.tolist() == [2, 3, 4]
    assert left.tolist() == pytest.approx([0.65, 0.35, 0.1])
    assert mean_left([run("a", (1, 0.5)), run("b")]) is None
    assert mean_left([]) is None


def test_share_of_targets_by_hand():
    targets = np.array([0.5, 0.1])
    seconds, share = some(reached([run("a", (1, 0.5), (2, 0.1)), run("b", (1, 0.6)), run("b", (4, 0.0))], targets))
    assert seconds.tolist() == [1, 2, 4]
    assert share.tolist() == pytest.approx([1 / 4, 2 / 4, 3 / 4])
    assert reached([run("a", (1, 0.9))], targets) is None
    assert share_done([math.inf, math.inf]) is None
    assert [part.tolist() for part in some(share_done([2.0, math.inf, 2.0, 1.0]))] == [[1.0, 2.0], [0.25, 0.75]]


def test_targets_are_as_documented():
    assert len(TARGETS) == 41
    assert TARGETS[0] == pytest.approx(10**-0.1)
    assert TARGETS[-2:].tolist() == pytest.approx([1e-4, 0.0])


# --- against the slow account -----------------------------------------------------------------------------------------


def slow_left(row: Row, best: float, seconds: float) -> float | None:
    """The share left at a moment, by a walk through the trace."""
    start = sum(row["start"]) / len(row["start"])
    known = [objective for at, objective, _ in row["trace"] if at <= seconds]
    if row["seconds"] <= seconds:
        known.append(sum(row["objective"]) / len(row["objective"]))
    if not known:
        return None
    return min(1.0, max(0.0, (min(known) - best) / (start - best)))


@pytest.mark.parametrize("seed", range(3))
def test_runs_and_curves_equal_the_slow_account(seed: int):
    drawn = random.Random(seed)
    rows = [row for row in drawn_rows(("one", "two"), tuple("abcdef"), seeds=3) if drawn.random() < 0.8]
    for row in rows:
        drawn.shuffle(row["trace"])
        moments = sorted(point[0] for point in row["trace"])
        row["trace"] = [[at, point[1], None] for at, point in zip(moments, row["trace"], strict=True)]
    known = known_of(Solved(rows))
    best = {name: float(np.mean(of.objective)) for name, of in known.items()}
    ones = [row for row in rows if row["solver"] == "one"]
    runs = runs_of(ones, known)
    assert [each.instance for each in runs] == [row["instance"] for row in ones]
    for each, row, reached_at in zip(runs, ones, hits(runs, TARGETS), strict=True):
        for moment in np.linspace(0, 0.1, 41):
            expected = slow_left(row, best[row["instance"]], moment)
            (found,) = each.at(np.array([moment]))
            assert found == pytest.approx(math.nan if expected is None else expected, abs=1e-9, nan_ok=True)
        for target, hit in zip(TARGETS, reached_at, strict=True):
            moments = sorted([*(p[0] for p in row["trace"]), row["seconds"]])
            first = next(
                (m for m in moments if (slow_left(row, best[row["instance"]], m) or 0.0) <= target + 1e-12), math.inf
            )
            assert hit == first or slow_left(row, best[row["instance"]], first) == pytest.approx(target, abs=1e-9)
    seconds, left = some(mean_left(runs))
    for moment, value in zip(seconds, left, strict=True):
        by_instance: dict[str, list[float]] = {}
        for row in ones:
            by_instance.setdefault(row["instance"], []).append(slow_left(row, best[row["instance"]], moment) or 0.0)
        assert value == pytest.approx(np.mean([np.mean(values) for values in by_instance.values()]), abs=1e-9)


def test_without_a_start_the_worst_end_leaves_all():
    rows = drawn_rows(("one", "two"), ("a",), samples=2)
    for row, ends in zip(rows, ([1.0, 4.0], [3.0, 2.0]), strict=True):
        row |= {"start": None, "objective": ends, "trace": [[0.01, 9.0, None], [0.02, sum(ends) / 2, None]]}
    found = runs_of(rows, known_of(Solved(rows)))
    # Best 1 and 2, worst 3 and 4: the mean improvement is 2.
    assert [run.left.tolist() for run in found] == [[1.0, 0.5], [1.0, 0.5]]
    assert [run.seconds.tolist() for run in found] == [[0.01, 0.02]] * 2


def test_what_float32_rounds_is_not_left():
    (row,) = drawn_rows(("one",), ("a",), samples=1)
    row |= {"start": [5.0], "objective": [1.0], "seconds": 0.3}
    row["trace"] = [[0.1, 1.0 + 1e-5, None], [0.2, 1.0 + 1e-6, None], [0.3, 1.0, None]]
    (found,) = runs_of([row], known_of(Solved([row])))
    assert hits([found], np.array([0.0])).tolist() == [[0.2]]


def test_thinned_curves_hold_the_values_of_the_whole_one():
    generator = np.random.default_rng(0)
    curve = np.sort(generator.exponential(size=5000)), np.sort(generator.random(5000))
    seconds, values = thinned(curve, 100)
    assert 50 < len(seconds) <= 101
    assert seconds[0] == curve[0][0]
    assert (seconds[-1], values[-1]) == (curve[0][-1], curve[1][-1])
    assert all(curve[1][np.searchsorted(curve[0], at)] == value for at, value in zip(seconds, values, strict=True))
    assert thinned(curve, 5000) is curve


def test_samples_are_found_when_the_best_known_objective_is():
    rows = drawn_rows(("one", "two"), ("a",), samples=3)
    rows[1]["objective"][0] = rows[0]["objective"][0] + 1.0
    rows[1]["objective"][1:] = rows[0]["objective"][1:]
    found = found_at([rows[1]], known_of(Solved(rows)))
    assert found.tolist() == [math.inf, *rows[1]["found_at"][1:]]


def test_instances_on_which_a_solver_fails_count_in_its_running_times():
    rows = drawn_rows(("one", "two"), tuple("abcdef"), samples=1)
    for each in rows:
        each |= {"start": [9.0], "objective": [1.0], "trace": [[0.5, 1.0, None]], "seconds": 0.5}
        each |= {"budget": {"seconds": 2.0}}
        if each["solver"] == "one" and each["instance"] in "ab":
            each["error"] = "RuntimeError: no"
    findings = Findings(rows)
    assert findings.counted == set("cdef")
    (one,) = expected_times(findings.attempts["one"], [0.0])
    (two,) = expected_times(findings.attempts["two"], [0.0])
    assert (one.reached, one.seconds) == pytest.approx((4 / 6, (4 * 0.5 + 2 * 2.0) / 4))
    assert (two.reached, two.seconds) == (1.0, 0.5)
    _, share = some(reached(findings.attempts["one"]))
    assert share[-1] == pytest.approx(4 / 6)
    assert [run.instance for run in findings.runs["one"]] == list("cdef"), "means stay over what both finished"
    part = findings.of_instances(findings.families[rows[0]["loss"]])
    assert len(part.attempts["one"]) == len(part.attempts["two"]) == 3, "of one of two losses"
    for each in rows:
        each["budget"] = {"steps": 5}
    (unknown,) = expected_times(Findings(rows).attempts["one"], [0.0])
    assert math.isnan(unknown.seconds), "what a failed run spent is not known"
