"""Nodes of ONNX for functions that rearrange tensors, and for those of normalisation and attention."""

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, fx
from torch.nn import functional

_SPLITS = ("chunk", "split")
_BATCH_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training")
_LAYER_NORM = ("input", "normalized_shape", "weight", "bias", "eps")
_ATTENTION = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale")


class Nodes(Protocol):
    """What a graph of ONNX in the making has; see `GraphNodes`."""

    values: dict[fx.Node, Any]
    names: dict[fx.Node, str]
    axes: dict[fx.Node, int | None]
    inputs: list[str]
    samples: int

    def node(
        self, kind: str, node: fx.Node, inputs: list[str], *, add: str = "", name: str = "", **attributes: Any
    ) -> str:
        """Add a node; its output."""
        ...

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Add a tensor; its name."""
        ...


def _named(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of a call by their names, without those that are None."""
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return {name: value for name, value in given.items() if value is not None}


def _below(made: Nodes, node: fx.Node) -> tuple[Any, str]:
    """What a node reads first, and the name of its tensor, or ""."""
    first = node.args[0] if node.args else None
    return first, made.names.get(first, "") if isinstance(first, fx.Node) else ""


def _dims(node: fx.Node) -> list[int] | None:
    """The whole numbers behind the first argument of a node; None: there are others."""
    given: Any = node.args[1:]
    given = given[0] if len(given) == 1 and isinstance(given[0], (list, tuple)) else given
    fit = not node.kwargs and all(isinstance(one, int) for one in given)
    return list(given) if fit else None


def _reshape(made: Nodes, node: fx.Node) -> str | None:
    """The tensor in its other shape; the axis of the samples is left open."""
    below, name = _below(made, node)
    if not name:
        return None
    old, new, axis = made.values[below].shape, made.values[node].shape, made.axes[below]
    shape = list(new)
    if axis is not None:
        before, samples = math.prod(old[:axis]), made.samples
        fits = [at for at, size in enumerate(new) if math.prod(new[:at]) == before and size % samples == 0]
        if not fits or 0 in new:
            return None
        made.axes[node] = fits[0]
        if fits[0] == 0 and len(new) == 2 and old[0] == new[0]:
            return made.node("Flatten", node, [name], axis=1)
        shape[fits[0]] = -1
    return made.node("Reshape", node, [name, made.constant(f"{node.name}.shape", shape, np.int64)])


def _permute(made: Nodes, node: fx.Node) -> str | None:
    below, name = _below(made, node)
    dims = _dims(node)
    if not name or dims is None:
        return None
    order = list(range(made.values[below].dim()))
    if str(getattr(node.target, "__name__", node.target)) == "transpose":
        one, other = dims
        order[one], order[other] = order[other], order[one]
    else:
        order = [order[dim] for dim in dims]
    axis = made.axes[below]
    made.axes[node] = None if axis is None else order.index(axis)
    return made.node("Transpose", node, [name], perm=order)


def _expand(made: Nodes, node: fx.Node) -> str | None:
    """A constant, once for each sample of the first input: along the axis whose size is another node's value."""
    below, name = _below(made, node)
    shape, sizes = made.values[node].shape, node.args[1:]
    open_ = [axis for axis, size in enumerate(sizes) if isinstance(size, fx.Node)]
    if not name or made.axes[below] is not None or open_ != [0] or shape[0] != made.samples or node.kwargs:
        return None
    count = made.node("Shape", node, made.inputs[:1], add="count", start=0, end=1)
    rest = made.constant(f"{node.name}.rest", list(shape[1:]), np.int64)
    wanted = made.node("Concat", node, [count, rest], add="shape", axis=0)
    made.axes[node] = 0
    return made.node("Expand", node, [name, wanted])


def _getitem(made: Nodes, node: fx.Node) -> str | None:
    source: Any
    source, index = node.args
    called = str(getattr(source.target, "__name__", source.target))
    if called in (*_SPLITS, "unbind") and isinstance(index, int):
        below, name = _below(made, source)
        dim = source.kwargs.get("dim", source.args[2 if called in _SPLITS else 1 :] or (0,))
        dim = dim[0] if isinstance(dim, tuple) else dim
        if not name or not isinstance(dim, int):
            return None
        dim, index = dim % made.values[below].dim(), index % len(made.values[source])
        if called == "unbind":
            return _pick(made, node, below, name, [(dim, index, None)])
        sizes = [part.shape[dim] for part in made.values[source]]
        start = sum(sizes[:index])
        return _pick(made, node, below, name, [(dim, start, start + sizes[index])])
    name = made.names.get(source, "")
    parts = index if isinstance(index, tuple) else (index,)
    if not name or len(parts) > made.values[source].dim():
        return None
    chosen: list[tuple[int, int, int | None]] = []
    for axis, part in enumerate(parts):
        if isinstance(part, int):
            chosen.append((axis, part, None))
        elif isinstance(part, slice) and all(isinstance(one, int | None) for one in (part.start, part.stop, part.step)):
            start, stop, step = part.indices(made.values[source].shape[axis])
            if step != 1:
                return None
            if part != slice(None):
                chosen.append((axis, start, stop))
        else:
            return None
    return _pick(made, node, source, name, chosen)


