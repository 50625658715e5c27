"""Cuts the graph of a model: what lies between one node and others, as a module of its own."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def trace(
    model: nn.Module,
    arguments: Sequence[Any],
    keywords: Mapping[str, Any] | None = None,
    *,
    constants: bool = False,
    apart: type[nn.Module] | None = None,
) -> tuple[fx.GraphModule, list[Any]]:
    """The graph of `model`, in which modules without parts, and torch's own, are single nodes, and its inputs.

    Args:
        arguments, keywords: with what it is called. Each is an input. The defaults of those left out are part of the
            graph.
        constants: whether arguments that hold no tensors are part of the graph too.
        apart: modules of this class are nodes of their own, also inside one of torch's.

    Raises:
        Exception: of any kind, as tracing runs the model's own code on proxies.
    """
    signature = inspect.signature(model.forward)
    bound = signature.bind(*arguments, **(keywords or {}))
    given = {name: value for name, value in bound.arguments.items() if not constants or any_tensor(value)}
    if any(signature.parameters[name].kind in VARIABLE for name in given):
        raise ValueError("arguments without names")
    bound.apply_defaults()
    named = [name for name, each in signature.parameters.items() if each.kind not in VARIABLE]
    defaults = {name: bound.arguments[name] for name in named if name not in given}
    fast = torch.backends.mha.get_fastpath_enabled()
    # Torch's attention looks at its inputs only to choose between two ways to compute the same.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        graph = _Tracer(apart).trace(model, defaults)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    # What fx writes for the defaults: an input each, and the nodes that check its value.
    added = [node for node in graph.nodes if node.op == "placeholder" and str(node.target) not in given]
    checks = {node: None for default in added for node in dependents(default)}
    for node in reversed([*added, *checks]):
        graph.erase_node(node)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    return fx.GraphModule(model, graph), [given[str(node.target)] for node in inputs]


def any_tensor(value: Any) -> bool:
    """Whether a nest has a tensor in it."""
    return any(isinstance(leaf, Tensor) for leaf in tree_leaves(value))


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
    ends: Sequence[Any],
    moving: Collection[fx.Node],
    values: Mapping[fx.Node, Any],
) -> tuple[fx.GraphModule, list[fx.Node]]:
    """The part of a graph from the output of `start` to `ends`, and the nodes whose values it takes besides.

    Args:
        ends: nodes, or nests of them.
        moving: nodes to compute anew; the others have `values`, of which those that belong to samples
            become inputs.

    Raises:
        ValueError: the part takes a nest of tensors as a whole, so that its samples can't be told apart.

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
            elif node.op == "placeholder" and isinstance(value, Tensor):
                name = f"_shared_{node.name}"
                traced.register_buffer(name, value)
                copies[node] = graph.get_attr(name)
            elif node.op == "placeholder":
                if any_tensor(value):
                    raise ValueError("a nest of tensors")
                # An input of the part would have to come behind those without a default.
                return value
            else:
                copies[node] = graph.node_copy(node, copy)
        return copies[node]

    graph.output(tuple([fx.map_arg(end, copy) for end in ends]))
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

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plain = PLAIN.get(type(m))
        return super().call_module(m, forward if plain is None else partial(plain, m), args, kwargs)


# Torch's transformers look at the lengths of their inputs and at the elements and kinds of their masks: to check them,
# to find out that a mask is causal, which only says how the same is computed, and to convert the masks, which the
# attention does once more. torch.fx can't follow that. Without it they do this.


def _encoder_layer(
    layer: nn.TransformerEncoderLayer,
    src: Tensor,
    src_mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool = False,
) -> Tensor:
    if layer.norm_first:
        x = src + layer._sa_block(layer.norm1(src), src_mask, src_key_padding_mask, is_causal=is_causal)
        return x + layer._ff_block(layer.norm2(x))
    x = layer.norm1(src + layer._sa_block(src, src_mask, src_key_padding_mask, is_causal=is_causal))
    return layer.norm2(x + layer._ff_block(x))


def _encoder(
    encoder: nn.TransformerEncoder,
    src: Tensor,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool | None = None,
) -> Tensor:
    x = src
    for layer in encoder.layers:
        x = layer(x, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
    return x if encoder.norm is None else encoder.norm(x)


def _decoder(
    decoder: nn.TransformerDecoder,
    tgt: Tensor,
    memory: Tensor,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    tgt_key_padding_mask: Any = None,
    memory_key_padding_mask: Any = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Tensor:
    x = tgt
    for layer in decoder.layers:
        x = layer(
            x,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=bool(tgt_is_causal),
            memory_is_causal=memory_is_causal,
        )
    return x if decoder.norm is None else decoder.norm(x)


def _transformer(
    model: nn.Transformer,
    src: Tensor,
    tgt: Tensor,
    src_mask: Any = None,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    src_key_padding_mask: Any = None,
    tgt_key_padding_mask: Any = None,
    memory_key_padding_mask: Any = None,
    src_is_causal: bool | None = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Tensor:
    memory = model.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
    return model.decoder(
        tgt,
        memory,
        tgt_mask=tgt_mask,
        memory_mask=memory_mask,
        tgt_key_padding_mask=tgt_key_padding_mask,
        memory_key_padding_mask=memory_key_padding_mask,
        tgt_is_causal=tgt_is_causal,
        memory_is_causal=memory_is_causal,
    )


PLAIN: dict[type[nn.Module], Any] = {
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerEncoder: _encoder,
    nn.TransformerDecoder: _decoder,
    nn.Transformer: _transformer,
}
"""What these very classes do, in a form that torch.fx can follow: (module, *arguments of its forward)."""
