"""Locks of run folders: one process at a time, whoever ends how."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tpsolve._storage._folder_lock import RUN, is_empty, locked
from tpsolve._storage._row_log import RowLog
from tpsolve.compare import Comparison, run_comparison, run_training
from tpsolve.errors import FolderError, FolderInUseError
from tpsolve.train import load_recipe, train

HOLD = """
import os, sys
from pathlib import Path
from tpsolve._storage._folder_lock import locked
with locked(Path(sys.argv[1]), *sys.argv[2:]):
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from tpsolve._storage._folder_lock import locked
from tpsolve.errors import FolderError, FolderInUseError
folder, entered = Path(sys.argv[1]), 0
while entered < 20:
    try:
        with locked(folder):
            number = int((folder / "number").read_text())
            (folder / "number").write_text(str(number + 1))
            entered += 1
    except FolderInUseError:
        pass
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    """Start a process that holds a lock of a folder until its input ends."""
    started = []

    def hold(folder: Path, *names: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", HOLD, str(folder), *names]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def left_behind(folder: Path, **changed: object) -> bytes:
    """The lock of this very process as a kill would leave it, but for what is changed; its bytes."""
    with locked(folder):
        owner = json.loads((folder / RUN).read_text())
    folder.mkdir(exist_ok=True)
    content = json.dumps({**owner, **changed}).encode()
    (folder / RUN).write_bytes(content)
    return content


def test_folder_of_a_live_process_is_refused_and_free_once_that_has_ended(holder: Any, tmp_path: Path):
    folder = tmp_path / "run"
    process = holder(folder)
    words = rf"in use by process {process.pid} on {re.escape(platform.node())} since 2\d{{3}}-\d\d-\d\d .* UTC\."
    with pytest.raises(FolderInUseError, match=words), locked(folder):
        pytest.fail("entered")
    assert (folder / RUN).exists(), "the lock of another is not touched"
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert not folder.exists()
    with locked(folder):
        assert [path.name for path in folder.iterdir()] == [RUN]


def test_lock_of_a_killed_process_is_taken_over(holder: Any, tmp_path: Path):
    process = holder(tmp_path)
    process.kill()
    process.wait()
    assert (tmp_path / RUN).exists()
    with locked(tmp_path):
        assert json.loads((tmp_path / RUN).read_text())["pid"] == os.getpid()
    assert is_empty(tmp_path)


@linux
@pytest.mark.parametrize("changed", [{"started": "1"}, {"boot": "another"}, {"pid": 2**31 - 1}], ids=str)
def test_number_of_a_process_that_has_ended_may_be_another_s(tmp_path: Path, changed: dict[str, Any]):
    left_behind(tmp_path, **changed)
    with locked(tmp_path):
        pass


@linux
@pytest.mark.parametrize("changed", [{"host": "elsewhere"}, {"machine": "0 pid:[1]"}], ids=str)
def test_lock_of_another_host_is_refused_with_how_to_remove_it(tmp_path: Path, changed: dict[str, Any]):
    content = left_behind(tmp_path, **changed, pid=2**31 - 1)
    with pytest.raises(FolderInUseError, match=re.escape(f"delete {tmp_path / RUN} and try again")), locked(tmp_path):
        pytest.fail("entered")
    assert (tmp_path / RUN).read_bytes() == content


@linux
def test_another_container_of_this_host_is_another_host(tmp_path: Path):
    with locked(tmp_path):
        machine = json.loads((tmp_path / RUN).read_text())["machine"]
    left_behind(tmp_path, machine=f"{machine.split(' ')[0]} pid:[1]")
    with pytest.raises(FolderInUseError, match="can't be seen from here"), locked(tmp_path):
        pytest.fail("entered")


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b'{"host": "a"', b"{}", b"[" * 5000, b'{"pid": -1}'], ids=repr)
def test_lock_that_was_never_written_to_its_end_is_nobody_s(tmp_path: Path, content: bytes):
    (tmp_path / RUN).write_bytes(content)
    with locked(tmp_path):
        assert json.loads((tmp_path / RUN).read_text())["pid"] == os.getpid()


