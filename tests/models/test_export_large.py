"""Exports of networks of some hundred weights: each kind of table in C, narrow weights, and what is too large."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpsolve.errors import ArgumentError, ExportError
from tpsolve.models import Model, load_model
from tpsolve.models._grid import Grid, check_rows, grid_of
from tpsolve.models._layers import read_layers
from tpsolve.models.export import _c, _write

COMPILER = shutil.which("gcc") or shutil.which("clang")
DRIVER = """#include <stdio.h>
#include "net.h"
int main(void)
{
    static TYPE x[NET_FEATURES];
    while (fread(x, sizeof x, 1, stdin) == 1)
        printf("%d\\n", net_predict(x));
    return 0;
}
"""
KINDS = ("signs", "few", "bytes", "wide", "zeros")


def random_weights(seed: int, sizes: tuple[int, ...], kinds: tuple[str, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    g = np.random.default_rng(seed)
    found = []
    for (n, m), kind in zip(itertools.pairwise(sizes), kinds, strict=True):
        if kind == "signs":
            weight = g.choice([-1, 1], (m, n))
        elif kind == "zeros":
            weight = g.integers(-1, 2, (m, n)) * (g.uniform(size=(m, 1)) < 0.8)
        else:
            top = {"few": 3, "bytes": 127, "wide": 2**31 - 1}[kind]
            weight = g.integers(-top, top + 1, (m, n))
        bias = g.integers(-3, 4, m) * max(1, int(np.abs(weight).max() // 2))
        found.append((weight.astype(float), bias.astype(float)))
    return found


def written_out(weights: list[tuple[np.ndarray, np.ndarray]], X: np.ndarray) -> np.ndarray:
    """Classes `(N,)` in Python's whole numbers."""
    # Inputs of 32 bits times weights of 32 bits leave 64; layers above have outputs of one bit.
    below = X.astype(object if np.abs(X).max() > 2**20 else np.int64)
    for number, (weight, bias) in enumerate(weights):
        kind = below.dtype
        sums = below.dot(weight.astype(np.int64).astype(kind).T) + bias.astype(np.int64).astype(kind)
        if number == len(weights) - 1:
            return (
                (sums[:, 0] >= 0).astype(int) if sums.shape[1] == 1 else np.array([list(r).index(max(r)) for r in sums])
            )
        below = np.where(sums >= 0, 1, -1)
    raise AssertionError


def model_of(weights, X: np.ndarray, shape: tuple[int, ...] = ()) -> Model:
    outputs, n = len(weights[-1][1]), X.shape[1]
    grid = Grid(np.zeros(n), np.full(n, 255.0), np.ones(n), np.zeros(n, dtype=bool)) if shape else grid_of(X)
    names, classes = tuple(f"x{k}" for k in range(n)), tuple(range(max(2, outputs)))
    return Model(read_layers(weights), names, False, classes, grid, rows=X, shape=shape)


