"""The nodes of ONNX and QONNX for a folded network."""

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from tpsolve._version import __version__
from tpsolve.errors import ExportError
from tpsolve.nn.deployment._channel_threshold import ChannelThreshold
from tpsolve.nn.deployment._tensor_nodes import MADE, adaptive_means, gives, norm_of_places
from tpsolve.nn.deployment._way import NORMS, SUMS, Graph, does_nothing, whole_weights
from tpsolve.thresholds import HardThreshold, Staircase
from tpsolve.thresholds._base import first_input

DOMAIN = "qonnx.custom_op.general"
_OPSET = 17
_ELEMENTWISE: dict[type[nn.Module], tuple[str, dict[str, Any]]] = {
    nn.ReLU: ("Relu", {}),
    nn.Tanh: ("Tanh", {}),
    nn.Sigmoid: ("Sigmoid", {}),
    nn.Hardswish: ("HardSwish", {}),
    nn.Hardsigmoid: ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
}
_FUNCTIONS: dict[Any, str] = {
    operator.add: "Add",
    operator.iadd: "Add",
    torch.add: "Add",
    "add": "Add",
    operator.mul: "Mul",
    torch.mul: "Mul",
    "mul": "Mul",
    functional.relu: "Relu",
    torch.relu: "Relu",
    torch.tanh: "Tanh",
    torch.sigmoid: "Sigmoid",
}
_POOLS: dict[Any, Any] = {
    functional.max_pool1d: nn.MaxPool1d,
    functional.max_pool2d: nn.MaxPool2d,
    functional.max_pool3d: nn.MaxPool3d,
}


