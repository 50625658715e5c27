"""Bounds from disjoint parts: never above the optimum, checked by whoever gets the proof; and turns of threads."""

import dataclasses
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fraction_oracle import fewest
from support.network_oracle import random_table

from tpsolve import Budget, NetworkProblem
from tpsolve.search import Proof, Report, load_proof, solve, verify_proof
from tpsolve.search.network._relay import Relay, no_turn
from tpsolve.search.network._turns import Turns
from tpsolve.search.network.circuits import _parts as parts_module
from tpsolve.search.network.circuits import _search_state as state_module
from tpsolve.search.network.circuits._climb import Climber
from tpsolve.search.network.circuits._cp_sat_master import CpSatMaster
from tpsolve.search.network.circuits._parts import Part, Parts
from tpsolve.search.network.circuits._prove import make_proof
from tpsolve.search.network.circuits._sat_master import SatMaster
from tpsolve.search.network.circuits._search_state import Evidence, Master, SearchState


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def divided(problem: NetworkProblem, seconds: float = 20.0) -> tuple[SearchState, Parts]:
    """The state and the parts after a run to the end."""
    report = Report(problem.flatten(), Budget(seconds=seconds), None)
    state = SearchState(problem.flatten(), report, seed(), 0, 5)
    parts = Parts(problem.flatten(), state, True, seed())
    parts.run(lambda: report.seconds_left <= 0)
    return state, parts


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_bounds_are_at_most_the_optimum(data: st.DataObject):
    count, units = data.draw(st.integers(4, 6)), data.draw(st.integers(1, 2))
    X = data.draw(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), min_size=count, max_size=count))
    y = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    weight = data.draw(st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=count, max_size=count))
    problem = NetworkProblem(X, y, [units], weight)
    if int((problem.counts.sum(1) > 0).sum()) < 2:
        return
    state, parts = divided(problem)
    assert state.proved <= fewest(X, y, units, weight)
    assert sum((bound for _, bound, _, _ in parts.best), Fraction(0)) == state.proved


def test_larger_parts_raise_the_bound_and_start_from_the_sum_of_smaller_ones():
    X, y = random_table(2, 60)
    problem = NetworkProblem(X, y, [1]).flatten()
    state, parts = divided(problem)
    optimum = solve(problem, "sweep", budget=Budget(seconds=60)).objective.item()
    assert 0.6 * optimum < state.proved <= optimum
    points = torch.cat([points for points, *_ in parts.best])
    assert len(points.unique()) == len(points)
    best = parts.best
    parts.take(best[1:])
    assert parts.best is best
    whole = Part(problem, torch.arange(60), 0, 60, parts.best, seed())
    assert (whole.bound, whole.proved_by) == (state.proved, "parts")


def test_the_best_choice_of_disjoint_parts_is_taken():
    X, y = random_table(2, 12)
    problem = NetworkProblem(X, y, [1]).flatten()
    state = SearchState(problem, Report(problem, Budget(seconds=9), None), seed(), 0, 5)
    parts = Parts(problem, state, False, seed())
    for first, last, bound in ((0, 4, 2), (4, 8, 2), (8, 12, 1), (2, 7, 3), (0, 8, 3), (6, 12, 4)):
        part = Part(problem, torch.arange(12), first, last, [], seed())
        part._state.prove(Fraction(bound), "sweep")  # pyright: ignore[reportPrivateUsage]
        parts._parts.append(part)  # pyright: ignore[reportPrivateUsage]
    value, chosen = parts._packed(0, 12)  # pyright: ignore[reportPrivateUsage]
    assert (value, [(p.first, p.last) for p in chosen]) == (6, [(0, 4), (6, 12)])
    assert parts._packed(0, 8)[0] == 4  # pyright: ignore[reportPrivateUsage]


# --- masters that know what parts cost ------------------------------------------------------------------------------


def halves(problem: NetworkProblem, order: torch.Tensor, middle: int) -> list[Evidence]:
    """Of the points before and after a place in an order: their optima."""
    found = []
    for first, last in ((0, middle), (middle, len(order))):
        part = Part(problem, order, first, last, [], seed())
        part.improve(True, lambda: False, 60.0)
        assert part.closed
        found.append(part.evidence())
        part.close()
    return found


