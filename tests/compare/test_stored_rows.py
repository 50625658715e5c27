"""Rows that stay in their files are the rows of these files, whatever is asked of them."""

import copy
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpsolve._storage._row_log import RowLog
from tpsolve.compare import _stored_rows
from tpsolve.compare._row_files import Places, file_and_start, key_of, place_of
from tpsolve.compare._row_table import RowTable
from tpsolve.compare._stored_rows import StoredRows, stored_rows
from tpsolve.errors import FileFormatError, TooLargeError


def row(number: int) -> dict[str, Any]:
    return {
        "instance": f"suite/epoch-{number // 3}",
        "solver": ("hill-climb:restarts=8", "tabu", 'anneal\u2028"')[number % 3],
        "seed": number % 2,
        "exact": False,
        "budget": {"seconds": 0.1, "steps": None},
        "versions": {"tpsolve": "0.1.0", "torch": "2.0"},
        "objective": [number / 7, 1e-300, -0.0],
        "bound": [None, 0.0, None],
        "flips": None,
        "seconds": 0.5,
        "trace": [[number / 3, None, 2.5], [number / 2, 7.0, None]],
    }


ROWS = [row(number) for number in range(30)]
KEYS = [key_of(one) for one in ROWS]


def stored(folder: Path, rows: list[dict[str, Any]] = ROWS, parts: tuple[str, ...] = ("", "-1-of-2")) -> StoredRows:
    """The rows, dealt out to files as cards are."""
    places: list[int] = []
    logs = [RowLog(folder / f"rows{part}.jsonl") for part in parts]
    for number, one in enumerate(rows):
        (start,) = logs[number % len(parts)].append(one)
        places.append(place_of(number % len(parts), start))
    return stored_rows(folder, parts, np.array(places, dtype=np.int64))


def test_rows_come_back_as_they_were(tmp_path: Path):
    rows = stored(tmp_path)
    assert list(rows) == ROWS
    assert rows == ROWS
    assert rows != ROWS[1:]
    assert (len(rows), rows[3], rows[-1], rows[4:20:3]) == (30, ROWS[3], ROWS[-1], ROWS[4:20:3])
    assert rows.take(np.array([9, 2])) == [ROWS[9], ROWS[2]]
    with pytest.raises(IndexError):
        rows[30]


