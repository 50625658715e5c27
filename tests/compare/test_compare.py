"""Comparisons: rows on disk that survive anything, figures recomputed the slow way, and what is drawn from them."""

import csv
import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import random
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from rich.console import Console
from support.pages import Page
from support.zoo import LAYER_SOLVERS

from tpsolve import SOLVERS, Budget, LayerProblem, load_problem, solve
from tpsolve.compare import SUITES, Comparison, run_comparison, summarise, write_report
from tpsolve.compare._run_folder import delete_comparison
from tpsolve.compare._summary import Findings, advice, as_csv, wins
from tpsolve.compare.report._plots import COLOURS, LINES, _style
from tpsolve.compare.report._report import as_table, caption
from tpsolve.compare.running import _instances, _tasks
from tpsolve.compare.running._check_rows import check_rows
from tpsolve.errors import (
    ArgumentError,
    ContradictionError,
    DeviceError,
    FileFormatError,
    FolderError,
    MissingLibraryError,
    TooLargeError,
    UnknownNameError,
)
from tpsolve.problems import Instance, Problem, make_instance
from tpsolve.search import Report, Solver, find_solver

Row = dict[str, Any]

FIELDS = {
    "instance": str,
    "solver": str,
    "settings": dict,
    "exact": bool,
    "seed": int,
    "budget": dict,
    "loss": str,
    "n_vars": int,
    "n_units": int,
    "start": list,
    "fingerprint": str,
    "device": str,
    "host": str,
    "processor": str,
    "load": float,
    "threads": int,
    "versions": dict,
    "time": str,
}
"""What every row tells, failures included."""
OUTCOME = {
    "objective": list,
    "bound": list,
    "tolerance": list,
    "status": list,
    "flips": list,
    "seconds": float,
    "steps": int,
    "found_at": list,
    "proved_at": list,
    "notes": dict,
    "trace": list,
}
"""What a row tells of a solve that ended."""
SAMPLES, SECONDS = 2, 0.02


def key(row: Row) -> tuple[str, str, int]:
    return row["instance"], row["solver"], row["seed"]


def read(folder: Path) -> list[Row]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def never(*_: object, **__: object) -> None:
    pytest.fail("nothing was left to solve")


# --- a whole run, made once -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A finished comparison of every solver, with its report; not to be changed."""
    comparison = Comparison(
        tmp_path_factory.mktemp("runs") / "tiny", "generated-12", samples=SAMPLES, seconds=SECONDS, seeds=(0, 1)
    )
    run_comparison(comparison)
    write_report(comparison, comparison.log.read())
    return comparison


@pytest.fixture
def copied(finished: Comparison, tmp_path: Path) -> Comparison:
    """The same comparison in a folder of its own, to be changed at will."""
    shutil.copytree(finished.folder, tmp_path / "tiny")
    return dataclasses.replace(finished, folder=tmp_path / "tiny")


def saved_instances(comparison: Comparison) -> dict[str, LayerProblem]:
    folder = comparison.folder / "instances"
    names = [entry["name"] for entry in json.loads((folder / "index.json").read_text())]
    return {name: load_problem(folder / f"{i:02d}.npz") for i, name in enumerate(names)}


@pytest.mark.slow
def test_there_is_one_row_for_each_instance_solver_that_accepts_it_and_seed(finished: Comparison):
    expected = []
    for name, problem in saved_instances(finished).items():
        for kind in (kind for kind in SOLVERS.values() if kind.compared):
            try:
                kind().check(problem)
            except ArgumentError:
                continue
            expected += [(name, kind.name, seed) for seed in ((0, 1) if kind.stochastic else (0,))]
    keys = [key(row) for row in finished.log.read()]
    assert len(keys) == len(set(keys))
    assert set(keys) == set(expected)
    assert len(keys) >= 7 * 7


@pytest.mark.slow
def test_every_row_has_the_documented_fields_and_plain_json(finished: Comparison):
    for row in read(finished.folder):
        assert "error" not in row, row
        assert {name: type(row[name]) for name in row} == FIELDS | OUTCOME
        for name in ("objective", "bound", "status", "flips", "found_at", "proved_at", "start"):
            assert len(row[name]) == SAMPLES
        assert row["budget"] == {"seconds": pytest.approx(SECONDS * SAMPLES), "steps": None}
        assert row["versions"].keys() >= {"tpsolve", "torch", "ortools", "scipy", "numpy"}
        assert row["versions"]["torch"] == metadata.version("torch")
        assert row["device"].startswith("cpu")
        assert row["settings"] == json.loads(json.dumps(dataclasses.asdict(find_solver(row["solver"]))))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", row["time"])
        assert all(len(point) == 3 for point in row["trace"])


def test_rows_agree_with_the_problems_they_are_about(finished: Comparison):
    problems = saved_instances(finished)
    for row in finished.log.read():
        problem = problems[row["instance"]]
        assert row["fingerprint"] == problem.fingerprint
        assert (row["loss"], row["n_vars"], row["n_units"]) == (problem.loss, problem.n_vars, problem.n_units)
        assert problem.start is not None
        assert row["start"] == problem.objective(problem.start).tolist()
        assert row["exact"] == SOLVERS[row["solver"]].exact
        if row["solver"] == "keep":
            assert row["objective"] == row["start"]
            assert row["flips"] == [0.0] * SAMPLES


