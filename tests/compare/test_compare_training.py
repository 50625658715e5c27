"""Strategies trained alike: rows that survive, failures with their reason, figures worked out by hand."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread
from rich.console import Console
from typer.testing import CliRunner

from tpsolve import cli
from tpsolve.cli.compare._compare_training import NARROW
from tpsolve.compare import STRATEGIES, Strategy, run_training
from tpsolve.compare import _training_runs as training
from tpsolve.compare._run_folder import delete_comparison
from tpsolve.compare._training_runs import delete_training
from tpsolve.compare.report._training_report import failures, save_training_plot, summarise_training, training_table

pytestmark = pytest.mark.rounding

SOFT = {"soft-hinge": STRATEGIES["soft-hinge"]}


def row(strategy: str, seed: int, seconds: list[float], test: list[float], **rest: Any) -> dict[str, Any]:
    curves = {"seconds": seconds, "test_accuracy": test, "train_accuracy": [1 - v / 2 for v in test], "loss": seconds}
    return {"strategy": strategy, "settings": {}, "seed": seed, "epochs": len(seconds), **curves, **rest}


def test_closed_form_and_sign_gradient_train_the_same_network(tmp_path: Path):
    both = {"closed form": Strategy(), "by search": Strategy(solver="sign-gradient", importance="gradient")}
    first, second = run_training(tmp_path, seeds=(3,), epochs=1, strategies=both)
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-4)
    assert first["test_accuracy"] == pytest.approx(second["test_accuracy"], abs=0.01)
    assert first["test_accuracy"][0] > 0.6, "ten classes"


def test_second_call_trains_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = run_training(tmp_path, seeds=(0,), epochs=1, strategies=SOFT)
    assert [len(rows[0][name]) for name in ("seconds", "loss", "train_accuracy", "test_accuracy")] == [1] * 4
    trained: list[int] = []
    monkeypatch.setattr(training, "_train", lambda strategy, seed, epochs, stop: trained.append(seed) or {"error": "x"})
    assert run_training(tmp_path, seeds=(0, 1), epochs=1, strategies=SOFT) == [
        *rows,
        {**{key: rows[0][key] for key in ("strategy", "settings", "epochs")}, "seed": 1, "error": "x"},
    ]
    assert trained == [1]
    assert len(run_training(tmp_path, seeds=(0,), epochs=2, strategies=SOFT)) == 1
    assert trained == [1, 0], "other epochs are other runs"


def test_stop_drops_the_run_under_way(tmp_path: Path):
    asked: list[int] = []

    def stop() -> bool:
        asked.append(0)
        return len(asked) > 30  # the second run of 22 steps is under way

    rows = run_training(tmp_path, seeds=(0, 1), epochs=1, strategies=SOFT, stop=stop)
    assert [r["seed"] for r in rows] == [0]


def test_runs_that_fail_are_rows_with_their_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    outputs, labels = torch.zeros(2, 10), torch.zeros(2, dtype=torch.int64)
    # Infinite from the second step on.
    steps = [(torch.tensor(value), outputs, labels) for value in (1.0, math.inf)]
    loop = training.ftprop_mb
    monkeypatch.setattr(training, "ftprop_mb", lambda *a, **k: loop(*a, **k) if k["solver"] else iter(steps))
    broken = {"diverges": Strategy(), "no such solver": Strategy(solver="climb")}
    rows = run_training(tmp_path, seeds=(0,), epochs=2, strategies=broken)
    assert rows[0]["error"].startswith("diverged: loss inf in epoch 1")
    assert rows[1]["error"].startswith("UnknownNameError: ")
    assert run_training(tmp_path, seeds=(0,), epochs=2, strategies=broken) == rows
    assert [line.partition(":")[0] for line in failures(rows)] == ["diverges, seed 0", "no such solver, seed 0"]
    console = Console(width=80, file=io.StringIO())
    console.print(training_table(rows))
    assert isinstance(console.file, io.StringIO)
    assert "2 runs failed" in console.file.getvalue()
    assert "nan" not in console.file.getvalue()


def test_figures_of_rows_worked_out_by_hand(tmp_path: Path):
    rows = [
        row("rule", 0, [1.0, 2.0], [0.5, 0.8]),
        row("rule", 1, [1.0, 4.0], [0.5, 0.6]),
        row("search", 0, [2.5, 9.0], [0.7, 0.9], fallbacks=3),
        {"strategy": "search", "settings": {}, "seed": 1, "epochs": 2, "error": "diverged"},
    ]
    rule, search = summarise_training(rows)
    assert (rule.test, rule.train, rule.runs, rule.failures) == pytest.approx((0.7, 0.65, 2, 0))
    assert rule.spread == pytest.approx(math.sqrt(0.02))
    # The fastest strategy takes 3 s, the median of 2 and 4.
    assert rule.equal_seconds == pytest.approx((0.8 + 0.5) / 2)
    assert (search.equal_seconds, search.cost) == pytest.approx((0.7, 3.0))
    assert (search.runs, search.failures, search.fallbacks) == (1, 1, 3)
    save_training_plot(rows, tmp_path)
    assert imread(tmp_path / "accuracy.png").shape[2] == 4


@pytest.mark.slow
def test_command_runs_both_regimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    words = ["compare", "--training", "--seconds", "0.01", "--seeds", "1", "--epochs", "1"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    for name in ("column-search", "soft-hinge", "hill-climb"):
        assert name in result.output
    folder = tmp_path / "runs" / "training"
    assert (folder / "narrow" / "report.html").exists()
    assert (folder / "wide" / "accuracy.png").exists()
    before = (folder / "wide" / "rows.jsonl").read_text()
    answer = CliRunner().invoke(cli.app, [*words, "--csv"])
    assert answer.exit_code == 0
    lines = list(csv.DictReader(answer.stdout.splitlines()))
    assert {line["solver"] for line in lines if line["networks"] == "narrow"} == set(NARROW)
    assert {line["strategy"] for line in lines if line["networks"] == "wide"} == set(STRATEGIES)
    assert all(bool(line["left"]) is (line["networks"] == "narrow") for line in lines)
    assert all(0 <= float(line["test"]) <= 1 for line in lines if line["networks"] == "wide")
    assert (folder / "wide" / "rows.jsonl").read_text() == before
    (folder / "wide" / "thesis.txt").write_text("years of work")
    delete_training(folder / "wide")
    delete_comparison(folder / "narrow")
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*")] == ["wide", "wide/thesis.txt"]


@pytest.mark.parametrize(
    "extra", ["--suite networks", "--solver keep", "--samples 4", "--suite-seed 0", "--device cpu"]
)
def test_command_refuses_what_training_fixes(extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["compare", "--training", *extra.split()])
    option = extra.split()[0]
    assert f"expected no {option} with --training, whose instances and solvers are fixed" in str(result.exception)
    assert not (tmp_path / "runs").exists()
