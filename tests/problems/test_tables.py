"""The named tables: what they hold never changes."""

import csv
import io
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
from support.network_oracle import parity_table, random_table

from tpsolve.errors import ArgumentError, FileFormatError, FolderError, UnknownNameError
from tpsolve.problems import make_table


@pytest.mark.parametrize(("name", "p", "n", "seed"), [("random-2-40", 2, 40, 0), ("random-4-60-s7", 4, 60, 7)])
def test_random_tables_are_the_ones_that_the_literature_of_this_problem_uses(name: str, p: int, n: int, seed: int):
    for mine, theirs in zip(make_table(name), random_table(p, n, seed), strict=True):
        assert np.array_equal(mine, theirs)


def test_parity_is_the_product():
    for mine, theirs in zip(make_table("parity-5"), parity_table(5), strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("iris-two", (100, 4), 2), ("wine", (178, 13), 3), ("digits", (1797, 64), 10), ("breast-cancer", (569, 30), 2)],
)
def test_tables_of_scikit_learn_have_their_known_sizes(name: str, shape: tuple[int, int], classes: int):
    inputs, labels = make_table(name)
    assert inputs.shape == shape
    assert len(set(labels.tolist())) == classes


def test_principal_components_are_uncorrelated_and_fall_in_variance():
    inputs, _ = make_table("breast-cancer-pc5")
    covariance = np.cov(inputs.T)
    assert inputs.shape == (569, 5)
    assert np.abs(covariance - np.diag(covariance.diagonal())).max() < 1e-5
    assert (np.diff(covariance.diagonal()) < 0).all()


def test_blobs_of_opposite_corners_share_a_label():
    inputs, labels = make_table("xor-blobs-200-s3")
    assert np.mean(np.sign(inputs).prod(1) == labels) > 0.95
    assert not np.array_equal(inputs, make_table("xor-blobs-200")[0])


def test_monks_have_as_many_robots_of_each_class_as_the_original():
    counts = {number: int(make_table(f"monks-{number}")[1].sum()) for number in (1, 2, 3)}
    assert counts == {1: 216, 2: 142, 3: 228}
    for number in (1, 2, 3):
        inputs, _ = make_table(f"monks-{number}")
        assert inputs.shape == (432, 17)
        assert len(np.unique(inputs, axis=0)) == 432
        assert (inputs.sum(1) == 6).all(), "one value of each of six attributes"


@pytest.mark.skipif("TPSOLVE_DATA" not in os.environ, reason="TPSOLVE_DATA is not set")
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.data
def test_monks_are_the_original_test_sets(number: int):
    folder = Path(os.environ["TPSOLVE_DATA"]) / "tabular"
    plain, packed = folder / f"monks{number}.csv", folder / f"monks{number}.csv.xz"
    if not plain.exists() and not packed.exists():
        pytest.skip(f"no monks{number} in {folder}")
    text = plain.read_text() if plain.exists() else lzma.decompress(packed.read_bytes()).decode()
    header, *rows = csv.reader(io.StringIO(text))
    label, split = header.index("target"), header.index("split")
    attributes = [i for i in range(len(header)) if i not in (label, split)]
    ours = {tuple(x.nonzero()[0].tolist()): int(y) for x, y in zip(*make_table(f"monks-{number}"), strict=True)}
    starts = (0, 3, 6, 8, 11, 15)
    test = [row for row in rows if row[split] == "test"]
    assert len(test) == 432
    for row in test:
        robot = tuple(start + int(row[i]) - 1 for start, i in zip(starts, attributes, strict=True))
        assert ours[robot] == int(row[label]), row


def test_checkerboards_alternate():
    inputs, labels = make_table("checkerboard-2")
    assert [(*x, y) for x, y in zip(inputs.tolist(), labels.tolist(), strict=True)] == [
        (0, 0, 0),
        (0, 1, 1),
        (1, 0, 1),
        (1, 1, 0),
    ]
    inputs, labels = make_table("checkerboard-4")
    assert [(int(a + b) % 2) for a, b in inputs.tolist()] == labels.tolist()
    assert len(np.unique(inputs, axis=0)) == 16


def test_unknown_names_and_missing_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TPSOLVE_DATA", raising=False)
    with pytest.raises(UnknownNameError, match=r"random-P-N"):
        make_table("random-2")
    with pytest.raises(ArgumentError, match="at least 1"):
        make_table("parity-0")
    with pytest.raises(ArgumentError, match="monks-4"):
        make_table("monks-4")
    with pytest.raises(ArgumentError, match=r"breast-cancer-pc31'.* at most 30 components"):
        make_table("breast-cancer-pc31")
    with pytest.raises(FolderError, match="TPSOLVE_DATA"):
        make_table("data/banknote")
    with pytest.raises(FolderError, match="no table 'nothing'"):
        make_table("data/nothing", tmp_path)
    (tmp_path / "tabular").mkdir()
    (tmp_path / "tabular" / "words.csv").write_text("a:c,target\nred,1\n")
    with pytest.raises(FileFormatError, match="numbers alone"):
        make_table("data/words", tmp_path)


TABLE = "a,target,b,split\n1.5,no,2,train\n-3,yes,4,test\n"


@pytest.mark.parametrize("packed", [False, True])
def test_table_of_a_folder_is_its_numbers_and_targets(tmp_path: Path, packed: bool):
    (tmp_path / "tabular").mkdir()
    if packed:
        (tmp_path / "tabular" / "t.csv.xz").write_bytes(lzma.compress(TABLE.encode()))
    else:
        (tmp_path / "tabular" / "t.csv").write_text(TABLE)
    inputs, labels = make_table("data/t", tmp_path)
    assert inputs.tolist() == [[1.5, 2], [-3, 4]]
    assert labels.tolist() == ["no", "yes"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv.xz", lzma.compress(TABLE.encode())[:-20], "can't be read .*ended before"),
        ("t.csv.xz", TABLE.encode(), "can't be read .*Input format not supported"),
        ("t.csv", b"", "it is empty"),
        ("t.csv", b"a,target\n", "no rows below the header"),
        ("t.csv", b"a,b\n1,2\n", "has the columns a, b, expected target and features"),
        ("t.csv", b"target,split\n1,test\n", "has the columns target, split, expected target and features"),
        ("t.csv", b"a,target\n1,2\n1\n", ":3: 1 values, expected 2"),
    ],
)
def test_damaged_table_of_a_folder_is_refused_by_its_path(tmp_path: Path, name: str, content: bytes, words: str):
    (tmp_path / "tabular").mkdir()
    (tmp_path / "tabular" / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=f"{name}.*{words}"):
        make_table("data/t", tmp_path)


@pytest.mark.skipif("TPSOLVE_DATA" not in os.environ, reason="needs the data folder, TPSOLVE_DATA")
@pytest.mark.data
def test_tables_of_the_data_folder():
    inputs, labels = make_table("data/banknote")
    assert inputs.shape == (1372, 4)
    assert len(labels) == 1372


@pytest.mark.parametrize("name", ["parity-40", "random-1000000-1000000", "checkerboard-100000", "xor-blobs-10000000"])
def test_tables_that_would_fill_the_memory_are_refused(name: str):
    with pytest.raises(ArgumentError, match=r"name: got a table of .* points, expected at most 10,000,000 numbers"):
        make_table(name)
