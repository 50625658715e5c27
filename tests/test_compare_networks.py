"""Comparisons of network problems: the tables, and rows of problems without a batch."""

import csv
import io
import lzma
import math
import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tpsolve import cli, load_problem
from tpsolve.compare import SUITES, Comparison, run_comparison, summarise, write_report
from tpsolve.compare.networks import checkerboard, monks, parity, random_points
from tpsolve.problems import NetworkProblem

DATA = os.environ.get("TPSOLVE_DATA")


def test_monks_have_as_many_robots_of_each_class_as_the_original():
    counts = {number: int(monks(number)[1].sum()) for number in (1, 2, 3)}
    assert counts == {1: 216, 2: 142, 3: 228}
    for number in (1, 2, 3):
        inputs, _ = monks(number)
        assert inputs.shape == (432, 17)
        assert len(inputs.unique(dim=0)) == 432
        assert (inputs.sum(1) == 6).all(), "one value of each of six attributes"


@pytest.mark.skipif(DATA is None, reason="TPSOLVE_DATA is not set")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_monks_are_the_original_test_sets(number: int):
    folder = Path(str(DATA)) / "tabular"
    plain, packed = folder / f"monks{number}.csv", folder / f"monks{number}.csv.xz"
    if not plain.exists() and not packed.exists():
        pytest.skip(f"no monks{number} in {folder}")
    text = plain.read_text() if plain.exists() else lzma.decompress(packed.read_bytes()).decode()
    header, *rows = csv.reader(io.StringIO(text))
    label, split = header.index("target"), header.index("split")
    attributes = [i for i in range(len(header)) if i not in (label, split)]
    ours = {tuple(x.nonzero()[:, 0].tolist()): int(y) for x, y in zip(*monks(number), strict=True)}
    starts = (0, 3, 6, 8, 11, 15)
    test = [row for row in rows if row[split] == "test"]
    assert len(test) == 432
    for row in test:
        robot = tuple(start + int(row[i]) - 1 for start, i in zip(starts, attributes, strict=True))
        assert ours[robot] == int(row[label]), row


def test_generated_tables():
    inputs, labels = parity(3)
    assert labels.tolist() == [sum(v > 0 for v in row) % 2 for row in inputs.tolist()]
    inputs, labels = checkerboard(2)
    assert {(*x, y) for x, y in zip(inputs.int().tolist(), labels.tolist(), strict=True) for x in [tuple(x)]} == {
        (0, 0, 0),
        (0, 1, 1),
        (1, 0, 1),
        (1, 1, 0),
    }
    inputs, labels = random_points(3, 50, 7)
    assert inputs.shape == (50, 3)
    assert inputs.abs().max() <= 1
    assert torch.equal((inputs * 100).round() / 100, inputs)
    assert set(labels.tolist()) == {0, 1}
    assert torch.equal(random_points(3, 50, 7)[0], inputs)
    assert not torch.equal(random_points(3, 50, 8)[0], inputs)


def test_rows_of_networks_hold_what_the_problem_says(tmp_path: Path):
    comparison = Comparison(tmp_path / "run", "networks", ("column-search",), samples=1, seconds=0.05, seeds=(0,))
    rows = run_comparison(comparison)
    names = [instance.name for instance in SUITES["networks"](1, 0)]
    # ColumnSearch takes neither three classes nor two hidden layers.
    assert [row["instance"] for row in rows] == [name for name in names if name not in ("iris/3", "parity-4/3-2")]
    for row in rows:
        assert "error" not in row
        problem = load_problem(tmp_path / "run" / "instances" / f"{names.index(row['instance']):02d}.npz")
        assert isinstance(problem, NetworkProblem)
        assert row["fingerprint"] == problem.fingerprint
        assert row["network"] == "-".join(map(str, (problem.inputs.shape[1], *problem.widths, 1)))
        assert row["n_vars"] == len(problem.inputs) * sum(problem.layers)
        labels = problem.index.bincount()
        assert row["start"] == [float(labels.min())], "the class that serves best alone"
        assert len(row["objective"]) == len(row["bound"]) == len(row["status"]) == len(row["found_at"]) == 1
        assert 0 <= row["objective"][0] <= row["start"][0]
        assert row["trace"], "an anytime curve"
    # Two units solve XOR without errors, and no errors is a bound that needs no search.
    assert rows[0]["status"] == ["optimal"]
    assert rows[0]["objective"] == [0.0]
    (summary,) = summarise(rows)
    assert summary.samples == len(rows)
    assert not math.isnan(summary.gap)
    page = write_report(comparison, rows).read_text()
    assert "80 points, network 2-2-1" in page


def test_command_prints_a_table_of_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    words = ["compare", "--suite", "networks", "--solver", "column-search", "--seeds", "1"]
    words += ["--seconds", "0.02", "--samples", "1"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert "7 instances" in result.output
    assert (tmp_path / "runs" / "networks" / "report.html").exists()