def run_c(folder: Path, X: np.ndarray, compiler: str) -> list[int]:
    header = (folder / "net.h").read_text()
    kind = next(kind for kind in ("uint8_t", "int32_t", "double", "uint32_t") if f"const {kind} x[" in header)
    words = next(iter(re.findall(r"predict\(const uint32_t x\[(\d+)\]", header)), "NET_FEATURES")
    (folder / "driver.c").write_text(DRIVER.replace("TYPE", kind).replace("NET_FEATURES", words))
    flags = ["-Wall", "-Wextra", "-Werror", "-std=c99", "-pedantic", "-O1"]
    subprocess.run([compiler, *flags, "net.c", "driver.c", "-o", "net"], cwd=folder, check=True)
    if kind != "uint32_t":
        X = X.astype({"uint8_t": np.uint8, "int32_t": np.int32, "double": np.float64}[kind])
    content = X.tobytes()
    return [
        int(word) for word in subprocess.run([str(folder / "net")], input=content, capture_output=True).stdout.split()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "sizes", "kinds", "compiler", "count"),
    [
        ("pixels", (64, 40, 33, 5), ("bytes", "signs", "wide"), "gcc", 10_000),
        ("pixels", (64, 40, 33, 5), ("bytes", "signs", "wide"), "clang", 2000),
        ("numbers", (12, 32, 31, 4), ("wide", "few", "signs"), "gcc", 2000),
        ("halves", (9, 65, 8, 1), ("bytes", "zeros", "few"), "gcc", 2000),
    ],
)
def test_c_agrees_with_whole_numbers(inputs, sizes, kinds, compiler, count: int, tmp_path: Path, monkeypatch):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    monkeypatch.setattr(_write, "MAX_ROWS", 100)
    monkeypatch.setattr(_write, "MAX_PAIRS", 400)
    weights = random_weights(7, sizes, kinds)
    g = np.random.default_rng(0)
    if inputs == "halves":
        # Weights that reach exactly a boundary at odd halves.
        weights[0][1][:] += 0.5 - weights[0][1] % 1
        X = g.integers(-9, 10, (count, sizes[0])) / 2
        doubled = [(weights[0][0], 2 * weights[0][1]), *weights[1:]]
        expected = written_out(doubled, (2 * X).astype(np.int64))
    else:
        X = (
            g.integers(0, 256, (count, sizes[0]))
            if inputs == "pixels"
            else g.integers(-(2**31), 2**31, (count, sizes[0]))
        )
        expected = written_out(weights, X)
    shape = (1, 8, 8) if inputs == "pixels" else ()
    model = model_of(weights, X[:50].astype(float), shape)
    model.export(tmp_path / "net.c")
    assert (tmp_path / "net_test.c").stat().st_size > 1000
    assert run_c(tmp_path, X, compiler) == expected.tolist()
    assert len(set(expected.tolist())) > 1


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no compiler of C")
@pytest.mark.parametrize(
    ("values", "sizes", "kinds", "words"),
    [
        ("signs", (70, 5, 1), ("signs", "few"), "popcount(x[j] ^ w0[k][j])"),
        ("signs", (33, 3), ("bytes",), "popcount(x[j] & w0[k][p * 2 + j])"),
        ("bits", (64, 9, 2), ("signs", "wide"), "popcount(x[j] & w0[k][p * 2 + j])"),
        ("bits", (9, 1), ("few",), "popcount(x[j] & w0[k][p * 1 + j])"),
        ("mixed", (40, 8, 3), ("zeros", "signs"), "popcount(x[j] & w0[k][p * 2 + j])"),
        ("mixed", (31, 4, 1), ("wide", "few"), "if (x[j / 32] >> j % 32 & 1)"),
    ],
)
def test_inputs_with_two_values_are_bits(values, sizes, kinds, words, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(_write, "MAX_ROWS", 60)
    weights, n, g = random_weights(5, sizes, kinds), sizes[0], np.random.default_rng(4)
    signs = {"signs": np.ones(n, bool), "bits": np.zeros(n, bool), "mixed": np.arange(n) % 3 == 0}[values]
    X = np.where(signs, -1, 0) + g.integers(0, 2, (400, n)) * np.where(signs, 2, 1)
    X[:, -1] = 1
    model = model_of(weights, X[:90].astype(float))
    model.save(tmp_path / "net.npz")
    for one in (model, load_model(tmp_path / "net.npz")):
        one.export(tmp_path / "net.c")
        source = (tmp_path / "net.c").read_text()
        assert words in source
        assert f"int net_predict(const uint32_t x[{-(-n // 32)}])" in source
    given = np.zeros((len(X), -(-n // 32) * 32), np.uint8)
    given[:, :n] = X > 0
    content = np.packbits(given, axis=1, bitorder="little")
    expected = written_out(weights, X)
    assert len(set(expected.tolist())) > 1
    assert run_c(tmp_path, content, str(COMPILER)) == expected.tolist()


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no compiler of C")
def test_a_third_value_makes_inputs_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_write, "MAX_ROWS", 20)
    weights = [(np.array([[2.0, 1]]), np.array([-1.0]))]
    X = np.array([[0.0, 1], [1, 0], [1, 1]])
    model_of(weights, np.vstack([X, [-1, 1]])).export(tmp_path / "net.c")
    assert "const int32_t x[2]" in (tmp_path / "net.h").read_text()
    # A table of other values, on which a model of bits is compared.
    model = model_of(weights, X)
    model.export(tmp_path / "net.c", np.array([[2.0, 1]]))
    assert "const int32_t x[2]" in (tmp_path / "net.h").read_text()


def test_check_rows_of_signs_are_signs_on_both_sides_of_the_boundary():
    g = np.random.default_rng(0)
    X, weight = g.choice([-1.0, 1.0], (50, 12)), g.integers(-3, 4, (1, 12)).astype(float)
    rows = check_rows(read_layers([(weight, np.zeros(1))]), grid_of(X), 30)
    assert set(np.unique(rows)) == {-1.0, 1.0}
    a, b = np.split(rows[30:], 2)
    assert len(a) > 5
    assert ((a @ weight[0] >= 0) != (b @ weight[0] >= 0)).all()
    assert ((a != b).sum(axis=1) == 1).all()


@pytest.mark.slow
def test_layers_of_signs_become_popcounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_write, "MAX_ROWS", 20)
    X = np.random.default_rng(0).integers(0, 4, (30, 10)).astype(float)
    for kinds, words, without in (
        (("few", "signs", "few"), "popcount(h0[j] ^ w1[k][j])", "int64_t w1"),
        (("few", "few", "zeros"), "popcount(h0[j] & w1[k][p * 2 + j])", "int64_t w1"),
        (("wide", "wide", "wide"), "int32_t w1[40][40]", "popcount"),
    ):
        model_of(random_weights(1, (10, 40, 40, 3), kinds), X).export(tmp_path / "net.c")
        source = (tmp_path / "net.c").read_text()
        assert words in source
        assert without not in source


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no compiler of C")
def test_all_rows_are_compared_though_few_are_test_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_c, "MAX_VECTORS", 1000)
    X = np.random.default_rng(0).integers(0, 4, (900, 10)).astype(float)
    model = model_of(random_weights(1, (10, 20, 40, 3), ("few", "signs", "few")), X)
    done = model.export(tmp_path / "net.c")
    assert done.rows > 2000
    assert (tmp_path / "net_test.c").stat().st_size < 8000
    write = _c.write
    # A wrong constant in one unit.
    monkeypatch.setattr(
        _c, "write", lambda plan: {k: v.replace(b"c1[40] = {", b"c1[40] = {99 + ") for k, v in write(plan).items()}
    )
    with pytest.raises(ExportError, match="the model's"):
        model.export(tmp_path / "wrong.c")
    # A wrong test vector alone.
    monkeypatch.setattr(
        _c,
        "write",
        lambda plan: {k: re.sub(rb"(expected\[\d+\] = \{)", rb"\g<1>9 + ", v) for k, v in write(plan).items()},
    )
    with pytest.raises(ExportError, match="test vectors: 1 of"):
        model.export(tmp_path / "wrong.c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.c", "net.h", "net_test.c"]


@pytest.mark.slow
def test_narrow_weights_say_what_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_write, "MAX_ROWS", 200)
    g = np.random.default_rng(3)
    weights = [(g.normal(size=(16, 20)), g.normal(size=16)), (g.normal(size=(4, 16)), g.normal(size=4))]
    X = g.integers(0, 9, (200, 20)).astype(float)
    model = model_of(weights, X)
    before = model.predict(X)
    others = {}
    for bits in (3, 8, 20):
        done = model.export(tmp_path / "net.json", bits=bits)
        others[bits] = done.others[0]
        assert done.others[1] == 200
        assert f"give {done.others[0]} of 200 rows another class" in str(done)
        layers = json.loads((tmp_path / "net.json").read_text())["layers"]
        assert max(abs(int(w)) for layer in layers for unit in layer for w in unit["weights"]) < 2 ** (bits - 1)
    assert others[3] > others[20] == 0
    assert np.array_equal(model.predict(X), before), "the model itself stays"
    wrong: Any
    for wrong in (1, 33, 2.5, True):
        with pytest.raises(ArgumentError, match="bits"):
            model.export(tmp_path / "net.json", bits=wrong)


def test_verilog_of_thousands_of_weights_is_refused(tmp_path: Path):
    weights = random_weights(0, (80, 80, 3), ("bytes", "few"))
    with pytest.raises(ExportError, match=r"weights, expected at most 5,000 for .v. Train a narrower network"):
        model_of(weights, np.eye(80)).export(tmp_path / "net.v")


@pytest.mark.slow
def test_images_are_checked_on_pixels_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_write, "MAX_ROWS", 50)
    weights = random_weights(2, (16, 20, 3), ("bytes", "few"))
    model = model_of(weights, np.random.default_rng(0).integers(0, 256, (9, 16)).astype(float), (1, 4, 4))
    for suffix in (".c", ".v", ".json", ".py"):
        model.export(tmp_path / f"net{suffix}")
    header = (tmp_path / "net.h").read_text()
    assert "const uint8_t x[16]" in header
    assert "the pixels of an image of 1 x 4 x 4, whole numbers from 0 to 255" in header
    assert "input [7:0] x0," in (tmp_path / "net.v").read_text()
