"""Cuts the graph of a model: what lies between one node and others, as a module of its own."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, fx, nn


def trace(model: nn.Module, apart: type[nn.Module] | None = None) -> fx.GraphModule:
    """The graph of `model`, in which modules without parts, and torch's own, are single nodes.

    Its inputs are those of `forward` that have no default; the others are their defaults.

    Args:
        apart: modules of this class are nodes of their own, also inside one of torch's.

    Raises:
        Exception: of any kind, as tracing runs the model's own code on proxies.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    if len(defaults) == len(parameters):
        # The first one is given all the same.
        defaults.pop(next(iter(defaults), ""), None)
    graph = _Tracer(apart).trace(model, defaults)
    # What fx writes for the defaults: an input each, and a check that it is none.
    inputs = {node for node in graph.nodes if node.op == "placeholder" and "_" in node.name}
    inputs = {node for node in inputs if str(node.target).rpartition("_")[0] in defaults}
    for node in reversed(graph.nodes):
        if node.op == "call_function" and inputs.intersection(node.all_input_nodes) and not node.users:
            graph.erase_node(node)
    for node in inputs:
        if not node.users:
            graph.erase_node(node)
    return fx.GraphModule(model, graph)


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

    def copy(node: fx.Node) -> Any:
        if node not in copies:
            value = values[node]
            each_sample = isinstance(value, Tensor) and value.dim() > 0 and len(value) == samples
            if each_sample and node in of_samples and node not in moving:
                context.append(node)
                copies[node] = graph.placeholder(f"context_{len(context)}")
            elif node.op == "placeholder" and not isinstance(value, Tensor):
                # An input of the part would have to come behind those without a default.
                return value
            else:
                copies[node] = graph.node_copy(node, copy)
        return copies[node]

    graph.output(tuple([copy(end) for end in ends]))
    return fx.GraphModule(traced, graph), context


class _Tracer(fx.Tracer):
    # The default serves torch, which traces anew what was pickled.
    def __init__(self, apart: type[nn.Module] | None = None) -> None:
        super().__init__()
        self.apart = apart

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if self.apart is not None and any(isinstance(part, self.apart) for part in m.modules() if part is not m):
            return False
        return super().is_leaf_module(m, module_qualified_name) or not list(m.children())
