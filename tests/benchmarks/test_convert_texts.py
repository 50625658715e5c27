"""The script that gives the settings in saved solver texts their present names."""

import dataclasses
import json
import runpy
from pathlib import Path

import pytest

from tpsolve.search import SOLVERS, find_solver

# By its path: the benchmarks are no part of the installed package.
SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "convert_texts.py"))
convert, main, RENAMED = SCRIPT["convert"], SCRIPT["main"], SCRIPT["RENAMED"]


@pytest.mark.parametrize("name", RENAMED)
def test_present_names_are_settings_and_old_ones_are_not(name: str):
    settings = {field.name for field in dataclasses.fields(SOLVERS[name])}
    assert settings >= set(RENAMED[name].values())
    assert not settings & set(RENAMED[name])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("beam:width=4,children=2,patience=3", "beam:beam_width=4,max_children=2,patience=3"),
        ("polish(anneal, beam:width=2,least_confident=5)", "polish(anneal, beam:beam_width=2,max_candidates=5)"),
        ("polish(beam:width=2, children=3, tabu:tenure=5)", "polish(beam:beam_width=2, max_children=3, tabu:tenure=5)"),
        ("minimum-disturbance:group=2", "minimum-disturbance:max_group=2"),
        ("circuits:engine=cp-sat,drawn=50000,cuts=5", "circuits:engine=cp-sat,max_drawn=50000,max_cuts=5"),
        ("circuits:local=0.5", "circuits:local_seconds=0.5"),
        ("ftprop:moving=8,tries=1", "ftprop:max_moving=8,max_tries=1"),
        ("weight-box:box=7,workers=2", "weight-box:max_weight=7,workers=2"),
    ],
)
def test_a_solver_text_gets_the_present_names(old: str, new: str):
    assert convert(old) == new
    assert convert(new) == new
    assert dataclasses.asdict(find_solver(new))


@pytest.mark.parametrize(
    "text", ["surrogate:restarts=4,width=0.3", "a beam of width=3", "my-beam:width=3", "ftprop", "children=2,beam"]
)
def test_what_is_no_text_with_an_old_name_stays(text: str):
    assert convert(text) == text


def test_files_are_converted_once_and_the_rest_of_them_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [
        {"solver": "ftprop:moving=8,tries=1", "note": "é", "objective": [1.0, None]},
        {"solver": "tabu", "objective": [float("nan")], "width": 3},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\r\n" for row in rows), newline="")
    before = path.read_bytes()
    main([str(path)])
    assert path.read_bytes() == before.replace(b"moving=8,tries=1", b"max_moving=8,max_tries=1")
    main([str(path)])
    assert path.read_bytes() == before.replace(b"moving=8,tries=1", b"max_moving=8,max_tries=1")
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in said] == ["converted", "nothing to convert"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.jsonl"]
