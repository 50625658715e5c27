"""Problems and tables of one's own as a suite: their names, their budgets, and what is refused."""

from pathlib import Path

import pytest

import tpsolve
from tpsolve.compare import Comparison, FileSuite, run_comparison
from tpsolve.errors import ArgumentError, FileFormatError, FolderError, NotAcceptedError
from tpsolve.problems import make_instance


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    make_instance("random", n=6, m=4, samples=3, seed=1).problem.save(tmp_path / "small.npz")
    (tmp_path / "other").mkdir()
    make_instance("qubo", n=5, m=4, samples=2, seed=1).problem.save(tmp_path / "other" / "small.npz")
    (tmp_path / "xor.csv").write_text("x,y,class\n0,0,a\n0,1,b\n1,0,b\n1,1,a\n")
    return [tmp_path / "small.npz", tmp_path / "xor.csv", tmp_path / "other" / "small.npz"]


def test_each_file_is_an_instance_with_a_name_of_its_own(files: list[Path]):
    suite = FileSuite(files, "class", [2])
    assert suite.has_tables
    instances = suite.instances()
    assert [instance.name for instance in instances] == ["small", "xor/2", "other/small"]
    assert [instance.problem.batch_shape for instance in instances] == [(3,), (), (2,)]
    assert [instance.name for instance in FileSuite(files[:1]).instances()] == ["small"]


def test_each_sample_has_the_same_seconds_however_many_its_file_holds(files: list[Path], tmp_path: Path):
    def comparison(suite: FileSuite) -> Comparison:
        return Comparison(tmp_path / "run", solvers=("keep",), seconds=0.25, seeds=(0,), files=suite)

    problems = FileSuite([files[0], files[2]])
    rows = run_comparison(comparison(problems))
    assert [row["budget"]["seconds"] for row in rows] == [0.75, 0.5]
    assert run_comparison(comparison(problems)) == rows
    with pytest.raises(FolderError, match="holds a comparison with files="):
        run_comparison(comparison(FileSuite(files[:1])))


def test_run_takes_files(files: list[Path], tmp_path: Path):
    solvers = ["keep", "column-search"]
    found = tpsolve.compare.run(FileSuite(files, "class"), solvers, folder=tmp_path / "run", seeds=1, seconds=0.01)
    # Networks have no activations to keep.
    assert [row["instance"] for row in found.rows] == ["small", "xor/3", "other/small"]
    assert repr(found).startswith("ComparisonRun on 3 files: 3 instances, 6 samples")
    assert "No instance has rows of both " in found.advice


def test_a_file_that_no_solver_takes_is_an_error(files: list[Path], tmp_path: Path):
    expected = r"solvers: got keep, tabu, expected one at least that takes xor/3. Add one, or leave the file out.*"
    with pytest.raises(NotAcceptedError, match=expected + "For a NetworkProblem take circuits"):
        tpsolve.compare.run(FileSuite(files, "class"), ["keep", "tabu"], folder=tmp_path / "run", seeds=1)
    with pytest.raises(NotAcceptedError, match="problem: got NetworkProblem"):
        tpsolve.compare.run(FileSuite(files[1:2], "class"), ["keep"], folder=tmp_path / "run", seeds=1)
    assert not list((tmp_path / "run").glob("rows*"))


def test_what_is_refused(files: list[Path], tmp_path: Path):
    with pytest.raises(ArgumentError, match="files: got none, expected at least one"):
        FileSuite([])
    with pytest.raises(ArgumentError, match=r"small.npz twice, expected each file once"):
        FileSuite([files[0], tmp_path / "other" / ".." / "small.npz"])
    with pytest.raises(ArgumentError, match=r"target: got nothing, .*xor.csv is a table"):
        FileSuite(files)
    with pytest.raises(ArgumentError, match=r"files: got .*other, expected saved problems .* go with --tables"):
        FileSuite([tmp_path / "other"])
    with pytest.raises(FileFormatError, match=r"nowhere.npz: there is no such file"):
        FileSuite([tmp_path / "nowhere.npz"]).instances()
    tables = tpsolve.compare.TableSuite(tmp_path, "class")
    with pytest.raises(ArgumentError, match="no files beside a folder of tables"):
        Comparison(tmp_path / "run", files=FileSuite(files[:1]), tables=tables)
