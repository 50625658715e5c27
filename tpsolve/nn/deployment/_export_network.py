"""A folded network as a file of ONNX or QONNX, compared with the network before it is put in its place."""

import importlib.util
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from tpsolve._storage._write_whole import write_whole
from tpsolve.errors import ArgumentError, ExportError, MissingLibraryError
from tpsolve.nn.deployment._graph_nodes import GraphNodes
from tpsolve.nn.deployment._way import Graph
from tpsolve.thresholds._base import first_input

_ROUNDING = 2.0**-18
"""Of the largest sum of a layer: what its sums in float32 may differ by, in another order."""


@dataclass(frozen=True)
class NetworkExport:
    """A file that was written.

    Args:
        path: where it stands.
        samples: on how many it was compared with the network; all thresholds and outputs were equal, but for rounding.
        by: what ran it; "": nothing here can, so it was not compared.
        others: of how many of the samples a real sum, rounded in another order, crosses its threshold.
    """

    path: Path
    samples: int
    by: str
    others: int = 0

    def __str__(self) -> str:
        if not self.by:
            return f"{self.path}: not compared with the network, for want of a tool that runs it"
        words = f"{self.path}: the outputs of {self.samples - self.others:,} of {self.samples:,} samples are equal"
        rest = f"; real sums beside a threshold differ in {self.others:,}" if self.others else ""
        return f"{words}, by {self.by}{rest}"


def export(network: fx.GraphModule, path: str | PathLike[str], inputs: tuple[Any, ...], qonnx: bool) -> NetworkExport:
    """See `Folded.export`."""
    path = Path(path)
    if path.suffix != ".onnx":
        raise ArgumentError("path", path.name, "a name that ends in .onnx")
    if importlib.util.find_spec("onnx") is None:
        raise MissingLibraryError("an .onnx file", "onnx", "'tpsolve[onnx]'")
    if not all(
        isinstance(each, Tensor) and each.dtype == torch.float32 and each.dim() and len(each) for each in inputs
    ):
        raise ArgumentError("inputs", "other than float32 samples", "tensors (N, ...) of float32, of N samples")
    if {parameter.dtype for parameter in network.parameters()} - {torch.float32}:
        raise ArgumentError("network", "parameters of float64", "float32, which tools take", "Convert the model first.")
    values = _Values(network)
    try:
        with torch.no_grad():
            values.run(*inputs)
    except Exception as error:  # Whatever the network raises, it is these inputs that it can't take.
        what = f"tensors of {[tuple(one.shape) for one in inputs]} on which the network raises {type(error).__name__}"
        raise ArgumentError("inputs", what, "what the network takes") from error
    made = GraphNodes(Graph(network), values.env, qonnx)
    content = made.model(path.stem)
    by, others = "", 0
    found = _run(made, {name: each.numpy(force=True) for name, each in zip(made.inputs, inputs, strict=True)})
    if found is not None:
        by = "qonnx" if qonnx else "onnxruntime"
        others = _compare(made, values.env, found, by)
    write_whole(path, lambda stream: stream.write(content))
    return NetworkExport(path, len(inputs[0]), by, others)


class _Values(fx.Interpreter):
    """Values of all nodes."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network, garbage_collect_values=False)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        # Another node may change it in place.
        return value.clone() if isinstance(value, Tensor) and n.op != "placeholder" else value


def _run(made: GraphNodes, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """The values of thresholds and outputs by the names of their tensors; None: nothing here runs the graph."""
    model = made.checked()
    if made.qonnx:
        if importlib.util.find_spec("qonnx") is None:
            return None
        from qonnx.core.modelwrapper import ModelWrapper  # pyright: ignore[reportMissingImports]
        from qonnx.core.onnx_exec import execute_onnx  # pyright: ignore[reportMissingImports]
        from qonnx.transformation.infer_shapes import InferShapes  # pyright: ignore[reportMissingImports]

        return execute_onnx(ModelWrapper(model).transform(InferShapes()), inputs, return_full_exec_context=True)
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Fused or reordered nodes would still be the same graph; a warning of them tells the user nothing.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(np.asarray, session.run(names, inputs)), strict=True))


def _compare(made: GraphNodes, values: dict[fx.Node, Any], found: dict[str, np.ndarray], by: str) -> int:
    """Of how many samples a real sum beside its threshold differs.

    Raises:
        ExportError: another difference, at the first threshold or output where there is one.
    """
    samples = len(next(iter(found.values())))
    rounded = np.zeros(samples, dtype=bool)
    for node, tensor in made.watched.items():
        expected = values[node].numpy(force=True)
        differ = (expected != found[tensor]).reshape(samples, -1)
        wrong = differ.any(axis=1) & ~rounded
        if wrong.any():
            z = values[first_input(node.args, node.kwargs)]
            near = (made.distance(node, z).abs() <= _ROUNDING * float(z.abs().max())).numpy(force=True)
            beside = ~differ | near.reshape(samples, -1)
            if not beside[wrong].all() or made.exact(node):
                got = f"other outputs of {made.graph.reads(node)} in {int(wrong.sum())} of {samples} samples by {by}"
                raise ExportError("network", got, "those of the network", "Please report this.")
            rounded |= wrong
    for (name, tensor), value in zip(made.outputs.items(), made.results(values), strict=True):
        expected, given = value.numpy(force=True)[~rounded], found[tensor][~rounded]
        if not np.allclose(expected, given, rtol=1e-4, atol=_ROUNDING * float(np.abs(expected).max(initial=1.0))):
            got = f"another {name}, by up to {np.abs(expected - given).max():.3g}, by {by}"
            raise ExportError("network", got, "that of the network", "Please report this.")
    return int(rounded.sum())
