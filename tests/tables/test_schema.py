"""What columns are taken for: exact numbers, units, dates, words, missing values, ids; and what is refused by name."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tpsolve.errors import ArgumentError, FileFormatError, NotFiniteError, UnknownNameError, ValueSetError
from tpsolve.tables import Column, LabelledTable, TableOptions, TableSchema, read_table
from tpsolve.tables._numbers import MISSING_NUMBERS


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LabelledTable]:
    monkeypatch.chdir(tmp_path)

    def write_and_read(text: str, **options: Any) -> LabelledTable:
        Path("t.csv").write_text(text, encoding="utf-8", newline="")
        return read_table("t.csv", "k", TableOptions(**options))

    return write_and_read


def column(cells: list[str]) -> str:
    """A table of one column and alternating classes."""
    return "x;k\n" + "".join(f"{cell};{'ab'[i % 2]}\n" for i, cell in enumerate(cells))


def numbers(table: LabelledTable) -> list[Fraction]:
    """The numbers of the file, made again from the inputs of a table of one feature."""
    ((offset, scale),) = table.schema.scaling
    return [Fraction(x) / scale + offset for x in table.inputs[:, 0].tolist()]


# --- exact numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cells",
    [
        ["1556559573141592653", "1556559573141592654"],
        ["0.1", "0.2", "0.3"],
        ["-0.07", "1e3", "2.5E-2", "+4", ".5", "5."],
        ["123456789012345678901234567890", "123456789012345678901234567891"],
        ["1556559573000000000", "1956559573000000000"],
        ["1e-320", "0"],
        ["0.1234567890123456789", "7"],
        ["0.5", "0.25"],
    ],
)
def test_inputs_stand_for_the_numbers_of_the_file_exactly(read: Callable[..., LabelledTable], cells: list[str]):
    table = read(column(cells))
    assert numbers(table) == [Fraction(cell) for cell in cells]
    assert table.schema.rounded == ()


@given(st.lists(st.decimals(-(10**9), 10**9, places=4), min_size=2, max_size=8))
def test_decimals_are_exact_whatever_they_are(cells: list[Any]):
    import polars

    frame = polars.DataFrame({"x": [str(cell) for cell in cells], "k": ["a"] * len(cells)})
    assert numbers(read_table(frame, "k")) == [Fraction(cell) for cell in cells]


def test_numbers_that_float64_holds_stay_as_they_are(read: Callable[..., LabelledTable]):
    assert read(column(["1.5", "-2", "1e3"])).inputs.tolist() == [[1.5], [-2], [1000]]


def test_points_on_a_line_stay_on_it(read: Callable[..., LabelledTable]):
    # In float64 0.1 + 0.2 is not 0.3: the three would be no longer on one line, and separable.
    inputs = read("x;y;k\n0.1;1;a\n0.2;2;b\n0.3;3;a\n").inputs
    first, middle, last = (list(map(Fraction, row)) for row in inputs.tolist())
    assert [a + c for a, c in zip(first, last, strict=True)] == [2 * b for b in middle]
    assert Fraction(0.1) + Fraction(0.3) != 2 * Fraction(0.2)


def test_numbers_of_more_digits_than_float64_has_are_rounded_and_named(read: Callable[..., LabelledTable]):
    table = read(column(["0.12345678901234567", "0.98765432109876543", "123456.7"]))
    assert table.schema.rounded == ("x",)
    assert table.inputs[:, 0].tolist() == [0.12345678901234567, 0.98765432109876543, 123456.7]
    assert "rounded to float64" in table.schema.table()[0][2]


STAMP = 1556559573141592653


def test_numbers_that_would_become_one_are_told_apart_near_an_offset(read: Callable[..., LabelledTable]):
    cells = ["0", str(STAMP), str(STAMP + 1), str(STAMP - 2)]
    assert float(cells[1]) == float(cells[2])
    table = read(column(cells))
    assert table.schema.rounded == ("x",)
    ((offset, scale),) = table.schema.scaling
    assert table.exact_rows() == [((Fraction(cell) - offset) * scale,) for cell in cells]
    assert table.inputs[1:, 0].diff().tolist() == [1, -3]
    # Few bits at both ends: nothing is rounded.
    assert read(column(["1", str(2**70), str(2**70 + 1)])).schema.rounded == ()
    assert read(column(["5", str(10**20), "3"])).schema.rounded == ()


def test_numbers_that_become_one_are_kept_apart_in_fractions_and_refused_to_whoever_reads_floats(
    read: Callable[..., LabelledTable],
):
    cells = ["0.123456789012345671", "0.123456789012345672", "1234567.123456789012345671", "1234567.123456789012345672"]
    table = read(column(cells))
    assert table.exact_rows() == [(Fraction(cell),) for cell in cells]
    assert len(set(table.inputs[:, 0].tolist())) == 2
    with pytest.raises(ArgumentError, match=r"t.csv:3 and 2:x: got 0.123456789012345672 besides 0.123456789012345671"):
        table.check_told_apart("t.csv")
    read(column(["0.12345678901234567", "123456.7"])).check_told_apart("t.csv")


def test_new_rows_with_more_digits_than_the_first_are_exact(read: Callable[..., LabelledTable]):
    schema = read(column(["1", "2", "3"])).schema
    Path("new.csv").write_text("x\n2\n2.99999999999999999999\n")
    new = schema.apply("new.csv")
    assert new.inputs[:, 0].tolist() == [2, 3]
    assert new.exact_rows() == [(Fraction(2),), (3 - Fraction(1, 10**20),)]
    Path("new.csv").write_text("x\n2\n2.5\n")
    assert schema.apply("new.csv").exact_rows() is None


@given(st.lists(st.decimals(-(10**9), 10**9, places=14).map(str), min_size=2, max_size=6, unique=True))
def test_rows_before_rounding_are_those_of_the_table(cells: list[str]):
    import polars

    table = read_table(polars.DataFrame({"x": cells, "y": range(len(cells)), "k": ["a"] * len(cells)}), "k")
    (offset, scale), _ = table.schema.scaling
    expected = [((Fraction(cell) - offset) * scale, k) for k, cell in enumerate(cells)]
    assert [[float(v) for v in row] for row in expected] == table.inputs.tolist()
    rounds = any(Fraction(float(v)) != v for v, _ in expected)
    assert (table.schema.rounded == ("x",)) == rounds
    assert table.exact_rows() == (expected if rounds else None)


# --- how numbers are written ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,5", "2,25"], ["1.5", "2.25"]),
        (["1,234,567", "1,234.5"], ["1234567", "1234.5"]),
        (["1.234.567,5", "12"], ["1234567.5", "12"]),
        (["1 234,5", "2\u202f000"], ["1234.5", "2000"]),
        (["1'234.5", "2\u2019000"], ["1234.5", "2000"]),
        (["$1,234.50", "-$3", "$ 7"], ["1234.5", "-3", "7"]),
        (["5%", "7.5 %"], ["5", "7.5"]),
        (["5 kg", "7kg"], ["5", "7"]),
        (["€5", "€6"], ["5", "6"]),
        (["\u22125", "\uff11\uff12"], ["-5", "12"]),
        (["0,123", "0,456"], ["0.123", "0.456"]),
        (["1.234", "5.678"], ["1.234", "5.678"]),
    ],
)
def test_numbers_are_read_as_people_write_them(
    read: Callable[..., LabelledTable], cells: list[str], expected: list[str]
):
    assert numbers(read(column(cells))) == [Fraction(number) for number in expected]


def test_a_comma_that_may_be_of_decimals_or_of_thousands_is_refused_unless_something_tells(
    read: Callable[..., LabelledTable],
):
    with pytest.raises(ArgumentError, match=r'numbers such as 1,234.*Say it: decimal="." or ","'):
        read(column(["1,234", "5,678"]))
    assert numbers(read(column(["1,234", "5,678"]), decimal=",")) == [Fraction("1.234"), Fraction("5.678")]
    assert numbers(read(column(["1,234", "5,678"]), decimal=".")) == [1234, 5678]
    other = read("x;y;k\n1,234;2,5;a\n5,678;3,5;b\n").schema
    assert other.scaling[0] == (0, 1000)
    german = read("x;y;k\n1.234;2,5;a\n5.678;3,5;b\n")
    assert german.inputs[:, 0].tolist() == [1234, 5678]


def test_points_that_could_be_those_of_thousands_are_told(read: Callable[..., LabelledTable]):
    said = "points taken for decimals, not thousands: else --decimal ,"
    assert said in read(column(["1.633", "2.450"])).schema.table()[0][2]
    thousands = read(column(["1.633", "2.450"]), decimal=",")
    assert numbers(thousands) == [1633, 2450]
    for table in (
        thousands,
        read(column(["1.633", "2.450"]), decimal="."),
        read(column(["1.633", "2.45"])),
        read(column(["1.633", "0.450"])),
        read("x;y;k\n1.633;0.5;a\n2.450;0.7;b\n"),
    ):
        assert said not in table.schema.table()[0][2]
    doubtful = read(column(["1.633", "2.450"])).schema
    assert TableSchema.from_json(json.loads(json.dumps(doubtful.to_json()))) == doubtful


@pytest.mark.parametrize("bad", ["oops", "1_000", "0x1F", "12..5", "(5.00)", "1;", "5 kg"])
@pytest.mark.parametrize("row", [0, 3])
def test_one_bad_cell_never_turns_numbers_into_words(read: Callable[..., LabelledTable], bad: str, row: int):
    cells = ["1", "2", "3", "4.5"]
    cells[row] = bad.replace(";", "")
    if bad == "1;":
        cells[row] = "1-"
    with pytest.raises(
        ValueSetError, match=rf"t.csv:{row + 2}:x: got .*--words|t.csv:2:x: got a column of numbers with"
    ):
        read(column(cells))
    assert read(column(cells), words=("x",)).schema.columns[0].kind == "words"


def test_a_column_with_two_units_is_refused(read: Callable[..., LabelledTable]):
    with pytest.raises(ValueSetError, match="with the units g, kg"):
        read(column(["5 kg", "500 g"]))


@pytest.mark.parametrize("bad", ["inf", "-Infinity", "1e400"])
def test_numbers_that_are_not_finite_are_refused(read: Callable[..., LabelledTable], bad: str):
    with pytest.raises(NotFiniteError, match=r"t.csv:3:x"):
        read(column(["1", bad]))


# --- missing values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", sorted(MISSING_NUMBERS - {""}))
def test_marks_of_missing_numbers_are_refused_by_line_and_column(read: Callable[..., LabelledTable], mark: str):
    with pytest.raises(NotFiniteError, match=r"t.csv:4:x: got .*no value, expected one for x.*--missing"):
        read(column(["1", "2", f'"{mark}"', "4"]))


def test_missing_numbers(read: Callable[..., LabelledTable]):
    text = column(["1", "NA", "0.5", "", "9", "9"])
    dropped = read(text, missing="drop")
    assert dropped.inputs[:, 0].tolist() == [1, 0.5, 9, 9]
    assert (dropped.lines, dropped.dropped, dropped.labels) == ((2, 4, 6, 7), (3, 5), ("a", "a", "a", "b"))
    marked = read(text, missing="indicator")
    assert marked.features == ("x", "x is missing")
    assert marked.inputs.tolist() == [[1, 0], [0, 1], [0.5, 0], [0, 1], [9, 0], [9, 0]]
    # The middle of 0.5, 1, 9, 9: the lower of two.
    assert read(text, missing="impute").inputs[:, 0].tolist() == [1, 1, 0.5, 1, 9, 9]


def test_missing_words(read: Callable[..., LabelledTable]):
    text = "x;c;k\n1;u;a\n2;?;b\n3;NA;a\n4;NA;b\n"
    marked = read(text, missing="indicator")
    assert marked.features == ("x", "c=NA", "c=u", "c is missing"), "NA is a word among words"
    assert marked.inputs[:, 1:].tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert read(text, missing="impute").inputs[1, 1:].tolist() == [1, 0]


def test_words_that_only_stand_in_dropped_rows_become_no_columns(read: Callable[..., LabelledTable]):
    assert read("x;c;k\n1;u;a\n;v;b\n3;w;a\n", missing="drop").features == ("x", "c=u", "c=w")


@pytest.mark.parametrize("name", ["NA", "nan", "None", "null", "-", "$", "$$"])
def test_classes_may_be_called_anything(read: Callable[..., LabelledTable], name: str):
    text = f"x;k\n1;{name}\n2; red\n3;red \n"
    assert read(text, words=["k"]).labels == (name, "red", "red")
    if name not in ("NA", "nan", "null"):
        assert read(text).labels == (name, "red", "red")
        return
    # More often it stands for a missing class.
    with pytest.raises(NotFiniteError, match=rf"t.csv:2:k: got '{name}', no class, .* \(--words k\)"):
        read(text)
    assert read(text, missing="drop").labels == ("red", "red")


def test_a_sample_without_a_class_is_refused_or_dropped(read: Callable[..., LabelledTable]):
    for options in ({}, {"missing": "indicator"}, {"missing": "impute"}):
        with pytest.raises(NotFiniteError, match=r"t.csv:3:k: got no class"):
            read("x;k\n1;a\n2;\n", **options)
    assert read("x;k\n1;a\n2;\n", missing="drop").labels == ("a",)


def test_classes_that_are_one_number_are_refused(read: Callable[..., LabelledTable]):
    with pytest.raises(ArgumentError, match=r"the classes '1' and '1.0'"):
        read("x;k\n1;1\n2;1.0\n")


# --- dates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["1970-01-02", "1970-01-03"], [86400, 2 * 86400]),
        (["1970/01/02", "1970/2/1"], [86400, 31 * 86400]),
        (["13/01/1970", "02/01/1970"], [12 * 86400, 86400]),
        (["01/13/1970", "01/02/1970"], [12 * 86400, 86400]),
        (["13.1.70", "2.1.70"], [12 * 86400, 86400]),
        (["2 Jan 1970", "1 Feb 1970"], [86400, 31 * 86400]),
        (["January 2, 1970", "Feb 1, 1970"], [86400, 31 * 86400]),
        (["1970-01-01T00:00:01", "1970-01-01 00:01"], [1, 60]),
        (["1970-01-01T00:00:00.5Z", "1970-01-01T01:00:00+01:00"], [Fraction(1, 2), 0]),
        (["00:01", "1:00 PM"], [60, 13 * 3600]),
    ],
)
def test_dates_become_days_or_seconds(
    read: Callable[..., LabelledTable], cells: list[str], seconds: list[int | Fraction]
):
    table = read(column([f'"{cell}"' for cell in cells]))
    assert table.schema.columns[0].kind == "date"
    whole = all(second % 86400 == 0 for second in seconds)
    assert table.features == ("x (days)" if whole else "x (seconds)",)
    assert numbers(table) == [second / Fraction(86400 if whole else 1) for second in seconds]
    assert read(f"y;{column(cells)}".replace("\n", "\n0;", len(cells)), dates="drop").features == ("y",)


def test_dates_whose_day_and_month_can_not_be_told_apart_are_refused(read: Callable[..., LabelledTable]):
    text = column(["03/04/2020", "05/06/2020"])
    with pytest.raises(ArgumentError, match=r"t.csv:2:x: got '03/04/2020'.*--dates"):
        read(text)
    assert numbers(read(text, dates="mdy"))[0] == numbers(read(column(["2020-03-04", "2020-05-06"])))[0]
    assert numbers(read(text, dates="dmy"))[0] == numbers(read(column(["2020-04-03", "2020-05-06"])))[0]


@pytest.mark.parametrize("bad", ["2020-02-30", "soon", "17"])
def test_one_bad_cell_never_turns_dates_into_words(read: Callable[..., LabelledTable], bad: str):
    with pytest.raises(ValueSetError, match=rf"t.csv:4:x: got '{bad}', expected a date"):
        read(column(["2020-01-01", "2020-01-02", bad, "2020-01-03"]))


# --- columns that are left out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "cells", "kind"),
    [
        ("", ["0", "1", "2"], "index"),
        ("Unnamed: 0", ["7", "3", "5"], "index"),
        ("", ["Mazda", "Fiat", "Volvo"], "id"),
        ("id", ["10", "11", "12"], "id"),
        ("PassengerId", ["10", "11", "12"], "id"),
        ("customer_id", ["a7", "b8", "c9"], "id"),
        ("x", ["", "NA", "?"], "empty"),
        ("paid", ["10", "11", "12"], "number"),
        ("refractive index", ["1", "2", "3"], "number"),
        ("id", ["0.1", "0.2", "0.3"], "number"),
        ("index", ["4", "5", "6"], "id"),
        ("id", ["10", "10", "12"], "number"),
        ("", ["0.5", "1", "2"], "number"),
    ],
)
def test_indices_ids_and_empty_columns_are_left_out(
    read: Callable[..., LabelledTable], header: str, cells: list[str], kind: str
):
    rows = "".join(f"{cell},{i % 2},{'ab'[i % 2]}\n" for i, cell in enumerate(cells))
    schema = read(f"{header},y,k\n{rows}").schema
    assert schema.columns[0].kind == kind
    assert ("y" in schema.features, len(schema.features)) == (True, 1 + (kind == "number"))


def test_texts_that_hardly_repeat_are_an_id_unless_they_are_asked_for(read: Callable[..., LabelledTable]):
    text = "note,y,k\n" + "".join(f"text {i}x,{i % 5},{'ab'[i % 2]}\n" for i in range(30))
    assert read(text).features == ("y",)
    assert len(read(text, columns=("note", "y")).features) == 31


def test_columns_are_chosen_and_left_out(read: Callable[..., LabelledTable]):
    text = "id,x,y,k\n1,5,6,a\n2,7,8,b\n"
    assert read(text, columns=("id", "y")).features == ("id", "y")
    assert read(text, drop=("y",)).features == ("x",)
    with pytest.raises(UnknownNameError, match="drop: got 'z'"):
        read(text, drop=("z",))
    with pytest.raises(ArgumentError, match="target"):
        read(text, columns=("k",))
    with pytest.raises(ArgumentError, match="no columns that can be used; left out: id"):
        read("id,k\n1,a\n2,b\n")


def test_summary_and_table_say_what_was_found(read: Callable[..., LabelledTable]):
    schema = read('id,x,when,c,k\n1,"0.5",2020-01-01,u,a\n2,0.75,2020-01-02,v,b\n').schema
    assert schema.summary() == "1 number, 1 date, 1 column of words, 1 id left out -> 4 features"
    assert [row[:2] for row in schema.table()] == [
        ("id", "left out: an id"),
        ("x", "number"),
        ("when", "date"),
        ("c", "words"),
    ]


# --- new rows ---------------------------------------------------------------------------------------------------------


def test_a_schema_reads_new_rows_alike_and_survives_json(read: Callable[..., LabelledTable], tmp_path: Path):
    first = read("id,x,c,k\n1,0.1,u,a\n2,0.25,v,b\n3,NA,u,b\n", missing="indicator")
    schema = TableSchema.from_json(json.loads(json.dumps(first.schema.to_json())))
    assert schema == first.schema
    assert torch.equal(schema.apply("t.csv").inputs, first.inputs)
    Path("new.csv").write_text("c;x\nv;0.3\nu;-\n")
    new = schema.apply("new.csv")
    # In units of 0.01, and words where the first table has them.
    assert new.inputs.tolist() == [[30, 0, 0, 1], [0, 1, 1, 0]]
    assert new.labels == ()


@pytest.mark.parametrize(
    ("first", "new", "expected"),
    [
        (["1,5", "2,25"], ["3.5", "4"], ["3.5", "4"]),
        (["1,5", "2,25"], ["1.234", "1.234,5"], ["1234", "1234.5"]),
        (["1.5", "2.25"], ["3,5", "4,25"], ["3.5", "4.25"]),
        (["1.5", "2.25"], ["1,234", "12"], ["1234", "12"]),
        (["1.234,5", "2"], ["1.234", "2"], ["1234", "2"]),
        (["$5", "$7.5"], ["$1,000", "$2.50"], ["1000", "2.5"]),
    ],
)
def test_new_rows_may_write_numbers_in_another_way(
    read: Callable[..., LabelledTable], first: list[str], new: list[str], expected: list[str]
):
    schema = read(column(first)).schema
    Path("new.csv").write_text("x;k\n" + "".join(f"{cell};a\n" for cell in new))
    assert numbers(schema.apply("new.csv")) == [Fraction(number) for number in expected]


@pytest.mark.parametrize("cells", [["1,5", "2.000,25"], ["1,5", "2,25"], ["$5", "$7.5"]])
def test_numbers_of_a_frame_have_points_whatever_the_first_table_had(
    read: Callable[..., LabelledTable], cells: list[str]
):
    import polars

    schema = read(column(cells)).schema
    assert numbers(schema.apply(polars.DataFrame({"x": [1.125, 1000.0, 7.0]}))) == [Fraction("1.125"), 1000, 7]
    assert numbers(schema.apply(polars.DataFrame({"x": [3, 4]}))) == [3, 4]


def test_dates_of_a_frame_are_dates_whatever_their_order_was(read: Callable[..., LabelledTable]):
    import polars

    schema = read(column(["31/12/2020", "01/02/2020"])).schema
    frame = polars.DataFrame({"x": ["2020-12-31", "2020-02-01"]}, schema={"x": polars.Date})
    assert schema.apply(frame).inputs.tolist() == schema.apply("t.csv").inputs.tolist()


def test_shares_and_percentages_are_not_mixed_up(read: Callable[..., LabelledTable]):
    import polars

    schema = read(column(["5%", "7%"])).schema
    with pytest.raises(ValueSetError, match="a number in %"):
        schema.apply(polars.DataFrame({"x": [0.05]}))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("x,c\n1,w\n", ValueSetError, "new.csv:2:c: got the word 'w', expected one of 'u', 'v'"),
        ("x,c\n1,u\noops,u\n", ValueSetError, "new.csv:3:x: got 'oops', expected a number"),
        ("x,c\n1,u\n?,u\n", NotFiniteError, "new.csv:3:x: got '?', no value"),
        ("x\n1\n", ArgumentError, "new.csv: got no column 'c'"),
        ("x,c,z\n1,u,2\n", ArgumentError, "new.csv: got an unknown column 'z'"),
        ("x,c\n", FileFormatError, "no rows"),
    ],
)
def test_new_rows_that_do_not_fit_are_named(
    read: Callable[..., LabelledTable], text: str, error: type[Exception], message: str
):
    schema = read("x,c,k\n1,u,a\n2,v,b\n").schema
    Path("new.csv").write_text(text)
    with pytest.raises(error) as raised:
        schema.apply("new.csv")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("columns"),
        lambda data: data.update(reading=99),
        lambda data: data["columns"][0].update(kind="guess"),
        lambda data: data["columns"][0].update(scale="0/0"),
        lambda data: data["columns"][0].update(colour="red"),
        lambda data: data["options"].update(missing="guess"),
        lambda data: data["options"].pop("missing"),
        lambda data: data.update(columns=7),
    ],
)
def test_a_schema_that_is_none_is_refused(read: Callable[..., LabelledTable], change: Callable[[Any], Any]):
    data = read("x,k\n0.1,a\n2,b\n").schema.to_json()
    change(data)
    with pytest.raises(FileFormatError):
        TableSchema.from_json(data)


@pytest.mark.parametrize(
    "options",
    [
        {"missing": "guess"},
        {"dates": "ymd"},
        {"delimiter": "x"},
        {"decimal": ";"},
        {"delimiter": ",", "decimal": ","},
        {"columns": "x"},
        {"columns": ("x",), "drop": ("x",)},
        {"words": (1,)},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]):
    with pytest.raises(ArgumentError):
        TableOptions(**options)


def test_a_column_prints_and_compares_by_what_it_holds():
    assert Column("x", "number", scale=Fraction(10)) == Column.from_json({"name": "x", "kind": "number", "scale": "10"})


def test_ordinals_are_words(read: Callable[..., LabelledTable]):
    assert read(column(["1st", "2nd", "3rd", "crew"])).features == ("x=1st", "x=2nd", "x=3rd", "x=crew")


def test_numbers_that_are_farther_apart_than_the_largest_of_float64_are_shown(read: Callable[..., LabelledTable]):
    table = read(column(["1e308", "-1e308", "1e308", "-1e308"]))
    assert table.inputs[:, 0].tolist() == [1, 0, 1, 0]
    assert table.schema.table()[0][2] == "exact, in units of 2e+308, above -1e+308"