def test_claims_of_the_rows_hold_against_the_enumerated_optimum(finished: Comparison):
    # Not from the enumeration of the comparison: that one may have run out of time.
    optima = {
        name: solve(problem, "enumerate", budget=Budget(seconds=60)).objective.tolist()
        for name, problem in saved_instances(finished).items()
    }
    for row in finished.log.read():
        columns = (row[name] for name in ("objective", "bound", "status", "proved_at", "tolerance"))
        for value, bound, status, proved_at, tolerance, best in zip(*columns, optima[row["instance"]], strict=True):
            slack = 1e-9 * max(1.0, abs(best))
            assert value >= best - slack
            assert bound is None or bound <= best + slack
            closed = bound is not None and value - bound <= tolerance
            assert not closed or value <= best + slack, "the tolerance hides no better targets"
            assert status == ("optimal" if closed else "feasible")
            assert (proved_at is not None) == closed
        assert row["seconds"] > 0
        assert all(0 <= share <= 1 for share in row["flips"])
        assert all(at is not None and 0 <= at <= row["seconds"] for at in row["found_at"])


def test_second_call_solves_nothing_and_leaves_the_rows_byte_for_byte(
    copied: Comparison, monkeypatch: pytest.MonkeyPatch
):
    path = copied.folder / "rows.jsonl"
    before, rows = path.read_bytes(), copied.log.read()
    monkeypatch.setattr("tpsolve.compare.running._tasks.solve_any", never)
    calls: list[tuple[int, int, str]] = []
    again = run_comparison(copied, progress=lambda *call: calls.append(call))
    assert path.read_bytes() == before
    assert sorted(again, key=key) == sorted(rows, key=key)
    assert calls == [(len(rows), len(rows), "")]


def test_further_seeds_add_rows_and_solve_nothing_twice(copied: Comparison):
    path = copied.folder / "rows.jsonl"
    before = path.read_bytes()
    wider = dataclasses.replace(copied, solvers=("keep", "random"), seeds=(0, 1, 2))
    rows = run_comparison(wider)
    assert path.read_bytes().startswith(before)
    added = read(copied.folder)[before.count(b"\n") :]
    assert sorted(key(row) for row in added) == sorted((name, "random", 2) for name in saved_instances(copied))
    assert {row["solver"] for row in rows} == {"keep", "random"}


# --- small runs -------------------------------------------------------------------------------------------------------


def mixed_suite(samples: int, seed: int) -> list[Instance]:
    """One instance that all accept, one too large to enumerate, one without activations."""
    small = make_instance("random", n=5, m=4, samples=samples, seed=seed)
    large = make_instance("random", n=26, m=4, samples=samples, seed=seed)
    bare = LayerProblem(small.problem.weight, small.problem.targets)
    return [Instance("small", small.problem), Instance("large", large.problem), Instance("bare", bare)]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """A comparison of the quickest solvers on `mixed_suite`, not yet run."""
    monkeypatch.setitem(SUITES, "mixed", mixed_suite)
    return Comparison(
        tmp_path / "small", "mixed", ("keep", "random", "enumerate"), samples=1, seconds=0.05, seeds=(0, 1)
    )


SMALL_KEYS = [
    ("small", "keep", 0),
    ("small", "random", 0),
    ("small", "random", 1),
    ("small", "enumerate", 0),
    ("large", "keep", 0),
    ("large", "random", 0),
    ("large", "random", 1),
    ("bare", "random", 0),
    ("bare", "random", 1),
    ("bare", "enumerate", 0),
]


def test_solver_that_refuses_an_instance_has_no_row_of_it(small: Comparison):
    assert [key(row) for row in run_comparison(small)] == SMALL_KEYS
    assert [key(row) for row in read(small.folder)] == SMALL_KEYS
    bare = [row for row in read(small.folder) if row["instance"] == "bare"]
    assert [row["start"] for row in bare] == [None] * 3
    assert [row["flips"] for row in bare] == [None] * 3


@pytest.mark.parametrize("solvers", [("keep", "keep"), ("hill-climb", "hill-climb:restarts=0")])
def test_solver_named_twice_has_its_rows_once(small: Comparison, solvers: tuple[str, ...]):
    once = dataclasses.replace(small, solvers=solvers)
    rows = run_comparison(once)
    assert len({key(row) for row in rows}) == len(rows)
    assert len(read(small.folder)) == len(rows)


def test_seed_given_twice_has_its_rows_once(small: Comparison):
    run_comparison(dataclasses.replace(small, solvers=("random",), seeds=(4, 4)))
    assert [key(row) for row in read(small.folder)] == [(name, "random", 4) for name in ("small", "large", "bare")]


def test_settings_name_a_solver_of_its_own(small: Comparison):
    texts = ("random", "random:draws=3")
    run_comparison(dataclasses.replace(small, solvers=texts, seeds=(0,)))
    rows = read(small.folder)
    assert [(row["solver"], row["settings"]) for row in rows[:2]] == [
        ("random", {"draws": 1}),
        ("random:draws=3", {"draws": 3}),
    ]
    assert rows[1]["steps"] == 3


def test_equal_seeds_and_instances_give_equal_objectives_in_another_folder(small: Comparison, tmp_path: Path):
    first = run_comparison(small)
    second = run_comparison(dataclasses.replace(small, folder=tmp_path / "other"))
    assert [(key(row), row["objective"]) for row in first] == [(key(row), row["objective"]) for row in second]
    third = run_comparison(dataclasses.replace(small, folder=tmp_path / "third", suite_seed=1))
    assert {row["fingerprint"] for row in third}.isdisjoint({row["fingerprint"] for row in first})


