"""Comparisons of program problems: the instances, their rows, and a run that goes on."""

import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tpsolve import Budget, ProgramProblem, cli, solve
from tpsolve.compare import SUITES, Comparison, run_comparison, summarise, write_report

SOLVERS = ("k-best", "tabu", "enumerate")


def test_instances_follow_from_the_seed_and_are_reachable():
    first, again, other = (SUITES["programs"](3, seed) for seed in (0, 0, 1))
    assert [i.problem.fingerprint for i in first] == [i.problem.fingerprint for i in again]
    assert all(a.problem.fingerprint != b.problem.fingerprint for a, b in zip(first, other, strict=True))
    for instance in first:
        problem = instance.problem
        assert isinstance(problem, ProgramProblem)
        assert problem.batch_shape == (3,)
        result = solve(problem, "k-best", budget=Budget(calls=500))
        assert torch.isfinite(result.objective).all()


def test_the_network_reads_about_half_of_the_digits():
    (sums,) = (i for i in SUITES["programs"](500, 0) if i.name == "programs/sum-2")
    problem = sums.problem
    assert isinstance(problem, ProgramProblem)
    right = problem.consistent(problem.present)
    answers = [a == b for a, b in zip(problem.answers(problem.present), problem.labels, strict=True)]
    assert right.all(), "a graded loss is never infinite"
    assert 0.25 < sum(answers) / 500 < 0.6


@pytest.mark.slow
def test_rows_of_programs_hold_what_the_problem_says_and_are_kept(tmp_path: Path):
    comparison = Comparison(tmp_path / "run", "programs", SOLVERS, samples=2, seconds=0.2, seeds=(0,))
    rows = run_comparison(comparison)
    instances = {instance.name: instance.problem for instance in SUITES["programs"](2, 0)}
    assert {(row["instance"], row["solver"]) for row in rows} == {(n, s) for n in instances for s in SOLVERS}
    for row in rows:
        assert "error" not in row
        problem = instances[row["instance"]]
        assert row["fingerprint"] == problem.fingerprint
        assert row["n_vars"] == problem.n_vars
        assert len(row["objective"]) == 2
        assert all(0 <= v <= s + 1e-9 for v, s in zip(row["objective"], row["start"], strict=True))
        if row["solver"] == "enumerate" and row["assignments"] <= 1000:
            assert row["status"] == ["optimal"] * 2
    best = {r["instance"]: r["objective"] for r in rows if r["solver"] == "enumerate" and r["assignments"] <= 1000}
    for row in rows:
        if row["instance"] in best:
            assert all(v >= b - 1e-9 for v, b in zip(row["objective"], best[row["instance"]], strict=True))
    assert not any(math.isnan(summary.left) for summary in summarise(rows))
    page = write_report(comparison, rows).read_text()
    assert "4 symbols, at most 10,000 assignments" in page
    assert "00.npz" not in page, "programs are not saved"
    called: list[str] = []
    assert run_comparison(comparison, progress=lambda done, total, now: called.append(now)) == rows
    assert called == [""], "nothing is solved again"


@pytest.mark.slow
def test_command_prints_a_table_of_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_plots: None):
    monkeypatch.chdir(tmp_path)
    words = ["compare", "--suite", "programs", "--solver", "k-best", "--seconds", "0.02", "--samples", "1"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert "8 instances" in result.output
    assert (tmp_path / "runs" / "programs" / "report.html").exists()
