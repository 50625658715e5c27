"""Comparisons on a Ray cluster of two cores, whose processes die."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.mortal import VARIABLE, Mortal

from tpsolve import SOLVERS
from tpsolve.compare import SUITES, Comparison, run_comparison
from tpsolve.compare.running._ray_executor import RayExecutor
from tpsolve.errors import MissingLibraryError
from tpsolve.problems import make_instance

MEASURED = {"seconds", "load", "time", "found_at", "proved_at", "trace"}


def test_without_ray_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'tpsolve\[ray\]'"):
        RayExecutor()


@pytest.mark.slow
# Ray itself leaves files open, and says that settings will change.
@pytest.mark.filterwarnings("ignore")
def test_task_whose_process_dies_runs_again_and_no_row_is_there_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setitem(SOLVERS, "mortal", Mortal)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setitem(SUITES, "one", lambda samples, seed: [make_instance("planted", n=12, m=4, samples=samples)])
    solvers = ("keep", "anneal", "mortal:deaths=1", "mortal:deaths=9")
    comparison = Comparison(tmp_path / "run", "one", solvers, samples=2, steps=20, seeds=(0, 1))
    try:
        executor = RayExecutor(cores=2)
        assert executor.cores == 2
        rows = run_comparison(comparison, executor=executor, workers=executor.cores)
    finally:
        ray.shutdown()
    assert [(row["solver"], row["seed"], "error" in row) for row in rows] == [
        ("keep", 0, False),
        ("anneal", 0, False),
        ("anneal", 1, False),
        ("mortal:deaths=1", 0, False),
        ("mortal:deaths=9", 0, True),
    ]
    assert (tmp_path / "1-12").read_text() == (tmp_path / "9-12").read_text() == "begun\n" * 2
    assert len((comparison.folder / "rows.jsonl").read_text().splitlines()) == 5
    alone = run_comparison(replace(comparison, folder=tmp_path / "alone", solvers=solvers[:2]))
    for row, other in zip(rows[:3], alone, strict=True):
        assert json.dumps({k: v for k, v in row.items() if k not in MEASURED}) == json.dumps(
            {k: v for k, v in other.items() if k not in MEASURED}
        )
