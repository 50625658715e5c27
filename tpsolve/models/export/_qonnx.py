"""A model as a graph of QONNX, for tools that make hardware of it: float32 with the nodes Quant and BipolarQuant.

Weights and inputs are whole numbers whose sums float32 holds exactly. So every tool computes the same, in any order.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from tpsolve.errors import ExportError, MissingLibraryError
from tpsolve.models.export._onnx import finished
from tpsolve.models.export._plan import Plan

MAX_WORK, MAX_NUMBERS = 1_000_000_000, 10_000_000
"""Weights times rows of a comparison, and numbers in all rows: what takes a second or two."""
SUFFIXES = (".onnx",)
DOMAIN = "qonnx.custom_op.general"
_OPSET, _EXACT = 17, 2**24


def write(plan: Plan) -> dict[str, bytes]:
    """The files by their suffixes.

    Raises:
        ExportError: inputs that are not whole, or sums that float32 does not hold.
        MissingLibraryError: the library onnx is not installed.
    """
    if importlib.util.find_spec("onnx") is None:
        raise MissingLibraryError("an .onnx file", "onnx", "'tpsolve[onnx]'")
    if not plan.grid.whole:
        name = plan.features[int(np.argmax(plan.grid.parts != 1))]
        mend = "Scale the table first, or leave qonnx away."
        raise ExportError("model", f"values of {name} that are no whole numbers", "whole numbers for QONNX", mend)
    reach = np.abs(plan.rows).max(axis=0).astype(int).tolist()
    for number, layer in enumerate(plan.whole):
        largest = max(abs(b) + sum(abs(w) * r for w, r in zip(weight, reach, strict=True)) for weight, b in layer)
        if largest >= _EXACT:
            mend = "Round the weights, such as with bits=8, or leave qonnx away."
            got = f"sums up to {largest:.3g} in layer {number + 1}"
            raise ExportError("model", got, "less than 2^24, which float32 holds", mend)
        reach = [1] * len(layer)
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, below = [], [], "x"

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.array(value, dtype=np.float32), name))
        return name

    def quantised(name: str, source: str, bits: int, *, signed: bool) -> str:
        given = [source, "one", "zero", constant(f"{name}_bits", bits)]
        how = {"signed": int(signed), "narrow": 0, "rounding_mode": "ROUND"}
        nodes.append(helper.make_node("Quant", given, [name], domain=DOMAIN, **how))
        return name

    constant("one", 1.0)
    constant("zero", 0.0)
    if plan.pixels:
        below = quantised("pixels", below, 8, signed=False)
    last = len(plan.whole) - 1
    for number, layer in enumerate(plan.whole):
        matrix = np.array([weight for weight, _ in layer]).T
        raw = constant(f"raw{number}", matrix)
        if (np.abs(matrix) == 1).all():
            weights = f"weight{number}"
            nodes.append(helper.make_node("BipolarQuant", [raw, "one"], [weights], domain=DOMAIN))
        else:
            bits = max(2, 1 + int(max(matrix.max(), -matrix.min() - 1)).bit_length())
            weights = quantised(f"weight{number}", raw, bits, signed=True)
        bias = constant(f"bias{number}", [bias for _, bias in layer])
        nodes.append(helper.make_node("MatMul", [below, weights], [f"product{number}"]))
        nodes.append(helper.make_node("Add", [f"product{number}", bias], [f"sum{number}"]))
        if number < last or len(layer) == 1:
            below = f"unit{number}"
            nodes.append(helper.make_node("BipolarQuant", [f"sum{number}", "one"], [below], domain=DOMAIN))
    if len(plan.whole[-1]) == 1:
        nodes.append(helper.make_node("ReduceSum", [below, _axis(constants, numpy_helper)], ["fires"], keepdims=0))
        nodes.append(helper.make_node("Greater", ["fires", "zero"], ["second"]))
        nodes.append(helper.make_node("Cast", ["second"], ["class"], to=TensorProto.INT64))
    else:
        nodes.append(helper.make_node("ArgMax", [f"sum{last}"], ["class"], axis=1, keepdims=0))
    return finished(plan, nodes, constants, TensorProto.FLOAT, 1, {"": _OPSET, DOMAIN: 1})


def run(plan: Plan, folder: Path) -> tuple[np.ndarray, str] | None:
    """The classes that the executor of qonnx gives to the rows; None: it is not installed."""
    if importlib.util.find_spec("qonnx") is None:
        return None
    import onnx
    from qonnx.core.modelwrapper import ModelWrapper  # pyright: ignore[reportMissingImports]
    from qonnx.core.onnx_exec import execute_onnx  # pyright: ignore[reportMissingImports]
    from qonnx.transformation.infer_shapes import InferShapes  # pyright: ignore[reportMissingImports]

    made = onnx.load(folder / f"{plan.stem}.onnx")
    for tensor in (*made.graph.input, *made.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = len(plan.rows)
    model = ModelWrapper(made).transform(InferShapes())
    found = execute_onnx(model, {"x": plan.rows.astype(np.float32)})
    return np.asarray(found["class"]).reshape(-1), "qonnx"


def _axis(constants: list[Any], numpy_helper: Any) -> str:
    constants.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"))
    return "axis"
