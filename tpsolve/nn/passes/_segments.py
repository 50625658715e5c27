"""What lies between a threshold and those above it, as a module of its own that can be run for any targets."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from tpsolve.nn.passes._chain import Slice, chain_of
from tpsolve.nn.passes._draws import Draws, Note, restored
from tpsolve.nn.passes._frozen import Frozen, Given, begin, widened
from tpsolve.nn.passes._nests import Nest
from tpsolve.nn.passes._prefix import Known, Prefix, find_prefix, without
from tpsolve.problems.block._cut import cut, dependents, trace
from tpsolve.problems.block._deep_copied import deep_copied
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
        draws: whether the block has random draws of the samples among its context.
    """

    block: nn.Module
    context: tuple[Tensor, ...]
    sinks: tuple[str, ...]
    linear: tuple[Tensor, Tensor] | None = None
    draws: bool = False


class Segments:
    """The segments of a frozen model: slices of a chain; else cut by torch.fx, or the whole model where that fails.

    Args:
        frozen: from `freeze`, its thresholds held.
        inputs: of the model, `(B, ...)` each, B being `samples`.
        order: names of the calls of thresholds, in their order.
    """

    def __init__(self, frozen: Frozen, inputs: tuple[Tensor, ...], order: list[str], samples: int) -> None:
        self.frozen, self.inputs, self.order, self.samples = frozen, inputs, order, samples
        self.traced: fx.GraphModule | None = None
        arguments, keywords = frozen.arguments.join(inputs)
        # What is drawn belongs to nodes or to the whole pass.
        chains = frozen.state is None and not keywords and len(arguments) == 1 and isinstance(arguments[0], Tensor)
        self.chain = chain_of(frozen.model) if chains and not frozen.split else None
        if self.chain is not None:
            return
        try:
            # Tracing calls no hooks of the model itself.
            begin(frozen.model)
            with restored(frozen.state):
                self.traced, given = trace(_twin(frozen.model), arguments, keywords, constants=True, apart=Given)
            self.names = _names_of_calls(self.traced, frozen)
            values = _Values(self.traced, frozen, self.names)
            with restored(frozen.state), torch.no_grad(), values.note:
                values.run(*given)
        except Exception as error:  # Tracing runs the user's code on proxies; whatever it raises, hooks do without.
            self.traced, self.why_not = None, f"{type(error).__name__}: {error}"
            return
        self.values, self.draws = values.env, values.draws
        self.nodes = {name: node for node, name in self.names.items()}

    def of(self, name: str) -> Iterator[Segment]:
        """The segment above this call, and then the whole model, in case that the first one is not right."""
        if self.chain is not None:
            yield self._slice(self.chain, name)
        elif self.traced is not None:
            try:
                found = self._cut(self.traced, name)
            except Exception:  # What fx makes of a user's code may fail anywhere; the whole model does without.
                found = None
            if found is not None:
                yield found
        yield from self._reruns(name)

    def _slice(self, chain: dict[str, nn.Module], name: str) -> Segment:
        names = list(chain)
        above = names[names.index(name) + 1 :]
        sink = next((other for other in above if other in self.order), OUTPUT)
        inside = above if sink == OUTPUT else above[: above.index(sink)]
        steps = [chain[other] for other in inside]
        outputs = self.frozen.outputs if sink == OUTPUT else None
        return Segment(Slice(steps, outputs), (), (sink,), _linear_map(steps, self.frozen.given[name].dim() == 2))

    @cached_property
    def _draws(self) -> Draws:
        return Draws.of(self.frozen.find_draws(self.inputs), self.samples)

    def _reruns(self, name: str) -> Iterator[Segment]:
        """The whole model, without what it computes before the call if that makes no difference; and all of it."""
        whole = self._rerun(name, Prefix([], [], []), self._draws)
        try:
            prefix = find_prefix(self.frozen, self.inputs, name, self.samples)
            shorter = self._rerun(name, prefix, Draws.of(prefix.draws, self.samples))
            equal = bool(prefix.known) and _give_the_same(whole, shorter, self.frozen.given[name])
        except Exception:  # The user's modules may do anything when they are called otherwise than in a whole pass.
            equal = False
        if equal:
            yield shorter
        yield whole

    def _rerun(self, name: str, prefix: Prefix, draws: Draws) -> Segment:
        later = self.order[self.order.index(name) + 1 :]
        # What has no entry for each sample is computed anew.
        given = [other for other, h in self.frozen.given.items() if h.dim() and len(h) == self.samples]
        paths = {other: self.frozen.places[other][0] for other in given}
        others = [
            other
            for other, path in paths.items()
            if other != name and not any(path.startswith(f"{one.path}.") for one in prefix.known)
        ]
        block = _Rerun(self.frozen, name, others, later, draws, len(self.inputs), prefix.known)
        held = [self.frozen.given[other] for other in others]
        context = (*draws.context, *self.inputs, *held, *prefix.values)
        return Segment(block, context, (*later, OUTPUT), draws=bool(draws.context))

    def _cut(self, traced: fx.GraphModule, name: str) -> Segment:
        start = self.nodes[name]
        reached = dependents(start, list(self.names))
        sinks = [node for node in reached if node.op == "output" or node in self.names]
        if self.frozen.split & {name, *(self.names[node] for node in sinks if node in self.names)}:
            raise ValueError("samples that are not the first axis by themselves")
        inside = [node for node in reached if node not in sinks]
        outputs = [first_input(sink.args, sink.kwargs) for sink in sinks]
        graph, context = cut(traced, start, outputs, inside, self.values)
        draws = Draws.of([draw for node in inside for draw in self.draws.get(node, [])], self.samples)
        names = tuple(OUTPUT if sink.op == "output" else self.names[sink] for sink in sinks)
        flat = self.frozen.given[name].dim() == 2
        linear = None if context or draws.all else _linear(traced, start, inside, sinks, flat)
        values = (*draws.context, *(self.values[node] for node in context))
        block = _Block(graph, draws, self.frozen.outputs if OUTPUT in names else None)
        return Segment(block, values, names, linear, bool(draws.context))