def _pick(
    made: Nodes, node: fx.Node, below: fx.Node, name: str, chosen: list[tuple[int, int, int | None]]
) -> str | None:
    """Of each axis named the elements from the first number up to the second; None: the first alone, without axis."""
    axis = made.axes[below]
    if any(one == axis for one, _, _ in chosen):
        return None
    ranges = [(one, start, stop) for one, start, stop in chosen if stop is not None]
    if ranges:
        axes, starts, stops = ([*part] for part in zip(*ranges, strict=True))
        words = (("starts", starts), ("ends", stops), ("axes", axes))
        limits = [made.constant(f"{node.name}.{word}", value, np.int64) for word, value in words]
        name = made.node("Slice", node, [name, *limits], add="part")
    gone = [(one, start) for one, start, stop in chosen if stop is None]
    # From the last axis on, so that those before keep their numbers.
    for one, start in reversed(gone):
        place = made.constant(f"{node.name}.at{one}", start, np.int64)
        name = made.node("Gather", node, [name, place], add=f"of{one}", axis=one)
    made.axes[node] = None if axis is None else axis - sum(one < axis for one, _ in gone)
    return name


def _batch_norm(made: Nodes, node: fx.Node) -> str | None:
    given = _named(node, _BATCH_NORM)
    parts = [
        made.names.get(given[part], "") if part in given else ""
        for part in ("input", "weight", "bias", "running_mean", "running_var")
    ]
    if not all(parts) or given.get("training", False):
        return None
    return made.node("BatchNormalization", node, parts, epsilon=given.get("eps", 1e-5))


def _layer_norm(made: Nodes, node: fx.Node) -> str | None:
    given = _named(node, _LAYER_NORM)
    parts = [made.names.get(given[part], "") for part in ("input", "weight", "bias") if part in given]
    if "weight" not in given or not all(parts):
        return None
    axis = -len(given["normalized_shape"])
    return made.node("LayerNormalization", node, parts, axis=axis, epsilon=given.get("eps", 1e-5))


def _attention(made: Nodes, node: fx.Node) -> str | None:
    given = _named(node, _ATTENTION)
    names = [made.names.get(given[part], "") if part in given else "" for part in _ATTENTION[:3]]
    rest = {name: value for name, value in given.items() if name not in _ATTENTION[:3] and value not in (0.0, False)}
    if not all(names) or set(rest) - {"scale"}:
        return None
    read = made.values[given["query"]]
    order = [*range(read.dim() - 2), read.dim() - 1, read.dim() - 2]
    across = made.node("Transpose", node, [names[1]], add="across", perm=order)
    product = made.node("MatMul", node, [names[0], across], add="product")
    scale = made.constant(f"{node.name}.scale", rest.get("scale", read.shape[-1] ** -0.5))
    shares = made.node("Softmax", node, [made.node("Mul", node, [product, scale], add="scaled")], add="shares", axis=-1)
    return made.node("MatMul", node, [shares, names[2]])


MADE: dict[str, Callable[[Nodes, fx.Node], str | None]] = {
    **dict.fromkeys(("flatten", "view", "reshape", "unflatten", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("permute", "transpose"), _permute),
    "expand": _expand,
    "getitem": _getitem,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "scaled_dot_product_attention": _attention,
}
"""By the name of a function or method: what makes its nodes and gives the name of the tensor; None: it can't."""


def norm_of_places(made: Nodes, node: fx.Node, module: Any, below: str) -> str:
    """Layer norm over the last axes, or over the channels of images where a class of its own does so; "": neither."""
    z: Tensor = made.values[node.all_input_nodes[0]]
    if module.weight is None:
        return ""
    shape, parts = list(module.normalized_shape), [module.weight, *([] if module.bias is None else [module.bias])]
    # A class of its own may do either, so its values say which.
    plain = list(z.shape[-len(shape) :]) == shape
    plain = plain and gives(made, node, functional.layer_norm(z, shape, *parts, eps=module.eps))
    if not plain:
        if z.dim() != 4 or shape != [z.shape[1]]:
            return ""
        last = functional.layer_norm(z.permute(0, 2, 3, 1), shape, *parts, eps=module.eps)
        if not gives(made, node, last.permute(0, 3, 1, 2)):
            return ""
    names = [made.constant(f"{node.name}.{number}", part.numpy(force=True)) for number, part in enumerate(parts)]
    settings: dict[str, Any] = {"axis": -len(shape), "epsilon": module.eps}
    if plain:
        return made.node("LayerNormalization", node, [below, *names], **settings)
    found = made.node("Transpose", node, [below], add="last", perm=[0, 2, 3, 1])
    found = made.node("LayerNormalization", node, [found, *names], add="norm", **settings)
    return made.node("Transpose", node, [found], perm=[0, 3, 1, 2])


def gives(made: Nodes, node: fx.Node, expected: Tensor) -> bool:
    """Whether the values of a node are those expected, up to rounding."""
    return torch.allclose(expected, made.values[node], rtol=1e-4, atol=1e-5)


def adaptive_means(made: Nodes, node: fx.Node, below: str) -> str:
    """Means over windows of any sizes as two products with matrices of shares."""
    sizes, wanted = made.values[node.all_input_nodes[0]].shape[-2:], made.values[node].shape[-2:]
    names = []
    for axis, (size, count) in enumerate(zip(sizes, wanted, strict=True)):
        shares = np.zeros((count, size), dtype=np.float32)
        for at, row in enumerate(shares):
            begin, end = at * size // count, -(-(at + 1) * size // count)
            row[begin:end] = 1 / (end - begin)
        names.append(made.constant(f"{node.name}.shares{axis}", shares if axis == 0 else shares.T))
    rows = made.node("MatMul", node, [names[0], below], add="rows")
    return made.node("MatMul", node, [rows, names[1]])
