"""`tpsolve report`: one run drawn again, two contrasted; and answers as JSON or CSV, with nothing beside them."""

import csv
import inspect
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from support.pages import Page, Row, drawn_rows
from typer.testing import CliRunner, Result

from tpsolve import cli
from tpsolve.compare.report._contrast import contrast
from tpsolve.errors import ArgumentError, FolderError

pytestmark = [pytest.mark.cli, pytest.mark.usefixtures("no_plots")]

INSTANCES = tuple(f"layer-{k}" for k in range(12))


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def answered(*words: object) -> Any:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def save(folder: Path, rows: list[Row]) -> Path:
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps({"suite": "digits", "seconds": 0.1, "samples": 2}))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return save(tmp_path / "old" / "digits", drawn_rows(("branch", "anneal", "gone"), INSTANCES))


@pytest.fixture
def after(tmp_path: Path) -> Path:
    rows = drawn_rows(("branch", "anneal", "new"), INSTANCES)
    for row in rows:
        if row["solver"] == "anneal":
            start = row["start"]
            row["objective"] = [v + 0.25 * (s - v) for v, s in zip(row["objective"], start, strict=True)]
            row["trace"] = [[row["seconds"], math.fsum(row["objective"]) / 2, None]]
        if row["solver"] == "branch":
            row["seconds"] *= 3
    return save(tmp_path / "new" / "digits", rows)