class _Values(fx.Interpreter):
    """Values of all nodes, where thresholds do what they are given, and what each node drew."""

    def __init__(self, traced: fx.GraphModule, frozen: Frozen, names: dict[fx.Node, str]) -> None:
        super().__init__(traced, garbage_collect_values=False)
        self.frozen, self.names, self.note = frozen, names, Note()
        self.draws: dict[fx.Node, list[Tensor | None]] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n in self.names:
            # A copy, which may be changed in place.
            value = self.frozen.given[self.names[n]].clone()
            return value.flatten(0, 1) if self.names[n] in self.frozen.split else value
        before = len(self.note.draws)
        value = super().run_node(n)
        if len(self.note.draws) > before:
            self.draws[n] = self.note.draws[before:]
        return value


class _Block(nn.Module):
    """Runs a part of the graph; the first inputs after the targets are what it draws."""

    def __init__(self, graph: fx.GraphModule, draws: Draws, outputs: Nest | None) -> None:
        super().__init__()
        self.graph, self.draws, self.outputs = graph, draws, outputs

    def forward(self, targets: Tensor, *context: Tensor) -> tuple[Tensor, ...]:
        count = len(self.draws.of_samples)
        with self.draws.held(context[:count]):
            # Called as a module, it would print every failure.
            found = self.graph.forward(targets, *context[count:])
        # The model's own output comes last.
        return found if self.outputs is None else (*found[:-1], self.outputs.pack(found[-1]))


