"""Comparisons of network problems: the tables, and rows of problems without a batch."""

import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tpsolve import cli, load_problem
from tpsolve.compare import SUITES, Comparison, run_comparison, summarise, write_report
from tpsolve.problems import NetworkProblem


@pytest.mark.slow
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
    assert not math.isnan(summary.left)
    page = write_report(comparison, rows).read_text()
    assert "80 points, network 2-2-1" in page


@pytest.mark.slow
def test_command_prints_a_table_of_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_plots: None):
    monkeypatch.chdir(tmp_path)
    words = ["compare", "--suite", "networks", "--solver", "column-search", "--seeds", "1"]
    words += ["--seconds", "0.02", "--samples", "1"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert "7 instances" in result.output
    assert (tmp_path / "runs" / "networks" / "report.html").exists()
