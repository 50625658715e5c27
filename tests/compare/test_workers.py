"""Comparisons in several processes, on executors and in shards: the rows of one process, whatever dies."""

import contextlib
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.mortal import VARIABLE, Eater, Mortal

import tpsolve
from tpsolve import SOLVERS
from tpsolve._storage._folder_lock import locked
from tpsolve.compare import SUITES, Comparison, Shard, run_comparison, write_report
from tpsolve.compare.running._check_rows import check_rows
from tpsolve.compare.running._execute import carry_out_packed
from tpsolve.compare.running._tasks import Solved
from tpsolve.errors import ArgumentError, FolderError, FolderInUseError, WorkerError
from tpsolve.problems import Instance, make_instance

Row = dict[str, Any]

MEASURED = {"seconds", "load", "time", "found_at", "proved_at", "trace"}
"""What depends on the clock; the trace keeps fewer points of a quick search."""
SOLVED_BY = ("keep", "hill-climb", "anneal", "enumerate")


def compared(folder: Path, solvers: tuple[str, ...] = SOLVED_BY) -> Comparison:
    return Comparison(folder, "generated-12", solvers, samples=2, steps=20, seeds=(0, 1))


def key(row: Row) -> tuple[str, str, int]:
    return row["instance"], row["solver"], row["seed"]


