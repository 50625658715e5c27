"""Tables on the command line: what each column was taken for, the options of reading, and proofs that know them."""

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tpsolve import Budget, NetworkProblem, cli, solve
from tpsolve.errors import ArgumentError, FileFormatError, NotFiniteError, UnknownNameError, ValueSetError
from tpsolve.search import load_proof, make_proof

pytestmark = pytest.mark.cli

TABLE = """id;size;when;colour;class
1;0,5;2020-01-01; red;a
2;NA;2020-01-02;red;b
3;1,5;2020-01-03;blue;a
4;2;2020-01-04;blue;b
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for console in (cli.output, cli.notes):
        monkeypatch.setattr(console, "_width", 120)
    Path("t.csv").write_text(TABLE)

    def run(line: str):
        return CliRunner().invoke(cli.app, line.split(), prog_name="tpsolve")

    return run


def test_what_each_column_was_taken_for_is_told_before_the_work(call):
    done = call("separate t.csv --target class --missing indicator")
    assert done.exit_code == 0, done.output
    told = done.stderr.replace("│", " ")
    assert "1 number, 1 date, 1 column of words, 1 id left out -> 5 features" in told
    rows = [" ".join(line.split()) for line in told.splitlines()]
    assert "id left out: an id" in rows
    assert "size number decimals ','; 1 missing, a column of its own" in rows
    assert "colour words 2: blue, red" in rows


@pytest.mark.parametrize("command", ["separate", "exact --seconds 5"])
def test_columns_are_chosen_by_name(call, command: str):
    done = call(f"{command} t.csv --target class --columns when --dates auto")
    assert done.exit_code == 0, done.output
    assert "1 date, 3 others left out -> 1 feature" in done.stderr
    assert call(f"{command} t.csv --target class --drop size,colour").exit_code == 0
    for wrong, error in [
        ("--drop sizes", UnknownNameError),
        ("--missing guess", ArgumentError),
        ("--delimiter x", ArgumentError),
        ("", NotFiniteError),
        ("--missing drop --columns size --words nothing", UnknownNameError),
    ]:
        assert isinstance(call(f"{command} t.csv --target class {wrong}").exception, error), wrong


def test_rows_that_are_dropped_are_told(call):
    done = call("separate t.csv --target class --missing drop")
    assert "1 row left out, since a value is missing: 3" in done.stderr


def test_a_proof_is_checked_on_the_table_as_it_was_read(call):
    done = call("exact t.csv --target class --widths 1 --missing impute --drop when --save p.npz")
    assert done.exit_code == 0, done.output
    checked = call("verify p.npz t.csv")
    assert checked.exit_code == 0, checked.output
    assert "4 samples, the proof's" in checked.output
    Path("t.csv").write_text(TABLE.replace("0,5", "0,6"))
    assert call("verify p.npz t.csv").exit_code == 1


@pytest.mark.parametrize("reading", ["{", "[]", '{"missing": "refuse"}'])
def test_a_proof_with_broken_reading_options_is_refused(call, reading: str):
    call("exact t.csv --target class --widths 1 --columns when --save p.npz")
    proof = load_proof("p.npz")
    proof.about["reading"] = reading
    proof.save("p.npz")
    assert isinstance(call("verify p.npz t.csv").exception, FileFormatError)


def test_whole_numbers_that_float64_would_round_give_true_answers(call):
    Path("t.csv").write_text("stamp,class\n1556559573141592653,a\n1556559573141592654,b\n")
    assert "yes, proved" in call("separate t.csv --target class").stdout
    done = call("exact t.csv --target class --widths 1 --save p.npz")
    assert "│      0 │     0 │ optimal" in done.stdout
    assert call("verify p.npz t.csv").exit_code == 0


def test_decimals_on_a_line_are_not_separable(call):
    # float64 moves 0.3 off the line through 0.1 and 0.2, and they become separable.
    Path("t.csv").write_text("x,y,class\n0.1,1,a\n0.2,2,b\n0.3,3,a\n")
    assert "no, proved" in call("separate t.csv --target class").stdout
    assert np.linalg.matrix_rank([[0.1, 1, 1], [0.2, 2, 1], [0.3, 3, 1]], tol=0) == 3


def test_margins_and_inequalities_are_those_of_the_file(call):
    Path("t.csv").write_text("x,class\n0.1,a\n0.3,b\n")
    assert "│    0.1 │" in call("separate t.csv --target class").stdout
    done = call("exact t.csv --target class --widths 1 --prefer weights")
    number = re.search(r"unit 1: \+1 where -?x >= -?(\S+)", done.stdout)
    assert number is not None, done.stdout
    assert 0.1 < float(number[1]) <= 0.3


def test_a_proof_of_rounded_numbers_is_checked_for_those_of_the_table(call):
    # float64 tells the first two stamps from each other only beside an offset near them.
    Path("t.csv").write_text("x,class\n1556559573141592653,a\n1556559573141592654,b\n0,a\n")
    done = call("separate t.csv --target class")
    assert "yes, proved" in done.stdout
    assert "The proof holds for the numbers of the table" in done.stdout
    assert "float64 rounds x." in done.stderr
    done = call("exact t.csv --target class --widths 1 --json --save p.npz")
    answer = json.loads(done.stdout)
    assert (answer["rows"][0]["errors"], answer["unrounded"]) == (0, True)
    done = call("verify p.npz t.csv")
    assert done.exit_code == 0, done.output
    assert "The proof holds for the numbers of the table" in done.stdout


ON_A_LINE = "\n".join(["x,y,class", *(f"0.{k}{'0' * 17}{11 * k},{k},{'ba'[k % 2]}" for k in (1, 2, 3)), "700000,-4,b"])
"""Three numbers on a line, which float64 moves off it; the last one leaves no room for whole multiples."""


def test_an_answer_that_rounding_changes_is_found_for_the_table(call):
    Path("t.csv").write_text(ON_A_LINE)
    done = call("separate t.csv --target class --json")
    # The middle one against both others.
    row = json.loads(done.stdout)["rows"][0]
    assert (row["separable"], row["circuit"], row["weights"]) == ("no", [2, 3, 4], [25.0, 50.0, 25.0])
    done = call("exact t.csv --target class --widths 1 --save p.npz --json")
    answer = json.loads(done.stdout)
    assert (answer["rows"][0]["errors"], answer["rows"][0]["bound"], answer["unrounded"]) == (1, 1, True)
    assert answer["anew"] is True
    assert call("verify p.npz t.csv").exit_code == 0
    done = call("predict p.npz t.csv --target class")
    assert "3 of 4 right" in done.stdout


def test_a_sweep_solves_the_numbers_of_the_tables_and_verify_counts_them(call):
    Path("many").mkdir()
    Path("many/line.csv").write_text(ON_A_LINE)
    Path("many/one.csv").write_text("x,class\n0.12345678901234567,a\n0.12345678901234568,b\n123456.7,b\n1,a\n")
    done = call("exact --sweep many --target class --widths 1 --seconds 20 --json")
    lines = {line["table"]: line for line in json.loads(done.stdout)["rows"]}
    assert all(line["numbers"] == "exact" and line["status"] == "optimal" for line in lines.values())
    assert {name: (line["errors"], line["bound"]) for name, line in lines.items()} == {"line": (1, 1), "one": (1, 1)}
    done = call("verify runs/many --json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"][0]["recounted"] == 2
    path = Path("runs/many/rows.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    changes = {"bound": [0.0], "status": ["feasible"], "proved_at": [None]}
    path.write_text("".join(json.dumps(row | changes) + "\n" for row in rows))
    done = call("verify runs/many")
    assert done.exit_code == 0, "a lower bound holds as well"
    done = call("compare many/line.csv --target class --widths 1 --solver column-search --seconds 1 --seeds 1")
    assert "float64 rounds numbers of line/1" in " ".join(done.stderr.split())


def test_whole_weights_are_those_of_the_numbers_of_the_table(call):
    Path("t.csv").write_text("x,y,class\n1.00000000000000000001,1,a\n5,2,b\n2,3,a\n3,1,b\n")
    done = call("exact t.csv --target class --widths 1 --weight-set ternary --seconds 3 --json")
    answer = json.loads(done.stdout)
    assert (answer["rows"][0]["errors"], answer["rows"][0]["status"], answer["unrounded"]) == (0, "optimal", True)
    # In float64 the first two are one point.
    Path("t.csv").write_text("x,class\n0.12345678901234567,a\n0.12345678901234568,b\n1,b\n123456.7,b\n")
    done = call("exact t.csv --target class --widths 1 --weight-set ternary --solver integer-search --seconds 1")
    assert "integer-search looked for whole weights, and no bound was proved" in done.stdout
    done = call("exact t.csv --target class --widths 1 --weight-set ternary --seconds 3")
    assert "these were compared as fractions" in " ".join(done.stdout.split())
    Path("t.csv").write_text("x,y,class\n1.00000000000000000001,1,a\n1,2,b\n2,3,a\n3,1,b\n")
    done = call("exact t.csv --target class --widths 1 --weight-set ternary --frontier --seconds 2 --json")
    answer = json.loads(done.stdout)
    assert [(row["max_nonzero"], row["errors"], row["proved"]) for row in answer["rows"]] == [
        (0, 2, True),
        (2, 1, True),
    ]
    assert answer["unrounded"] is True
    # Sums with 20 digits are tried in whole numbers of Python.
    done = call("exact t.csv --target class --widths 1 --weight-set ternary --seconds 2 --save m.npz --json")
    assert json.loads(done.stdout)["rows"][0]["bound"] == 1
    done = call("verify m.npz t.csv")
    assert done.exit_code == 0
    assert "all weights of the set were tried" in done.stdout


def test_a_preference_that_rounding_would_drop_is_kept(call):
    Path("t.csv").write_text(ON_A_LINE)
    done = call("exact t.csv --target class --widths 2 --prefer units --json")
    answer = json.loads(done.stdout)
    assert (answer["preferred"], answer["preference_proved"], answer["unrounded"]) == (2, True, True)
    assert call("exact t.csv --target class --prefer weights").exception.argument == "problem"


def test_standard_input_is_read_and_its_picture_is_named_table(call, monkeypatch: pytest.MonkeyPatch):
    Path("t.csv").unlink()
    done = CliRunner().invoke(cli.app, ["separate", "-", "--target", "k"], input="x,y,k\n0,0,a\n1,1,b\n")
    assert done.exit_code == 0, done.output
    assert Path("table-separate.png").stat().st_size > 1000


def test_another_solver_gives_a_network_and_no_proof(call):
    done = call("exact t.csv --target class --columns when --solver column-search --seconds 5 --save p.npz")
    assert done.exit_code == 0, done.output
    assert "optimal" in done.stdout
    assert "Saved: p.npz, without a proof" in done.stdout
    for wrong in ("--engine cp-sat", "--prefer units"):
        assert isinstance(
            call(f"exact t.csv --target class --columns when --solver column-search {wrong}").exception, ArgumentError
        )


@pytest.mark.parametrize("command", ["separate", "exact --seconds 5"])
def test_no_name_costs_the_answer_or_reaches_the_terminal_raw(call, command: str):
    Path("t.csv").write_text("a$b$,\x1b[31mred,price\n1,2,$\n3,4,$$\n0,1,$$$\n")
    done = call(f"{command} t.csv --target price")
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    assert "Picture: t-" in done.stdout
    Path("t.csv").write_text("x,\x1b[31mred,price\n1,2,$\n3,oops,$$\n0,1,$$$\n")
    error = call(f"{command} t.csv --target price").exception
    assert isinstance(error, ValueSetError)


def test_names_outside_the_terminal_s_encoding_are_escaped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(cli.output, "_file", stream)
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("größe,class\n1,ä\n2,ö\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["tpsolve", "separate", "t.csv", "--target", "class"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    stream.flush()
    assert ended.value.code == 0
    assert "\\xf6" in stream.buffer.getvalue().decode("ascii")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--weight-set binary --max-fan-in 1", "--max-fan-in: got a limit on weights other than 0"),
        ("--widths 0", "--widths: got 0"),
        ("--seconds 0", "--seconds: got 0.0"),
        ("--drop sort", "t.csv: drop: got 'sort'"),
        ("--drop x", "t.csv: got no columns that can be used"),
    ],
)
def test_an_option_that_makes_no_sense_is_named_as_it_was_typed(
    call, options: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    Path("t.csv").write_text("x,class\n1,a\n2,b\n")
    monkeypatch.setattr(cli.notes, "_file", None)
    monkeypatch.setattr(sys, "argv", f"tpsolve exact t.csv --target class {options}".split())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"tpsolve: {words}")


def test_names_with_commas_are_written_in_quotes(call):
    Path("t.csv").write_text('"a, b",c,class\n1,2,u\n2,1,v\n')
    runner = CliRunner().invoke(cli.app, ["separate", "t.csv", "--target", "class", "--drop", '"a, b"'])
    assert "1 number, 1 other left out" in runner.stderr


def test_a_proof_from_before_is_checked_on_the_table_as_it_was_read_then(call):
    Path("t.csv").write_text("id,x,colour,class\n1,0.1,red,a\n2,0.2, red,b\n3,0.3,red,a\n")
    # Numbers as float64 rounds them, an id as a number, and a column for each word with its spaces.
    inputs = [[1, 0.1, 0, 1], [2, 0.2, 1, 0], [3, 0.3, 0, 1]]
    problem = NetworkProblem(inputs, ["a", "b", "a"], [1])
    result = solve(problem, "circuits", budget=Budget(seconds=30))
    make_proof(problem, result, {"target": "class"}).save("p.npz")
    checked = call("verify p.npz t.csv")
    assert checked.exit_code == 0, checked.output
    make_proof(problem, result, {"target": "class", "reading": "{}"}).save("q.npz")
    assert isinstance(call("verify q.npz t.csv").exception, FileFormatError)


def test_solvers_are_compared_on_a_folder_of_tables(call, no_plots: None):
    Path("some").mkdir()
    Path("some/t.csv").write_text(TABLE)
    options = "--tables some --target class --widths 2 --missing drop --solver column-search --samples 1 --seeds 1"
    done = call(f"compare {options}")
    assert done.exit_code == 0, done.output
    assert Path("runs/some/report.html").exists()
    for wrong in ("compare --tables some", "compare --drop x", f"compare {options} --suite networks"):
        assert isinstance(call(wrong).exception, ArgumentError), wrong
