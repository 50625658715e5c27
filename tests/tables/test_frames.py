"""DataFrames of pandas and polars, and files with types: the numbers are those of the same table as CSV."""

import datetime
import importlib.util
import zipfile
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch

from tpsolve.errors import ArgumentError, FileFormatError, MissingLibraryError
from tpsolve.tables import TableOptions, read_table
from tpsolve.tables._sheets import _as_shown

needs_pandas = pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
MARKED = TableOptions(missing="indicator", words=("c",))


def mixed() -> polars.DataFrame:
    days = [datetime.date(2020, 1, 1), None, datetime.date(2020, 1, 3)]
    return polars.DataFrame(
        {
            "i": [2**60 + 1, None, 2**60 + 3],
            "f": [0.1, float("nan"), 0.3],
            "s": ["u", None, " v"],
            "c": polars.Series(["1", "2", "1"], dtype=polars.Categorical),
            "d": days,
            "e": [Decimal("0.10"), Decimal("3"), None],
            "k": ["a", "b", "a"],
        }
    )


@pytest.mark.parametrize("ending", ["parquet", "feather", "csv", ""])
def test_a_table_gives_the_same_numbers_however_it_is_stored(tmp_path: Path, ending: str):
    frame, path = mixed(), tmp_path / f"t.{ending}"
    if ending:
        {"parquet": frame.write_parquet, "feather": frame.write_ipc, "csv": frame.write_csv}[ending](path)
    table = read_table(path if ending else frame, "k", MARKED)
    assert table.features == (
        *("i", "i is missing", "f", "f is missing", "s=u", "s=v", "s is missing"),
        *("c=1", "c=2", "d (days)", "d is missing", "e", "e is missing"),
    )
    assert [column.exact for column in table.schema.columns] == [True] * 6
    assert table.inputs[2].tolist() == [1, 0, 3, 0, 0, 1, 0, 1, 0, 18264, 0, 0, 1]
    assert table.schema.scaling[0] == (2**60 + 1, Fraction(1, 2))


@needs_pandas
def test_pandas_tables_are_taken_and_their_index_is_not(tmp_path: Path):
    import pandas as pd

    frame = pd.DataFrame(
        {
            "i": pd.array([2**60 + 1, None, 2**60 + 3], dtype="Int64"),
            "f": np.array([0.1, np.nan, 0.3], dtype=np.float32),
            "s": ["u", None, " v"],
            "c": pd.Categorical([1, 2, 1]),
            "d": pd.to_datetime(["2020-01-01", None, "2020-01-03"]),
            "b": [True, False, True],
            "k": ["a", "b", "a"],
        },
        index=[7, 8, 9],
    )
    table = read_table(frame, "k", MARKED)
    assert table.inputs[2].tolist() == [1, 0, 3, 0, 0, 1, 0, 1, 0, 18264, 0, 0, 1]
    frame.to_csv(tmp_path / "t.csv")
    assert torch.equal(read_table(tmp_path / "t.csv", "k", MARKED).inputs, table.inputs)
    with pytest.raises(ArgumentError, match="several levels"):
        read_table(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_product([["a"], ["b", "c"]])), "k")


def test_first_sheet_of_a_workbook_is_read_with_its_lines(tmp_path: Path):
    pytest.importorskip("fastexcel")
    rows = [["", "x", "when", "k"], [0, 0.1, "2020-01-01", "a"], [], [1, 2.5, "2020-01-02", "b"]]
    write_workbook(tmp_path / "t.xlsx", rows)
    table = read_table(tmp_path / "t.xlsx", "k")
    assert (table.features, table.lines) == (("x", "when (days)"), (2, 4))
    assert table.inputs.tolist() == [[1, 18262], [25, 18263]]


def write_workbook(path: Path, rows: list[list[Any]]) -> None:
    """The least that is an .xlsx file: one sheet, numbers and texts in their cells."""
    cells = []
    for number, row in enumerate(rows, 1):
        texts = []
        for letter, value in zip("ABCDEFGH", row, strict=False):
            kind, inner = (
                ("n", f"<v>{value}</v>") if not isinstance(value, str) else ("inlineStr", f"<is><t>{value}</t></is>")
            )
            texts.append(f'<c r="{letter}{number}" t="{kind}">{inner}</c>' if value != "" else "")
        cells.append(f'<row r="{number}">{"".join(texts)}</row>')
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        'spreadsheetml.sheet.main+xml"/><Override PartName="/xl/s.xml" ContentType="application/vnd.'
        'openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        '<sheet name="s" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/worksheet" Target="s.xml"/></Relationships>',
        "xl/s.xml": f'<worksheet xmlns="{main}"><sheetData>{"".join(cells)}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)