def test_each_row_is_the_solve_of_its_seed(small: Comparison):
    seeds = (0, 1, 2, 3)
    rows = run_comparison(dataclasses.replace(small, solvers=("random",), seeds=seeds))
    problem = saved_instances(small)["large"]
    found = {row["seed"]: row["objective"] for row in rows if row["instance"] == "large"}
    expected = {
        seed: solve(problem, "random", budget=Budget(steps=1), generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    }
    assert found == {seed: result.objective.tolist() for seed, result in expected.items()}
    assert len({tuple(objective) for objective in found.values()}) > 1


@pytest.mark.parametrize("samples", [1, 4])
def test_solver_of_a_seed_does_not_draw_the_numbers_that_made_the_instance_of_that_seed(samples: int):
    # Each sample has 2^32 targets of which one costs nothing: no 200 draws find it, unless they are those of its maker.
    seeds = range(4)
    for seed in seeds:
        suite = {instance.name: instance.problem for instance in SUITES["generated-32"](samples, seed)}
        generator = torch.Generator().manual_seed(seed)
        result = solve(suite["dont-care"], "random:draws=200", budget=Budget(steps=200), generator=generator)
        assert (result.objective > 0).all(), f"seed {seed}"


def test_stop_keeps_finished_rows_and_drops_the_solve_under_way(small: Comparison):
    # Asked first when the fourth solve has begun.
    finished_rows: list[int] = []
    rows = run_comparison(
        small,
        progress=lambda done, total, now: finished_rows.append(done),
        stop=lambda: len(finished_rows) > 3,
    )
    assert [key(row) for row in rows] == SMALL_KEYS[:3]
    assert [key(row) for row in read(small.folder)] == SMALL_KEYS[:3]
    before = (small.folder / "rows.jsonl").read_bytes()
    assert [key(row) for row in run_comparison(small)] == SMALL_KEYS
    assert (small.folder / "rows.jsonl").read_bytes().startswith(before)


def test_progress_counts_rows_and_says_what_is_solved_now(small: Comparison):
    calls: list[tuple[int, int, str]] = []
    run_comparison(small, progress=lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == list(range(11))
    assert {total for _, total, _ in calls} == {10}
    assert calls[3][2] == "enumerate on small"
    assert calls[-1][2] == ""


@pytest.mark.parametrize("cut", [1, 20, 300])
def test_torn_last_line_is_dropped_and_redone(small: Comparison, cut: int):
    run_comparison(small)
    path = small.folder / "rows.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert [key(row) for row in run_comparison(small)] == SMALL_KEYS
    lines, before = path.read_bytes().splitlines(keepends=True), whole.splitlines(keepends=True)
    assert lines[:-1] == before[:-1]
    assert len(lines) == len(before)
    assert json.loads(lines[-1])["objective"] == json.loads(before[-1])["objective"]


@pytest.mark.parametrize(
    "damage", [b"not json", b'{"instance": "small", "sol', b"[1, 2]", b"", b"\xff\xfe", b"{}"], ids=repr
)
def test_damaged_middle_line_is_an_error_that_names_file_and_line(small: Comparison, damage: bytes):
    run_comparison(small)
    path = small.folder / "rows.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[4] = damage
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(FileFormatError, match=re.escape(f"{path}:5: ")):
        run_comparison(small)
    assert path.read_bytes() == b"\n".join(lines), "nothing is thrown away"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("comparison.json", b"{"),
        ("comparison.json", b"[]"),
        ("instances/index.json", b'["small", '),
        ("instances/index.json", b"3"),
        ("instances/01.npz", b"PK"),
        ("instances/01.npz", None),
    ],
)
def test_damaged_file_of_the_run_is_an_error_that_names_it(small: Comparison, file: str, content: bytes | None):
    run_comparison(small)
    path = small.folder / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(FileFormatError, match=re.escape(str(path))):
        run_comparison(small)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seconds": 0.06}, "seconds=0.05"),
        ({"samples": 2}, "samples=1"),
        ({"suite_seed": 7}, "suite_seed=0"),
        ({"suite": "generated-12"}, "suite='mixed'"),
    ],
    ids=str,
)
def test_another_comparison_in_the_same_folder_is_refused_naming_what_differs(
    small: Comparison, change: dict[str, Any], named: str
):
    run_comparison(small)
    before = (small.folder / "rows.jsonl").read_bytes()
    with pytest.raises(FolderError) as refused:
        run_comparison(dataclasses.replace(small, **change))
    (found,) = re.findall(r"with (.*?), and not ", str(refused.value))
    assert found == named
    assert str(small.folder) in str(refused.value)
    assert "--fresh" in str(refused.value)
    assert (small.folder / "rows.jsonl").read_bytes() == before


def test_row_of_another_problem_is_not_taken_for_this_one(small: Comparison):
    run_comparison(small)
    instances = small.folder / "instances"
    index = json.loads((instances / "index.json").read_text())
    shutil.copy(instances / "01.npz", instances / "00.npz")
    before = (small.folder / "rows.jsonl").read_bytes()
    with pytest.raises(FileFormatError, match=r"00\.npz: has changed since it was written.*--name.*--fresh"):
        run_comparison(small)
    # An index that says so too, in whole or but for the fingerprint.
    digest = hashlib.sha256((instances / "00.npz").read_bytes()).hexdigest()
    for fingerprint, error, words in (
        (index[1]["fingerprint"], FolderError, r"holds a row of keep on small for another problem .*--name.*--fresh"),
        (index[0]["fingerprint"], FileFormatError, r"00\.npz: another problem than when it was written.*--fresh"),
    ):
        (instances / "index.json").write_text(
            json.dumps([index[0] | {"sha256": digest, "fingerprint": fingerprint}, *index[1:]])
        )
        with pytest.raises(error, match=words):
            run_comparison(dataclasses.replace(small, solvers=("keep", "sign-gradient"), seeds=(0,)))
    assert (small.folder / "rows.jsonl").read_bytes() == before


