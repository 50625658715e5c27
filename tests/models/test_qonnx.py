"""QONNX: graphs of Quant and BipolarQuant; run by qonnx where it is installed, and here from their definitions."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tpsolve.errors import ArgumentError, ExportError
from tpsolve.models import Model
from tpsolve.models._grid import Grid, grid_of
from tpsolve.models._layers import read_layers

onnx = pytest.importorskip("onnx")


def model_of(seed: int, outputs: int, *, pixels: bool = False, top: int = 5) -> Model:
    g = np.random.default_rng(seed)
    weights = [
        (g.integers(-top, top + 1, (7, 6)), g.integers(-9, 9, 7)),
        (g.choice([-1, 1], (5, 7)), g.integers(-2, 3, 5)),
    ]
    weights.append((g.integers(-3, 3, (outputs, 5)), g.integers(-3, 3, outputs)))
    X = g.integers(0, 256, (60, 6)) if pixels else g.integers(-9, 10, (60, 6))
    grid = Grid(np.zeros(6), np.full(6, 255.0), np.ones(6), np.zeros(6, bool)) if pixels else grid_of(X.astype(float))
    layers = read_layers([(w.astype(float), b.astype(float)) for w, b in weights])
    names, classes = tuple("abcdef"), tuple(range(max(2, outputs)))
    return Model(layers, names, False, classes, grid, rows=X.astype(float), shape=(1, 2, 3) if pixels else ())


def interpreted(made, x: np.ndarray) -> np.ndarray:
    """The output of a graph, node by node, after the definitions of ONNX and QONNX, in float32."""
    values = {one.name: onnx.numpy_helper.to_array(one) for one in made.graph.initializer} | {"x": x.astype(np.float32)}
    for node in made.graph.node:
        a, *rest = (values[name] for name in node.input)
        given = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Quant":
            scale, zero, bits = rest
            low = -(2 ** (bits - 1)) if given["signed"] else 0
            high = 2 ** (bits - 1) - 1 if given["signed"] else 2**bits - 1
            found = (np.round(np.clip(a / scale + zero, low, high)) - zero) * scale
        elif node.op_type == "BipolarQuant":
            found = np.where(a >= 0, 1, -1).astype(np.float32) * rest[0]
        elif node.op_type == "ReduceSum":
            found = a.sum(axis=tuple(rest[0]))
        elif node.op_type == "ArgMax":
            found = a.argmax(axis=given["axis"])
        elif node.op_type == "Cast":
            found = a.astype(np.int64)
        else:
            found = {"MatMul": np.matmul, "Add": np.add, "Greater": np.greater}[node.op_type](a, rest[0])
        values[node.output[0]] = found
    return values["class"]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("pixels", [True, False])
def test_graphs_give_the_classes_of_the_model(outputs: int, pixels: bool, tmp_path: Path):
    for seed in range(5):
        model = model_of(seed, outputs, pixels=pixels)
        done = model.export(tmp_path / "net.onnx", qonnx=True)
        assert done.by == ("qonnx" if importlib.util.find_spec("qonnx") else "")
        made = onnx.load(tmp_path / "net.onnx")
        assert model.rows is not None
        assert np.array_equal(interpreted(made, model.rows), model.layers.classes(model.rows))
        kinds = [(node.domain, node.op_type) for node in made.graph.node]
        assert ("qonnx.custom_op.general", "BipolarQuant") in kinds
        assert ("qonnx.custom_op.general", "Quant") in kinds


@pytest.mark.slow
def test_the_executor_of_qonnx_agrees(tmp_path: Path):
    pytest.importorskip("qonnx", reason="qonnx is not installed")
    for outputs in (1, 4):
        done = model_of(outputs, outputs).export(tmp_path / "net.onnx", qonnx=True)
        assert "rows are equal, by qonnx" in str(done)


def test_what_float32_would_round_is_refused(tmp_path: Path):
    wide = model_of(0, 3, top=2**22)
    with pytest.raises(ExportError, match=r"sums up to .* in layer 1, expected less than 2\^24.* bits=8"):
        wide.export(tmp_path / "net.onnx", qonnx=True)
    assert wide.export(tmp_path / "net.onnx", qonnx=True, bits=8).others[1] > 0
    halves = model_of(0, 3)
    object.__setattr__(halves, "grid", grid_of(np.full((2, 6), 0.5)))
    with pytest.raises(ExportError, match="values of a that are no whole numbers"):
        halves.export(tmp_path / "net.onnx", qonnx=True)
    with pytest.raises(ArgumentError, match=r"qonnx: got a file \.c"):
        wide.export(tmp_path / "net.c", qonnx=True)
