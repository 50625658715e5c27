"""A folder of tables as a suite: its problems, its rows, and what is refused."""

from pathlib import Path

import pytest

from tpsolve.compare import Comparison, TableSuite, run_comparison
from tpsolve.errors import ArgumentError, FileFormatError, FolderError, UnknownNameError
from tpsolve.tables import TableOptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "xor.csv").write_text("x,y,class\n0,0,a\n0,1,b\n1,0,b\n1,1,a\n")
    (folder / "line.tsv").write_text("x\tz\tclass\n0,5\tNA\ta\n1,5\tu\tb\n")
    (folder / "notes.txt").write_text("no table")
    return folder


def test_each_table_is_a_problem(folder: Path):
    instances = TableSuite(folder, "class", [2]).instances()
    assert [instance.name for instance in instances] == ["line/2", "xor/2"]
    assert instances[0].problem.inputs.tolist() == [[0.5, 1, 0], [1.5, 0, 1]]
    assert instances[1].problem.widths == (2,)


def test_a_comparison_solves_them_and_goes_on(folder: Path, tmp_path: Path):
    def comparison(**changed: object) -> Comparison:
        suite = TableSuite(folder, "class", [2], TableOptions(**changed))  # pyright: ignore
        return Comparison(tmp_path / "run", solvers=("column-search",), samples=1, seeds=(0,), tables=suite)

    rows = run_comparison(comparison())
    assert [(row["instance"], row["objective"]) for row in rows] == [("line/2", [0.0]), ("xor/2", [0.0])]
    assert run_comparison(comparison()) == rows
    with pytest.raises(FolderError, match="holds a comparison with tables="):
        run_comparison(comparison(missing="drop"))


def test_what_can_not_be_compared_is_named(folder: Path, tmp_path: Path):
    with pytest.raises(FolderError, match="is no folder"):
        TableSuite(tmp_path / "nowhere", "class").instances()
    with pytest.raises(FolderError, match="holds no table"):
        TableSuite(tmp_path, "class").instances()
    with pytest.raises(UnknownNameError, match=r"line.tsv: target: got 'kind'"):
        TableSuite(folder, "kind").instances()
    with pytest.raises(ArgumentError, match="widths"):
        TableSuite(folder, "class", [0])
    (folder / "broken.csv").write_text("x,class\n1\n")
    with pytest.raises(FileFormatError, match=r"broken.csv:2"):
        TableSuite(folder, "class").instances()
