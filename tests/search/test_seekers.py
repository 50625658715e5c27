"""A process that looks for networks beside the threads of a race, and what they do without it."""

import threading
import time

import pytest
import torch
from support.network_oracle import random_table

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.search import Report
from tpsolve.search.network._turns import Turns
from tpsolve.search.network.circuits import _race
from tpsolve.search.network.circuits._parts import Parts
from tpsolve.search.network.circuits._search_state import SearchState
from tpsolve.search.network.seekers import _seekers
from tpsolve.search.network.seekers._process import SeekingProcess
from tpsolve.search.network.seekers._seekers import Seekers


def begun(seconds: float) -> tuple[NetworkProblem, SearchState, Seekers, Report]:
    """A search of so many seconds that nobody works on yet."""
    problem = NetworkProblem(*random_table(3, 60), [2]).flatten()
    report = Report(problem, Budget(seconds=seconds), None)
    generator = torch.Generator().manual_seed(0)
    state = SearchState(problem, report, generator, 0, 5)
    return problem, state, Seekers(report, state, generator, Turns(1, state.halted), 0.5), report


def worked(process: SeekingProcess, state: SearchState, seekers: Seekers) -> tuple[threading.Thread, list[int | None]]:
    """Let the process work in a thread; its exit code comes into the list."""
    codes: list[int | None] = []
    thread = threading.Thread(target=lambda: codes.append(process.work(state, seekers)), daemon=True)
    thread.start()
    return thread, codes


@pytest.mark.slow
def test_a_process_passes_on_what_it_finds_and_proves_and_ends_with_the_search():
    problem, state, seekers, report = begun(600.0)
    trivial = state.upper
    parts = Parts(problem, state, True, torch.Generator().manual_seed(3))
    process = SeekingProcess(problem, 600.0, 0, 0.5, parts)
    thread, codes = worked(process, state, seekers)
    while (
        state.upper > trivial - 5
        or not (seekers.away.is_set() and seekers.first_found.is_set())
        or (state.lower < 3 and not state.closed)
    ):
        assert report.seconds < 250
        time.sleep(0.05)
    state.end()
    thread.join(60)
    assert codes == [None]
    assert process._process.poll() is not None  # pyright: ignore[reportPrivateUsage]
    assert not seekers.away.is_set()
    assert float(problem.objective(report.targets)) == float(report.objective) == state.upper
    assert state.proved_by == "parts"
    assert sum(bound for _, bound, *_ in parts.best) == state.proved
    together = torch.cat([points for points, *_ in parts.best])
    assert len(together.unique()) == len(together)
    points, bound, *_ = min(parts.best, key=lambda evidence: len(evidence[0]))
    labels = problem.counts[points.long()].argmax(1)
    part = NetworkProblem(problem.inputs[points.long()], labels, [2])
    assert solve(part, "circuits:engine=glucose4,workers=1", budget=Budget(seconds=60)).objective.item() >= bound


def test_threads_go_on_where_a_process_dies():
    problem, state, seekers, _ = begun(600.0)
    process = SeekingProcess(problem, 600.0, 0, 0.5)
    seekers.away.set()
    process._process.kill()  # pyright: ignore[reportPrivateUsage]
    thread, codes = worked(process, state, seekers)
    thread.join(60)
    assert codes == [process._process.returncode] != [0]  # pyright: ignore[reportPrivateUsage]
    assert not seekers.away.is_set()


def test_searches_from_nothing_have_long_turns_until_they_had_their_share():
    _, state, seekers, report = begun(3.0)
    names = ("column-search", "line-search", "line-search:first=None")
    length = seekers._length  # pyright: ignore[reportPrivateUsage]
    assert seekers.owing
    assert length(names[0], late=True) == length(names[1], late=True) > length(names[2])
    assert length(names[0]) == length(names[2]) < length("refit-search")
    may_begin = threading.Event()
    may_begin.set()
    threads = [threading.Thread(target=task, daemon=True) for task in seekers.tasks(may_begin)]
    for thread in threads:
        thread.start()
    seekers._owed.clear()  # pyright: ignore[reportPrivateUsage]
    assert len({length(name) for name in names}) == 1
    for thread in threads:
        thread.join(60)
    assert report.seconds >= 3.0
    assert state.upper <= 12


def test_who_is_late_goes_first():
    over = threading.Event()
    turns, order, waiting = Turns(1, over.is_set), [], []

    def work(name: str, late: bool) -> None:
        waiting.append(name)
        with turns.taken(lambda: 0.0, lambda: late):
            order.append(name)

    with turns.taken(lambda: 0.0):
        threads = []
        for name in ("first", "second", "late"):
            threads.append(threading.Thread(target=work, args=(name, name == "late"), daemon=True))
            threads[-1].start()
            while len(turns._line) < len(threads):  # pyright: ignore[reportPrivateUsage]
                time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert order == ["late", "first", "second"]


@pytest.mark.parametrize(("left", "apart"), [(14.0, False), (16.0, True)])
def test_a_process_is_started_only_if_it_has_the_time_to_be_of_use(
    left: float, apart: bool, monkeypatch: pytest.MonkeyPatch
):
    began: list[float] = []

    class Idle:
        def __init__(self, _: NetworkProblem, seconds: float, *__: object) -> None:
            began.append(seconds)

        def work(self, state: SearchState, _: Seekers) -> None:
            state.end()

    monkeypatch.setattr(_race, "SeekingProcess", Idle)
    monkeypatch.setattr(_race, "_APART_AFTER", 0.0)
    problem, budget = NetworkProblem(*random_table(3, 60), [3]), Budget(seconds=left)
    solve(problem, "circuits:workers=2", budget=budget, callback=lambda progress: progress.seconds > 0.3)
    assert bool(began) == apart


@pytest.mark.slow
def test_a_search_from_nothing_works_for_its_share_beside_those_who_take_long(monkeypatch: pytest.MonkeyPatch):
    # A clock that goes on while one of them works, so that a busy machine changes nothing.
    lock, now = threading.Lock(), [0.0]

    def push() -> None:
        time.sleep(0.001)
        with lock:
            now[0] += 0.004

    problem = NetworkProblem(*random_table(3, 30), [2]).flatten()
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    report = Report(problem, Budget(seconds=6.0), None)
    generator = torch.Generator().manual_seed(0)
    state = SearchState(problem, report, generator, 0, 5)
    turns = Turns(1, state.halted)
    worked: dict[str, float] = {}

    def search(_: object, __: object, name: str, ___: object, budget: Budget, turn, *, halted, patient) -> None:
        began, lost = now[0], 0.0
        while not halted() and now[0] - began - lost < (budget.seconds or 0):
            push()
            lost += turn()
        worked[name] = max(worked.get(name, 0.0), now[0] - began - lost)

    monkeypatch.setattr(_seekers, "let", search)
    seekers, begin = Seekers(report, state, generator, turns, 0.5), threading.Event()
    begin.set()

    def prove() -> None:
        with turns.taken(lambda: 0.5) as turn:
            while not state.halted():
                push()
                turn()

    threads = [threading.Thread(target=task, daemon=True) for task in (*seekers.tasks(begin), prove, prove)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert worked["line-search"] > 1.8
    assert worked["column-search"] > 1.8