def opened(state: SearchState, make: Callable[..., Master], most: int) -> Master:
    return state.open_master(lambda _: make(state.formula.count, state.clauses(), state.costs, most))


MASTERS: list[Callable[..., Master]] = [partial(SatMaster, "glucose4"), partial(CpSatMaster, workers=1)]


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_masters_that_know_the_bounds_of_parts_find_the_optimum(data: st.DataObject):
    count, classes = data.draw(st.integers(4, 6)), data.draw(st.integers(2, 3))
    X = data.draw(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), min_size=count, max_size=count))
    y = data.draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    weight = data.draw(st.none() | st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=count, max_size=count))
    problem = NetworkProblem(X, y, [data.draw(st.integers(1, 2))], weight).flatten()
    points = len(problem.inputs)
    if points < 2:
        return
    order = torch.tensor(data.draw(st.permutations(range(points))))
    parts = halves(problem, order, data.draw(st.integers(1, points - 1)))
    for make in MASTERS:
        state = SearchState(problem, Report(problem, Budget(seconds=60), None), seed(), 100, 5)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(state_module, "_MUCH", Fraction(0))
            state.divide(parts)
        Climber(problem, state).work(opened(state, make, 40), True, None, lambda: False)
        assert state.closed
        assert state.proved == fewest(X, y, problem.widths[0], weight)


def test_masters_use_the_bounds_of_parts_where_they_are_much_and_know_their_circuits():
    X, y = random_table(2, 24)
    problem = NetworkProblem(X, y, [2]).flatten()
    best = solve(problem, "circuits", budget=Budget(seconds=60))
    optimum = int(best.objective)
    parts = halves(problem, torch.arange(24), 12)
    state = SearchState(problem, Report(problem, Budget(seconds=60), None), seed(), 0, 5)
    masters = [opened(state, make, optimum + 1) for make in MASTERS]
    state.offer(best.targets)
    assert parts[0][1] + parts[1][1] < Fraction(2, 3) * optimum
    state.divide(parts)
    assert not any(map(state.has_news, masters))
    outputs = problem.columns(best.targets)[-1].flatten() > 0
    wrong = (outputs != (problem.counts[:, 1] > 0)).tolist()
    # As many as the best network makes leave it; one more forbids it, so that what masters know is seen.
    (points, _, by, circuits), (*_, more) = parts
    for claimed in (optimum, optimum + 1):
        first = Fraction(claimed - sum(wrong[12:]))
        state.divide([(points, first, by, circuits), (parts[1][0], Fraction(sum(wrong[12:])), by, more)])
        for master in masters:
            assert state.has_news(master)
            state.tell(master)
            assert not state.has_news(master)
            assert isinstance(master.solve(optimum, None, lambda: False), np.ndarray) == (claimed == optimum)
            assert isinstance(master.solve(optimum + 1, None, lambda: False), np.ndarray)
    known = {frozenset(row) for row in state.signed_circuits().tolist()}
    assert all(frozenset(row) in known for row in torch.cat([circuits, more]).tolist())
    state.divide([(points, Fraction(12), "sweep", circuits)])
    assert not any(map(state.has_news, masters))


# --- proofs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_parts() -> tuple[np.ndarray, np.ndarray, Proof]:
    X, y = random_table(2, 60)
    problem = NetworkProblem(X, y, [2])
    _, parts = divided(problem, 2.0)
    result = solve(problem, "circuits", budget=Budget(steps=1))
    evidence = parts.best
    bound = sum((bound for _, bound, _, _ in evidence), Fraction(0))
    stats = result.stats | {"proved_by": "parts", "parts": evidence}
    result = dataclasses.replace(result, bound=torch.tensor(float(bound), dtype=torch.float64), stats=stats)
    assert result.bound >= 4
    return X, y, make_proof(problem, result)


@pytest.mark.slow
def test_a_proof_by_parts_survives_its_file_and_holds(by_parts: tuple[np.ndarray, np.ndarray, Proof], tmp_path: Path):
    X, y, proof = by_parts
    proof.save(tmp_path / "proof.npz")
    findings = verify_proof(load_proof(tmp_path / "proof.npz"), X, y)
    assert [finding.holds for finding in findings] == [True] * 5
    assert "disjoint parts" in findings[-1].words


