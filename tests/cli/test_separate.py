"""`tpsolve separate`: tables read right, answers that are true, pictures that exist, bad input named."""

import sys
from pathlib import Path

import pytest

from tpsolve import cli

SQUARE = "x,y,kind\n0,0,a\n1,1,a\n0,1,b\n1,0,b\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tpsolve", "separate", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_xor_is_refused_with_a_circuit_of_all_four_lines_and_drawn(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    Path("t.csv").write_text(SQUARE.replace("0,1,b", "\n0,1,b"))
    assert run(monkeypatch, "t.csv", "--target", "kind") == 0
    shown = capsys.readouterr().out
    assert "no, proved" in shown
    assert "2: 25%, 3: 25%, 5: 25%, 6: 25%" in " ".join(shown.replace("│", " ").split())
    assert Path("t-separate.png").read_bytes().startswith(b"\x89PNG")


def test_separable_classes_come_with_their_margin(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    Path("t.csv").write_text("x,kind\n0,a\n1,a\n3,b\n")
    assert run(monkeypatch, "t.csv", "--target", "kind") == 0
    shown = capsys.readouterr().out
    assert "yes, proved" in shown
    assert list(here.glob("*.png")) == [], "one feature is no plane"


def test_a_plot_of_more_than_two_features_is_refused_before_any_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    Path("t.csv").write_text("x,y,z,kind\n0,0,0,a\n1,1,1,b\n")
    assert run(monkeypatch, "t.csv", "--target", "kind", "--plot", "p.png") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not Path("p.png").exists()


def test_one_class_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    Path("t.csv").write_text("x,kind\n0,a\n1,a\n")
    assert run(monkeypatch, "t.csv", "--target", "kind") == 2
    assert "at least two classes" in capsys.readouterr().err
