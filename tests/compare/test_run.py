"""Comparisons from Python, and suites of one's own."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import tpsolve.compare
from tpsolve import SOLVERS as SOLVERS_KNOWN
from tpsolve import cli
from tpsolve.compare import SUITES, ComparisonRun, suite, summarise
from tpsolve.compare._summary import as_csv
from tpsolve.errors import ArgumentError, FileFormatError, UnknownNameError
from tpsolve.problems import Instance, make_instance

SOLVERS = ("keep", "hill-climb", "random")
FILE = """
from tpsolve.problems import make_instance

def two(samples, seed):
    return [make_instance(name, n=6, m=4, samples=samples, seed=seed) for name in ("random", "qubo")]

if __name__ == "__main__":
    raise SystemExit("not as a script")
"""


@pytest.fixture(autouse=True)
def suites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What a test makes known ends with it."""
    monkeypatch.chdir(tmp_path)
    before = set(SUITES)
    yield
    for name in set(SUITES) - before:
        del SUITES[name]


def small(samples: int, seed: int) -> list[Instance]:
    return [make_instance(name, n=6, m=4, samples=samples, seed=seed) for name in ("random", "qubo", "parity")]


@pytest.fixture
def found() -> ComparisonRun:
    return tpsolve.compare.run(small, SOLVERS, samples=2, seconds=0.01, seeds=2)


def test_run_has_its_rows_on_disk_and_goes_on(found: ComparisonRun):
    path = Path("runs/small/rows.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == found.rows
    drawing = [1 + SOLVERS_KNOWN[name].stochastic for name in SOLVERS]
    assert len(rows) == 3 * sum(drawing)
    again = tpsolve.compare.run(small, SOLVERS, samples=2, seconds=0.01, seeds=3)
    assert len(again.rows) > len(rows)
    assert path.read_text().startswith("".join(json.dumps(row) + "\n" for row in rows))


def test_table_and_words_are_those_of_the_rows(found: ComparisonRun):
    assert as_csv(found.summaries) == as_csv(summarise(found.rows)), "NaN is not equal to itself"
    console = Console(width=80, file=io.StringIO())
    console.print(found.table())
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    for solver in SOLVERS:
        assert solver in printed
        assert f"<td>{solver}</td>" in found._repr_html_()
    assert found.advice in found._repr_html_()
    assert repr(found).startswith("ComparisonRun on the suite small: 3 instances, 6 samples")


def test_frame_has_a_row_a_sample(found: ComparisonRun):
    pandas = pytest.importorskip("pandas")
    broken = {**{k: v for k, v in found.rows[0].items() if k != "objective"}, "error": "Boom"}
    frame = ComparisonRun(found.comparison, [*found.rows, broken]).to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == 2 * len(found.rows) + 1
    row = found.rows[1]
    chosen = frame[(frame.solver == row["solver"]) & (frame.instance == row["instance"]) & (frame.seed == row["seed"])]
    assert chosen.objective.tolist() == row["objective"]
    assert chosen["sample"].tolist() == [0, 1]
    assert frame.error.dropna().tolist() == ["Boom"]


@pytest.mark.slow
def test_plots_and_report_are_drawn(found: ComparisonRun):
    assert found.plot().axes[0].get_title().startswith("What is left")
    assert found.plot("targets").axes[0].get_title().startswith("Targets reached")
    with pytest.raises(UnknownNameError, match="picture"):
        found.plot("pie")
    assert found.report() == Path("runs/small/report.html")
    assert found.advice in found.report().read_text()


def test_suites_come_from_functions_and_files(tmp_path: Path):
    Path("mine.py").write_text(FILE)
    assert suite("digits") == "digits"
    assert suite("mine.py:two") == "mine.two"
    assert [instance.name for instance in SUITES["mine.two"](1, 0)] == ["random", "qubo"]
    assert suite(small) == suite(small) == "small"

    def digits(samples: int, seed: int) -> list[Instance]:
        return small(samples, seed)

    with pytest.raises(ArgumentError, match="called so already"):
        suite(digits)
    with pytest.raises(ArgumentError, match="none called three"):
        suite("mine.py:three")
    with pytest.raises(FileFormatError, match="can't be run"):
        suite("missing.py:two")
    with pytest.raises(UnknownNameError):
        tpsolve.compare.run("dijits")


def test_a_suite_s_instances_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch):
    # Rows are kept by the names: of three that are called alike one alone would be solved.
    made = [make_instance("random", n=4, m=3, samples=1, seed=seed) for seed in range(3)]
    for wrong, words in (
        (made, "got 3 instances called 'random' from the suite alike, expected different names"),
        ([made[0].problem], "got LayerProblem in the list of the suite alike, expected a list of Instance"),
        (made[0], "got Instance from the suite alike, expected a list of Instance"),
    ):
        monkeypatch.setitem(SUITES, "alike", lambda samples, seed, w=wrong: w)
        with pytest.raises(ArgumentError, match=words):
            tpsolve.compare.run("alike", ["keep"], seeds=1)
        assert not Path("runs/alike/rows.jsonl").exists()


@pytest.mark.cli
@pytest.mark.usefixtures("no_plots")
def test_command_takes_a_suite_of_a_file():
    Path("mine.py").write_text(FILE)
    words = ("compare", "--suite", "mine.py:two", "--solver", "keep", "--samples", "1", "--json", "-q")
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"][0]["instances"] == 2