@linux
def test_lock_that_is_a_link_or_no_file_is_refused_and_nothing_is_emptied(tmp_path: Path):
    (tmp_path / "own").write_text("mine")
    (tmp_path / RUN).symlink_to("own")
    for _ in range(2):
        with pytest.raises(FolderError, match="can't be written"), locked(tmp_path):
            pytest.fail("entered")
        assert (tmp_path / "own").read_text() == "mine"
        (tmp_path / RUN).unlink()
        os.mkfifo(tmp_path / RUN)


def test_parts_of_a_folder_go_with_each_other_and_not_with_the_whole(holder: Any, tmp_path: Path):
    with locked(tmp_path, "one.lock"), locked(tmp_path, "two.lock"):
        for name in (RUN, "one.lock"):
            with pytest.raises(FolderInUseError), locked(tmp_path, name):
                pytest.fail("entered")
    holder(tmp_path)
    with pytest.raises(FolderInUseError), locked(tmp_path, "one.lock"):
        pytest.fail("entered")
    assert not (tmp_path / "one.lock").exists()


def test_folders_that_were_made_for_a_lock_go_with_it_and_no_others(tmp_path: Path):
    (tmp_path / "there").mkdir()
    with locked(tmp_path / "there" / "new" / "run"):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
    with locked(tmp_path / "there"):
        pass
    assert (tmp_path / "there").exists()


@pytest.mark.slow
def test_of_processes_that_begin_at_once_behind_a_stale_lock_one_enters_at_a_time(tmp_path: Path):
    (tmp_path / "number").write_text("0")
    left_behind(tmp_path, pid=2**31 - 1)
    crowd = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(timeout=120) for process in crowd] == [0] * 4
    assert (tmp_path / "number").read_text() == "80"


# --- what is locked ---------------------------------------------------------------------------------------------------


def test_comparison_and_trainings_refuse_a_folder_in_use_and_leave_it_as_it_is(holder: Any, tmp_path: Path):
    folder = tmp_path / "run"
    holder(folder)
    (folder / "comparison.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    comparison = Comparison(folder, "generated-12", ("keep",), samples=1)
    for begin in (
        lambda: run_comparison(comparison, fresh=True),
        lambda: run_training(folder, seeds=(0,), epochs=1),
        lambda: train(load_recipe("digits-mlp", {"epochs": 1}), folder),
        lambda: train(load_recipe("digits-mlp", {"epochs": 1}), folder, resume=True),
        lambda: train(load_recipe("digits-mlp", {"epochs": 1}), folder, fresh=True),
    ):
        with pytest.raises(FolderInUseError, match="in use by process"):
            begin()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_lock_is_held_while_a_comparison_runs_and_freed_at_its_end(tmp_path: Path):
    comparison = Comparison(tmp_path / "run", "generated-12", ("keep",), samples=1)
    refusals = []

    def progress(done: int, total: int, now: str) -> None:
        with pytest.raises(FolderInUseError) as refused:
            run_comparison(comparison)
        refusals.append(str(refused.value))

    rows = run_comparison(comparison, progress=progress)
    assert len(refusals) == len(rows) + 1
    assert not list(comparison.folder.glob("*.lock"))
    assert issubclass(FolderInUseError, FolderError)


def test_reading_rows_leaves_a_line_that_is_being_written(tmp_path: Path):
    log = RowLog(tmp_path / "rows.jsonl")
    for torn in (b"", b'{"a": ', b"x" * 200_000):
        log.path.write_bytes(b'{"a": 1}\n' + torn)
        assert log.read() == [{"a": 1}]
        assert log.path.read_bytes().endswith(torn)
        log.append({"a": 2})
        assert log.path.read_bytes() == b'{"a": 1}\n{"a": 2}\n'
    log.path.write_bytes(b"x" * 200_000)
    log.append({"a": 3})
    assert log.path.read_bytes() == b'{"a": 3}\n'