def test_row_of_another_budget_is_not_taken_for_this_one(small: Comparison):
    run_comparison(small)
    settings = small.folder / "comparison.json"
    settings.write_text(settings.read_text().replace('"seconds": 0.05', '"seconds": 0.5'))
    with pytest.raises(FolderError, match=r"another budget, \{'seconds': 0.05, 'steps': None\}, .*--name.*--fresh"):
        run_comparison(dataclasses.replace(small, seconds=0.5))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threads": 64}, "made with 64 threads, and {} made with"),
        ({"versions": {"torch": "1.0"}}, "made with torch 1.0, and {} made with tpsolve"),
        ({"threads": None}, "made with an unknown number of threads, and {} made with"),
    ],
    ids=str,
)
def test_rows_of_other_versions_or_threads_are_not_mixed(small: Comparison, change: dict[str, Any], words: str):
    run_comparison(small)
    path = small.folder / "rows.jsonl"
    rows = read(small.folder)
    gone = {name for name, value in change.items() if value is None}
    changed = [{name: value for name, value in (row | change).items() if name not in gone} for row in rows]

    def kept(rows: list[dict[str, Any]]) -> bytes:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path.read_bytes()

    kept(changed)
    assert len(run_comparison(small)) == len(SMALL_KEYS), "nothing is added to rows of one kind"
    for mixed in ([*rows[:-1], changed[-1]], [*rows[:-2], changed[-1]]):
        before = kept(mixed)
        with pytest.raises(FolderError, match=re.escape(words.format("others were"))):
            run_comparison(small)
        assert path.read_bytes() == before
    before = kept(changed[:-1])
    with pytest.raises(FolderError, match=re.escape(words.format("this would be"))):
        run_comparison(small)
    assert path.read_bytes() == before


def test_row_that_lacks_what_a_summary_needs_is_an_error_that_names_its_line(small: Comparison):
    run_comparison(small)
    path = small.folder / "rows.jsonl"
    first, *rest = read(small.folder)
    for lacks in ("budget", "exact", "objective"):
        path.write_text("".join(json.dumps(row) + "\n" for row in [*rest, {k: first[k] for k in first if k != lacks}]))
        with pytest.raises(FileFormatError, match=re.escape(f"{path}:{len(rest) + 1}: ")):
            run_comparison(small)


def test_fresh_leaves_no_file_of_the_earlier_comparison(copied: Comparison):
    (copied.folder / "thesis.txt").write_text("years of work")
    run_comparison(copied, fresh=True, stop=lambda: True)
    left = {path.name for path in copied.folder.iterdir()}
    assert left == {"thesis.txt", "comparison.json", "instances"}


def test_fresh_deletes_however_many_instances_there_are(small: Comparison):
    folder = small.folder / "instances"
    folder.mkdir(parents=True)
    (small.folder / "comparison.json").write_text("{}")
    for number in (0, 99, 100, 999, 1000, 123456):
        (folder / f"{number:02d}.npz").touch()
    for name in ("index.json", ".1049.npz.k1ll3d_x"):
        (folder / name).touch()
    (folder / "12-mine.npz").touch()
    delete_comparison(small.folder)
    assert [path.name for path in small.folder.rglob("*")] == ["instances", "12-mine.npz"]


def test_fresh_goes_on_where_a_kill_came_between_deleting_and_beginning_anew(small: Comparison):
    small.folder.mkdir(parents=True)
    for name in ("run.lock", ".comparison.json.k1ll3d_x"):
        (small.folder / name).touch()
    run_comparison(small, fresh=True, stop=lambda: True)
    assert {path.name for path in small.folder.iterdir()} == {"comparison.json", "instances"}


def test_folder_that_cannot_be_made_is_an_error_that_names_it(small: Comparison, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file" / "run", tmp_path / "file"):
        with pytest.raises(FolderError, match=re.escape(str(folder))):
            run_comparison(dataclasses.replace(small, folder=folder))
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"suite": "dijits"}, UnknownNameError),
        ({"solvers": ("enumrate",)}, UnknownNameError),
        ({"samples": 0}, ArgumentError),
        ({"seconds": -1.0}, ArgumentError),
        ({"seconds": math.nan}, ArgumentError),
        ({"seeds": ()}, ArgumentError),
        ({"seeds": 3}, ArgumentError),
        ({"seeds": (-1,)}, ArgumentError),
        ({"suite_seed": "x"}, ArgumentError),
        ({"suite": list}, ArgumentError),
        ({"solvers": "tabu"}, ArgumentError),
        ({"folder": "text"}, ArgumentError),
        ({"device": "toaster"}, DeviceError),
    ],
    ids=str,
)
def test_senseless_comparison_is_refused_before_any_work(tmp_path: Path, change: dict[str, Any], error: type):
    (argument,) = change
    with pytest.raises(error, match=argument.removesuffix("s")):
        Comparison(**{"folder": tmp_path / "run", **change})
    assert list(tmp_path.iterdir()) == []


# --- solvers that fail, and libraries that are missing ----------------------------------------------------------------


@dataclass(frozen=True)
class Broken(Solver):
    """Fails at once."""

    name = "broken"
    accepts = (LayerProblem,)
    one_step = "an error"

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        raise RuntimeError("<b>boom</b>")


@dataclass(frozen=True)
class Liar(Solver):
    """Claims a bound above its own objective."""

    name = "liar"
    accepts = (LayerProblem,)
    one_step = "one lie"

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        report.offer(torch.ones(*problem.batch_shape, problem.n_vars))
        report.prove(report.objective + 1)