class _Rerun(nn.Module):
    """Runs the whole model, with one threshold's output replaced by the targets and all others held.

    Of the calls `known` the results are given; after inputs and outputs of `others` they are the last of the context.
    """

    def __init__(
        self,
        frozen: Frozen,
        name: str,
        others: list[str],
        later: list[str],
        draws: Draws,
        inputs: int,
        known: list[Known],
    ) -> None:
        super().__init__()
        self.known = known
        # A part of this module, so that it changes its dtype; a copy copies both as one.
        self.model, self.frozen = frozen.model, replace(frozen, given={})
        self.name, self.others, self.later, self.draws, self.inputs = name, others, later, draws, inputs
        for at, value in enumerate(frozen.arguments.leaves):
            if isinstance(value, Tensor) and at not in frozen.arguments.places:
                self.register_buffer(f"shared_{at}", widened(value))

    def forward(self, targets: Tensor, *context: Tensor) -> tuple[Tensor, ...]:
        if not getattr(self.model, "one_by_one", False):
            return self._run(targets, *context)
        rows = zip(*(part.split(1) for part in (targets, *context)), strict=True)
        return tuple(torch.cat(parts) for parts in zip(*(self._run(*row) for row in rows), strict=True))

    def _run(self, targets: Tensor, *context: Tensor) -> tuple[Tensor, ...]:
        count = len(self.draws.of_samples)
        inputs, rest = context[count : count + self.inputs], context[count + self.inputs :]
        others, values = rest[: len(self.others)], rest[len(self.others) :]
        given = dict(zip((self.name, *self.others), (targets, *others), strict=True))
        shared = [getattr(self, f"shared_{at}", value) for at, value in enumerate(self.frozen.arguments.leaves)]
        with self.draws.held(context[:count]), without(self.model, self.known, values):
            output, seen = self.frozen.run(inputs, given, shared)
        return (*(seen[name] for name in self.later if name in seen), output)


def _give_the_same(first: Segment, second: Segment, h: Tensor) -> bool:
    """Whether two segments give the same for some samples, in another order than in the pass, and other targets."""
    rows = torch.tensor(sorted({0, len(h) // 2, len(h) - 1}, reverse=True), device=h.device)
    for targets in (h[rows], -h[rows]):
        with torch.no_grad():
            found = [each.block(targets.clone(), *(part[rows] for part in each.context)) for each in (first, second)]
        if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True) for a, b in zip(*found, strict=True)):
            return False
    return True


def steps_of(block: nn.Module) -> list[nn.Module] | None:
    """The modules that the block of a segment runs one after the other; None where that is not all that it does."""
    if isinstance(block, Slice):
        return None if block.outputs is not None else list(block.steps)
    if not isinstance(block, _Block) or block.outputs is not None or block.draws.all:
        return None
    first, *inside, output = block.graph.graph.nodes
    if first.op != "placeholder" or any(
        node.op != "call_module" or node.all_input_nodes != [last] or len(node.args) != 1 or node.kwargs
        for last, node in zip([first, *inside], inside, strict=False)
    ):
        return None
    # One output, which the last module gives.
    if output.args != (((inside or [first])[-1],),):
        return None
    return [block.graph.get_submodule(str(node.target)) for node in inside]


def _twin(model: nn.Module) -> nn.Module:
    """A copy with the same weights: what a module notes of a pass is a proxy once it is traced."""
    same = [*model.parameters(), *model.buffers()]
    return deep_copied(model, {id(tensor): tensor for tensor in same})


def _names_of_calls(traced: fx.GraphModule, frozen: Frozen) -> dict[fx.Node, str]:
    """The calls of thresholds that are nodes, and their names.

    Raises:
        ValueError: the graph calls them another number of times than the pass did.
    """
    left = {place: name for name, place in frozen.places.items()}
    turns: Counter[str] = Counter()
    names = {}
    for node in traced.graph.nodes:
        if node.op == "call_module" and isinstance(traced.get_submodule(str(node.target)), Given):
            path = str(node.target)
            names[node] = left.pop((path, turns[path]), "")
            turns[path] += 1
    if left or "" in names.values():
        raise ValueError("the graph calls thresholds another number of times than the pass did")
    return names


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
