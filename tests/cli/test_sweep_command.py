"""`tpsolve exact --sweep`, and `tpsolve exact --workers`, as a user types them."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tpsolve import cli
from tpsolve.cli.compare._sweep_tables import read_networks
from tpsolve.errors import ArgumentError, FolderError, TpsolveError

pytestmark = pytest.mark.cli

XOR = "x,y,class\n0,0,a\n0,1,b\n1,0,b\n1,1,a\n"
LINE = "x,class\n0,a\n1,a\n2,b\n3,a\n"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.output, "_width", 100)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "xor.csv").write_text(XOR)
    (tmp_path / "tables" / "line.csv").write_text(LINE)

    def run(line: str):
        return CliRunner().invoke(cli.app, line.split(), prog_name="tpsolve")

    return run


SWEEP = "exact --sweep tables --target class --seconds 20 --widths"


def test_networks_are_read():
    assert read_networks("1..4") == [[1], [2], [3], [4]]
    assert read_networks("2;3,2;4..5") == [[2], [3, 2], [4], [5]]
    for text in ("", "4..1", "a", "1..", "2;;3", "1...3"):
        with pytest.raises(ArgumentError, match="--widths"):
            read_networks(text)


@pytest.mark.slow
def test_every_table_is_solved_with_every_width_and_a_second_call_solves_nothing(call, tmp_path: Path):
    done = call(f"{SWEEP} 1..2")
    assert done.exit_code == 0, done.output
    run = tmp_path / "runs" / "tables"
    with (run / "table.csv").open() as file:
        found = {(row["table"], row["widths"]): (row["errors"], row["bound"]) for row in csv.DictReader(file)}
    assert found == {
        ("line", "1"): ("1.0", "1.0"),
        ("line", "2"): ("0.0", "0.0"),
        ("xor", "1"): ("1.0", "1.0"),
        ("xor", "2"): ("0.0", "0.0"),
    }
    assert (run / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert call(f"verify {run}").exit_code == 0
    before = (run / "rows.jsonl").read_bytes()
    again = call(f"{SWEEP} 1..2 --json --quiet")
    assert [row["errors"] for row in json.loads(again.output)["rows"]] == [1.0, 0.0, 1.0, 0.0]
    assert (run / "rows.jsonl").read_bytes() == before
    # A part of the solves, then the rest.
    part = call(f"{SWEEP} 1..2 --name parts --shard 2/3")
    assert part.exit_code == 0, part.output
    assert "Shard 2/3: 1 rows" in part.output
    assert call(f"{SWEEP} 1..2 --name parts").exit_code == 0
    lines = [path.read_text().count("\n") for path in sorted((run.parent / "parts").glob("rows*.jsonl"))]
    assert lines == [1, 3]
    assert isinstance(call(f"{SWEEP} 1..3").exception, FolderError)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("exact --target class", "FILE: got nothing"),
        ("exact tables/xor.csv --sweep tables --target class", "file"),
        (f"{SWEEP} 2;2", "widths"),
        (f"{SWEEP} 0", "widths"),
        (f"{SWEEP} 2 --save m.npz", "save"),
        (f"{SWEEP} 2 --shard 4/3", "shard"),
        (f"{SWEEP} 2 --executor slurm", "--executor"),
        ("exact --sweep nowhere --target class", "nowhere"),
        ("exact tables/xor.csv --target class --shard 1/2", "shard"),
        ("exact tables/xor.csv --target class --workers 0", "--workers"),
        ("exact tables/xor.csv --target class --workers 2 --solver sweep", "solver"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(call, tmp_path: Path, line: str, words: str):
    error = call(line).exception
    assert isinstance(error, TpsolveError), error
    assert words in str(error)
    assert not (tmp_path / "runs").exists()


def test_tables_of_one_name_are_refused(call, tmp_path: Path):
    (tmp_path / "tables" / "xor.more.csv").write_text(XOR)
    assert "2 tables named xor" in str(call(f"{SWEEP} 1").exception)


@pytest.mark.slow
def test_workers_share_the_proof_of_one_table(call, tmp_path: Path):
    done = call("exact tables/xor.csv --target class --widths 2 --workers 2 --seconds 60 --save proof.npz")
    assert done.exit_code == 0, done.output
    assert "optimal" in done.output
    assert call("verify proof.npz tables/xor.csv").exit_code == 0
