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
UNSURE = "float64"
_OPSET = 17


def compared(plan: Plan) -> np.ndarray:
    """The rows whose sums float64 gives the right signs, in whatever order they are added: `(N,)` bool."""
    sums, size = first_sums(plan)
    exact = (size < 2.0**53) & (plan.rows == np.round(plan.rows)).all(axis=1, keepdims=True)
    rounding = size * (2 * (plan.rows.shape[1] + 2) * 2.0**-52)
    return (exact | (np.abs(sums) > 2 * rounding)).all(axis=1)


def first_sums(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Of each row and unit of the first layer the sum, and the sum of absolute values: `(N, units)` each."""
    weight = np.array([weight for weight, _ in plan.whole[0]], dtype=np.float64)
    bias = np.array([bias for _, bias in plan.whole[0]], dtype=np.float64)
    return plan.rows @ weight.T + bias, np.abs(plan.rows) @ np.abs(weight).T + np.abs(bias)


def write(plan: Plan) -> dict[str, bytes]:
    """The files by their suffixes.

    Raises:
        ExportError: training rows so near to a boundary that float64 may round their sums across it.
        MissingLibraryError: the library onnx is not installed.
    """
    check(plan, compared(plan), UNSURE)
    return graph(plan, [[layer_arrays(layer)] for layer in plan.whole], [1.0] * len(plan.whole), np.float64)


def layer_arrays(layer: list[tuple[list[int], int]]) -> tuple[np.ndarray, np.ndarray]:
    """`(n, units)` and `(units,)` float64 of whole weights and biases."""
    return np.array([weight for weight, _ in layer], np.float64).T, np.array([bias for _, bias in layer], np.float64)


def check(plan: Plan, told: np.ndarray, kind: str) -> None:
    """Raise if the library onnx is absent, or if a training row is not among the rows `told (N,)`."""
    if importlib.util.find_spec("onnx") is None:
        raise MissingLibraryError("an .onnx file", "onnx", "'tpsolve[onnx]'")
    near = int((~told[: plan.trained]).sum())
    if near:
        got = f"{near} training rows nearer to a boundary than {kind} can tell"
        raise ExportError("model", got, "rows whose sums it gives the right signs", "Export it as .c or .py.")


def graph(plan: Plan, layers: list[list[tuple[np.ndarray, np.ndarray]]], bases: list[float], dtype: Any) -> Any:
    """The file of a graph in float32 or float64.

    Args:
        layers: of each layer weight `(n, units)` and bias of its digits, the lowest first. The sum of a unit is that
            of the sums of its digits, each times one more power of the base. One digit is the sum itself.
        bases: of each layer, a power of two.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, below = [], {}, "x"

    def constant(name: str, value: Any) -> str:
        kind = value.dtype if isinstance(value, np.ndarray) and value.dtype == np.int64 else dtype
        constants[name] = numpy_helper.from_array(np.array(value, dtype=kind, order="C"), name)
        return name

    def node(kind: str, given: list[str], name: str, **settings: Any) -> str:
        nodes.append(helper.make_node(kind, given, [name], **settings))
        return name

    for number, (digits, base) in enumerate(zip(layers, bases, strict=True)):
        sums = []
        for k, (matrix, bias) in enumerate(digits):
            end = f"{number}" if len(digits) == 1 else f"{number}_{k}"
            product = node("MatMul", [below, constant(f"weight{end}", matrix)], f"product{end}")
            sums.append(node("Add", [product, constant(f"bias{end}", bias)], f"sum{end}"))
        for k in range(len(sums) - 1):
            # What is more than a digit goes to the next one, so that the last one has the sign of the whole sum.
            end = f"{number}_{k}"
            share = node("Mul", [sums[k], constant(f"share{number}", 1 / base)], f"share{end}")
            carry = node("Floor", [share], f"carry{end}")
            whole = node("Mul", [carry, constant(f"base{number}", base)], f"whole{end}")
            sums[k] = node("Sub", [sums[k], whole], f"digit{end}")
            sums[k + 1] = node("Add", [sums[k + 1], carry], f"more{end}")
        if number == len(layers) - 1 and digits[0][0].shape[1] > 1:
            below = _largest(node, constant, sums)
            break
        # Sign of 0 is 0, where a unit outputs +1.
        sign = node("Sign", [sums[-1]], f"sign{number}")
        above = node("Add", [sign, constant("half", 0.5)], f"above{number}")
        below = node("Sign", [above], f"unit{number}")
    else:
        fires = node("Squeeze", [below, constant("axis", np.array([1]))], "fires")
        second = node("Greater", [fires, constant("zero", 0.0)], "second")
        node("Cast", [second], "class", to=TensorProto.INT64)
    kind = TensorProto.DOUBLE if dtype is np.float64 else TensorProto.FLOAT
    return finished(plan, nodes, list(constants.values()), kind, "rows", {"": _OPSET})


def _largest(node: Any, constant: Any, sums: list[str]) -> str:
    """The first of the units whose sum is the largest: of those with the largest last digit, and so on downwards."""
    scores = sums[-1]
    for k in range(len(sums) - 2, -1, -1):
        most = node("ReduceMax", [scores], f"most{k}", axes=[1], keepdims=1)
        best = node("Equal", [scores, most], f"best{k}")
        # Digits are at least 0.
        scores = node("Where", [best, sums[k], constant("none", -1.0)], f"among{k}")
    return node("ArgMax", [scores], "class", axis=1, keepdims=0)


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


def run(plan: Plan, folder: Path, dtype: Any = np.float64) -> tuple[np.ndarray, str]:
    """The classes that onnxruntime, or else the reference of the library onnx, gives to the rows."""
    path = str(folder / f"{plan.stem}.onnx")
    with np.errstate(over="ignore"):
        rows = plan.rows.astype(dtype)
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"x": rows})[0]), "onnxruntime"
    from onnx.reference import ReferenceEvaluator

    found: Any = ReferenceEvaluator(path).run(None, {"x": rows})
    return np.asarray(found[0]), "the reference of onnx"