def same(rows: Sequence[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def lines(folder: Path) -> list[Row]:
    return [json.loads(line) for path in folder.glob("rows*.jsonl") for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Sequence[Row]]:
    """What one process makes, with one thread."""
    comparison = compared(tmp_path_factory.mktemp("runs") / "alone")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = run_comparison(comparison)
    torch.set_num_threads(before)
    assert len(rows) == 7 * (1 + 2 + 2 + 1)
    return comparison, rows


class Inline(Executor):
    """Runs tasks at once; `change` may alter or replace what becomes of each."""

    def __init__(self, change: Callable[[int, Solved], Solved | BaseException] = lambda count, solved: solved) -> None:
        self.change, self.count = change, 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        outcome = self.change(self.count, fn(*args, **kwargs))
        self.count += 1
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        return future


# --- the same rows ----------------------------------------------------------------------------------------------------


@pytest.mark.nightly
@pytest.mark.slow
def test_workers_load_no_package_that_lies_where_they_begin(tmp_path: Path):
    (tmp_path / "work" / "tpsolve").mkdir(parents=True)
    (tmp_path / "work" / "tpsolve" / "__init__.py").touch()
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom tpsolve.compare import Comparison, run_comparison\n"
        "if __name__ == '__main__':\n"
        "    comparison = Comparison(Path('run'), 'generated-12', ('keep',), samples=1, steps=1, seeds=(0,))\n"
        "    print(len(run_comparison(comparison, workers=2)) > 2)\n"
    )
    package = Path(tpsolve.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path / "work",
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "True\n", done.stderr


@pytest.mark.slow
def test_two_workers_make_the_rows_of_one(alone: tuple[Comparison, Sequence[Row]], tmp_path: Path):
    calls: list[tuple[int, int, str]] = []
    comparison = compared(tmp_path / "run")
    rows = run_comparison(comparison, workers=2, progress=lambda *call: calls.append(call))
    assert same(rows) == same(alone[1])
    assert len(lines(comparison.folder)) == len(rows)
    assert [calls[0][:2], calls[-1]] == [(0, len(rows)), (len(rows), len(rows), "")]
    assert {row["threads"] for row in rows} == {1}
    assert not any(check.false or check.missing for check in check_rows(comparison.folder))


@pytest.mark.parametrize("workers", [1, 3])
def test_any_executor_makes_the_rows_of_one(alone: tuple[Comparison, Sequence[Row]], tmp_path: Path, workers: int):
    with ThreadPoolExecutor(workers) as executor:
        rows = run_comparison(compared(tmp_path / "run"), workers=workers, executor=executor)
    assert same(rows) == same(alone[1])


def test_shards_make_the_rows_of_one_and_are_read_as_one(alone: tuple[Comparison, Sequence[Row]], tmp_path: Path):
    comparison = compared(tmp_path / "run")
    parts = [run_comparison(comparison, shard=Shard(number, 3)) for number in (2, 1, 3)]
    assert [len(part) for part in parts] == [14, 14, 14]
    assert sorted(path.name for path in comparison.folder.iterdir()) == [
        "comparison.json",
        "instances",
        *(f"{name}-{number}-of-3.jsonl" for name in ("rows", "targets") for number in (1, 2, 3)),
    ]
    assert same(run_comparison(comparison)) == same(alone[1])
    assert not comparison.log.path.exists(), "nothing was left to solve"
    assert run_comparison(comparison, shard=Shard(1, 2)) == run_comparison(comparison)[::2]
    assert not any(check.false or check.missing for check in check_rows(comparison.folder))


def test_a_shard_goes_on_where_it_stopped(tmp_path: Path):
    comparison, calls = compared(tmp_path / "run", ("keep",)), []
    first = run_comparison(
        comparison, shard=Shard(1, 2), progress=lambda *call: calls.append(call), stop=lambda: len(calls) > 2
    )
    assert len(first) == 2
    assert len(run_comparison(comparison, shard=Shard(1, 2))) == 4
    assert [key(row) for row in lines(comparison.folder)][:2] == [key(row) for row in first]
    assert len(lines(comparison.folder)) == 4


# --- folders ----------------------------------------------------------------------------------------------------------


def test_shards_share_a_folder_and_nobody_else(tmp_path: Path):
    comparison = compared(tmp_path / "run", ("keep",))
    with locked(comparison.folder, "shard-2-of-3.lock"):
        run_comparison(comparison, shard=Shard(1, 3))
        for shard in (None, Shard(2, 3)):
            with pytest.raises(FolderInUseError):
                run_comparison(comparison, shard=shard)
    with locked(comparison.folder), pytest.raises(FolderInUseError):
        run_comparison(comparison, shard=Shard(1, 3))


def test_fresh_deletes_shards_and_is_refused_for_one(tmp_path: Path):
    comparison = compared(tmp_path / "run", ("keep",))
    run_comparison(comparison, shard=Shard(2, 12))
    (comparison.folder / "rows-mine-of-12.jsonl").touch()
    (comparison.folder / "shard-3-of-12.lock").touch()
    with pytest.raises(ArgumentError, match="fresh"):
        run_comparison(comparison, shard=Shard(2, 12), fresh=True)
    run_comparison(comparison, fresh=True, stop=lambda: True)
    assert {path.name for path in comparison.folder.iterdir()} == {
        *("comparison.json", "instances", "rows-mine-of-12.jsonl")
    }


def test_shard_that_makes_its_instances_later_takes_those_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[int] = []

    def suite(samples: int, seed: int) -> list[Instance]:
        # Another shard, on a host that rounds otherwise, is done in the meantime.
        made.append(len(made))
        mine = made[-1]
        if not mine:
            run_comparison(comparison, shard=Shard(2, 2))
        return [Instance(name, make_instance("random", n=5, m=4, samples=2, seed=mine).problem) for name in "ab"]

    monkeypatch.setitem(SUITES, "racing", suite)
    comparison = replace(compared(tmp_path / "run", ("keep",)), suite="racing")
    run_comparison(comparison, shard=Shard(1, 2))
    assert made == [0, 1]
    rows = run_comparison(comparison)
    assert [row["instance"] for row in rows] == ["a", "b"]
    assert len(lines(comparison.folder)) == 2
    assert not list(comparison.folder.glob(".*"))


@pytest.mark.parametrize(("number", "of"), [(0, 3), (4, 3), (1, 0), (-1, -1), (1.5, 2)])
def test_senseless_shard_is_refused(number: Any, of: Any):
    with pytest.raises(ArgumentError, match="shard"):
        Shard(number, of)


# --- what dies, and what is not as it should be -----------------------------------------------------------------------


def test_task_whose_worker_dies_is_begun_again_once(alone: tuple[Comparison, Sequence[Row]], tmp_path: Path):
    def dying(deaths: set[int]) -> Callable[[int, Solved], Solved | BaseException]:
        return lambda count, solved: BrokenExecutor("died") if count in deaths else solved

    once, twice = Inline(dying({3})), Inline(dying({3, 4}))
    first = run_comparison(compared(tmp_path / "once"), executor=once)
    assert same(first) == same(alone[1])
    assert once.count == len(first) + 1
    rows = run_comparison(compared(tmp_path / "twice"), executor=twice)
    failed = [row for row in rows if "error" in row]
    assert [key(row) for row in failed] == [key(alone[1][3])]
    assert failed[0]["error"] == "WorkerError: the process that carried it out died, 2 times"
    assert [row for row in same(rows) if "error" not in row] == [*same(alone[1])[:3], *same(alone[1])[4:]]
    assert len(lines(tmp_path / "twice")) == len(rows)
    assert run_comparison(compared(tmp_path / "twice"), executor=Inline(dying(set(range(99))))) == rows


@pytest.mark.slow
def test_process_that_dies_costs_its_task_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SOLVERS, "mortal", Mortal)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setitem(SUITES, "one", lambda samples, seed: [make_instance("planted", n=12, m=4, samples=samples)])
    comparison = replace(compared(tmp_path / "run", ("keep", "mortal:deaths=1", "mortal:deaths=9")), suite="one")
    rows = {row["solver"]: row for row in run_comparison(comparison, workers=2)}
    assert len(rows) == len(lines(comparison.folder)) == 3
    assert {solver: row.get("error") for solver, row in rows.items()} == {
        "keep": None,
        "mortal:deaths=1": None,
        "mortal:deaths=9": "WorkerError: the process that carried it out died, 2 times",
    }
    assert (tmp_path / "9-12").read_text() == "begun\n" * 2
    write_report(comparison, list(rows.values()))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no limit")
def test_solve_that_takes_too_much_memory_is_a_row_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SOLVERS, "greedy-eater", Eater)
    monkeypatch.setitem(SUITES, "one", lambda samples, seed: [make_instance("planted", n=12, m=4, samples=samples)])
    solvers = (
        "keep",
        "greedy-eater:gib=0.25",
        "greedy-eater:gib=4.0",
        "greedy-eater:gib=4.0,native=True",
        "hill-climb",
    )
    comparison = replace(compared(tmp_path / "run", solvers), suite="one", seeds=(0,))
    rows = {row["solver"]: row.get("error", "") for row in run_comparison(comparison, max_memory=1.0)}
    assert rows == {
        "keep": "",
        "greedy-eater:gib=0.25": "",
        "greedy-eater:gib=4.0": "MemoryError: it takes more than 1 GiB",
        # Torch has no class of its own for it.
        "greedy-eater:gib=4.0,native=True": "MemoryError: it takes more than 1 GiB",
        "hill-climb": "",
    }
    write_report(comparison, list(run_comparison(comparison)))


