"""Rows in little memory are the rows of their file, whatever is asked of them."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from tpsolve.compare._packed_rows import PackedRows, RowsByKey

from tpsolve._storage._row_log import RowLog
from tpsolve.errors import FileFormatError, TooLargeError


def row(number: int) -> dict[str, Any]:
    return {
        "instance": f"suite/epoch-{number // 3}",
        "solver": ("hill-climb:restarts=8", "tabu", 'anneal\u2028"')[number % 3],
        "seed": number % 2,
        "budget": {"seconds": 0.1, "steps": None},
        "versions": {"tpsolve": "0.1.0", "torch": "2.0"},
        "objective": [number / 7, 1e-300, -0.0],
        "trace": [[number / 3, None, 2.5]],
    }


ROWS = [row(number) for number in range(30)]


def packed(rows: list[dict[str, Any]] = ROWS) -> RowsByKey:
    found = RowsByKey()
    for one in rows:
        found.add(one)
    return found


def test_rows_come_back_as_they_were_by_place_and_by_key():
    by_key = packed()
    rows = by_key.rows()
    assert list(rows) == ROWS
    assert rows == ROWS
    assert rows != ROWS[1:]
    assert (len(rows), rows[3], rows[-1], rows[4:20:3]) == (30, ROWS[3], ROWS[-1], ROWS[4:20:3])
    keys = [(one["instance"], one["solver"], one["seed"]) for one in ROWS]
    assert list(by_key) == keys
    assert by_key[keys[7]] == ROWS[7]
    assert by_key.rows([keys[9], ("none", "such", 0), keys[2]]) == [ROWS[9], ROWS[2]]
    with pytest.raises(IndexError):
        rows[30]
    with pytest.raises(KeyError):
        by_key["none", "such", 0]


def test_unpacked_rows_are_the_rows_and_share_what_they_say_alike():
    rows = [*ROWS, {**row(30), "host": None}, {**row(31), "host": "None"}]
    found = packed(rows).rows().unpacked()
    assert found == rows
    assert len({id(one["budget"]) for one in found}) == len({id(one["versions"]) for one in found}) == 1
    assert len({id(one["solver"]) for one in found}) == 3


def test_of_two_rows_with_one_key_the_first_counts():
    by_key = packed([ROWS[0], {**ROWS[0], "objective": [5.0]}])
    assert by_key.rows() == ROWS[:1]


def test_what_is_changed_in_a_row_is_lost():
    rows = packed().rows()
    rows[0]["seed"] = 99
    assert rows[0] == ROWS[0]


def test_rows_cross_processes_and_copies_are_equal():
    rows = packed().rows()
    for other in (pickle.loads(pickle.dumps(rows)), copy.deepcopy(rows)):
        assert isinstance(other, PackedRows)
        assert other == rows == ROWS


def test_rows_take_less_than_half_of_their_text():
    rows = [row(number) for number in range(600)]
    assert len(pickle.dumps(packed(rows).rows())) < 0.5 * sum(len(json.dumps(one)) for one in rows)


def test_a_log_gives_each_row_that_it_reads_at_once(tmp_path: Path):
    log = RowLog(tmp_path / "rows.jsonl")
    assert list(log.each()) == []
    log.append(*ROWS)
    with log.path.open("ab") as stream:
        stream.write(b'{"torn": ')
    found = list(log.each())
    assert [one for one, _ in found] == log.read() == ROWS
    assert [json.loads(line) for _, line in found] == ROWS


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
