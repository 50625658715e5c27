"""What lies between a threshold and those above it, as a module of its own that can be run for any targets."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from tpsolve.nn.passes._chain import Slice, chain_of
from tpsolve.nn.passes._frozen import Given
from tpsolve.problems.block._cut import cut, dependents, trace
from tpsolve.thresholds._base import first_input

OUTPUT = ""
"""Name of the model's output where names of thresholds are listed."""


@dataclass
class Segment:
    """The part of a frozen model from one threshold up to the next ones.

    Args:
        block: (targets `(b, ...)`, *context) -> tuple of what the sinks read, `(b, ...)` each.
        context: further inputs `(B, ...)`, which don't depend on these targets.
        sinks: names of the thresholds that read the outputs; `OUTPUT` is the model's own.
        linear: V `(m, n)` and b `(m,)`, where the block is a linear map of the flattened targets.
    """

    block: nn.Module
    context: tuple[Tensor, ...]
    sinks: tuple[str, ...]
    linear: tuple[Tensor, Tensor] | None = None


class Segments:
    """The segments of a frozen model: slices of a chain; else cut by torch.fx, or the whole model where tracing fails.

    Args:
        frozen, given: from `freeze`.
        inputs: of the model, `(B, ...)`.
        order: names of the thresholds in the order of their calls.
    """

    def __init__(self, frozen: nn.Module, given: dict[str, Tensor], inputs: Tensor, order: list[str]) -> None:
        self.frozen, self.given, self.inputs, self.order = frozen, given, inputs, order
        self.traced: fx.GraphModule | None = None
        self._found: dict[str, Segment] = {}
        self.chain = chain_of(frozen)
        if self.chain is not None:
            return
        try:
            self.traced = trace(frozen, apart=Given)
        except Exception as error:  # Tracing runs the user's code on proxies; whatever it raises, hooks do without.
            self.why_not = f"{type(error).__name__}: {error}"
            return
        values = _Values(self.traced, given)
        with torch.no_grad():
            values.run(inputs)
        self.values = values.env
        self.nodes = {str(node.target): node for node in self.traced.graph.nodes if _is_given(self.traced, node)}

    def of(self, name: str) -> Segment:
        """The segment above the threshold `name`."""
        if name not in self._found:
            if self.chain is not None:
                self._found[name] = self._slice(self.chain, name)
            else:
                self._found[name] = self._rerun(name) if self.traced is None else self._cut(self.traced, name)
        return self._found[name]

    def _slice(self, chain: dict[str, nn.Module], name: str) -> Segment:
        names = list(chain)
        above = names[names.index(name) + 1 :]
        sink = next((other for other in above if other in self.order), OUTPUT)
        inside = above if sink == OUTPUT else above[: above.index(sink)]
        steps = [chain[other] for other in inside]
        masks = tuple(self.given[other] for other in inside if other in self.given)
        linear = None if masks else _linear_map(steps, self.given[name].dim() == 2)
        return Segment(Slice(steps), masks, (sink,), linear)

    def _rerun(self, name: str) -> Segment:
        later = self.order[self.order.index(name) + 1 :]
        others = [other for other in self.given if other != name]
        block = _Rerun(self.frozen, name, others, later)
        return Segment(block, (self.inputs, *(self.given[other] for other in others)), (*later, OUTPUT))

    def _cut(self, traced: fx.GraphModule, name: str) -> Segment:
        start = self.nodes[name]
        reached = dependents(start, [node for node in traced.graph.nodes if _is_threshold(traced, node)])
        sinks = [node for node in reached if node.op == "output" or _is_threshold(traced, node)]
        inside = [node for node in reached if node not in sinks]
        outputs = [first_input(sink.args, sink.kwargs) for sink in sinks]
        ends = [output for output in outputs if isinstance(output, fx.Node)]
        graph, context = cut(traced, start, ends, inside, self.values)
        masks = [str(node.target) for node in inside if _is_given(traced, node)]
        values = (*(self.given[mask] for mask in masks), *(self.values[node] for node in context))
        flat = self.given[name].dim() == 2
        names = tuple(OUTPUT if sink.op == "output" else str(sink.target) for sink in sinks)
        linear = None if context or masks else _linear(traced, start, inside, sinks, flat)
        return Segment(_Block(graph, masks), values, names, linear)