@pytest.mark.parametrize(
    ("cell", "kind"), [([1], "list"), (1j, "complex"), (datetime.timedelta(1), "timedelta"), (b"x", "bytes")]
)
def test_cells_that_are_no_values_are_named(cell: Any, kind: str):
    frame = polars.DataFrame({"x": polars.Series([cell], dtype=polars.Object), "k": ["a"]})
    with pytest.raises(ArgumentError, match=f"DataFrame:row 1:x: got a cell of type {kind}"):
        read_table(frame, "k")


@pytest.mark.parametrize("ending", ["polars", "pandas", ".parquet", ".feather"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_nanoseconds_are_kept(tmp_path: Path, ending: str, zone: str | None):
    stamps = polars.Series([1700000000000000001, 1700000000000000000, 1700000000000000002])
    frame: Any = polars.DataFrame({"t": stamps.cast(polars.Datetime("ns", zone)), "k": ["a", "b", "a"]})
    if ending == "pandas":
        pd = pytest.importorskip("pandas")
        values = pd.to_datetime(stamps.to_list()).tz_localize("UTC").tz_convert(zone or "UTC")
        frame = pd.DataFrame({"t": values if zone else values.tz_localize(None), "k": ["a", "b", "a"]})
    elif ending != "polars":
        (frame.write_parquet if ending == ".parquet" else frame.write_ipc)(tmp_path / f"t{ending}")
        frame = tmp_path / f"t{ending}"
    table = read_table(frame, "k")
    assert table.inputs.tolist() == [[1], [0], [2]]
    assert table.schema.columns[0].kind == "date"


def test_times_of_polars_are_exact_and_far_years_are_no_traceback():
    clock = polars.Series([3_600_000_000_001, 3_600_000_000_000, 3_600_000_000_003]).cast(polars.Time)
    found = read_table(polars.DataFrame({"t": clock, "k": ["a", "b", "a"]}), "k").inputs[:, 0]
    assert (found - found[1]).tolist() == [1, 0, 3]
    far = polars.Series([2**60, 2**59, 0]).cast(polars.Datetime("us"))
    table = read_table(polars.DataFrame({"t": far, "k": ["a", "b", "a"]}), "k")
    assert table.schema.columns[0].kind == "words"


@pytest.mark.parametrize(
    "table", [np.eye(2), {"x": [1]}, [[1]], 7, polars.Series([1]), polars.LazyFrame({"x": [1]})], ids=type
)
def test_what_is_no_table_is_refused_by_name(table: Any):
    with pytest.raises(ArgumentError, match=r"table: got .*expected a path"):
        read_table(table, "k")


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.xlsx"])
def test_files_that_are_broken_or_absent_are_named(tmp_path: Path, name: str):
    for _ in range(2):
        with pytest.raises(FileFormatError, match=f"{name}: can't be read"):
            read_table(tmp_path / name, "k")
        (tmp_path / name).write_bytes(b"no such thing")


def test_without_polars_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(MissingLibraryError, match=r"polars.*tpsolve\[tables\]"):
        read_table(tmp_path / "t.parquet", "k")


def test_a_sheet_that_begins_lower_keeps_its_lines_and_its_names(tmp_path: Path):
    pytest.importorskip("fastexcel")
    write_workbook(tmp_path / "t.xlsx", [[], [], ["x", "k"], [1, 0], [2, 1]])
    table = read_table(tmp_path / "t.xlsx", "k")
    assert (table.features, table.lines, table.labels) == (("x",), (4, 5), ("0", "1"))
    write_workbook(tmp_path / "t.xlsx", [["x", "x", "k"], [1, 2, "a"], [2, 1, "b"]])
    with pytest.raises(FileFormatError, match="two columns are named 'x'"):
        read_table(tmp_path / "t.xlsx", "k")
    write_workbook(tmp_path / "t.xlsx", [[]])
    with pytest.raises(FileFormatError, match="no sheet that is shown holds anything"):
        read_table(tmp_path / "t.xlsx", "k")


def test_times_of_a_day_in_a_sheet_are_clocks():
    days = polars.Series("t", ["1899-12-31T10:30:00", None]).str.to_datetime()
    assert _as_shown(polars, days).to_list() == ["10:30:00", None]
    assert _as_shown(polars, days.dt.offset_by("1y")).dtype == polars.Datetime


def test_columns_that_are_left_out_may_hold_anything(tmp_path: Path):
    frame = polars.DataFrame({"x": [1, 2], "z": [[1], [2]], "k": ["a", "b"]})
    frame.write_parquet(tmp_path / "t.parquet")
    for source in (frame, tmp_path / "t.parquet"):
        with pytest.raises(ArgumentError, match=r":row 1:z: got a cell of type list.*--drop"):
            read_table(source, "k")
        schema = read_table(source, "k", TableOptions(drop=("z",))).schema
        assert schema.apply(source).inputs.tolist() == [[1], [2]]
