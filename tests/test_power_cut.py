"""Power cuts: whatever is left on the disk, what was said to be written is there, and what is there can be read."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from support.power_cut import Disk

from tpsolve import Budget, load_result, solve
from tpsolve._storage import _write_whole
from tpsolve._storage._row_log import RowLog
from tpsolve._storage._write_whole import write_whole
from tpsolve.compare import Comparison, run_comparison
from tpsolve.errors import FileFormatError
from tpsolve.problems import make_instance
from tpsolve.train import Recipe, train
from tpsolve.train import _run as run_module
from tpsolve.train._checkpoint import read_checkpoint

DRAWS = 4
"""States of the disk that are looked at for each moment of a cut."""


@contextmanager
def cuts(folder: Path, check: Callable[[Path], None], draws: int = DRAWS) -> Iterator[list[int]]:
    """While entered, `check` gets a folder as power cuts leave it; the list counts them."""
    drawn, counted = random.Random(0), [0]
    target = folder.parent / "left"

    def at_cut(disk: Disk) -> None:
        for _ in range(draws):
            disk.left(target, drawn)
            check(target)
            counted[0] += 1

    with pytest.MonkeyPatch.context() as patch, closing(Disk(folder, patch, at_cut)) as disk:
        yield counted
        disk.cut()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.mark.slow
def test_rows_that_were_appended_are_there_and_a_torn_one_is_not(folder: Path):
    written: list[dict[str, Any]] = []

    def check(left: Path) -> None:
        log = RowLog(left / "rows.jsonl")
        rows = log.read()
        assert rows == [{"row": "x" * k} for k in range(len(rows))]
        assert len(rows) >= len(written)
        log.append({"row": "new"})
        assert log.read() == [*rows, {"row": "new"}]

    with cuts(folder, check, 6) as counted:
        for k in range(6):
            RowLog(folder / "rows.jsonl").append({"row": "x" * k})
            written.append({"row": "x" * k})
    assert counted[0] >= 40


@pytest.mark.slow
@pytest.mark.parametrize("links", [True, False])
def test_file_that_is_replaced_is_the_earlier_one_or_the_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, links: bool
):
    versions, written = [b"", b"one" * 9, b"two" * 5000, b"three", b"four"], 0

    def check(left: Path) -> None:
        if written or (left / "file").exists():
            now = versions.index((left / "file").read_bytes())
            assert written <= now <= written + 1
        if written > 1:
            assert versions.index((left / "before").read_bytes()) in (written - 1, written)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links here")

    with cuts(folder, check, 6) as counted:
        if not links:
            monkeypatch.setattr(_write_whole.os, "link", refuse)
        for content in versions[1:]:
            write_whole(folder / "file", lambda stream, content=content: stream.write(content), "before")
            written += 1
    assert counted[0] >= 90
    assert sorted(path.name for path in folder.iterdir()) == ["before", "file"]


def test_result_is_there_whole_once_it_is_saved(folder: Path):
    problem = make_instance("random", n=6, m=4, samples=2).problem
    result, saved = solve(problem, "enumerate", budget=Budget(seconds=60)), False

    def check(left: Path) -> None:
        if saved or (left / "r.npz").exists():
            assert torch.equal(load_result(left / "r.npz")[0].targets, result.targets)

    with cuts(folder, check):
        result.save(folder / "r.npz", fingerprint=problem.fingerprint)
        saved = True
        result.save(folder / "r.npz", fingerprint=problem.fingerprint)


RECIPE = Recipe(data="digits", model="mlp", widths=(4,), epochs=2, batch=256)


@pytest.mark.slow
def test_checkpoint_is_there_at_any_time_and_so_is_the_one_before(folder: Path, monkeypatch: pytest.MonkeyPatch):
    saved = [0]
    real = run_module.save_checkpoint

    def save(*arguments: Any) -> None:
        real(*arguments)
        saved[0] += 1

    def check(left: Path) -> None:
        moments = []
        for name, least in (("checkpoint-before.pt", 2), ("checkpoint.pt", 1)):
            if saved[0] >= least or (left / name).exists():
                position = read_checkpoint(left / name)["position"]
                moments.append((position["epoch"], position["step"]))
        assert moments == sorted(moments)

    monkeypatch.setattr(run_module, "save_checkpoint", save)
    monkeypatch.setattr(run_module.Log, "draw", lambda log: None)
    # After every batch.
    with cuts(folder, check, 1) as counted:
        train(RECIPE, folder, checkpoint_minutes=1e-9)
    assert saved[0] == 2 * 5
    assert counted[0] > 50
    assert read_checkpoint(folder / "checkpoint-before.pt")["position"]["step"] == 4


def test_run_with_checkpoints_in_mid_epoch_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_module.Log, "draw", lambda log: None)
    recipe = Recipe(data="digits", model="mlp", widths=(4,), epochs=2, batch=256, average=0.5)
    for name, minutes in (("often", 1e-9), ("never", 60.0)):
        train(recipe, tmp_path / name, checkpoint_minutes=minutes)
    often, never = (read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("often", "never"))
    for part in ("model", "averaged"):
        assert all(torch.equal(value, never[part][name]) for name, value in often[part].items())


def test_damaged_checkpoint_is_an_error_that_names_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_module.Log, "draw", lambda log: None)
    train(RECIPE, tmp_path / "run")
    whole = (tmp_path / "run" / "model.npz").read_bytes()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"\0" * 100)
    with pytest.raises(FileFormatError, match=r"rename checkpoint-before\.pt, the one before it, to checkpoint\.pt"):
        train(RECIPE, tmp_path / "run", resume=True)
    (tmp_path / "run" / "checkpoint-before.pt").rename(tmp_path / "run" / "checkpoint.pt")
    assert [row["epoch"] for row in train(RECIPE, tmp_path / "run", resume=True)] == [1, 2]
    assert (tmp_path / "run" / "model.npz").read_bytes() == whole


@pytest.mark.slow
def test_comparison_goes_on_from_whatever_is_left(folder: Path):
    rows: list[dict[str, Any]] = []

    def compared(folder: Path) -> Comparison:
        return Comparison(folder, "generated-12", ("keep",), samples=1)

    def outcome(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["instance"], row["solver"], row["seed"], tuple(row["objective"])

    def check(left: Path) -> None:
        # The process that held it ends with a cut; here it lives on.
        (left / "run.lock").unlink(missing_ok=True)
        kept = compared(left).log.read()
        assert kept[: len(rows)] == rows
        assert run_comparison(compared(left))[: len(kept)] == kept

    def append(log: RowLog, row: dict[str, Any]) -> list[int]:
        starts = real(log, row)
        if log.path == folder / "rows.jsonl":
            rows.append(row)
        return starts

    with pytest.MonkeyPatch.context() as patch:
        real = RowLog.append
        patch.setattr(RowLog, "append", append)
        with cuts(folder, check, 1) as counted:
            whole = run_comparison(compared(folder))
    assert counted[0] > 25
    again = run_comparison(compared(folder.parent / "left"))
    assert sorted(map(outcome, again)) == sorted(map(outcome, whole))
