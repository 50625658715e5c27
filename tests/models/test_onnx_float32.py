"""ONNX in float32: exact where inputs are whole, by digits of the weights; what it would round is refused or named."""

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpsolve.errors import ArgumentError, ExportError
from tpsolve.models import Model
from tpsolve.models._grid import grid_of
from tpsolve.models._layers import read_layers
from tpsolve.models.export import _onnx_float32, _write
from tpsolve.models.export._onnx_float32 import _digits

onnx = pytest.importorskip("onnx")


def model_of(seed: int, outputs: int, bits: int, X: np.ndarray) -> Model:
    """Of weights up to 2^bits, with biases near the middle of the sums."""
    g = np.random.default_rng(seed)
    sizes = (X.shape[1], 9, 5, outputs)
    layers = []
    for n, m in itertools.pairwise(sizes):
        weight = g.integers(-(2**bits), 2**bits + 1, (m, n)).astype(float)
        bias = g.integers(-(2**bits), 2**bits + 1, m).astype(float)
        layers.append((weight, bias - np.round(weight @ np.median(X, axis=0)) if not layers else bias))
    classes = tuple(range(max(2, outputs)))
    names = tuple(f"f{k}" for k in range(X.shape[1]))
    return Model(read_layers(layers), names, False, classes, grid_of(X.astype(float)), rows=X.astype(float))


def in_float32(path: Path, X: np.ndarray) -> np.ndarray:
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        return np.asarray(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": X})[0])
    found: Any = onnx.reference.ReferenceEvaluator(str(path)).run(None, {"x": X})
    return np.asarray(found[0])


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize(("bits", "top"), [(3, 9), (12, 255), (31, 255), (35, 2**13)])
def test_whole_inputs_are_bit_equal_though_sums_exceed_float32(outputs: int, bits: int, top: int, tmp_path: Path):
    X = np.random.default_rng(bits).integers(0, top + 1, (300, 6))
    model = model_of(bits, outputs, bits, X)
    done = model.export(tmp_path / "net.onnx", float32=True)
    assert done.by in ("onnxruntime", "the reference of onnx")
    assert done.rows > 2000
    made = onnx.load(tmp_path / "net.onnx")
    kinds = {one.data_type for one in made.graph.initializer} | {made.graph.input[0].type.tensor_type.elem_type}
    assert kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    fresh = np.random.default_rng(1).integers(0, top + 1, (500, 6))
    expected = model.predict(fresh)
    assert np.array_equal(in_float32(tmp_path / "net.onnx", fresh.astype(np.float32)), expected)


def test_digits_are_the_weights_and_fit():
    g = np.random.default_rng(0)
    for bits, top in ((2, 5), (20, 100), (52, 3), (40, 2**20)):
        weight, bias = (g.integers(-(2**bits), 2**bits, size).astype(float) for size in ((7, 3), (3,)))
        digits, base = _digits(weight, bias, np.full(7, float(top)))
        assert np.array_equal(sum(w * base**k for k, (w, _) in enumerate(digits)), weight)
        assert np.array_equal(sum(b * base**k for k, (_, b) in enumerate(digits)), bias)
        assert len(digits) == 1 if bits < 20 else len(digits) > 1
        assert max((np.abs(w).sum(axis=0) * top + np.abs(b)).max() for w, b in digits) < 2**24
    with pytest.raises(ExportError, match=r"whole inputs up to 1.68e\+07 in 2 columns.*Scale the table"):
        _digits(np.ones((2, 1)), np.zeros(1), np.full(2, 2.0**24))


def test_inputs_that_are_not_whole_are_compared_where_float32_can_tell(tmp_path: Path):
    X = np.random.default_rng(0).normal(size=(60, 3))
    done = model_of(0, 3, 4, X).export(tmp_path / "net.onnx", float32=True)
    assert "beside boundaries, which float32 can't decide, were left out" in done.by
    assert done.rows > 500
    weights = [(np.array([[1.0, -1.0]]), np.array([0.0])), (np.ones((1, 1)), np.zeros(1))]
    near = np.array([[0.1, 0.1 + 2.0**-40], [0.5, 0.1], [0.2, 0.7]])
    sharp = Model(read_layers(weights), ("a", "b"), False, (0, 1), grid_of(near), rows=near)
    sharp.export(tmp_path / "sharp.onnx")
    with pytest.raises(ExportError, match=r"1 training rows nearer to a boundary than float32 can tell.*\.c or \.py"):
        sharp.export(tmp_path / "sharp32.onnx", float32=True)


def test_a_wrong_graph_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    X = np.random.default_rng(0).integers(0, 256, (50, 6))
    model = model_of(5, 1, 31, X)
    right = _onnx_float32._digits
    monkeypatch.setattr(_onnx_float32, "_digits", lambda *given: (right(*given)[0], 2 * right(*given)[1]))
    with pytest.raises(ExportError, match=r"got class .* from .* one of \d+ such rows"):
        model.export(tmp_path / "net.onnx", float32=True)
    assert not list(tmp_path.iterdir())


def test_only_one_kind_of_onnx_at_a_time(tmp_path: Path):
    model = model_of(0, 1, 3, np.arange(12).reshape(4, 3))
    for name, settings in (("net.c", {"float32": True}), ("net.onnx", {"float32": True, "qonnx": True})):
        with pytest.raises(ArgumentError, match="float32"):
            model.export(tmp_path / name, **settings)
    assert set(_write.LANGUAGES) == {".c", ".json", ".onnx", ".py", ".v"}