@pytest.mark.parametrize("memory", [0, -1.0, math.inf, math.nan, "2", True])
def test_senseless_limit_of_memory_is_refused_before_any_work(tmp_path: Path, memory: Any):
    with pytest.raises(ArgumentError, match="max_memory"):
        run_comparison(compared(tmp_path / "run"), max_memory=memory)
    assert not (tmp_path / "run").exists()


def test_executor_that_takes_no_more_is_a_typed_error_and_rows_are_kept(tmp_path: Path):
    class Breaking(Inline):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if self.count == 5:
                raise BrokenExecutor("gone")
            return super().submit(fn, *args, **kwargs)

    with pytest.raises(WorkerError, match="gone"):
        run_comparison(compared(tmp_path / "run"), executor=Breaking())
    assert len(lines(tmp_path / "run")) == 5


def test_row_of_a_worker_with_other_versions_is_not_kept(tmp_path: Path):
    def other(count: int, solved: Solved) -> Solved:
        return replace(solved, row=solved.row | {"versions": {"torch": "1.0"}, "host": "afar"})

    with pytest.raises(WorkerError, match=r"afar made a row made with torch 1\.0, and this would be made with tpsolve"):
        run_comparison(compared(tmp_path / "run"), executor=Inline(other))
    assert lines(tmp_path / "run") == []


def test_rows_of_one_thread_and_of_more_are_not_mixed(
    alone: tuple[Comparison, Sequence[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    comparison = compared(tmp_path / "run", ("keep",))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert {row["threads"] for row in run_comparison(comparison)} == {7}
    path = comparison.folder / "rows.jsonl"
    before = path.read_bytes()
    with pytest.raises(FolderError, match="made with 7 threads, and this would be made with 1 threads"):
        run_comparison(replace(comparison, solvers=("sign-gradient",)), workers=2)
    assert path.read_bytes() == before


def test_instances_that_can_t_be_pickled_are_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    problem = make_instance("random", n=5, m=4, samples=2).problem
    object.__setattr__(problem, "note", lambda: None)
    monkeypatch.setitem(SUITES, "odd", lambda samples, seed: [Instance("odd", problem)])
    comparison = replace(compared(tmp_path / "run", ("keep",)), suite="odd")
    with pytest.raises(ArgumentError, match=r"workers: got keep on odd, which can't be pickled"):
        run_comparison(comparison, executor=Inline())


def test_tasks_of_all_suites_can_be_pickled():
    for name in ("digits", "networks", "programs"):
        for instance in SUITES[name](1, 0):
            assert pickle.loads(pickle.dumps(instance)).problem.fingerprint == instance.problem.fingerprint
    assert carry_out_packed.__module__ == "tpsolve.compare.running._execute"


# --- Ctrl-C and kills -------------------------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    found, above = [], {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            above[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    waiting = [pid]
    while waiting:
        waiting = [child for child, parent in above.items() if parent in waiting]
        found += waiting
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("asking", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.nightly)])
def test_workers_end_with_their_parent_and_rows_are_kept(tmp_path: Path, asking: signal.Signals):
    command = [
        sys.executable,
        "-m",
        "tpsolve",
        "compare",
        "--suite",
        "generated-32",
        "--samples",
        "1",
        "--seconds",
        "1",
    ]
    command += ["--solver", "keep", "--solver", "random:draws=100000000", "--workers", "2", "--runs", str(tmp_path)]
    path = tmp_path / "generated-32" / "rows.jsonl"
    # A group of its own, as a terminal has: Ctrl-C goes to all of it.
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        end = time.monotonic() + 120
        while not path.exists() or path.read_bytes().count(b"\n") < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        workers = descendants(process.pid)
        # Two, and what starts them.
        assert len(workers) >= 3
        if asking == signal.SIGINT:
            os.killpg(process.pid, asking)
        else:
            process.kill()
        _, err = process.communicate(timeout=120)
    if asking == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert err.decode() == "Stopped. Finished rows are kept: the same command goes on from here.\n"
        assert (path.parent / "report.html").exists()
    while any(map(is_running, workers)):
        assert time.monotonic() < end, "workers go on"
        time.sleep(0.05)
    rows = lines(path.parent)
    assert len({key(row) for row in rows}) == len(rows) >= 2
    assert not any("error" in row for row in rows)