@pytest.fixture
def failing(small: Comparison, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    monkeypatch.setitem(SOLVERS, "broken", Broken)
    monkeypatch.setitem(SOLVERS, "liar", Liar)
    return dataclasses.replace(small, solvers=("broken", "liar", "enumerate"))


def test_solver_that_raises_becomes_a_row_with_its_reason(failing: Comparison):
    rows = run_comparison(failing)
    assert [key(row)[:2] for row in rows] == [
        (instance, solver)
        for instance in ("small", "large", "bare")
        for solver in ("broken", "liar", "enumerate")
        if (instance, solver) != ("large", "enumerate")
    ]
    for row in rows:
        if row["solver"] == "enumerate":
            assert "error" not in row
        else:
            assert row.keys() == FIELDS.keys() | {"error"}
    assert {row["error"] for row in rows if row["solver"] == "broken"} == {"RuntimeError: <b>boom</b>"}
    lies = [row["error"] for row in rows if row["solver"] == "liar"]
    assert all(lie.startswith(f"{ContradictionError.__name__}: liar claims the bound") for lie in lies)


@pytest.mark.slow
def test_failures_are_counted_shown_in_the_report_and_not_tried_again(
    failing: Comparison, monkeypatch: pytest.MonkeyPatch
):
    rows = run_comparison(failing)
    by_name = {summary.solver: summary for summary in summarise(rows)}
    assert {name: (s.failures, s.samples) for name, s in by_name.items()} == {
        "broken": (3, 0),
        "liar": (3, 0),
        "enumerate": (0, 2),
    }
    assert "6 of them failed" in caption(Findings(rows))
    page = Page.of(write_report(failing, rows))
    assert "broken, seed 0, on small: RuntimeError: <b>boom</b>" in page.text
    assert "b" not in page.tags, "a message is text, not markup"
    assert advice(Findings(rows)).count("enumerate") == 1
    assert "broken" not in advice(Findings(rows))

    monkeypatch.setattr("tpsolve.compare.running._tasks.solve_any", never)
    assert run_comparison(failing) == rows


@pytest.mark.slow
def test_run_in_which_everything_failed_still_has_a_report(failing: Comparison):
    rows = run_comparison(dataclasses.replace(failing, solvers=("broken",)))
    text = Page.of(write_report(failing, rows)).text
    assert "No solver finished a row" in text
    assert text.count("<b>boom</b>") == 3


@pytest.mark.slow
def test_run_stopped_before_its_first_row_still_has_a_report(small: Comparison):
    rows = run_comparison(small, stop=lambda: True)
    assert rows == []
    assert "No solver finished a row" in Page.of(write_report(small, rows)).text


@pytest.mark.slow
def test_solver_whose_library_is_missing_is_left_out_unless_it_is_asked_for(
    small: Comparison, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(SOLVERS["cp-sat"], "module", "no_such_library")
    rows = run_comparison(dataclasses.replace(small, solvers=(), seeds=(0,)))
    compared = {kind.name for kind in LAYER_SOLVERS if kind.compared}
    assert {row["solver"] for row in rows} == compared - {"cp-sat"}
    with pytest.raises(MissingLibraryError, match="cp-sat needs no_such_library"):
        run_comparison(dataclasses.replace(small, solvers=("cp-sat",)))


@pytest.mark.parametrize("missing", ["ortools", "tpsolve"])
@pytest.mark.slow
def test_library_that_is_not_installed_has_no_version_and_stops_nothing(
    small: Comparison, monkeypatch: pytest.MonkeyPatch, missing: str
):
    # ortools: the other solvers work without it. tpsolve: run from a checkout by `python -m tpsolve`.
    real = metadata.version

    def version(name: str) -> str:
        if name == missing:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    # Asked once a process, and other tests have asked.
    monkeypatch.setattr(_tasks, "versions", _tasks.versions.__wrapped__)
    rows = run_comparison(dataclasses.replace(small, solvers=("keep",)))
    assert [row["solver"] for row in rows] == ["keep", "keep"]
    assert rows[0]["versions"]["torch"] == real("torch")
    assert rows[0]["versions"].get(missing) in (None, "0.1.0")
    write_report(small, rows)


# --- figures, recomputed the slow way ---------------------------------------------------------------------------------


def row(
    solver: str,
    instance: str,
    objective: list[float],
    bound: list[float | None],
    seed: int = 0,
    *,
    exact: bool = False,
    flips: list[float] | None = None,
    seconds: float = 1.0,
    start: list[float] | None = None,
) -> Row:
    """A row as the runner writes it."""
    return {
        "instance": instance,
        "solver": solver,
        "settings": {},
        "exact": exact,
        "seed": seed,
        "budget": {"seconds": 1.0, "steps": None},
        "loss": "hinge",
        "n_vars": 5,
        "n_units": 4,
        "start": [9.0] * len(objective) if start is None else start,
        "fingerprint": instance,
        "device": "cpu, 2 threads, x86_64",
        "versions": {"torch": "2.6"},
        "time": "2026-01-01T00:00:00+00:00",
        "objective": objective,
        "bound": bound,
        "tolerance": [1e-6] * len(objective),
        "status": ["optimal" if v == b else "feasible" for v, b in zip(objective, bound, strict=True)],
        "flips": flips,
        "seconds": seconds,
        "steps": 3,
        "found_at": [seconds / 2] * len(objective),
        "proved_at": [seconds if v == b else None for v, b in zip(objective, bound, strict=True)],
        "notes": {},
        "trace": [[seconds / 2, sum(objective) / len(objective), None]],
    }


def failed(solver: str, instance: str, seed: int = 0, *, exact: bool = False) -> Row:
    good = row(solver, instance, [0.0], [None], seed, exact=exact)
    return {name: value for name, value in good.items() if name not in OUTCOME} | {"error": "RuntimeError: no"}


def synthetic(seed: int) -> list[Row]:
    """Rows of four solvers on three instances, under two seeds, with ties and failures; bounds are true."""
    drawn = random.Random(seed)
    rows = []
    for instance, samples in (("a", 3), ("b", 1), ("c", 2)):
        optimum = [drawn.randint(0, 5) / 2 for _ in range(samples)]
        for solver in ("prover", "climber", "sign-gradient", "slow"):
            for number in (0, 1):
                if drawn.random() < 0.15:
                    rows.append(failed(solver, instance, number, exact=solver == "prover"))
                    continue
                objective = [v + drawn.choice([0, 0, 0.5, 2]) for v in optimum]
                bound: list[float | None] = [
                    drawn.choice([None, v - 1, v]) if solver == "prover" else drawn.choice([None, v - 1])
                    for v in optimum
                ]
                flips = None if instance == "b" else [drawn.randint(0, 5) / 5 for _ in optimum]
                seconds = drawn.random()
                rows.append(
                    row(solver, instance, objective, bound, number, exact=solver == "prover", flips=flips)
                    | {"seconds": seconds}
                )
    return rows


def slow_mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def slow_summary(solver: str, rows: list[Row]) -> dict[str, Any]:
    """One number at a time, sample by sample, over the instances that count."""
    ran: dict[str, set[str]] = {}
    for each in rows:
        if "error" not in each:
            ran.setdefault(each["solver"], set()).add(each["instance"])
    instances = set[str]().union(*ran.values())
    counted = set.intersection(*ran.values())
    counted = instances if len(counted) < len(instances) / 2 else counted
    best: dict[tuple[str, int], float] = {}
    top: dict[tuple[str, int], float] = {}
    for each in rows:
        for i, value in enumerate(each.get("objective", [])):
            sample = each["instance"], i
            best[sample] = min(value, best.get(sample, math.inf))
            bound = each["bound"][i]
            top[sample] = max(-math.inf if bound is None else bound, top.get(sample, -math.inf))
    proved, found, flips, seconds, failures = [], [], [], 0.0, 0
    for each in rows:
        if each["solver"] != solver:
            continue
        if "error" in each:
            failures += 1
            continue
        if each["instance"] not in counted:
            continue
        seconds += each["seconds"]
        for i, value in enumerate(each["objective"]):
            sample, bound = (each["instance"], i), each["bound"][i]
            proved.append(float(bound is not None and bound == value))
            found.append(float(value == best[sample]))
            flips.append(math.nan if each["flips"] is None else each["flips"][i])
    return {
        "solver": solver,
        "exact": solver == "prover",
        "proved": slow_mean(proved),
        "best": slow_mean(found),
        "flips": slow_mean(flips),
        "seconds": seconds / len(found) if found else math.nan,
        "samples": len(found),
        "failures": failures,
    }


@pytest.mark.parametrize("seed", range(8))
def test_summary_equals_the_slow_recomputation(seed: int):
    rows = synthetic(seed)
    found = {summary.solver: summary for summary in summarise(rows)}
    assert found.keys() == {"prover", "climber", "sign-gradient", "slow"}
    for name, summary in found.items():
        expected = slow_summary(name, rows)
        got = {key: value for key, value in dataclasses.asdict(summary).items() if key in expected}
        assert (got.pop("solver"), got.pop("exact")) == (expected.pop("solver"), expected.pop("exact"))
        assert got == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_summary_of_four_rows_worked_out_by_hand():
    rows = [
        row("prover", "a", [1.0, 4.0], [1.0, 2.0], exact=True, flips=[0.2, 0.4], seconds=3.0),
        row("climber", "a", [3.0, 2.0], [0.0, None], 0, flips=[0.6, 0.0], seconds=0.5),
        row("climber", "a", [1.0, 3.0], [0.0, None], 1, flips=[0.2, 0.0], seconds=0.3),
        failed("climber", "a", 2),
    ]
    # Sample 0: best 1, proven by the prover. Sample 1: best 2, by the climber, meets the prover's bound of 2.
    climber, prover = sorted(summarise(rows), key=lambda summary: summary.solver)
    assert (climber.solver, climber.exact, climber.samples, climber.failures) == ("climber", False, 4, 1)
    assert (climber.proved, climber.best) == (0.0, 2 / 4)
    assert (climber.flips, climber.seconds) == pytest.approx((0.8 / 4, 0.8 / 4))
    assert (prover.solver, prover.exact, prover.samples, prover.failures) == ("prover", True, 2, 0)
    assert (prover.proved, prover.best) == (1 / 2, 1 / 2)
    assert (prover.flips, prover.seconds) == pytest.approx((0.3, 1.5))
    assert caption(Findings(rows)) == "1 instance, 2 samples, 2 with a proven optimum; 4 solves, 1 of them failed"


def test_tolerance_of_a_tie_is_the_problem_s_own():
    rows = [row("one", "a", [1e-3, 1e6], [None, None]), row("two", "a", [1.1e-3, 1e6 + 0.1], [None, None])]
    assert {summary.solver: summary.best for summary in summarise(rows)} == {"one": 1.0, "two": 0.0}
    for of in rows:
        of["tolerance"] = [0.0, 0.2]
    assert {summary.solver: summary.best for summary in summarise(rows)} == {"one": 1.0, "two": 0.5}
    for of in rows:
        del of["tolerance"]  # as versions wrote them that had none
    assert {summary.solver: summary.best for summary in summarise(rows)} == {"one": 1.0, "two": 0.0}


def test_what_is_left_least_stands_first_whoever_proved():
    rows = [
        row("near", "a", [2.5], [None], start=[10.0]),
        row("far", "a", [9.0], [None], start=[10.0]),
        row("prover", "a", [6.0], [6.0], exact=True, start=[10.0]),
        failed("broken", "a"),
    ]
    found = summarise(rows)
    assert [summary.solver for summary in found] == ["near", "prover", "far", "broken"]
    assert [summary.left for summary in found[:3]] == pytest.approx([0.0, 3.5 / 7.5, 6.5 / 7.5])


def test_wins_are_the_shares_of_samples_strictly_better():
    rows = [
        row("one", "a", [1.0, 2.5], [None, None]),
        row("two", "a", [2.0, 4.0], [None, None], 0),
        row("two", "a", [2.0, 2.0], [None, None], 1),  # means over seeds: 2 and 3, both worse
        row("one", "b", [4.0, 6.0], [None, None]),
        row("two", "b", [4.0, 5.0], [None, None]),
        row("three", "b", [4.0, 6.0 + 1e-9], [None, None]),
        row("alone", "c", [0.0], [None]),
        failed("broken", "a"),
    ]
    names, table = wins(Findings(rows))
    assert sorted(names) == ["alone", "broken", "one", "three", "two"]

    def share(first: str, second: str) -> float:
        return float(table[names.index(first), names.index(second)])

    assert share("one", "two") == 2 / 4
    assert share("two", "one") == 1 / 4
    assert share("one", "three") == share("three", "one") == 0.0, "equal within the tolerance"
    assert share("two", "three") == 1 / 2
    assert share("three", "two") == 0.0
    compared = {(a, b) for a in names for b in names if not math.isnan(share(a, b))}
    assert compared == {(a, b) for a in ("one", "two", "three") for b in ("one", "two", "three") if a != b}


@pytest.mark.parametrize("seed", range(4))
def test_shares_of_wins_of_both_sides_and_ties_add_up_to_one(seed: int):
    names, table = wins(Findings(synthetic(seed)))
    compared = ~np.isnan(table)
    assert compared.sum() >= 6
    assert np.array_equal(compared, compared.T)
    assert (table + table.T)[compared].max() <= 1 + 1e-12
    assert len(names) == len(table) == 4


# --- advice and tables ------------------------------------------------------------------------------------------------


def advised(text: str) -> list[str]:
    return re.findall(r"\buse (\S+)", text, flags=re.IGNORECASE)


def test_advice_of_a_real_run_is_one_line_that_names_solvers_that_exist(finished: Comparison):
    text = advice(Findings(finished.log.read()))
    assert len(text.splitlines()) == 1
    assert len(text) > 60
    assert advised(text)
    assert set(advised(text)) <= set(SOLVERS)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([row("milp", "a", [2.0], [1.0], exact=True)], "milp"),
        ([row("sign-gradient", "a", [2.0], [1.0])], "sign-gradient"),
        ([row("hill-climb:restarts=8", "a", [2.0], [1.0])], "hill-climb:restarts=8"),
        ([row("keep", "a", [2.0], [2.0])], "keep"),
    ],
    ids=["exact, nothing proved", "one quick solver", "settings", "bound met"],
)
def test_advice_is_a_sentence_that_names_a_solver_even_of_a_single_one(rows: list[Row], named: str):
    text = advice(Findings(rows))
    assert named in text
    assert len(text.splitlines()) == 1
    assert text[0].isupper()
    assert text.endswith(".")


