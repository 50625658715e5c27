"""`tpsolve predict`, `show` and `export` of a model that `tpsolve exact` saved, as a user types them."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tpsolve import cli
from tpsolve.errors import ArgumentError, FileFormatError, UnknownNameError, ValueSetError

pytestmark = pytest.mark.cli

TABLE = """w,x,kind
red,0.1,a
red,0.7,b
blue,0.2,b
blue,0.9,a
blue,0.3,b
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.output, "_width", 100)
    (tmp_path / "t.csv").write_text(TABLE)

    def run(line: str):
        return CliRunner().invoke(cli.app, line.split(), prog_name="tpsolve")

    assert run("exact t.csv --target kind --widths 2 --engine cp-sat --save m.npz").exit_code == 0
    return run


def test_from_table_to_prediction(call, tmp_path: Path):
    (tmp_path / "new.csv").write_text("x,w\n0.9,blue\n0.70,red\n")
    done = call("predict m.npz new.csv")
    assert done.exit_code == 0, done.output
    assert done.stdout == "predicted kind\na\nb\n"
    done = call("predict m.npz t.csv --target kind --out p.csv")
    assert done.exit_code == 0, done.output
    assert "5 of 5 right: 100.0%" in done.output
    rows = list(csv.reader((tmp_path / "p.csv").read_text().splitlines()))
    assert rows == [["predicted kind"], ["a"], ["b"], ["b"], ["a"], ["b"]]
    (tmp_path / "new.csv").write_text("x,w,truth\n0.9,blue,a\n0.70,red,a\n0.1,red,c\n")
    done = call("predict m.npz new.csv --target truth")
    assert "1 of 3 right: 33.3%" in done.output
    rows = [line.replace("│", " ").split() for line in done.output.splitlines() if "│" in line]
    assert rows == [["a", "1", "1"], ["b", "0", "0"], ["c", "1", "0"]]
    assert "does not know: c" in done.output


def test_rows_without_a_value_keep_their_place(call, tmp_path: Path):
    (tmp_path / "gaps.csv").write_text(TABLE + "red,,a\n")
    assert call("exact gaps.csv --target kind --missing drop --engine cp-sat --save g.npz").exit_code == 0
    (tmp_path / "new.csv").write_text("x,w\n0.9,blue\n,red\n0.1,red\n")
    done = call("predict g.npz new.csv --out p.csv")
    assert "1 rows have no class" in done.output
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 4
    assert (tmp_path / "p.csv").read_text().splitlines()[2] in ("", '""')


def test_rows_that_don_t_fit_are_refused(call, tmp_path: Path):
    for text, error in (
        ("x,w\n0.9,green\n", ValueSetError),
        ("x\n0.9\n", ArgumentError),
        ("x,w,z\n1,red,1\n", ArgumentError),
    ):
        (tmp_path / "new.csv").write_text(text)
        assert isinstance(call("predict m.npz new.csv").exception, error), text
    (tmp_path / "new.csv").write_text("x,w\n0.9,blue\n")
    assert isinstance(call("predict m.npz new.csv --target kind").exception, UnknownNameError)
    assert isinstance(call("predict m.npz new.csv --out new.csv").exception, ArgumentError)
    assert isinstance(call("predict t.csv t.csv").exception, FileFormatError)


@pytest.mark.slow
def test_rules_scorecard_and_picture(call, tmp_path: Path):
    done = call("show m.npz --picture net.svg")
    assert done.exit_code == 0, done.output
    assert "a if " in done.output or "b if " in done.output
    assert "unit 1: " in done.output
    assert "score" not in done.output
    assert (tmp_path / "net.svg").stat().st_size > 3000
    (tmp_path / "line.csv").write_text(
        "x,y,kind\n" + "".join(f"{a},{b},{'hi' if a + 2 * b > 4 else 'lo'}\n" for a in range(4) for b in range(4))
    )
    assert call("exact line.csv --target kind --widths 1 --engine cp-sat --save line.npz").exit_code == 0
    done = call("show line.npz --picture plane.png")
    assert any(words in done.output for words in ("hi if the score is at least 5,", "hi if the score is more than 4,"))
    assert (tmp_path / "plane.png").stat().st_size > 5000
    assert isinstance(call("show m.npz --picture net.txt").exception, ArgumentError)


def test_a_model_becomes_a_program_of_other_languages(call, tmp_path: Path):
    done = call("export m.npz net.py --table t.csv")
    assert done.exit_code == 0, done.output
    assert "rows are equal, by Python" in done.output
    space: dict = {}
    exec((tmp_path / "net.py").read_text(), space)
    assert space["predict"]({"w": "blue", "x": 0.9}) == "a"
    refused = call("export m.npz net.xyz").exception
    assert isinstance(refused, ArgumentError)
    assert "got net.xyz, expected a name that ends in .c, .json" in str(refused)
    assert "Did you mean" not in str(refused)


def test_the_proof_of_a_model_is_verified(call, tmp_path: Path):
    assert call("verify m.npz t.csv --engine cadical195").exit_code == 0
    (tmp_path / "t.csv").write_text(TABLE.replace("0.3,b", "0.3,a"))
    assert call("verify m.npz t.csv --engine cadical195").exit_code == 1
