"""`tpsolve exact` and `tpsolve verify` of its proofs, as a user types them."""

import itertools
import json
from pathlib import Path

import pytest
from support.network_oracle import random_table
from support.whole_oracle import least_objective
from typer.testing import CliRunner

from tpsolve import NetworkProblem, cli
from tpsolve.errors import (
    ArgumentError,
    FileFormatError,
    NotAcceptedError,
    NotFiniteError,
    TooLargeError,
    TpsolveError,
    UnknownNameError,
    ValueSetError,
)
from tpsolve.models import load_model

pytestmark = pytest.mark.cli

TABLE = "x,y,class\n0,0,a\n0,1,b\n1,0,b\n1,1,a\n"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.output, "_width", 100)
    (tmp_path / "xor.csv").write_text(TABLE)

    def run(line: str):
        return CliRunner().invoke(cli.app, line.split(), prog_name="tpsolve")

    return run


def test_fewest_units_are_told(call):
    done = call("exact xor.csv --target class --widths 3 --prefer units")
    assert done.exit_code == 0, done.output
    assert "units: 2, none better" in done.output
    assert isinstance(call("exact xor.csv --target class --prefer best").exception, UnknownNameError)


def test_smallest_weights_are_told_as_inequalities(call, tmp_path: Path):
    rows = ["x,long name,class", *(f"{a},{b},{'no' if a + 2 * b < 5 else 'yes'}" for a in range(3) for b in range(4))]
    (tmp_path / "line.csv").write_text("\n".join(rows))
    done = call("exact line.csv --target class --widths 1 --prefer weights")
    assert done.exit_code == 0, done.output
    assert "weights: 2, none better" in done.output
    assert any(f"unit 1: +1 where {unit}" in done.output for unit in ("x + 2 long name >= 5", "x + 2 long name <= 4"))
    (tmp_path / "line.csv").write_text("\n".join([*rows, "0.5,1,no"]))
    assert isinstance(call("exact line.csv --target class --prefer weights").exception, NotAcceptedError)


def judges(path: Path) -> None:
    """All votes of four judges: some, but not all, must say yes. One ternary unit errs once, two do not."""
    votes = itertools.product((0, 1), repeat=4)
    rows = [f"{','.join(map(str, v))},{'pass' if 1 <= sum(v) <= 3 else 'retry'}" for v in votes]
    path.write_text("\n".join(["a,b,c,d,class", *rows]))


@pytest.mark.slow
def test_whole_weights_are_proved_and_their_model_is_read_and_exported(call, tmp_path: Path):
    judges(tmp_path / "t.csv")
    done = call("exact t.csv --target class --widths 1 --weight-set ternary --penalty 0.0625 --seconds 9 --save m.npz")
    assert done.exit_code == 0, done.output
    row = next(line for line in done.output.splitlines() if "optimal" in line)
    # Four weights of the unit, and the one above it.
    assert row.replace("│", " ").split() == ["16", "2", "1", "5", "1", "1.3125", "1.3125", "optimal"]
    assert "unit 1: +1 where a + b + c + d" in done.output
    shown = call("show m.npz").output
    assert "errors and 0.0625 for each weight other than 0: 1.3125, proved to be at least 1.3125" in shown
    assert "retry if" in shown
    answers = call("predict m.npz t.csv").output
    assert (answers.count("pass"), answers.count("retry")) in ((15, 1), (13, 3))
    assert "rows are equal" in call("export m.npz m.py").output
    assert "Saved: m.npz\n" in done.output, "with its proof"
    checked = call("verify m.npz t.csv")
    assert (checked.exit_code, checked.output.count("yes")) == (0, 4), checked.output
    assert "all weights of the set were tried" in checked.output