def test_advice_from_few_instances_says_that_nothing_is_tested(finished: Comparison):
    rows = finished.log.read()
    first = [row for row in rows if row["instance"] == rows[0]["instance"]]
    assert re.search(
        r"That is not tested: (0 instances are|1 instance is) too few to tell \d+ solvers apart\.$",
        advice(Findings(first)),
    )
    assert "not told apart" not in advice(Findings(first))


def test_advice_without_rows_says_so():
    assert advice(Findings([])) == advice(Findings([failed("keep", "a")])) != ""
    assert "No solver finished" in advice(Findings([]))


def test_csv_parses_back_to_the_summaries(finished: Comparison):
    summaries = summarise([*finished.log.read(), failed("odd,name", "planted")])
    lines = list(csv.DictReader(io.StringIO(as_csv(summaries))))
    assert len(lines) == len(summaries)
    for line, summary in zip(lines, summaries, strict=True):
        expected = dataclasses.asdict(summary)
        assert line.keys() == expected.keys()
        for name, value in expected.items():
            assert str(value) == line[name]
            if isinstance(value, float):
                assert float(line[name]) == pytest.approx(value, rel=0, abs=0, nan_ok=True)


def test_csv_of_the_run_is_that_of_its_rows(finished: Comparison):
    assert (finished.folder / "table.csv").read_text() == as_csv(summarise(finished.log.read()))


