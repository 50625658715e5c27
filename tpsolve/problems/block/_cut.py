"""Cuts the graph of a model: what lies between one node and others, as a module of its own."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, fx, nn


def trace(model: nn.Module, apart: type[nn.Module] | None = None) -> fx.GraphModule:
    """The graph of `model`, in which modules without parts, and torch's own, are single nodes.

    Args:
        apart: modules of this class are nodes of their own, also inside one of torch's.

    Raises:
        Exception: of any kind, as tracing runs the model's own code on proxies.
    """
    return fx.GraphModule(model, _Tracer(apart).trace(model))


def dependents(start: fx.Node, stops: Collection[fx.Node] = ()) -> dict[fx.Node, None]:
    """The nodes that depend on `start`, in the order of the graph; what depends on it only through `stops` is not."""
    found: dict[fx.Node, None] = {}
    for node in start.graph.nodes:
        if any(other is start or (other in found and other not in stops) for other in node.all_input_nodes):
            found[node] = None
    return found


def cut(
    traced: fx.GraphModule,
    start: fx.Node,
    ends: Sequence[fx.Node],
    moving: Collection[fx.Node],
    values: Mapping[fx.Node, Any],
) -> tuple[fx.GraphModule, list[fx.Node]]:
    """The part of a graph from the output of `start` to `ends`, and the nodes whose values it takes besides.

    Args:
        moving: nodes to compute anew; the others have `values`, of which those that belong to samples
            become inputs.

    Returns:
        The module (output of `start`, *values of the nodes) -> tuple of the values of `ends`.
    """
    samples = len(values[start])
    placeholders = [node for node in traced.graph.nodes if node.op == "placeholder"]
    of_samples = set(placeholders).union(*(dependents(node) for node in placeholders))
    graph = fx.Graph()
    copies = {start: graph.placeholder("targets")}
    context: list[fx.Node] = []

    def copy(node: fx.Node) -> fx.Node:
        if node not in copies:
            value = values[node]
            each_sample = isinstance(value, Tensor) and value.dim() > 0 and len(value) == samples
            if each_sample and node in of_samples and node not in moving:
                context.append(node)
                copies[node] = graph.placeholder(f"context_{len(context)}")
            else:
                copies[node] = graph.node_copy(node, copy)
        return copies[node]

    graph.output(tuple([copy(end) for end in ends]))
    return fx.GraphModule(traced, graph), context


class _Tracer(fx.Tracer):
    def __init__(self, apart: type[nn.Module] | None) -> None:
        super().__init__()
        self.apart = apart

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if self.apart is not None and any(isinstance(part, self.apart) for part in m.modules() if part is not m):
            return False
        return super().is_leaf_module(m, module_qualified_name) or not list(m.children())