class _Values(fx.Interpreter):
    """Values of all nodes, where thresholds and dropouts do what they are given."""

    def __init__(self, traced: fx.GraphModule, given: dict[str, Tensor]) -> None:
        super().__init__(traced, garbage_collect_values=False)
        self.given = given

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        if isinstance(module, Given):
            return first_input(args, kwargs) * self.given[target] if module.multiplies else self.given[target]
        return super().call_module(target, args, kwargs)


class _Block(nn.Module):
    """Runs a part of the graph; the first inputs after the targets are what its dropouts multiply with."""

    def __init__(self, graph: fx.GraphModule, masks: list[str]) -> None:
        super().__init__()
        self.graph, self.masks = graph, masks

    def forward(self, targets: Tensor, *context: Tensor) -> tuple[Tensor, ...]:
        count = len(self.masks)
        for name, value in zip(self.masks, context[:count], strict=True):
            _given(self.graph, name).value = value
        try:
            return self.graph(targets, *context[count:])
        finally:
            for name in self.masks:
                _given(self.graph, name).forget()


class _Rerun(nn.Module):
    """Runs the whole model, with one threshold's output replaced by the targets and all others held."""

    def __init__(self, frozen: nn.Module, name: str, others: list[str], later: list[str]) -> None:
        super().__init__()
        self.frozen, self.name, self.others, self.later = frozen, name, others, later

    def forward(self, targets: Tensor, inputs: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        names = (self.name, *self.others)
        for name, value in zip(names, (targets, *others), strict=True):
            _given(self.frozen, name).value = value
        try:
            output = self.frozen(inputs)
            seen = [_given(self.frozen, name).seen for name in self.later]
            return (*(value for value in seen if value is not None), output)
        finally:
            for name in names:
                _given(self.frozen, name).forget()


def _given(model: nn.Module, name: str) -> Given:
    given = model.get_submodule(name)
    assert isinstance(given, Given)
    return given


def _is_given(traced: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(traced.get_submodule(str(node.target)), Given)


def _is_threshold(traced: fx.GraphModule, node: fx.Node) -> bool:
    return _is_given(traced, node) and not _given(traced, str(node.target)).multiplies


def _linear(
    traced: fx.GraphModule, start: fx.Node, chain: list[fx.Node], sinks: list[fx.Node], flat: bool
) -> tuple[Tensor, Tensor] | None:
    """As `_linear_map`, where one way leads up; `flat`: whether the targets are `(B, n)` already."""
    if len(sinks) != 1 or first_input(sinks[0].args, sinks[0].kwargs) is not (chain[-1] if chain else start):
        return None
    last: fx.Node = start
    for node in chain:
        if node.all_input_nodes != [last]:
            return None
        last = node
    modules: list[Any] = [
        traced.get_submodule(str(node.target)) if node.op == "call_module" else node for node in chain
    ]
    return _linear_map(modules, flat)


def _linear_map(modules: list[Any], flat: bool) -> tuple[Tensor, Tensor] | None:
    """V and b, where the way up is a flattening or none, an `nn.Linear`, and a batch norm or none."""
    if modules and _flattens(modules[0]):
        modules = modules[1:]
        flat = True
    if not modules or not flat or not _is_plain(modules[0], nn.Linear):
        return None
    weight, bias = modules[0].weight, modules[0].bias
    bias = torch.zeros_like(weight[:, 0]) if bias is None else bias
    if len(modules) == 2 and _is_plain(modules[1], nn.BatchNorm1d):
        norm = modules[1]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        weight, bias = weight * scale[:, None], (bias - norm.running_mean) * scale
        return weight, bias if norm.bias is None else bias + norm.bias
    return (weight, bias) if len(modules) == 1 else None


def _is_plain(module: Any, kind: type[nn.Module]) -> bool:
    """Whether a module of this kind does what the kind does: with its own forward, and no hooks that change it."""
    own = isinstance(module, kind) and getattr(module.forward, "__func__", None) is kind.forward
    return own and not module._forward_hooks and not module._forward_pre_hooks


def _flattens(step: Any) -> bool:
    if _is_plain(step, nn.Flatten):
        return step.start_dim == 1 and step.end_dim == -1
    if not isinstance(step, fx.Node) or step.kwargs:
        return False
    function = step.op == "call_function" and step.target is torch.flatten
    return (function or (step.op == "call_method" and step.target == "flatten")) and step.args[1:] == (1,)