class GraphNodes:
    """The graph of a network, made node by node.

    Args:
        graph: of the network.
        values: of its nodes, for samples.
        qonnx: whether thresholds and weights of few values are nodes of QONNX.
    """

    def __init__(self, graph: Graph, values: dict[fx.Node, Any], qonnx: bool) -> None:
        self.graph, self.values, self.qonnx = graph, values, qonnx
        self.samples = len(next(values[node] for node in graph.traced.graph.nodes if node.op == "placeholder"))
        self.inputs: list[str] = []
        self.outputs: dict[str, str] = {}
        self.watched: dict[fx.Node, str] = {}
        """The tensors of hard thresholds by their nodes."""
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: dict[fx.Node, str] = {}
        self.axes: dict[fx.Node, int | None] = {}
        """Along which axis of its tensor the samples lie, by node; None: it is a constant."""
        self.of: dict[str, fx.Node] = {}
        """The nodes by the tensors that may be outputs."""
        self.returned: list[fx.Node] = []
        for node in graph.traced.graph.nodes:
            self._add(node)
            if isinstance(values.get(node), Tensor) and node not in self.axes:
                self.axes[node] = self._axis(node)

    # --- the model ------------------------------------------------------------------------------------------------

    def model(self, name: str) -> bytes:
        """The file."""
        return self._made(name, list(self.outputs.values())).SerializeToString()

    def checked(self) -> Any:
        """The model with the thresholds among its outputs."""
        watched = [] if self.qonnx else self.watched.values()
        return self._made("checked", [*watched, *self.outputs.values()])

    def results(self, values: dict[fx.Node, Any]) -> list[Tensor]:
        """The outputs of the network, in the order of `outputs`."""
        return [values[node] for node in self.returned]

    def _made(self, name: str, outputs: list[str]) -> Any:
        from onnx import TensorProto, checker, helper

        given, told = (
            [helper.make_tensor_value_info(one, TensorProto.FLOAT, self._shape(self.of[one])) for one in tensors]
            for tensors in (self.inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, name, given, told, self.constants)
        imports = [helper.make_opsetid("", _OPSET), *([helper.make_opsetid(DOMAIN, 1)] if self.qonnx else [])]
        made = helper.make_model(graph, opset_imports=imports, producer_name="tpsolve")
        made.producer_version, made.ir_version = __version__, 8
        checker.check_model(made)
        return made

    def _shape(self, node: fx.Node) -> list[int | str]:
        shape = self.values[node].shape
        return [shape[0] if self.qonnx else "samples", *shape[1:]]

    # --- its nodes ------------------------------------------------------------------------------------------------

    def _add(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.inputs.append(node.name)
            self.names[node], self.of[node.name], self.axes[node] = node.name, node, 0
        elif node.op == "get_attr":
            if isinstance(value := self.values[node], Tensor) and value.is_floating_point():
                self.names[node], self.axes[node] = self.constant(node.name, value.numpy(force=True)), None
        elif node.op == "output":
            self._end(node.args[0])
        elif node.op == "call_module":
            self._module(node, self.graph.module(node))
        elif not self._function(node):
            raise self._unknown(node)

    def _end(self, given: Any) -> None:
        if isinstance(given, fx.Node):
            given = {"output": given}
        elif isinstance(given, (list, tuple)):
            given = {f"output{number}": one for number, one in enumerate(given)}
        for name, node in given.items():
            if not isinstance(node, fx.Node) or not self._of_samples(node):
                raise ExportError("network", f"an output {name} that is no tensor of it", "tensors of samples")
            # A node of its own, since two outputs may be one tensor.
            self.outputs[str(name)] = self.node("Identity", node, [self.names[node]], name=str(name))
            self.returned.append(node)

    def _axis(self, node: fx.Node) -> int | None:
        """That of a node that doesn't move its elements: of what it reads."""
        read = [one for one in node.all_input_nodes if self.axes.get(one) is not None]
        if not read:
            return None
        axis = self.axes[read[0]]
        if axis and self.values[read[0]].dim() != self.values[node].dim():
            raise self._unknown(node)
        return axis

    def _of_samples(self, node: fx.Node) -> bool:
        """Whether a node is a tensor with the samples along its first axis."""
        return node in self.names and self.axes.get(node) == 0 and len(self.values[node]) == self.samples

    def _unknown(self, node: fx.Node) -> ExportError:
        mend = "Put it outside of the exported model, or export that part with torch.onnx."
        return ExportError("network", self.graph.reads(node), "modules that the exporter knows", mend)

    def node(
        self, kind: str, node: fx.Node, inputs: list[str], *, add: str = "", name: str = "", **attributes: Any
    ) -> str:
        """Its output: `name`, or one of the node's; `add` says which."""
        from onnx import helper

        name = name or f"{node.name}.{add or 'value'}"
        self.of[name] = node
        domain = {"domain": DOMAIN} if kind in ("Quant", "BipolarQuant") else {}
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **domain, **attributes))
        return name

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.array(value, dtype=dtype, order="C"), name))
        return name

    def _batch_norm(self, node: fx.Node, module: Any, below: str) -> str:
        ones = torch.ones_like(module.running_mean)
        given = (ones if module.weight is None else module.weight, 0 * ones if module.bias is None else module.bias)
        parts = zip(("scale", "shift", "mean", "var"), (*given, module.running_mean, module.running_var), strict=True)
        names = [self.constant(f"{node.name}.{name}", value.numpy(force=True)) for name, value in parts]
        return self.node("BatchNormalization", node, [below, *names], epsilon=module.eps)

    def _transposed(self, node: fx.Node, module: Any, below: str) -> str:
        given = [module.weight, *([] if module.bias is None else [module.bias])]
        names = [self.constant(f"{node.name}.{n}", one.numpy(force=True)) for n, one in enumerate(given)]
        pairs = {"kernel_shape": module.kernel_size, "strides": module.stride, "dilations": module.dilation}
        settings: dict[str, Any] = {name: list(pair) for name, pair in pairs.items()}
        settings |= {"pads": [*module.padding] * 2, "output_padding": list(module.output_padding)}
        return self.node("ConvTranspose", node, [below, *names], group=module.groups, **settings)

    def _module(self, node: fx.Node, module: Any) -> None:
        kind, below = type(module), self.names.get(first_input(node.args, node.kwargs), "")
        pooled = self._pool(module, self.values[first_input(node.args, node.kwargs)])
        if does_nothing(module):
            self.names[node] = below
        elif kind in (ChannelThreshold, HardThreshold) and self._of_samples(first_input(node.args, node.kwargs)):
            self.names[node] = self.watched[node] = self._threshold(node, module, below)
        elif kind is Staircase:
            steps = module.levels - 1
            found = self.node("Mul", node, [below, self.constant(f"{node.name}.steps", steps - 1)], add="wide")
            found = self.node("Ceil", node, [found], add="ceil")
            limits = [self.constant(f"{node.name}.{name}", value) for name, value in (("least", 0), ("most", steps))]
            found = self.node("Clip", node, [found, *limits], add="clip")
            self.names[node] = self.node("Div", node, [found, self.constant(f"{node.name}.all", steps)])
        elif kind in SUMS or (isinstance(module, nn.Linear) and self._is_plain(node, module)):
            self.names[node] = self._sums(node, module, below)
        elif kind in NORMS and module.running_mean is not None:
            self.names[node] = self._batch_norm(node, module, below)
        elif kind is nn.ConvTranspose2d and not isinstance(module.padding, str):
            self.names[node] = self._transposed(node, module, below)
        elif isinstance(module, nn.LayerNorm) and (found := norm_of_places(self, node, module, below)):
            self.names[node] = found
        elif kind is nn.AdaptiveAvgPool2d and pooled is None:
            self.names[node] = adaptive_means(self, node, below)
        elif kind in _ELEMENTWISE:
            name, settings = _ELEMENTWISE[kind]
            self.names[node] = self.node(name, node, [below], **settings)
        elif kind in (nn.Hardtanh, nn.ReLU6):
            limits = (("least", module.min_val), ("most", module.max_val))
            names = [self.constant(f"{node.name}.{name}", value) for name, value in limits]
            self.names[node] = self.node("Clip", node, [below, *names])
        elif kind is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            self.names[node] = self.node("Flatten", node, [below], axis=1)
        elif pooled is not None:
            self.names[node] = self.node(pooled[0], node, [below], **pooled[1])
        else:
            raise self._unknown(node)

    def _function(self, node: fx.Node) -> bool:
        """Whether a call of a function or method is known."""
        target: Any = node.target
        value = self.values[node]
        if not isinstance(value, Tensor):
            # A size, which is asked for where it is used.
            return True
        if target is torch.cat:
            return self._join(node, *node.args, **node.kwargs)
        name, kind = str(getattr(target, "__name__", target)), _FUNCTIONS.get(target)
        if name in MADE and (found := MADE[name](self, node)) is not None:
            self.names[node] = found
            return True
        inputs = [self.names.get(one, "") for one in node.args if isinstance(one, fx.Node)]
        if not inputs or not inputs[0]:
            return False
        below = self.values[node.all_input_nodes[0]]
        pooled: tuple[str, dict[str, Any]] | None = None
        if target in _POOLS and len(node.args) <= 5:
            pooled = self._pool(_POOLS[target](*node.args[1:], **node.kwargs), below)
        elif target is functional.adaptive_avg_pool2d and len(node.args) == 2:
            sizes: Any = node.args[1]
            pooled = self._pool(nn.AdaptiveAvgPool2d(sizes), below)
            if pooled is None:
                self.names[node] = adaptive_means(self, node, inputs[0])
                return True
        elif name == "mean" and (axes := self._axes_of_mean(node)):
            pooled = ("ReduceMean", {"axes": axes, "keepdims": int(value.dim() == below.dim())})
        elif name in ("dropout", "contiguous"):
            self.names[node] = inputs[0]
            return True
        elif kind and all(inputs) and not set(node.kwargs) - {"inplace"}:
            pooled = (kind, {}) if len(inputs) == (2 if kind in ("Add", "Mul") else 1) else None
            if pooled is not None:
                self.names[node] = self.node(kind, node, inputs)
                return True
        if pooled is not None:
            self.names[node] = self.node(pooled[0], node, inputs[:1], **pooled[1])
        return pooled is not None

    def _join(self, node: fx.Node, parts: Any, dim: Any = 0) -> bool:
        names = [self.names.get(part, "") for part in parts]
        # Not along the samples, whose number is open.
        if not all(names) or not isinstance(dim, int) or dim % self.values[node].dim() == 0:
            return False
        self.names[node] = self.node("Concat", node, names, axis=dim)
        return True

    def _axes_of_mean(self, node: fx.Node) -> list[int]:
        """The axes that a mean is over; none where the samples are among them, or are all meant."""
        axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        axes = [axes] if isinstance(axes, int) else axes if isinstance(axes, (list, tuple)) else []
        found = [axis % self.values[node.all_input_nodes[0]].dim() for axis in axes if isinstance(axis, int)]
        return [] if 0 in found or len(found) < len(axes) else found

    def _pool(self, module: Any, below: Any) -> tuple[str, dict[str, Any]] | None:
        """The operator of a pooling module over `below`, and its settings."""
        kind = type(module).__name__
        dims = int(kind[-2]) if "Pool" in kind and kind[-2].isdigit() else 0
        if kind in (f"AdaptiveAvgPool{dims}d", f"AdaptiveMaxPool{dims}d"):
            name, sizes = "Average" if "Avg" in kind else "Max", below.shape[-dims:]
            if getattr(module, "return_indices", False):
                return None
            wanted = _each(module.output_size, dims)
            if wanted == [1] * dims:
                return f"Global{name}Pool", {}
            # Windows of one size, side by side.
            even = all(isinstance(one, int) and size % one == 0 for size, one in zip(sizes, wanted, strict=True))
            windows = [size // one for size, one in zip(sizes, wanted, strict=True)] if even else []
            return (f"{name}Pool", {"kernel_shape": windows, "strides": windows}) if even else None
        if kind not in (f"MaxPool{dims}d", f"AvgPool{dims}d"):
            return None
        settings: dict[str, Any] = {
            "kernel_shape": _each(module.kernel_size, dims),
            "strides": _each(module.stride, dims),
            "pads": _each(module.padding, dims) * 2,
            "ceil_mode": int(module.ceil_mode),
        }
        if kind.startswith("Max"):
            return (
                None if module.return_indices else ("MaxPool", settings | {"dilations": _each(module.dilation, dims)})
            )
        if getattr(module, "divisor_override", None) is not None:
            return None
        return "AveragePool", settings | {"count_include_pad": int(module.count_include_pad)}

    def _is_plain(self, node: fx.Node, module: nn.Linear) -> bool:
        """Whether a class of its own does what a linear layer does."""
        z = self.values[first_input(node.args, node.kwargs)]
        return gives(self, node, functional.linear(z, module.weight, module.bias))

    def _sums(self, node: fx.Node, module: Any, below: str) -> str:
        dense = isinstance(module, nn.Linear)
        weights = self._weights(node, module, dense)
        if dense:
            found = self.node("MatMul", node, [below, weights], add="product" if module.bias is not None else "")
            if module.bias is None:
                return found
            return self.node("Add", node, [found, self.constant(f"{node.name}.bias", module.bias.numpy(force=True))])
        if module.padding_mode != "zeros":
            raise ExportError("network", f"padding {module.padding_mode!r} of {node.target}", "zero padding")
        pads = module._reversed_padding_repeated_twice
        bias = [] if module.bias is None else [self.constant(f"{node.name}.bias", module.bias.numpy(force=True))]
        return self.node(
            "Conv",
            node,
            [below, weights, *bias],
            kernel_shape=list(module.kernel_size),
            strides=list(module.stride),
            dilations=list(module.dilation),
            group=module.groups,
            # Of the last axis first, each before and behind.
            pads=[*pads[-2::-2], *pads[::-2]],
        )

    def _weights(self, node: fx.Node, module: Any, dense: bool) -> str:
        """The tensor of a layer's weights, those of `Linear` transposed."""
        weight = module.weight.numpy(force=True)
        few = whole_weights(weight.astype(np.float64)) if self.qonnx else None
        if dense:
            weight = weight.T
        if few is None:
            return self.constant(f"{node.name}.weight", weight)
        whole, scale = few
        whole = whole.T if dense else whole
        scale = scale[None] if dense else scale.reshape(-1, *[1] * (whole.ndim - 1))
        scales = self.constant(f"{node.name}.scale", 1.0 if (scale == 1).all() else scale)
        if (np.abs(whole) == 1).all():
            return self.node("BipolarQuant", node, [self.constant(f"{node.name}.signs", weight), scales], add="few")
        bits = max(2, 1 + int(max(whole.max(), -whole.min() - 1)).bit_length())
        given = [self.constant(f"{node.name}.{name}", value) for name, value in (("zero", 0.0), ("bits", bits))]
        raw = self.constant(f"{node.name}.raw", weight)
        how: dict[str, Any] = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
        return self.node("Quant", node, [raw, scales, *given], add="few", **how)

    # --- thresholds -----------------------------------------------------------------------------------------------

    def _threshold(self, node: fx.Node, module: Any, below: str) -> str:
        spins = "" if module.low else "spins"
        whole = isinstance(module, ChannelThreshold) and module.whole
        if isinstance(module, ChannelThreshold):
            limit = module.threshold
            if module.turns:
                turn = self._along(node, torch.where(module.turned, -1.0, 1.0))
                below = self.node("Mul", node, [below, self.constant(f"{node.name}.turn", turn)], add="turned")
                limit = torch.where(module.turned, -limit, limit)
            # Between whole numbers, where no sum is.
            limit = limit - 0.5 if whole and not self.qonnx else limit
            limits = self.constant(f"{node.name}.threshold", self._along(node, limit))
            below = self.node("Sub", node, [below, limits], add="above")
        if self.qonnx:
            found = self.node("BipolarQuant", node, [below, self.constant(f"{node.name}.one", 1.0)], add=spins)
        else:
            if not whole:
                # Sign of 0 is 0, where a threshold outputs +1.
                below = self.node("Sign", node, [below], add="sign")
                below = self.node("Add", node, [below, self.constant(f"{node.name}.half", 0.5)], add="tie")
            found = self.node("Sign", node, [below], add=spins)
        if module.low:
            return found
        found = self.node("Add", node, [found, self.constant(f"{node.name}.plus", 1.0)], add="twice")
        return self.node("Mul", node, [found, self.constant(f"{node.name}.scale", 0.5)])

    def _along(self, node: fx.Node, values: Tensor) -> np.ndarray:
        """One value a channel, in the shape of what a threshold reads."""
        shape = [1] * self.values[node].dim()
        shape[self.graph.module(node).axis] = -1
        return values.reshape(shape).numpy(force=True)

    def distance(self, node: fx.Node, z: Tensor) -> Tensor:
        """How far `z` lies from the threshold at a node; a constant channel's is infinite."""
        module = self.graph.module(node)
        if not isinstance(module, ChannelThreshold):
            return z
        return z - torch.as_tensor(self._along(node, module.threshold), device=z.device)

    def exact(self, node: fx.Node) -> bool:
        """Whether the sums at a node are whole, so that nothing is rounded."""
        module = self.graph.module(node)
        return isinstance(module, ChannelThreshold) and module.whole


def _each(value: Any, dims: int) -> list[int]:
    return [value] * dims if isinstance(value, int) else list(value)