@pytest.mark.parametrize("solver", ["enumerate", "hill-climb:restarts=8,improvement=first"])
def test_no_figure_of_the_table_is_cut_on_eighty_columns(solver: str):
    rows = [row(solver, "a", [123.456], [None], flips=[0.625], seconds=0.0345), row("milp", "a", [1.5], [1.5])]
    console = Console(width=80, file=io.StringIO())
    console.print(as_table(summarise(rows), caption(Findings(rows))))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "…" not in text
    for figure in ("100.0%", "0.0%", "0%", "0.0345"):
        assert figure in text
    assert max(map(len, text.splitlines())) <= 80


# --- pictures and page ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gap", "solved", "targets", "ranks", "wins"])
def test_every_plot_is_a_png_and_an_svg_of_sensible_size(finished: Comparison, name: str):
    pixels = imread(finished.folder / f"{name}.png")
    height, width, channels = pixels.shape
    assert 400 <= height <= 4000
    assert 600 <= width <= 4000
    assert channels == 4
    colours = {tuple(colour) for colour in np.round(pixels[::5, ::5, :3] * 255).reshape(-1, 3).astype(int).tolist()}
    assert len(colours) > len(SOLVERS), "something is drawn"

    root = ElementTree.parse(finished.folder / f"{name}.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(root.attrib["width"].removesuffix("pt")) > 200
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 20


def test_folder_holds_the_documented_files_and_no_leftovers(finished: Comparison):
    names = {path.name for path in finished.folder.iterdir()}
    plots = {f"{name}.{kind}" for name in ("gap", "solved", "targets", "ranks", "wins") for kind in ("png", "svg")}
    assert names == {"comparison.json", "rows.jsonl", "targets.jsonl", "instances", "table.csv", "report.html"} | plots


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.slow
def test_report_can_be_drawn_from_rows_alone(tmp_path: Path, seed: int):
    write_report(Comparison(tmp_path), synthetic(seed))
    assert imread(tmp_path / "gap.png").ndim == 3


def test_report_needs_no_network(finished: Comparison):
    page = Page.of(finished.folder / "report.html")
    assert not {"iframe", "object", "embed", "link"} & set(page.tags)
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and value.startswith("default-src"))
    assert policy.startswith("default-src 'none';"), "the browser fetches nothing either"
    fetching = {"src", "href", "xlink:href", "srcset", "poster", "data", "action", "background"}
    for tag, name, value in page.attributes:
        if name in fetching:
            assert value.startswith(("#", "data:")), f"<{tag} {name}={value[:60]!r}>"
        elif not name.startswith("xmlns") and name != "rdf:resource":  # names, not addresses to fetch
            assert "//" not in value, f"<{tag} {name}={value[:60]!r}>"
    styles = " ".join(page.style + [value for _, name, value in page.attributes if name in ("style", "clip-path")])
    assert "@import" not in styles
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", styles))