def test_rules_of_weights_are_kept_and_proved(call, tmp_path: Path):
    judges(tmp_path / "t.csv")
    rules = "--rising a,b,c --falling d --max-fan-in 3"
    done = call(f"exact t.csv --target class --widths 1 --weight-set ternary {rules} --seconds 20 --save m.npz --json")
    row = json.loads(done.stdout)["rows"][0]
    assert (row["errors"], row["bound"], row["status"]) == (2, 2, "optimal"), done.output
    (weight,) = load_model(tmp_path / "m.npz").layers.weights[0][0].tolist()
    assert min(weight[:3]) >= 0 >= weight[3]
    assert sum(w != 0 for w in weight) <= 3
    assert call("verify m.npz t.csv").exit_code == 0


def test_sums_that_lack_a_margin_cost(call, tmp_path: Path):
    votes = list(itertools.product((0, 1), repeat=3))
    classes = ["pass" if sum(point) >= 2 else "retry" for point in votes]
    rows = [f"{a},{b},{c},{name}" for (a, b, c), name in zip(votes, classes, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,class", *rows]))
    options = "--widths 1 --weight-set ternary --bias-set -3..3 --margin 3 --margin-price 0.125 --seconds 20"
    done = call(f"exact t.csv --target class {options} --save m.npz --json")
    row = json.loads(done.stdout)["rows"][0]
    sets = {"weight_set": "ternary", "bias_set": range(-3, 4), "margin": 3, "margin_price": 0.125}
    least = least_objective(NetworkProblem(votes, classes, [1], **sets))
    assert (row["cost"], row["bound"], row["status"]) == (least, least, "optimal"), done.output
    assert row["cost"] > row["errors"] == 0
    assert load_model(tmp_path / "m.npz").proof is None
    failed = call("exact t.csv --target class --weight-set ternary --margin-price 1")
    assert "--margin-price" in str(failed.exception), failed.output


def test_groups_of_columns_are_kept_to(call, tmp_path: Path):
    votes = list(itertools.product((0, 1), repeat=3))
    rows = [f"{a},{b},{['no', 'yes'][c]},{'pass' if a + b + c >= 2 else 'retry'}" for a, b, c in votes]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,class", *rows]))
    cases = {"2:a,b,c": 2, "1:a,b --group 0:c": 2, '3:"a",b,c=yes': 0, f"{2**70}:a,b,c": 0}
    for groups, errors in cases.items():
        options = f"--widths 1 --weight-set ternary --group {groups} --seconds 20 --save m.npz --json"
        done = call(f"exact t.csv --target class {options}")
        row = json.loads(done.stdout)["rows"][0]
        assert (row["errors"], row["bound"]) == (errors, errors), done.output
        assert call("verify m.npz t.csv").exit_code == 0
    for text in ("a,b", "one:a", "1:", "-1:a", "1:a,,b"):
        failed = call(f"exact t.csv --target class --weight-set ternary --group {text}")
        assert isinstance(failed.exception, ArgumentError), failed.output
        assert "1:age,income" in str(failed.exception)
    for text in ("1:a,a", "1:c=yes,c"):
        failed = call(f"exact t.csv --target class --weight-set ternary --group {text}")
        assert isinstance(failed.exception, ArgumentError), failed.output
        assert str(failed.exception).startswith(f"--group: got '{text}', which has "), failed.output
    failed = call("exact t.csv --target class --weight-set ternary --group 1:a,d")
    assert isinstance(failed.exception, UnknownNameError), failed.output


@pytest.mark.slow
def test_errors_against_weights_are_told_and_drawn(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    judges(tmp_path / "t.csv")
    done = call("exact t.csv --target class --widths 2 --weight-set ternary --frontier --seconds 20")
    assert done.exit_code == 0, done.output
    rows = [line.replace("│", " ").split() for line in done.output.splitlines() if "yes" in line]
    assert [row[2:4] for row in rows if row[0] in ("0", "4", "5", "9", "10")] == [
        ["2", "2"],
        ["2", "2"],
        ["1", "1"],
        ["1", "1"],
        ["0", "0"],
    ]
    assert (tmp_path / "t-frontier.png").stat().st_size > 5000
    monkeypatch.setattr("tpsolve.cli._exact.Interrupt.asked", True, raising=False)
    monkeypatch.setattr("tpsolve.cli._exact.Interrupt.__init__", lambda self: None)
    stopped = call("exact t.csv --target class --widths 2 --weight-set ternary --frontier --plot f.pdf")
    assert stopped.exit_code == 130
    assert "weights at most" in stopped.output
    assert (tmp_path / "f.pdf").exists()


@pytest.mark.slow
def test_whole_weights_may_be_a_range_or_a_list(call, tmp_path: Path):
    (tmp_path / "line.csv").write_text("x,y,class\n0,0,a\n1,0,a\n0,1,a\n1,1,b\n")
    for sets, errors in (("-1..1", "0"), ("binary --bias-set -2,-1", "0"), ("-2,2 --bias-set 0", "1")):
        done = call(f"exact line.csv --target class --widths 1 --weight-set {sets} --seconds 5")
        assert done.exit_code == 0, done.output
        row = next(line for line in done.output.splitlines() if "optimal" in line)
        assert row.replace("│", " ").split()[-3:] == [errors, errors, "optimal"]


def test_from_table_to_verified_proof_and_picture(call, tmp_path: Path):
    done = call("exact xor.csv --target class --widths 2 --save proof.npz")
    assert done.exit_code == 0, done.output
    row = next(line for line in done.output.splitlines() if "optimal" in line)
    assert row.replace("│", " ").split() == ["4", "4", "2", "2", "2", "0", "0", "optimal"]
    assert (tmp_path / "xor-exact.png").stat().st_size > 5000
    checked = call("verify proof.npz xor.csv")
    assert checked.exit_code == 0, checked.output
    assert checked.output.count("yes") == 5


def test_one_unit_can_t_and_more_features_are_not_drawn(call, tmp_path: Path):
    (tmp_path / "wide.csv").write_text("x,y,z,class\n0,0,1,a\n0,1,1,b\n1,0,1,b\n1,1,1,a\n")
    done = call("exact wide.csv --target class --widths 1 --save p.npz")
    assert " 1 " in done.output
    assert "Picture" not in done.output
    for engine in ("cadical195", "cp-sat"):
        # On a busy machine the race may be won by a count of hyperplanes, which is counted anew without an engine.
        checked = " ".join(call(f"verify p.npz wide.csv --engine {engine}").output.split())
        assert engine in checked or "hyperplanes" in checked


def test_data_that_are_not_the_proof_s_end_with_status_1(call, tmp_path: Path):
    call("exact xor.csv --target class --widths 2 --save proof.npz")
    (tmp_path / "other.csv").write_text(TABLE.replace("1,1,a", "1,1,b"))
    done = call("verify proof.npz other.csv")
    assert done.exit_code == 1
    assert "not the data of the proof" in done.output


@pytest.mark.slow
def test_time_that_runs_out_prints_what_is_known_in_80_columns(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    x, y = random_table(2, 50)
    lines = [f"{a},{b},{'p' if c > 0 else 'm'}" for (a, b), c in zip(x.tolist(), y.tolist(), strict=True)]
    (tmp_path / "r.csv").write_text("\n".join(["x,y,class", *lines]))
    monkeypatch.setattr(cli.output, "_width", 80)
    done = call("exact r.csv --target class --widths 4 --seconds 0.05 --save p.npz")
    assert done.exit_code == 0
    assert "│ feasible │" in done.output
    assert call("verify p.npz r.csv").exit_code == 0


def test_proof_is_saved_though_the_picture_can_t_be_written(call, tmp_path: Path):
    # The name of the picture, which nobody asked for, has more than the 255 letters that a folder takes.
    name = 247 * "x"
    (tmp_path / f"{name}.csv").write_text(TABLE)
    done = call(f"exact {name}.csv --target class --widths 2 --save proof.npz")
    assert done.exit_code == 0, done.output
    assert f"No picture: {name}-exact.png: can't be written (File name too long)" in done.output
    assert call(f"verify proof.npz {name}.csv").exit_code == 0


@pytest.mark.parametrize(
    "rows",
    [
        "0,0,a 1,1,b",
        "1700000000000,0,a 1700000000001,1,b 1700000086400,2,a 1700000086401,0,b",
        "10000000000000000,5,a 10000000000000002,5,b",
        "1e-310,0,a 2e-310,1,b 3e-310,0,a",
        "1e99,0,a -1e99,1,b 0,0.5,a",
    ],
)
def test_picture_of_any_scale_is_drawn(call, tmp_path: Path, rows: str):
    (tmp_path / "t.csv").write_text("\n".join(["x,y,class", *rows.split()]))
    for command, picture in (("exact", "t-exact.png"), ("separate", "t-separate.png")):
        done = call(f"{command} t.csv --target class")
        assert done.exit_code == 0, done.output
        assert f"Picture: {picture}" in done.output
        assert (tmp_path / picture).stat().st_size > 5000


def test_answer_whose_weights_no_float64_holds_is_told_without_its_picture(call, tmp_path: Path):
    step = 2.0**-52
    points = [(1 + 3 * step, 1 + 2 * step, "a"), (1 + 2 * step, 1.0, "a"), (1 + 2 * step, 1 + step, "b")]
    # Too far away for both to be whole numbers of one unit.
    points.append((12345678.0, 12345679.0, "a"))
    rows = "".join(f"{x!r},{y!r},{label}\n" for x, y, label in points)
    (tmp_path / "t.csv").write_text(f"x,y,class\n{rows}")
    done = call("exact t.csv --target class --widths 2")
    assert done.exit_code == 0, done.output
    assert "No picture: targets: got margins so narrow" in done.output


def test_table_too_large_to_draw_has_its_answer_and_a_note(call, tmp_path: Path):
    (tmp_path / "t.csv").write_text("x,y,class\n1e308,0,a\n-1e308,1,b\n0.1,0,a\n")
    for command in ("exact", "separate"):
        done = call(f"{command} t.csv --target class")
        assert done.exit_code == 0, done.output
        assert "No picture: x: got numbers up to 1e+308" in done.output
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("exact xor.csv --target klass", UnknownNameError, "klass"),
        ("exact none.csv --target class", FileFormatError, "none.csv"),
        ("exact xor.csv --target class --widths 0", ArgumentError, "widths: got 0"),
        ("exact xor.csv --target class --widths two", ArgumentError, "--widths: got 'two'"),
        ("exact xor.csv --target class --widths 12", TooLargeError, "12 units.*ColumnSearch"),
        ("exact xor.csv --target class --seconds 0", ArgumentError, "budget.seconds"),
        ("exact xor.csv --target class --engine chaff", UnknownNameError, "chaff"),
        ("exact xor.csv --target class --save none/p.npz", ArgumentError, "--save: got none/p.npz"),
        ("exact xor.csv --target class --save ./xor.csv", ArgumentError, "another file than the one that is read"),
        ("exact xor.csv --target class --save .", ArgumentError, "--save: got ., expected the path of a file"),
        ("exact xor.csv --target class --plot none/p.png", ArgumentError, "--plot: got none/p.png"),
        ("exact xor.csv --target class --plot .", ArgumentError, "--plot: got .,"),
        ("exact xor.csv --target class --plot p.xyz", ArgumentError, "--plot: got p.xyz.*[.]pdf.*[.]png"),
        ("separate xor.csv --target class --plot p.xyz", ArgumentError, "--plot: got p.xyz.*[.]pdf.*[.]png"),
        ("separate xor.csv --target class --plot p.pgf", ArgumentError, "--plot: got p.pgf"),
        ("separate xor.csv --target class --plot none/p.png", ArgumentError, "--plot: got none/p.png"),
        ("exact xor.csv --target class --weight-set some", UnknownNameError, "weight_set: got 'some'"),
        ("exact xor.csv --target class --weight-set 1.5..3", ArgumentError, "--weight-set: got '1.5..3'"),
        ("exact xor.csv --target class --weight-set 7..-7", ArgumentError, "a range that rises"),
        ("exact xor.csv --target class --weight-set ternary --bias-set 1,x", ArgumentError, "--bias-set: got '1,x'"),
        ("exact xor.csv --target class --weight-set ternary --penalty nan", NotFiniteError, "penalty: got nan"),
        ("exact xor.csv --target class --weight-set ternary --prefer units", ArgumentError, "beside --weight-set"),
        ("exact xor.csv --target class --weight-set ternary --solver sweep", NotAcceptedError, "integer-search"),
        ("exact xor.csv --target class --frontier", ArgumentError, "without --weight-set"),
        ("exact xor.csv --target class --rising x", ArgumentError, "without --weight-set"),
        ("exact xor.csv --target class --group 1:x", ArgumentError, "without --weight-set"),
        ("exact xor.csv --target class --shared-bias", ArgumentError, "without --weight-set"),
        ("exact --sweep . --target class --max-fan-in 2", ArgumentError, "max-fan-in with --sweep"),
        ("exact xor.csv --target class --weight-set=", ArgumentError, "no --weight-set without numbers"),
        ("exact xor.csv --target class --weight-set ternary --bias-set=", ArgumentError, "no --bias-set without"),
        ("exact xor.csv --target class --weight-set ternary --rising age", UnknownNameError, "--rising: got 'age'"),
        ("exact xor.csv --target class --weight-set ternary --rising x --falling x", ArgumentError, "x more than once"),
        ("exact xor.csv --target class --weight-set binary --frontier", ValueSetError, "without 0"),
        (
            "exact xor.csv --target class --weight-set ternary --frontier --save m.npz",
            ArgumentError,
            "--save: got m.npz",
        ),
        ("exact xor.csv --target class --penalty 1", ArgumentError, "without --weight-set"),
        ("exact nan.csv --target class", NotFiniteError, "nan.csv:3"),
        ("exact ids.csv --target class", TooLargeError, "100 classes"),
        ("exact one.csv --target class", ArgumentError, "one.csv: got the class 'a' only"),
        ("compare --tables ones --target class --name one", ArgumentError, "one.csv: got the class 'a' only"),
        ("exact wide.csv --target class --plot p.png", ArgumentError, "--plot"),
        ("verify xor.csv xor.csv", FileFormatError, "xor.csv"),
        ("verify proof.npz none.csv", FileFormatError, "none.csv"),
        *(
            (f"verify proof.npz xor.csv --seconds {seconds}", ArgumentError, f"--seconds: got {seconds}")
            for seconds in ("nan", "-5.0", "0.0", "inf")
        ),
        ("verify proof.npz xor.csv --engine z3", UnknownNameError, "z3"),
    ],
)
def test_what_the_user_can_mend_is_named_before_any_work(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, error: type[TpsolveError], words: str
):
    (tmp_path / "nan.csv").write_text(TABLE.replace("0,1,b", "0,nan,b"))
    (tmp_path / "wide.csv").write_text("x,y,z,class\n0,0,1,a\n0,1,1,b\n")
    (tmp_path / "ids.csv").write_text("x,class\n" + "\n".join(f"{k},{k}" for k in range(100)))
    (tmp_path / "ones").mkdir()
    for one in (tmp_path / "one.csv", tmp_path / "ones" / "one.csv"):
        one.write_text("x,class\n0,a\n1,a\n")
    if "proof" in line:
        call("exact xor.csv --target class --widths 2 --save proof.npz")
    monkeypatch.setattr(
        "tpsolve.search.network.circuits._circuits.Circuits.run", lambda *_: pytest.fail("refused before any work")
    )
    before = sorted(tmp_path.iterdir())
    done = call(line)
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(error, match=words):
        raise done.exception or AssertionError(done.output)
