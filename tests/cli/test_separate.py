"""`tpsolve separate`: tables read right, answers that are true, pictures that exist, bad input named."""

import sys
from pathlib import Path

import pytest
import torch

from tpsolve import cli
from tpsolve.tables import read_table
from tpsolve.errors import FileFormatError, NotFiniteError, UnknownNameError

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


def test_numbers_stay_and_words_become_columns(here: Path):
    Path("t.csv").write_text("size,colour,kind\n1.5,red,a\n-2,blue,b\n0,red,a\n")
    table = read_table("t.csv", "kind")
    assert table.features == ("size", "colour=blue", "colour=red")
    assert table.inputs.tolist() == [[1.5, 0, 1], [-2, 1, 0], [0, 0, 1]]
    assert table.inputs.dtype == torch.float64
    assert table.labels == ("a", "b", "a")


def test_lines_are_those_of_the_file(here: Path):
    Path("t.csv").write_text('x,note,kind\n\n1,"of two\nlines",a\n\n\n2,one line,b\n3,one line,a\n')
    assert read_table("t.csv", "kind").lines == (3, 7, 8)


def test_byte_order_mark_is_no_part_of_the_first_name(here: Path):
    Path("t.csv").write_text("kind,größe\na,1\n", encoding="utf-8-sig")
    table = read_table("t.csv", "kind")
    assert (table.features, table.labels) == (("größe",), ("a",))


@pytest.mark.parametrize(
    ("text", "target", "error", "message"),
    [
        (SQUARE, "kinds", UnknownNameError, "Did you mean 'kind'"),
        ("x,kind\n", "kind", FileFormatError, "no rows"),
        ("", "kind", FileFormatError, "can't be read as CSV"),
        ("x,kind\n1,a\n1\n", "kind", FileFormatError, "t.csv:3: 1 values, expected 2"),
        ("x,kind\n1,a\n?,b\n", "kind", NotFiniteError, "t.csv:3: got no value for x"),
        ('x,kind\n\n"1",a\n\n?,b\n', "kind", NotFiniteError, "t.csv:5: got no value for x"),
        ('x,kind\n1,"a\na"\ninf,b\n', "kind", NotFiniteError, "t.csv:4: got inf for x"),
        ("x,kind\n1,a\n\n1\n", "kind", FileFormatError, "t.csv:4: 1 values, expected 2"),
        ("kind,x,kind\na,1,b\n", "kind", FileFormatError, "two columns are named 'kind'"),
        ("x,x,kind\n1,2,b\n", "kind", FileFormatError, "two columns are named 'x'"),
        ("kind\na\nb\n", "kind", FileFormatError, "no columns but kind, the target"),
        ("x,kind\n1,a\nnan,b\n", "kind", NotFiniteError, "t.csv:3: got nan for x"),
        ("x,kind\n1,a\ninf,b\n", "kind", NotFiniteError, "t.csv:3: got inf for x"),
    ],
)
def test_bad_tables_are_typed_errors(here: Path, text: str, target: str, error: type[Exception], message: str):
    Path("t.csv").write_text(text)
    with pytest.raises(error, match=message.replace("?", r"\?")):
        read_table("t.csv", target)


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