@pytest.mark.parametrize("held", [1, 64])
def test_rows_outlive_their_files(held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # With more files than may be held open they are copied into one.
    monkeypatch.setattr(_stored_rows, "_MAX_HELD", held)
    folder = tmp_path / "run"
    folder.mkdir()
    rows = stored(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    RowLog(folder / "rows.jsonl").append({"another": "row"})
    assert rows == ROWS


def test_long_rows_are_read_to_their_ends(tmp_path: Path):
    rows = [{**row(number), "notes": "x" * size} for number, size in enumerate((0, 3000, 4096, 20000, 1))]
    assert stored(tmp_path, rows) == rows


def test_what_is_changed_in_a_row_is_lost(tmp_path: Path):
    rows = stored(tmp_path)
    rows[0]["seed"] = 99
    assert rows[0] == ROWS[0]


def test_rows_cross_processes_and_copies_are_equal(tmp_path: Path):
    rows = stored(tmp_path)
    for other in (pickle.loads(pickle.dumps(rows)), copy.deepcopy(rows)):
        assert isinstance(other, StoredRows)
        assert other == rows == ROWS


def test_a_row_that_was_torn_meanwhile_is_told(tmp_path: Path):
    rows = stored(tmp_path)
    with (tmp_path / "rows.jsonl").open("r+b") as stream:
        stream.truncate(20)
    with pytest.raises(FileFormatError, match="changed in its file"):
        rows[0]


@pytest.mark.parametrize("last", [False, True])
def test_places_are_found_as_in_a_dict(last: bool):
    places, oracle = Places(last=last), dict[Any, int]()
    draws = np.random.default_rng(3).integers(0, len(KEYS), 200).tolist()
    for start, number in enumerate(draws):
        places.add(KEYS[number], place_of(number % 3, start))
        if last or KEYS[number] not in oracle:
            oracle[KEYS[number]] = place_of(number % 3, start)
        if start % 50 == 7:  # What is sorted already is joined with what comes.
            assert len(places) == len(oracle)
    asked = [*KEYS, ("none", "tabu", 0), ("suite/epoch-0", "none", 0), ("suite/epoch-0", "tabu", 5)]
    assert places.find(asked).tolist() == [oracle.get(key, -1) for key in asked]
    assert sorted(places) == sorted(oracle)
    assert places.in_order().tolist() == sorted(oracle.values())
    by_instance = {name: found.tolist() for name, found in places.by_instance()}
    assert by_instance == {
        name: sorted(place for key, place in oracle.items() if key[0] == name) for name in {key[0] for key in oracle}
    }
    assert [file_and_start(place_of(file, start)) for file, start in ((0, 0), (99_999, 2**45))] == [
        (0, 0),
        (99_999, 2**45),
    ]
    assert Places().find(KEYS).tolist() == [-1] * len(KEYS)


def test_a_place_takes_sixteen_bytes_besides_names():
    places = Places()
    for number in range(20_000):
        places.add((f"i{number % 10}", "tabu", number), number)
    # What identifies solves is few in a comparison; here it is all, and left out.
    places._solves = {}
    assert len(places) == 20_000
    assert len(pickle.dumps(places)) < 17 * 20_000


def test_a_table_says_what_its_rows_say():
    broken = {**row(31), "error": "OSError: \u2028"}
    for name in ("objective", "bound", "flips", "seconds", "trace"):
        del broken[name]
    table = RowTable.of([*ROWS, broken])
    for one, expected in zip(table, [*ROWS, broken], strict=True):
        trace = [(at, value, None) for at, value, _ in expected.get("trace", ()) if value is not None]
        assert dict(one) == {**expected, **({"trace": trace} if trace else {})}
    assert table.failed.tolist() == [False] * 30 + [True]
    grouped = table.grouped("instance")
    assert list(grouped) == list(dict.fromkeys(one["instance"] for one in [*ROWS, broken]))
    assert [one["seed"] for one in grouped["suite/epoch-1"]] == [1, 0, 1]
    assert table.having("solver", {"tabu"})[3:5].lists("objective").tolist() == [
        value for one in [ROWS[10], ROWS[13]] for value in one["objective"]
    ]
    assert table.lists_or("flips", 0.5, table.lengths("objective")).tolist() == [0.5] * 90
    assert len(RowTable.of([]).firsts("instance")) == 0


@pytest.mark.parametrize("wrong", [{"objective": []}, {"bound": [None]}, {"objective": [1.0], "bound": [None]}])
def test_rows_with_uneven_samples_make_no_table(wrong: dict[str, Any]):
    with pytest.raises(FileFormatError, match=r"tabu, seed 1, on suite/epoch-0 holds other numbers of samples"):
        RowTable.of([ROWS[0], {**ROWS[1], **wrong}, *ROWS[2:]])


def test_a_log_gives_each_row_that_it_reads_at_once(tmp_path: Path):
    log = RowLog(tmp_path / "rows.jsonl")
    assert list(log.each()) == []
    starts = [*log.append(*ROWS[:7]), *log.append(*ROWS[7:])]
    with log.path.open("ab") as stream:
        stream.write(b'{"torn": ')
    found = list(log.each())
    assert [one for one, _ in found] == log.read() == ROWS
    content = log.path.read_bytes()
    assert [json.loads(content[start:].partition(b"\n")[0]) for _, start in found] == ROWS
    assert [start for _, start in found] == [*starts]


@pytest.mark.parametrize("line", [b"[1]\n", b"\n", b"{]\n", b"\xff\n"])
def test_a_line_that_is_no_row_is_told_when_it_is_reached(line: bytes, tmp_path: Path):
    log = RowLog(tmp_path / "rows.jsonl")
    log.append(ROWS[0])
    with log.path.open("ab") as stream:
        stream.write(line)
    rows = log.each()
    assert next(rows)[0] == ROWS[0]
    with pytest.raises(FileFormatError, match=r"rows\.jsonl:2: not a row of such a log"):
        next(rows)


@pytest.mark.parametrize("feeds", [True, False])
def test_a_log_larger_than_a_file_may_be_is_refused(feeds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TPSOLVE_MAX_BYTES", "100000")
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}\n" * 50_000 if feeds else b"x" * 200_000)
    with pytest.raises(TooLargeError, match="TPSOLVE_MAX_BYTES"):
        for _ in RowLog(path).each():
            pass