@pytest.mark.parametrize("change", [{"threads": 3}, {"versions": {"torch": "1.0"}}], ids=["threads", "versions"])
def test_rows_of_other_versions_or_threads_are_not_drawn_together(before: Path, after: Path, change: dict[str, Any]):
    rows = [json.loads(line) for line in (after / "rows.jsonl").read_text().splitlines()]
    (after / "rows-2-of-2.jsonl").write_text(json.dumps(rows[-1] | change) + "\n")
    (after / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    for words in ((after,), (before, after)):
        ended = run("report", *words)
        assert isinstance(ended.exception, FolderError)
        assert f"{after}: holds rows made with" in str(ended.exception)
        assert "others were made with" in str(ended.exception)


def test_one_run_is_drawn_again_and_its_rows_are_left_alone(before: Path):
    torn = before / "rows.jsonl"
    torn.write_text(torn.read_text() + '{"torn')
    content = torn.read_bytes()
    found = answered("report", before, "--json")
    assert torn.read_bytes() == content
    assert found["rows"][0]["solver"] == "branch"
    assert found["report"] == str(before / "report.html")
    assert found["advice"] in Page.of(before / "report.html").text


def test_two_runs_are_contrasted_and_what_got_worse_is_marked(before: Path, after: Path, tmp_path: Path):
    found = answered("report", before, after, "--out", tmp_path / "both", "--json")
    changes = {row["solver"]: row for row in found["rows"]}
    assert changes.keys() == {"branch", "anneal"}
    assert (changes["anneal"]["verdict"], changes["branch"]["verdict"]) == ("worse", "alike")
    assert changes["branch"]["pace"] == "slower"
    assert changes["branch"]["seconds"] == pytest.approx(3.0)
    assert changes["anneal"]["difference"] == pytest.approx(changes["anneal"]["after"] - changes["anneal"]["before"])
    assert sorted(found["regressions"]) == ["anneal", "branch"]
    assert len(found["worse"]) == 12
    assert all(words.startswith("anneal on layer-") for words in found["worse"])
    page = Page.of(tmp_path / "both" / "report.html")
    assert found["words"] in page.text
    assert sum(value == "worse" for tag, name, value in page.attributes if (tag, name) == ("tr", "class")) == 2
    for name in ("anneal [old/digits]", "anneal [new/digits]", "gone", "new"):
        assert name in page.text


def test_contrast_agrees_with_figures_worked_out_by_hand():
    def row(solver: str, instance: str, objective: float, **more: Any) -> Row:
        (made,) = drawn_rows((solver,), (instance,), samples=1)
        return {**made, "start": [10.0], "objective": [objective], "seconds": 1.0, "fingerprint": instance, **more}

    first = [row("one", "a", 0.0), row("one", "b", 5.0), row("one", "c", 5.0, fingerprint="old")]
    second = [row("one", "a", 2.0, seconds=4.0), row("one", "b", 0.0), row("one", "c", 1.0, fingerprint="new")]
    found = contrast(("x", "y"), first, second)
    (change,) = found.changes
    assert (change.before, change.after) == pytest.approx(((0 + 0.5) / 2, (0.2 + 0) / 2))
    assert change.seconds == pytest.approx(2.0)
    assert change.instances == 2, "the two problems called c are not the same"
    assert {row["instance"] for row in found.rows} == {"a", "b", "c [x]", "c [y]"}
    assert found.worse == ["one on a: 0.0% left before, 20.0% after"]
    assert change.verdict == "alike", "two instances tell nothing apart"
    assert "nothing can be contrasted" in contrast(("x", "y"), first, [row("two", "a", 1.0)]).words


def test_a_solver_that_only_fails_in_the_second_run_is_a_regression():
    before = drawn_rows(("one", "two"), tuple("abcdef"))
    after = [{**each, "error": "RuntimeError: no"} if each["solver"] == "two" else each for each in before]
    found = contrast(("A", "B"), before, after)
    assert found.regressions == ["two"]
    assert found.words.startswith("From A to B, fails more often: two.")
    (change,) = [change for change in found.changes if change.solver == "two"]
    assert (change.failures_before, change.failures_after, change.verdict) == (0, 6, "alike")
    assert math.isnan(change.after)


def test_a_change_of_the_mean_that_the_test_contradicts_is_neither_worse_nor_better():
    before = drawn_rows(("one", "best"), tuple(f"i{k}" for k in range(60)), samples=1)
    after = [dict(each) for each in before]
    for number, (first, second) in enumerate(zip(before, after, strict=True)):
        first |= {"start": [10.0], "objective": [0.0], "trace": []}
        second |= {"start": [10.0], "objective": [0.0], "trace": []}
        if first["solver"] == "one":
            few = number // 2 % 7 == 0
            first["objective"], second["objective"] = ([1.0], [9.0]) if few else ([5.0 + number / 1000], [4.9])
    found = contrast(("A", "B"), before, after)
    (change,) = [change for change in found.changes if change.solver == "one"]
    assert change.p < 0.05
    assert change.difference > 0.1
    assert change.verdict == "mixed"
    assert found.regressions == []
    assert "leaves less on some and more on others: one" in found.words


def test_equal_runs_have_no_regression(before: Path, tmp_path: Path):
    same = save(tmp_path / "same", drawn_rows(("branch", "anneal", "gone"), INSTANCES))
    found = answered("report", before, same, "--json")
    assert found["regressions"] == []
    assert {row["verdict"] for row in found["rows"]} == {"alike"}
    assert "no solver is told apart from itself" in found["words"]


def test_hosts_are_told_apart_though_their_devices_are_called_alike(before: Path, tmp_path: Path):
    rows = [{**row, "host": "ada"} for row in drawn_rows(("branch", "anneal", "gone"), INSTANCES)]
    other = save(tmp_path / "ada", rows)
    assert "differ in machine" in answered("report", before, other, "--json")["words"]
    assert "ada. More than one machine" in Page.of(before.parent / "digits-ada" / "report.html").text
    mixed = save(tmp_path / "mixed", [*rows[1:], {**rows[0], "host": "bob"}])
    assert f"{len(rows) - 1} solves" in answered("report", mixed, "--json")["caption"]
    assert "1 row of 1 instance left out" in Page.of(mixed / "report.html").text


def test_what_makes_no_sense_is_refused_and_nothing_is_written(before: Path, after: Path, tmp_path: Path):
    for words, error in (
        ((tmp_path,), FolderError),
        ((before, before), ArgumentError),
        ((before, after, "--out", before), ArgumentError),
        ((before, after, "--out", tmp_path / "old"), ArgumentError),
        ((before, "--json", "--csv"), ArgumentError),
    ):
        result = run("report", *words)
        assert isinstance(result.exception, error), result.output
    assert sorted(path.name for path in before.iterdir()) == ["comparison.json", "rows.jsonl"]


def test_csv_and_quiet_answers_hold_nothing_else(before: Path):
    lines = list(csv.DictReader(io.StringIO(run("report", before, "--csv").stdout)))
    assert {line["solver"] for line in lines} == {"branch", "anneal", "gone"}
    loud, quiet = run("report", before), run("report", before, "--quiet")
    assert "Report: " in loud.stdout
    assert "Report: " not in quiet.stdout
    assert quiet.stdout in loud.stdout
    assert quiet.stderr == ""


@pytest.fixture
def lamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lamp.csv"
    path.write_text("left,right,both\n0,0,off\n0,1,off\n1,0,off\n1,1,\u202eon\n")
    return path


def test_answers_of_tables_are_json(lamp: Path):
    found = answered("exact", lamp, "--target", "both", "--widths", 1, "--save", "proof.npz", "--json", "--quiet")
    (row,) = found["rows"]
    assert (row["errors"], row["bound"], row["status"]) == (0, 0, "optimal")
    assert found["saved"] == "proof.npz"
    claims = answered("verify", "proof.npz", lamp, "--json", "--quiet")
    assert claims["holds"] is True
    assert {claim["holds"] for claim in claims["rows"]} == {True}
    classes = answered("separate", lamp, "--target", "both", "--json", "--quiet")["rows"]
    assert [(each["class"], each["separable"], each["samples"]) for each in classes] == [("\u202eon", "yes", 1)]
    result = run("separate", lamp, "--target", "both", "--csv", "--quiet")
    assert result.stderr == ""
    assert [line["samples"] for line in csv.DictReader(io.StringIO(result.stdout))] == ["1"]


def test_list_is_json_with_all_solvers():
    from tpsolve import SOLVERS

    rows = answered("list", "--json")["rows"]
    assert [row["solver"] for row in rows] == list(SOLVERS)
    assert all(row["exact"] is SOLVERS[row["solver"]].exact for row in rows)


@pytest.mark.slow
def test_compare_answers_in_json(tmp_path: Path):
    words = ("--suite", "generated-12", "--solver", "keep", "--solver", "sign-gradient", "--samples", 1, "--seeds", 1)
    result = run("compare", *words, "--runs", tmp_path, "--json", "--quiet")
    found = json.loads(result.stdout)
    assert {row["solver"] for row in found["rows"]} == {"keep", "sign-gradient"}
    assert Path(found["report"]).is_file()


@pytest.mark.slow
def test_compare_takes_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert run("instances", "random", "--n", 6, "--samples", 2).exit_code == 0
    (tmp_path / "xor.csv").write_text("x,y,class\n0,0,a\n0,1,b\n1,0,b\n1,1,a\n")
    few = ("--solver", "hill-climb", "--solver", "column-search", "--seeds", 1, "--json", "--quiet")
    found = answered("compare", "random.npz", "xor.csv", "--target", "class", "--widths", 2, *few)
    assert found["caption"].startswith("2 instances, 3 samples")
    assert Path(found["report"]) == Path("runs/files/report.html")
    for words in (
        ("random.npz", "--suite", "wide"),
        ("random.npz", "--samples", 3),
        ("random.npz", "--target", "class"),
        ("random.npz", "--training"),
        ("xor.csv",),
    ):
        assert isinstance(run("compare", *words).exception, ArgumentError), words


@pytest.mark.slow
def test_by_steps_the_default_leaves_out_whom_a_step_takes_minutes(tmp_path: Path):
    words = ("compare", "--suite", "generated-12", "--samples", 1, "--seeds", 1, "--steps", 1, "--runs", tmp_path)
    result = run(*words, "--json")
    assert "milp: left out with steps" in result.stderr
    assert "big-m" not in result.stderr
    ran = {row["solver"] for row in json.loads(result.stdout)["rows"]}
    assert {"cp-sat", "tabu"} <= ran
    assert "milp" not in ran
    assert "Every sample had 1 steps." in Page.of(tmp_path / "generated-12" / "report.html").text


def test_every_command_answers_programs_and_can_be_quiet():
    for name, command in cli.COMMANDS.items():
        assert {"as_json", "as_csv", "quiet"} <= inspect.signature(command).parameters.keys(), name


def test_problems_models_and_recipes_are_json(lamp: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(lamp.parent)
    assert answered("instances", "--json")["rows"][0]["name"] == "planted"
    (made,) = answered("instances", "planted", "--n", 5, "--samples", 2, "--json")["rows"]
    assert (made["path"], made["optimum"]) == ("planted.npz", [0, 0])
    solved = answered("solve", "planted.npz", "--solver", "enumerate", "--save", "r.npz", "--json")
    assert [row["status"] for row in solved["rows"]] == ["optimal", "optimal"]
    assert (solved["solver"], solved["saved"]) == ("enumerate", "r.npz")
    assert run("solve", "planted.npz", "--quiet", "--save", "r.npz", "--csv").stdout.startswith("sample,objective")
    answered("exact", lamp, "--target", "both", "--widths", 1, "--save", "m.npz", "--json", "--quiet")
    shown = answered("show", "m.npz", "--json", "--quiet")
    assert shown["rows"][0]["status"] == "optimal"
    assert len(shown["rules"]) >= 1
    confusions = answered("predict", "m.npz", lamp, "--target", "both", "--json")
    assert confusions["right"] == confusions["rows_read"] - shown["rows"][0]["errors"]
    lines = answered("predict", "m.npz", lamp, "--json")["rows"]
    assert len(lines) == confusions["rows_read"]
    (written,) = answered("export", "m.npz", "net.json", "--json")["rows"]
    assert written["files"] == ["net.json"]
    assert {"recipe", "epochs"} <= answered("train", "--json")["rows"][0].keys()
