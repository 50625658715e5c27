"""Files of texts: their delimiters, their lines, their encodings, and what can't be read."""

import gzip
import io
import lzma
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tpsolve.errors import FileFormatError, NotFiniteError, TooLargeError, UnknownNameError
from tpsolve.tables import TableOptions, _text_files, read_table


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_delimiters_are_found_out(here: Path, sign: str):
    Path("t.csv").write_text(f"x{sign}y, z; w{sign}k\n1{sign}2{sign}a\n3{sign}4{sign}b\n".replace("y, z; w", "y"))
    table = read_table("t.csv", "k")
    assert (table.features, table.inputs.tolist(), table.labels) == (("x", "y"), [[1, 2], [3, 4]], ("a", "b"))
    if sign != ",":
        with pytest.raises(UnknownNameError, match="target"):
            read_table("t.csv", "k", TableOptions(delimiter=","))


def test_other_signs_inside_cells_do_not_mislead(here: Path):
    Path("t.csv").write_text('x;note;k\n1;"a, b, c";u\n2;"d, e, f";v\n3;"a, b, c";u\n')
    assert read_table("t.csv", "k").schema.columns[1].words == ("a, b, c", "d, e, f")
    Path("t.csv").write_text("x,k\n1,a;b\n2,c;d\n")
    assert read_table("t.csv", "k").labels == ("a;b", "c;d")


def test_a_comma_that_may_be_one_of_decimals_is_no_delimiter(here: Path):
    (here / "t.csv").write_text("size, mm;k\n1,5;a\n2,5;b\n")
    table = read_table("t.csv", "k")
    assert table.features == ("size, mm",)
    assert table.inputs.tolist() == [[1.5], [2.5]]


def test_lines_are_those_of_the_file(here: Path):
    Path("t.csv").write_text('x,note,k\n\n1,"of two\nlines",a\n\n\n2,one line,b\n3,one line,a\n')
    assert read_table("t.csv", "k").lines == (3, 7, 8)
    Path("t.csv").write_text("x,k\n1,a\n,\n2,b\n , \n,\n")
    with pytest.raises(NotFiniteError, match=r"t.csv:3"):
        read_table("t.csv", "k")
    table = read_table("t.csv", "k", TableOptions(missing="drop"))
    assert (table.lines, table.dropped) == ((2, 4), (3,))
    Path("t.csv").write_text("x,k\n1,a\n2,b\n")
    Path("new.csv").write_text('x\n1\n""\n2\n')
    with pytest.raises(NotFiniteError, match=r"new.csv:3:x: got no value"):
        read_table("t.csv", "k").schema.apply("new.csv", labels=False)
    Path("t.csv").write_text("sep=;\nx;k\n1;a\n2;b\n")
    assert read_table("t.csv", "k").lines == (3, 4)
    Path("t.csv").write_bytes(b"x,k\r\n1,a\r\n2,b\r\n")
    assert read_table("t.csv", "k").lines == (2, 3)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_part_of_the_first_name(here: Path, encoding: str):
    Path("t.csv").write_text("kind,größe\na,1\n", encoding=encoding)
    table = read_table("t.csv", "kind")
    assert (table.features, table.labels) == (("größe",), ("a",))


def test_packed_files_and_standard_input(here: Path, monkeypatch: pytest.MonkeyPatch):
    data = b"x,k\n1,a\n2,b\n"
    Path("t.csv.gz").write_bytes(gzip.compress(data))
    Path("t.csv.xz").write_bytes(lzma.compress(data))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    for name in ("t.csv.gz", "t.csv.xz", "-"):
        assert read_table(name, "k").inputs.tolist() == [[1], [2]]
    Path("bad.csv.gz").write_bytes(data)
    with pytest.raises(FileFormatError, match=r"bad.csv.gz: can't be read"):
        read_table("bad.csv.gz", "k")


def test_delimiters_at_the_end_of_lines_and_names_of_rows_are_put_right(here: Path):
    for text in ("x,k,\n1,a,\n2,b,\n", "x,k\n1,a,\n2,b,\n"):
        Path("t.csv").write_text(text)
        assert read_table("t.csv", "k").features == ("x",)
    Path("t.csv").write_text('"x","k"\n"Mazda",1,"a"\n"Fiat",2,"b"\n')
    table = read_table("t.csv", "k")
    assert (table.features, table.inputs.tolist()) == (("x",), [[1], [2]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("x,k\n", "no rows"),
        ("x,k\n1,a\n1\n", "t.csv:3: 1 values, expected 2"),
        ("x,k\n1,a\n\n1\n", "t.csv:4: 1 values, expected 2"),
        ("k,x,k\na,1,b\n", "two columns are named 'k'"),
        ("x, x,k\n1,2,b\n", "two columns are named 'x'"),
        ("k\na\nb\n", "no columns but k, the target"),
        ('x,k\n1,"a\n2,b\n', "t.csv:2: can't be read as CSV with a header"),
        ("x,k\n1,\0a\n", "zero bytes"),
        ("\xff\xfe\0\0x\0\0\0", "can't be read as UTF-32"),
        ("x k\n1 a\n2 b\n", "cells with spaces between them"),
        ("x,k\n1,5,a\n2,5,b\n", "one value more in each row than in the header"),
    ],
)
def test_tables_that_can_not_be_read_say_why(here: Path, text: str, message: str):
    Path("t.csv").write_text(text, encoding="latin-1")
    with pytest.raises(FileFormatError) as raised:
        read_table("t.csv", "k")
    assert message in str(raised.value)


def test_another_encoding_is_named_with_its_line_and_the_mend(here: Path):
    Path("t.csv").write_bytes("x,k\n1,a\n2,ä\n".encode("latin-1"))
    with pytest.raises(FileFormatError, match=r"t.csv:3: can't be read as UTF-8.*iconv"):
        read_table("t.csv", "k")


def test_more_text_than_fits_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_text_files, "MAX_BYTES", 10)
    Path("t.csv").write_text("x,k\n1,a\n2,b\n")
    words = "12 bytes of text, which takes about 120 bytes of memory, expected at most 10 bytes"
    with pytest.raises(TooLargeError, match=words):
        read_table("t.csv", "k")
    Path("t.csv.gz").write_bytes(gzip.compress(Path("t.csv").read_bytes()))
    with pytest.raises(TooLargeError, match="more than 10 bytes of text, which takes about 100 bytes of memory"):
        read_table("t.csv.gz", "k")


def test_a_comment_above_the_header_is_named(here: Path):
    Path("t.csv").write_text("# made by hand\nx,k\n1,a\n")
    with pytest.raises(FileFormatError, match=r"t.csv: a comment, expected a header.*Remove"):
        read_table("t.csv", "k")
