"""A model as an ONNX graph of MatMul, Add and Sign in float64.

Whole weights and inputs give exact sums. Others are rounded, in an order that is up to the tool. So a row may get
another class if it is nearer to the boundary of a unit than rounding is. Such rows are not compared, and a training row
that is so near refuses the export.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from tpsolve._version import __version__
from tpsolve.errors import ExportError, MissingLibraryError
from tpsolve.models.export._plan import Plan

MAX_WORK, MAX_NUMBERS = 5_000_000_000, 10_000_000
"""Weights times rows of a comparison, and numbers in all rows: what takes a second or two."""
SUFFIXES = (".onnx",)
_OPSET = 17


def compared(plan: Plan) -> np.ndarray:
    """The rows whose sums float64 gives the right signs, in whatever order they are added: `(N,)` bool."""
    weight = np.array([weight for weight, _ in plan.whole[0]], dtype=np.float64)
    bias = np.array([bias for _, bias in plan.whole[0]], dtype=np.float64)
    size = np.abs(plan.rows) @ np.abs(weight).T + np.abs(bias)
    exact = (size < 2.0**53) & (plan.rows == np.round(plan.rows)).all(axis=1, keepdims=True)
    rounding = size * (2 * (plan.rows.shape[1] + 2) * 2.0**-52)
    return (exact | (np.abs(plan.rows @ weight.T + bias) > 2 * rounding)).all(axis=1)


def write(plan: Plan) -> dict[str, bytes]:
    """The files by their suffixes.

    Raises:
        ExportError: training rows so near to a boundary that float64 may round their sums across it.
        MissingLibraryError: the library onnx is not installed.
    """
    if importlib.util.find_spec("onnx") is None:
        raise MissingLibraryError("an .onnx file", "onnx", "'tpsolve[onnx]'")
    near = int((~compared(plan)[: plan.trained]).sum())
    if near:
        got = f"{near} training rows nearer to a boundary than float64 can tell"
        raise ExportError("model", got, "rows whose sums it gives the right signs", "Export it as .c or .py.")
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, below = [], [], "x"

    def constant(name: str, value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(value, name))
        return name

    constant("half", np.array(0.5))
    for number, layer in enumerate(plan.whole):
        matrix = np.array([weight for weight, _ in layer], dtype=np.float64).T.copy()
        bias = np.array([bias for _, bias in layer], dtype=np.float64)
        nodes.append(helper.make_node("MatMul", [below, constant(f"weight{number}", matrix)], [f"product{number}"]))
        nodes.append(helper.make_node("Add", [f"product{number}", constant(f"bias{number}", bias)], [f"sum{number}"]))
        # Sign of 0 is 0, where a unit outputs +1.
        nodes.append(helper.make_node("Sign", [f"sum{number}"], [f"sign{number}"]))
        nodes.append(helper.make_node("Add", [f"sign{number}", "half"], [f"above{number}"]))
        below = f"unit{number}"
        nodes.append(helper.make_node("Sign", [f"above{number}"], [below]))
    last = len(plan.whole) - 1
    if len(plan.whole[-1]) == 1:
        nodes.append(helper.make_node("Squeeze", [below, constant("axis", np.array([1]))], ["fires"]))
        nodes.append(helper.make_node("Greater", ["fires", constant("zero", np.array(0.0))], ["second"]))
        nodes.append(helper.make_node("Cast", ["second"], ["class"], to=TensorProto.INT64))
    else:
        nodes = nodes[:-3]
        nodes.append(helper.make_node("ArgMax", [f"sum{last}"], ["class"], axis=1, keepdims=0))
    return finished(plan, nodes, weights, TensorProto.DOUBLE, "rows", {"": _OPSET})


def finished(
    plan: Plan, nodes: list[Any], constants: list[Any], kind: int, rows: int | str, opsets: dict[str, int]
) -> dict[str, bytes]:
    """The file of a graph from "x", of a type of onnx and so many rows, to "class"."""
    from onnx import TensorProto, checker, helper

    graph = helper.make_graph(
        nodes,
        plan.name,
        [helper.make_tensor_value_info("x", kind, [rows, len(plan.features)])],
        [helper.make_tensor_value_info("class", TensorProto.INT64, [rows])],
        constants,
        doc_string="\n".join(plan.about),
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    made = helper.make_model(graph, opset_imports=imports, producer_name="tpsolve")
    made.producer_version, made.ir_version = __version__, 8
    helper.set_model_props(made, {"features": "\n".join(plan.features), "classes": "\n".join(map(str, plan.classes))})
    checker.check_model(made)
    return {".onnx": made.SerializeToString()}


def run(plan: Plan, folder: Path) -> tuple[np.ndarray, str]:
    """The classes that onnxruntime, or else the reference of the library onnx, gives to the rows."""
    path = str(folder / f"{plan.stem}.onnx")
    rows = plan.rows
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"x": rows})[0]), "onnxruntime"
    from onnx.reference import ReferenceEvaluator

    found: Any = ReferenceEvaluator(path).run(None, {"x": rows})
    return np.asarray(found[0]), "the reference of onnx"