def test_report_says_what_was_found_and_how(finished: Comparison):
    rows = finished.log.read()
    summaries = summarise(rows)
    text = Page.of(finished.folder / "report.html").text
    assert advice(Findings(rows)) in text
    assert caption(Findings(rows)) in text
    for summary in summaries:
        assert f" {summary.solver} " in text
    for name in saved_instances(finished):
        assert f" {name} " in text
    assert "Solves that failed" not in text
    assert f"Every sample had {SECONDS} seconds." in text
    assert f"torch {metadata.version('torch')}" in text


def test_figures_of_the_report_are_those_of_the_table(finished: Comparison):
    cells = re.findall(r"<td>(.*?)</td>", (finished.folder / "report.html").read_text())
    for summary in summarise(finished.log.read()):
        at = cells.index(summary.solver)
        assert cells[at + 1] == ("-" if math.isnan(summary.left) else f"{summary.left:.1%}")
        assert cells[at + 3 : at + 6] == [f"{summary.best:.0%}", f"{summary.proved:.0%}", f"{summary.flips:.0%}"]
        assert cells[at + 6] == f"{summary.seconds:.3g}"


@pytest.mark.slow
def test_name_of_a_run_is_text_in_the_report(small: Comparison, tmp_path: Path):
    odd = dataclasses.replace(small, folder=tmp_path / "<i>&amp;", solvers=("keep",))
    page = Page.of(write_report(odd, run_comparison(odd)))
    assert "i" not in page.tags
    assert "<i>&amp;" in page.text


def test_instances_that_can_not_be_written_leave_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    comparison = Comparison(tmp_path / "run", "generated-12", ("keep",), samples=1, steps=1, seeds=(0,))
    real, left = Path.open, [3]

    def full(path: Path, mode: str = "r", *arguments: Any, **others: Any) -> Any:
        if path.suffix == ".npz" and mode == "wb":
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, mode, *arguments, **others)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(FolderError, match="No space left"):
            run_comparison(comparison)
    assert left[0] < 0
    assert [path.name for path in comparison.folder.iterdir()] == ["comparison.json"]
    assert len(run_comparison(comparison)) == len(list((comparison.folder / "instances").glob("*.npz")))


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """A comparison whose instances are in files of three each."""
    monkeypatch.setattr(_instances, "MAX_FILES", 3)
    comparison = Comparison(tmp_path / "run", "generated-12", ("keep", "hill-climb"), samples=1, steps=5, seeds=(0,))
    run_comparison(comparison)
    return comparison


def test_many_instances_are_in_few_files_and_the_same(packed: Comparison, tmp_path: Path):
    names = [path.name for path in sorted((packed.folder / "instances").iterdir())]
    assert names == ["index.json", "pack-0.bin", "pack-1.bin", "pack-2.bin"]
    made = SUITES["generated-12"](1, 0)
    kept = _instances.saved_instances(packed.folder, "cpu")
    assert kept is not None
    assert [(one.name, one.problem.fingerprint) for one in kept] == [(i.name, i.problem.fingerprint) for i in made]
    assert not any(check.false or check.missing for check in check_rows(packed.folder))
    # New solves read them, also in other processes.
    more = dataclasses.replace(packed, solvers=("keep", "hill-climb", "enumerate"))
    rows = run_comparison(more, executor=ProcessPoolExecutor(1, get_context("spawn")))
    assert len(rows) == 3 * len(made)
    assert not any("error" in row for row in rows)
    run_comparison(packed, fresh=True)
    delete_comparison(packed.folder)
    assert not packed.folder.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.update(offset=10**9), "truncated"),
        (lambda entry: entry.update(offset=2**61), "truncated|can't be read"),
        (lambda entry: entry.update(offset=-1), "damaged"),
        (lambda entry: entry.update(size=2**70), "damaged"),
        (lambda entry: entry.update(size=entry["size"] - 1), "not a tpsolve file|has changed"),
        (lambda entry: entry.update(pack="../../x"), "damaged"),
        (lambda entry: entry.update(pack=7), "can't be read"),
        (lambda entry: entry.pop("size"), "without its place"),
        (lambda entry: entry.update(samples=10**30), "samples"),
    ],
)
def test_a_damaged_place_of_an_instance_is_a_typed_error(packed: Comparison, change: Any, message: str):
    path = packed.folder / "instances" / "index.json"
    index = json.loads(path.read_text())
    change(index[4])
    path.write_text(json.dumps(index))
    with pytest.raises(FileFormatError, match=message):
        run_comparison(packed)


def test_a_claim_of_size_takes_no_memory(packed: Comparison):
    path = packed.folder / "instances" / "index.json"
    index = json.loads(path.read_text())
    index[0]["size"] = 2**40
    path.write_text(json.dumps(index))
    with pytest.raises(TooLargeError):
        run_comparison(packed)


def test_a_changed_byte_of_many_instances_is_noticed(packed: Comparison):
    path = packed.folder / "instances" / "pack-1.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises((FileFormatError, ArgumentError)):
        run_comparison(packed)


def test_no_two_solvers_have_the_same_colour_and_line():
    styles = [(_style(k)["color"], str(_style(k)["linestyle"])) for k in range(len(COLOURS) * len(LINES))]
    assert len(set(styles)) == len(styles) >= len(LAYER_SOLVERS)
