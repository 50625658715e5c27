"""Comparisons on Ray, Dask and submitit, with two cores of this machine, whose processes die."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.mortal import VARIABLE, Mortal

from tpsolve import SOLVERS
from tpsolve.compare import SUITES, Comparison, run_comparison
from tpsolve.compare.running._dask_executor import DaskExecutor
from tpsolve.compare.running._ray_executor import RayExecutor
from tpsolve.compare.running._submitit_executor import SubmititExecutor
from tpsolve.errors import MissingLibraryError
from tpsolve.problems import make_instance

MEASURED = {"seconds", "load", "time", "found_at", "proved_at", "trace"}


@contextmanager
def on_ray(folder: Path) -> Iterator[Executor]:
    ray = pytest.importorskip("ray")
    # Ray's workers stand back behind all other processes, and would wait for hours on a busy machine.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    try:
        executor = RayExecutor(cores=2)
        assert executor.cores == 2
        yield executor
    finally:
        ray.shutdown()


@contextmanager
def on_dask(folder: Path) -> Iterator[Executor]:
    pytest.importorskip("distributed")
    import dask  # pyright: ignore[reportMissingImports]

    # Each death costs the start of a worker, so that Dask itself tries again once, not thrice.
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), DaskExecutor(cores=2) as executor:
        assert executor.cores == 2
        yield executor


@contextmanager
def on_submitit(folder: Path) -> Iterator[Executor]:
    pytest.importorskip("submitit")
    with SubmititExecutor(folder / "jobs") as executor:
        yield executor


@pytest.mark.parametrize(
    ("library", "make", "extra"),
    [
        ("ray", RayExecutor, "ray"),
        ("distributed", DaskExecutor, "dask"),
        ("submitit", lambda: SubmititExecutor(Path("jobs")), "submitit"),
    ],
)
def test_without_the_library_it_is_said_how_to_install_it(
    library: str, make: Callable[[], Executor], extra: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match=rf"pip install 'tpsolve\[{extra}\]'"):
        make()


@pytest.mark.slow
# The libraries themselves leave files open, and say that settings will change.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cluster", [on_ray, on_dask, on_submitit])
def test_task_whose_process_dies_runs_again_and_no_row_is_there_twice(
    cluster: Callable[[Path], AbstractContextManager[Executor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(SOLVERS, "mortal", Mortal)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    # Jobs of submitit begin as new processes, which must find `support` too.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]))
    monkeypatch.setitem(SUITES, "one", lambda samples, seed: [make_instance("planted", n=12, m=4, samples=samples)])
    solvers = ("keep", "anneal", "mortal:deaths=1", "mortal:deaths=9")
    comparison = Comparison(tmp_path / "run", "one", solvers, samples=2, steps=20, seeds=(0, 1))
    with cluster(tmp_path) as executor:
        # Dask counts each death against all tasks that the worker has.
        rows = run_comparison(comparison, executor=executor, workers=1 if cluster is on_dask else 2)
    assert [(row["solver"], row["seed"], "error" in row) for row in rows] == [
        ("keep", 0, False),
        ("anneal", 0, False),
        ("anneal", 1, False),
        ("mortal:deaths=1", 0, False),
        ("mortal:deaths=9", 0, True),
    ]
    # Dask itself begins them again besides, also what ended on a worker that dies before it has told so.
    possible = range(2, 5) if cluster is on_dask else (2,)
    for name in ("1-12", "9-12"):
        assert (tmp_path / name).read_text().count("begun\n") in possible
    assert len((comparison.folder / "rows.jsonl").read_text().splitlines()) == 5
    alone = run_comparison(replace(comparison, folder=tmp_path / "alone", solvers=solvers[:2]))
    for row, other in zip(rows[:3], alone, strict=True):
        assert json.dumps({k: v for k, v in row.items() if k not in MEASURED}) == json.dumps(
            {k: v for k, v in other.items() if k not in MEASURED}
        )