@pytest.mark.slow
def test_wrong_parts_are_rejected(by_parts: tuple[np.ndarray, np.ndarray, Proof]):
    X, y, proof = by_parts
    first, *rest = proof.parts
    replace = dataclasses.replace
    raised = replace(first, bound=first.bound + 5)
    other = next(part for part in rest if len(part.circuits))
    for wrong in (
        replace(proof, bound=proof.bound + 1),
        replace(proof, parts=proof.parts[1:]),
        replace(proof, parts=(first, *proof.parts)),
        replace(proof, bound=proof.bound + 5, objective=proof.objective + 5, parts=(raised, *rest)),
        replace(proof, parts=(replace(first, circuits=other.circuits), *rest)),
        replace(proof, parts=(replace(first, points=first.points + 60), *rest)),
        replace(proof, method="circuits"),
        replace(proof, parts=(replace(first, circuits=first.circuits[:0]), *rest)),
    ):
        assert not all(finding.holds for finding in verify_proof(wrong, X, y))


@pytest.mark.parametrize(("solver", "widths"), [("sweep", [1]), ("sweep", [1, 2]), ("dichotomies", [2])])
def test_proofs_of_scans_are_counted_anew(solver: str, widths: list[int], tmp_path: Path):
    X, y = random_table(2, 24, seed=3)
    problem = NetworkProblem(X, y, widths)
    proof = make_proof(problem, solve(problem, solver, budget=Budget(seconds=60)))
    proof.save(tmp_path / "proof.npz")
    assert all(finding.holds for finding in verify_proof(load_proof(tmp_path / "proof.npz"), X, y))
    from tpsolve.search.proofs._check_proof import _check_bound  # pyright: ignore[reportPrivateUsage]

    high = dataclasses.replace(proof, bound=proof.bound + 1, objective=proof.objective + 1)
    assert _check_bound(high, X.tolist(), y.tolist(), None, "cp-sat", 60.0).holds is False


def test_a_scan_of_three_units_is_counted_anew():
    X, y = random_table(2, 20)
    problem = NetworkProblem(X, y, [3])
    proof = make_proof(problem, solve(problem, "dichotomies", budget=Budget(seconds=60)))
    assert proof.bound > 0
    assert verify_proof(proof, X, y)[-1].holds


def test_a_relay_passes_bounds_on_as_they_are():
    # Not rounded to float32, which is above 0.1.
    problem = NetworkProblem([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1], [1], weight=[0.1] * 4).flatten()
    report = Report(problem, Budget(seconds=9), None)
    state = SearchState(problem, report, seed(), 0, 5)
    relay = Relay(report, state, "sweep", Budget(seconds=9), no_turn, state.halted, patient=True)
    relay.prove(0.1)
    assert (state.lower, state.proved, state.proved_by) == (1, Fraction(0.1), "sweep")
    assert report.bound.tolist() == [0.1]
    relay.offer(problem.start[None])
    assert relay.objective is report.objective
    assert relay.objective.item() == state.upper * 0.1


# --- turns ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 2])
def test_so_many_threads_work_at_a_time_and_all_get_turns(at_once: int):
    over = threading.Event()
    turns, working, most = Turns(at_once, over.is_set), [0], [0]
    worked = [0] * 4

    def work(number: int) -> None:
        with turns.taken(lambda: 0.0) as let_others:
            while not over.is_set():
                working[0] += 1
                most[0] = max(most[0], working[0])
                worked[number] += 1
                time.sleep(0.002)
                working[0] -= 1
                waited = let_others()
                assert waited >= 0

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    over.set()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    assert most[0] <= at_once
    assert min(worked) > 2


def test_small_and_large_parts(monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    improve = Part.improve

    def heard(self: Part, countable: bool, ended: Callable[[], bool], seconds: float) -> None:
        sizes.append(len(self.points))
        improve(self, countable, ended, seconds)

    monkeypatch.setattr(parts_module.Part, "improve", heard)
    divided(NetworkProblem(*random_table(2, 60), [1]))
    assert sizes[:4] == [15] * 4
    assert sizes[-1] == 30
